"""The champion writes captions, and texts of the other kinds that the configuration names."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from annotators.asking import costs_of
from annotators.tasks import AskResult
from annotators.writer import Writer
from flywheel.core.types import CAPTION, LEARN, Clip, Estimate, content_id
from flywheel.metrics.scale import corpus_figures, in_order_of_ids
from flywheel.models.embed import clip_embeddings
from flywheel.models.prompt import Evidence, Prompt
from flywheel.rounds.champion import writer_of
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import hearing_figures, proof_figures, with_bounds
from flywheel.rounds.stages._stage import Stage

#: Clips whose embeddings are looked up, and made, together.
_EMBEDDED_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class AnnotateResult(AskResult):
    """The captions' pass (:class:`AskResult`), and beside it:

    ``by``: round of the model that wrote; ``prompts``: name -> version and digest; ``annotations``: captions that there
    are; ``costs``: sums over all passes; ``also``: the passes of other kinds; ``corpus``: figures of all captions.
    """

    by: int = 0
    prompts: dict[str, str] = field(default_factory=dict)
    annotations: int = 0
    costs: dict[str, float] = field(default_factory=dict)
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)


def run(context: RoundContext, round: int) -> AnnotateResult:
    """Write the texts of train and anchor clips."""
    return write(context, round)


def write(context: RoundContext, round: int, limit: int | None = None, *, retry_failed: bool = False) -> AnnotateResult:
    """Write the texts of at most ``limit`` clips, with ``retry_failed`` of those alone that were rejected."""
    workspace, by = context.workspace, writer_of(context)
    clips = context.split("train", "anchor")
    retry = workspace.ledger.count_retry(round) if retry_failed else 0
    passes: dict[str, AskResult] = {}
    for prompt, writer in _with_writers(context, by):
        made = context.ask(clips, by=by, round=round, prompt=prompt, writer=writer, limit=limit, retry=retry)
        before = context.did_together.get(prompt.kind)
        passes[prompt.kind] = made if before is None else _after(before, made)
    if "novelty" in context.config.review.order:
        embed(context)
    return AnnotateResult(
        by=by,
        prompts={p.name: f"{p.version}:{p.digest}" for p in [context.prompt, *context.extra_prompts]},
        annotations=workspace.count_texts(round),
        **asdict(passes.pop(CAPTION)),
        costs=costs_of(workspace, round, CAPTION),
        also={kind: {**asdict(made), "costs": costs_of(workspace, round, kind)} for kind, made in passes.items()},
        corpus=_corpus(context, round),
    )


def write_together(context: RoundContext, round: int) -> dict[str, AskResult]:
    """Write texts of train and anchor clips with other processes until there are all; returns what this one did.

    The caller shares the workspace. The stage is ended by :func:`run`, by one of them alone.
    """
    by, clips = writer_of(context), context.split("train", "anchor")
    return {
        prompt.kind: context.ask_together(clips, by=by, round=round, prompt=prompt, writer=writer)
        for prompt, writer in _with_writers(context, by)
    }


#: Counts and costs of a pass that add up.
_SUMS = (
    *("written", "generated", "reused", "rejected"),
    *("tokens_in", "tokens_out", "engine_s", "decode_s", "decodes", "cache_hits", "money"),
)


def _after(before: AskResult, now: AskResult) -> AskResult:
    """Both passes as one; the proofs are those of an engine that was started."""
    values: dict[str, Any] = {name: getattr(before, name) + getattr(now, name) for name in _SUMS}
    for name in ("unhealthy", "cut"):
        values[name] = dict(Counter(getattr(before, name)) + Counter(getattr(now, name)))
    values["busy_share"] = max((before, now), key=lambda made: made.engine_s).busy_share
    return replace(now, **values, proof=now.proof or before.proof, hearing=now.hearing or before.hearing)


def _with_writers(context: RoundContext, by: int) -> Iterator[tuple[Prompt, Writer]]:
    """Each prompt with its engine; one engine at a time has the accelerator."""
    for prompts in _by_engine(context):
        with context.writer(prompts[0], by) as writer:
            for prompt in prompts:
                yield prompt, writer


def _by_engine(context: RoundContext) -> list[list[Prompt]]:
    """The prompts, the captions' first, together where one engine can answer them: one role, one set of media."""
    groups: dict[object, list[Prompt]] = {}
    for prompt in (context.prompt, *context.extra_prompts):
        groups.setdefault((prompt.role, context.inputs_of(prompt)), []).append(prompt)
    return list(groups.values())


def _corpus(context: RoundContext, round: int) -> dict[str, Any]:
    """Quantity, diversity and confidence of all captions of the round."""
    workspace, columns = context.workspace, ["id", "text", "mean_logprob"]
    frames = workspace.annotation_batches(columns, round=round, kind=CAPTION, purpose=LEARN)
    # In an order that does not depend on when the pass committed: the same texts give the same figures.
    with tempfile.TemporaryDirectory(dir=workspace.root / "cache") as folder:
        whole = corpus_figures(
            in_order_of_ids(frames, workspace.count_texts(round), Path(folder)),
            segment_tokens=context.config.evaluate.diversity_tokens,
            score="mean_logprob",
        )
    quantity = {name: value for name, value in whole.quantity.items() if name != "hours"}
    return {**quantity, **{name: asdict(value) for name, value in (whole.diversity | whole.quality).items()}}


def embed(context: RoundContext) -> int:
    """Write the base model's embeddings of all train clips that have none; returns how many were made.

    A clip that can't be read has none.
    """
    workspace, made = context.workspace, 0
    vlm = context.load(context.base)
    builder, prompt = context.builder(vlm.processor), context.prompt.render(Evidence())
    spec = context.input_spec()

    def embedding_id(clip: Clip) -> str:
        return content_id("embedding", clip.id, vlm.digest, spec)

    missing = _without_embedding(context, embedding_id)
    while clips := list(islice(missing, _EMBEDDED_TOGETHER)):
        ids = {clip.id: embedding_id(clip) for clip in clips}
        # Those that can't be read are among the rejected of this stage already.
        inputs = list(context.readable(clips, builder))
        vectors = clip_embeddings(vlm, builder, inputs, prompt)
        rows = [
            {"id": ids[clip.key], "clip_id": clip.key, "model": vlm.digest, "vector": vector.tolist()}
            for clip, vector in zip(inputs, vectors, strict=True)
        ]
        made += workspace.records.append("embeddings", rows)
    return made


def _without_embedding(context: RoundContext, embedding_id: Any) -> Iterator[Clip]:
    clips = iter(context.split("train").by_id())
    while some := list(islice(clips, 2048)):
        ids = {clip.id: embedding_id(clip) for clip in some}
        known = context.workspace.records.known("embeddings", ids.values())
        yield from (clip for clip in some if ids[clip.id] not in known)


def figures(result: AnnotateResult) -> Mapping[str, float]:
    """Costs of each kind, figures of all captions, and the proofs of adapter and ears."""
    values = {f"annotate/{name}": float(value) for name, value in result.costs.items()}
    for kind, more in result.also.items():
        values |= {f"annotate/{kind}/{name}": float(value) for name, value in more["costs"].items()}
    for name, value in result.corpus.items():
        values |= with_bounds(f"corpus/{name}", Estimate(**value) if isinstance(value, Mapping) else value)
    values["annotate/busy_share"] = float(result.busy_share)
    values |= proof_figures(result.proof or {}) | hearing_figures(CAPTION, result.hearing)
    for kind, more in result.also.items():
        values |= hearing_figures(kind, more.get("hearing"))
    return values


STAGE = Stage(run=run, result=AnnotateResult, figures=figures)
