"""What could be had at most: the base model trained once on the true captions of all train clips."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotators.interface import Request
from annotators.tasks import Asking
from annotators.writer import Writer
from flywheel.core.errors import MediaError
from flywheel.core.progress import say
from flywheel.core.types import Example
from flywheel.demo.oracle import Oracle, scores_of
from flywheel.demo.summary import measured
from flywheel.rounds import RoundContext
from flywheel.rounds.stages._training import training_set


class _Unlogged:
    """Takes a training's figures, which are of no round."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        del values, step


def ceiling(context: RoundContext, oracle: Oracle) -> dict[str, Any]:
    """Figures of the test texts of that model, trained with as many steps as a round has, now or in an earlier run.

    Nothing of it is on record in the workspace: no round learns from it.
    """
    folder = context.workspace.root / "ceiling"
    file = folder / "texts.json"
    if not file.exists():
        say("ceiling: the base model is trained once on the true captions")
        said = _texts(context, _trained(context, oracle, folder / "model"))
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(file)
        for weights in ("model", "model.work"):
            shutil.rmtree(folder / weights, ignore_errors=True)
    said = json.loads(file.read_text(encoding="utf-8"))
    texts = [said.get(clip.id, "") for clip in context.split("test").by_id()]
    return measured(context, texts, scores_of(context.workspace, oracle, said))


def _trained(context: RoundContext, oracle: Oracle, out: Path) -> Path:
    """The folder of the model. By maximum likelihood: the truth has no noise."""
    import trainers

    if out.exists():
        return out
    examples = [
        Example(clip_id=clip.id, text=oracle.text(clip.uri), prompt_texts=evidence.model_dump(), group="true")
        for clip, evidence in context.with_evidence(context.split("train"), 1)
    ]
    context.unload()
    vlm = context.load(context.base)
    trainers.pretrain(
        vlm,
        context.builder(vlm.processor),
        context.config.pretrain,
        context.config.loss.model_copy(update={"name": "mle", "arguments": {}}),
        training_set(context, examples),
        out,
        precision=context.config.main.precision,
        sink=_Unlogged(),
        held_out=None,
        human=None,
        features_bytes=int(context.config.corpus.features_gib * 2**30),
    )
    context.unload()
    return out


def _texts(context: RoundContext, model: Path) -> dict[str, str]:
    """The model's text of each test clip that can be read, by clip id; asked as a round asks."""
    asked = replace(context.asked_model(context.prompt, 0), name="ceiling", folder=model)
    sampling = Asking.of(context.config.annotate, context.prompt).sampling

    def requests() -> Iterator[Request]:
        for clip, evidence in context.with_evidence(context.split("test"), 1):
            with suppress(MediaError):
                yield Request(key=clip.id, clip=context.input(clip), prompt=context.prompt.render(evidence))

    with Writer(asked, context.loader, batch_size=context.config.annotate.batch_size) as writer:
        results = writer.engine(requests, sampling).generate(requests(), sampling)
        return {result.key: result.text.strip() for result in results}
