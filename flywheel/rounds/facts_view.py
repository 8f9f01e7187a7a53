"""Facts of rounds' texts as figures, side by side, and clip by clip with the words they stand on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel.core.files import written_whole
from flywheel.core.types import Estimate
from flywheel.metrics.facts import ClipFacts, FactScores, fact_scores, judges_agree
from flywheel.rounds.context import RoundContext
from flywheel.rounds.facts import clip_facts
from flywheel.rounds.measures import FactsBeside

#: Clips that a report shows: those whose facts are furthest from people's.
_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class FactsOfClip:
    """What a report shows of a clip: what its text makes up and leaves out, each with the words that state it."""

    uri: str
    f1: float
    made_up: Sequence[tuple[str, str]]
    left_out: Sequence[tuple[str, str]]


def fact_figures(context: RoundContext, round: int) -> dict[str, Estimate]:
    """Figures of the facts of a round's texts, as far as they are on record; empty where nothing was judged."""
    resamples = context.config.evaluate.resamples
    clips = clip_facts(context, round)
    if not clips:
        return {}
    scores = fact_scores(clips, resamples=resamples)
    found = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1, **scores.parts}
    found["contradicted"] = scores.contradicted
    found["unsure"] = Estimate(value=scores.unsure, low=scores.unsure, high=scores.unsure, n=len(clips))
    for role in context.config.evaluate.judges[1:]:
        apart = judges_agree(clips, clip_facts(context, round, role), resamples=resamples)
        found |= {f"{name}_apart_from_{role}": value for name, value in apart.items()}
    return {f"fact_{name}": value for name, value in found.items() if value.n}


def compared_facts(context: RoundContext, a: int, b: int) -> dict[str, Any]:
    """``facts``: those of two rounds' texts side by side; nothing where no clip of both was judged."""
    resamples = context.config.evaluate.resamples
    beside = FactsBeside.of(clip_facts(context, b), clip_facts(context, a))
    if not beside.after:
        return {}
    precision = beside.precision(resamples)
    return {
        "facts": {
            "judge": context.config.evaluate.judges[0],
            "clips": len(beside.after),
            "unsure": beside.unsure,
            "a": _told(fact_scores(beside.before, resamples=resamples)),
            "b": _told(fact_scores(beside.after, resamples=resamples)),
            "f1": asdict(beside.f1(resamples)),
            "precision": None if precision is None else asdict(precision),
        }
    }


def _told(scores: FactScores) -> dict[str, Any]:
    """The scores as plain values, what can't be told as None."""
    record = asdict(scores)
    del record["unsure"]
    return {name: None if _is_empty(value) else value for name, value in record.items()}


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict) and value.get("n") == 0


def furthest(context: RoundContext, clips: Sequence[ClipFacts]) -> list[FactsOfClip]:
    """The clips whose facts are furthest from people's, the furthest first."""
    told = sorted((clip for clip in clips if not clip.why), key=lambda clip: (clip.f1, clip.clip_id))
    return [
        FactsOfClip(
            uri=context.clips[clip.clip_id].uri,
            f1=clip.f1,
            made_up=_unsupported(clip.said),
            left_out=_unsupported(clip.wanted),
        )
        for clip in told[:_SHOWN]
    ]


def _unsupported(facts: Iterable[Any]) -> list[tuple[str, str]]:
    return [(fact.fact, fact.quote) for fact in facts if fact.verdict != "supported"]


def write_facts(context: RoundContext, clips: Sequence[ClipFacts], folder: Path) -> None:
    """Write ``facts.jsonl``: of each corrected anchor its facts, their quotes and verdicts, or why it can't be told."""
    place = folder / "facts.jsonl"
    if not clips:
        place.unlink(missing_ok=True)
        return
    rows = ({"uri": context.clips[clip.clip_id].uri, **asdict(clip), "f1": clip.f1} for clip in clips)
    with written_whole(place) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
