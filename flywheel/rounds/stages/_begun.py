"""What a pretraining learns, as it was when it began: kept beside its checkpoints, which are of these texts alone.

People go on correcting while a model is trained. Killed and resumed, it must learn the same rows: held-out texts that
became others would be texts that the checkpoint learned.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from flywheel.core.config import Config
from flywheel.core.progress import say
from flywheel.core.types import HUMAN, Example
from flywheel.rounds import traces
from flywheel.rounds.context import RoundContext
from flywheel.rounds.held_out import held_out_clips
from flywheel.rounds.mix import training_examples
from flywheel.rounds.texts import CurrentTexts, SourceChoice

if TYPE_CHECKING:
    import trainers

_USES = ("kept", "held_out", "human")
_NOTE = "begun.json"
_LEARNED = "learned.parquet"
#: Settings that say which texts are learned; with others a training begins anew.
_SETTINGS = ("texts", "mix", "older_share", "older_rounds", "kinds", "human_weight", "eval_share", "seed")
#: Clips that are looked up together.
_AT_A_TIME = 16_384


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The examples by their use (:class:`flywheel.rounds.stages._devices.Training`), and the source they came from."""

    folder: Path
    examples: dict[str, Sequence[Example]]
    choice: SourceChoice

    def learned_rows(self, unreadable: Collection[str]) -> Iterator[dict[str, Any]]:
        """Rows of what was learned, as :func:`flywheel.rounds.traces.learned_rows`, without clips left out."""
        for row in traces.read_rows(self.folder / _LEARNED):
            if row["use"] != "learned" or row["clip_id"] not in unreadable:
                yield row


def begin(folder: Path, context: RoundContext, round: int) -> Begun:
    """What a training learns: with a whole checkpoint in its folder what it learned so far, else the texts of now."""
    from trainers import checkpoints

    checkpoint = checkpoints.last_checkpoint(folder)
    if checkpoint is not None:
        begun, why = _read(folder), "it was begun by another version"
        if begun is not None:
            why = _changed(folder, context.config) or _no_longer_learned(begun, context)
        step = checkpoints.step_of(checkpoint)
        if begun is not None and not why:
            say(f"pretrain: goes on from step {step} with the texts of its start; the next round learns newer ones.")
            return begun
        say(f"pretrain: begins anew instead of going on from step {step}: {why}.")
    checkpoints.forget(folder)
    return _written(folder, context, context.texts(), round)


def _written(folder: Path, context: RoundContext, texts: CurrentTexts, round: int) -> Begun:
    """The texts as they stand, in files of which a few bytes a row are in memory."""
    config = context.config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NOTE).unlink(missing_ok=True)
    choice = texts.choose(round, config.gate.min_anchors, config.pretrain.texts)
    everything = _table(folder, "all", training_examples(context, texts, choice, round))
    videos, plan = context.clips.numbered_videos(), config.pretrain
    held = held_out_clips(everything, plan.eval_share, videos, seed=plan.seed)

    def is_held(example: Example) -> bool:
        # A person's text of such a clip is learned still: there are too few of them.
        return example.clip_id in held and example.group != HUMAN

    tables = {
        "kept": _table(folder, "kept", (e for e in everything if not is_held(e))),
        "held_out": _table(folder, "held_out", filter(is_held, everything if held else ())),
        "human": _table(folder, "human", _anchor_examples(context, texts, round)),
    }
    everything.file.unlink()
    traces.write_rows(folder / _LEARNED, traces.learned_rows("pretrain", tables["kept"], texts))
    note = {"settings": _settings(config), "choice": {**asdict(choice), "anchor_f1": list(choice.anchor_f1.items())}}
    (folder / _NOTE).write_text(json.dumps(note))
    return Begun(folder=folder, examples=_filled(tables), choice=choice)


def _table(folder: Path, use: str, examples: Iterable[Example]) -> trainers.ExampleTable:
    import trainers

    return trainers.ExampleTable.write(folder / f"{use}.arrow", examples)


def _read(folder: Path) -> Begun | None:
    """What :func:`_written` wrote; None where that was cut off, or was never done."""
    import trainers

    if not (folder / _NOTE).exists():
        return None
    choice = json.loads((folder / _NOTE).read_text())["choice"]
    choice = {**choice, "older": tuple(choice["older"]), "anchor_f1": dict(choice["anchor_f1"])}
    tables = {use: trainers.ExampleTable(folder / f"{use}.arrow") for use in _USES}
    return Begun(folder=folder, examples=_filled(tables), choice=SourceChoice(**choice))


def _filled(tables: Mapping[str, trainers.ExampleTable]) -> dict[str, Sequence[Example]]:
    return {use: table if len(table) else () for use, table in tables.items()}


def _settings(config: Config) -> dict[str, Any]:
    values = config.pretrain.model_dump(mode="json")
    named = {f"pretrain.{name}": values[name] for name in _SETTINGS}
    return {**named, "gate.min_anchors": config.gate.min_anchors}


def _changed(folder: Path, config: Config) -> str:
    """Which setting that says what is learned is another one than at the start; empty where none is."""
    was, now = json.loads((folder / _NOTE).read_text())["settings"], _settings(config)
    changed = [name for name, value in now.items() if was.get(name) != value]
    return f"{', '.join(changed)} changed" if changed else ""


def _no_longer_learned(begun: Begun, context: RoundContext) -> str:
    """Why a clip of the start must not be learned, or compared with, any more; empty where all may be."""
    from trainers.examples import clips_and_groups

    gold = context.texts().gold
    splits = {"kept": context.split("train"), "held_out": context.split("train"), "human": context.split("anchor")}
    for use, view in splits.items():
        ids = (clip_id for clip_id, _ in clips_and_groups(begun.examples[use]))
        while some := list(islice(ids, _AT_A_TIME)):
            allowed = view.has(pl.Series(some, dtype=pl.String))
            gone = [clip for clip, may in zip(some, allowed, strict=True) if not may or clip in gold]
            if gone:
                return f"clip {gone[0]} is no longer one to learn from"
    return ""


def _anchor_examples(context: RoundContext, texts: CurrentTexts, round: int) -> list[Example]:
    """People's texts of anchor clips: what noise is measured against, never learned."""
    anchors = sorted(texts.anchors().items())
    clips = [context.clips[clip_id] for clip_id, _ in anchors]
    return [
        Example(clip_id=clip.id, text=text, prompt_texts=evidence.model_dump(), group=HUMAN)
        for (clip, evidence), (_, text) in zip(context.with_evidence(clips, round), anchors, strict=True)
    ]
