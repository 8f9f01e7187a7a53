"""M_round is asked questions about videos that no round learns from: what the wheel itself makes of understanding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field

from annotators.engines import takes_a_model
from annotators.interface import Sampling
from flywheel.benchmark import Item, Questions, read
from flywheel.benchmark.asking import check_asked
from flywheel.benchmark.prompting import prompt_of
from flywheel.benchmark.running import Asked
from flywheel.benchmark.running import run as ask_all
from flywheel.benchmark.videos import Shown, Videos, wanted_inputs
from flywheel.core.config import MAIN, Section
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import say
from flywheel.media.probe import file_hash
from flywheel.models.load import inputs_of, load_processor
from flywheel.rounds.context import RoundContext
from flywheel.rounds.stages import settings_of
from flywheel.rounds.stages._stage import Stage
from flywheel.store.cache import FrameCache


class Settings(Section):
    """Which questions are asked: section ``questions`` of the configuration."""

    file: str = Field(description="a benchmark's item file or folder, such as bench/certified.jsonl")
    format: str = Field("flywheel", description="as 'flywheel benchmark formats' lists")
    videos: str = Field("", description="the folder of its videos; 'videos' beside the items where it is empty")
    by: Literal["generation", "likelihood"] = Field(
        "generation", description="by what it says, or its likeliest letter"
    )
    max_new_tokens: int = Field(64, ge=1, description="the most tokens of a reply")
    limit: int | None = Field(None, ge=1, description="the first so many questions")


@dataclass(frozen=True, kw_only=True)
class QuestionsResult:
    """How M_round answered: ``accuracy`` and ``by_type`` with intervals, the ``chance`` of guessing, counts.

    ``inputs`` is what it was shown; ``learned`` are questions left out because rounds learn from their videos.
    """

    accuracy: dict[str, float] = field(default_factory=dict)
    by_type: dict[str, dict[str, float]] = field(default_factory=dict)
    chance: float = 0.0
    asked: int = 0
    rejected: int = 0
    unparsed: int = 0
    learned: int = 0
    inputs: tuple[str, ...] = ()


def check(context: RoundContext) -> None:
    """Find what is wrong with the questions before a night of annotation and training. Raises UserError."""
    settings, questions, videos = _asked(context)
    check_asked(context.asked_model(prompt_of(MAIN, frozenset({"frames"})), 0), settings.by)
    # One that no round learns from is enough: hashing all videos takes long.
    learned, items = _learned(context), {item.video: item for item in questions.items}
    if all((learned == _hash(videos, item)).any() for item in items.values()):
        raise _none_held_out(settings, len(questions.items))


def run(context: RoundContext, round: int) -> QuestionsResult:
    """Ask what is not answered yet. Raises UserError where none can be asked."""
    settings, questions, videos = _asked(context)
    held_out, learned = _held_out(context, questions.items, videos)
    if not held_out:
        raise _none_held_out(settings, learned)
    inputs = _inputs(context, round, held_out)
    how = _how(context, round, settings, videos, inputs)
    digests = how.model.digests()
    folder = context.workspace.root / "benchmarks" / f"questions-{(digests[1] or digests[0])[:16]}"
    left = Questions(items=held_out, rejected=questions.rejected)
    found = ask_all(left, how, context.loader, folder, limit=settings.limit)
    return QuestionsResult(
        accuracy=asdict(found.score.accuracy),
        by_type={name: asdict(value) for name, value in found.score.by_type.items()},
        chance=found.score.chance,
        asked=found.asked,
        rejected=len(found.rejected),
        unparsed=found.score.unparsed,
        learned=learned,
        inputs=tuple(sorted(inputs)),
    )


def _asked(context: RoundContext) -> tuple[Settings, Questions, Videos]:
    """What the section names. Raises UserError where it can't be read."""
    settings = settings_of(context, "questions")
    assert isinstance(settings, Settings)
    source = context.workspace.root / settings.file
    beside = (source if source.is_dir() else source.parent) / "videos"
    try:
        questions = read(source, settings.format)
    except UserError as error:
        raise UserError(f"questions.file, questions.format: {error}") from error
    folder = context.workspace.root / settings.videos if settings.videos else beside
    if not folder.is_dir():
        raise UserError(f"questions.videos: {folder}: there is no such folder.")
    return settings, questions, Videos(folder)


def _none_held_out(settings: Settings, count: int) -> UserError:
    if not count:
        return UserError(f"questions.file: no question of {settings.file} can be asked. Name another file.")
    return UserError(
        f"questions.file: {settings.file}: rounds learn from the videos of all {count} questions. Ask about others."
    )


def _learned(context: RoundContext) -> pl.Series:
    """Contents that rounds learn from."""
    return context.clips.of("train").columns("content_hash")["content_hash"]


def _hash(videos: Videos, item: Item) -> str:
    """The content of an item's video; empty where it can't be read, for which it is rejected when it is asked."""
    try:
        return file_hash(videos.file(item))
    except MediaError:
        return ""


def _held_out(context: RoundContext, items: Any, videos: Videos) -> tuple[list[Item], int]:
    """The items whose videos no round learns from, and how many others there are."""
    hashes: dict[str, str] = {}
    for item in items:
        if item.video not in hashes:
            hashes[item.video] = _hash(videos, item)
    learned = _learned(context)
    known = set(learned.filter(learned.is_in(pl.Series(list(hashes.values()), dtype=pl.String).implode())))
    kept = [item for item in items if hashes[item.video] not in known]
    if len(kept) < len(items):
        say(f"questions: {len(items) - len(kept)} are about videos that rounds learn from, and are left out")
    return kept, len(items) - len(kept)


def _inputs(context: RoundContext, round: int, items: list[Item]) -> frozenset[str]:
    """What the questions need of what the model takes; what it can't take is said."""
    wanted = wanted_inputs(items, "")
    model = context.asked_model(prompt_of(MAIN, wanted), round)
    if not takes_a_model(model.settings.engine):
        return wanted
    takes = inputs_of(load_processor(model.folder, ()))
    if missing := sorted(wanted - takes):
        say(f"questions: the model takes no {missing[0]}, which the questions need; it is asked without")
    return wanted & takes


def _how(context: RoundContext, round: int, settings: Settings, videos: Videos, inputs: frozenset[str]) -> Asked:
    cache = context.workspace.cache
    model = context.asked_model(prompt_of(MAIN, inputs), round)
    return Asked(
        model=replace(model, inputs_from="the stage 'questions'"),
        videos=videos,
        shown=Shown(inputs=inputs, corpus=context.config.corpus, cache=FrameCache(Path(cache.folder), cache.max_bytes)),
        sampling=Sampling(max_new_tokens=settings.max_new_tokens),
        by=settings.by,
        batch_size=context.config.annotate.batch_size,
        decoders=context.config.annotate.decoders,
    )


def figures(result: QuestionsResult) -> Mapping[str, float]:
    """Accuracy with its interval, chance, and the shares that have no answer and that were not asked."""
    if not result.asked:
        return {}
    accuracy = result.accuracy
    values = {"accuracy": accuracy["value"], "accuracy_low": accuracy["low"], "accuracy_high": accuracy["high"]}
    values |= {"chance": result.chance, "asked": float(result.asked), "rejected": float(result.rejected)}
    values |= {"unparsed_share": result.unparsed / result.asked}
    values |= {f"accuracy/{name}": value["value"] for name, value in result.by_type.items()}
    return {f"questions/{name}": value for name, value in values.items()}


STAGE = Stage(run=run, result=QuestionsResult, figures=figures, settings=Settings, check=check)
