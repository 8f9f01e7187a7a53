"""How much of what texts state is true, and how much of the truth they state, by facts that a judge compared both ways.

Word overlap asks whether two texts have the same words; this asks whether they state the same. A fact that the other
text leaves open counts as made up: else who invents what nobody mentions would lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate

_SUPPORTED, _CONTRADICTED = "supported", "contradicted"
#: Parts of equal size into which texts are cut by their length.
_PARTS = 3


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact that a text states by the words ``quote``, and what the other text says of it.

    ``modality`` and ``aspect`` are those of :mod:`flywheel.kinds.facts`, ``verdict`` of :mod:`flywheel.kinds.verdicts`.
    """

    fact: str
    quote: str
    modality: str
    aspect: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """A clip's text beside a true one: ``said`` are its facts, ``wanted`` the true one's, each judged by the other.

    ``video`` is what its clips have in common, ``words`` the text's length. ``why`` says why nothing can be told;
    empty where it can.
    """

    clip_id: str
    video: str
    words: int = 0
    said: tuple[Fact, ...] = ()
    wanted: tuple[Fact, ...] = ()
    why: str = ""

    @property
    def precision(self) -> float | None:
        """Share of what is said that the true text supports; None of a text that states nothing."""
        return _share(self.said)

    @property
    def recall(self) -> float | None:
        """Share of what is true that the text supports; None where the true text states nothing."""
        return _share(self.wanted)

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 where one of them is 0 or can't be told."""
        precision, recall = self.precision or 0.0, self.recall or 0.0
        return 2 * precision * recall / (precision + recall) if precision and recall else 0.0

    @property
    def contradicts_itself(self) -> bool:
        """Whether the judge says that one text contradicts the other, and not the other way: it can be only both."""
        against = [any(fact.verdict == _CONTRADICTED for fact in facts) for facts in (self.said, self.wanted)]
        return bool(self.said and self.wanted) and against[0] != against[1]


@dataclass(frozen=True, kw_only=True)
class FactScores:
    """Means over clips that could be judged, with intervals of drawing whole videos anew.

    ``parts`` are precision and recall by modality and aspect (``precision_seen``), ``by_length`` the scores of the
    shortest third of texts first; ``unsure`` is the share of clips of which nothing can be told.
    """

    precision: Estimate
    recall: Estimate
    f1: Estimate
    contradicted: Estimate
    parts: dict[str, Estimate]
    by_length: tuple[dict[str, float], ...]
    unsure: float


def fact_scores(clips: Sequence[ClipFacts], *, resamples: int = 2000) -> FactScores:
    """The scores of texts of clips, each of which was judged beside a true text."""
    told = [clip for clip in clips if not clip.why]

    def mean(of: Callable[[ClipFacts], float | None]) -> Estimate:
        known = [(value, clip.video) for clip in told if (value := of(clip)) is not None]
        return clustered_estimate([value for value, _ in known], [video for _, video in known], resamples=resamples)

    parts: dict[str, Estimate] = {}
    for name in sorted({part for clip in told for fact in (*clip.said, *clip.wanted) for part in _parts(fact)}):
        parts[f"precision_{name}"] = mean(lambda clip, name=name: _share(_of(clip.said, name)))  # type: ignore[misc]
        parts[f"recall_{name}"] = mean(lambda clip, name=name: _share(_of(clip.wanted, name)))  # type: ignore[misc]
    return FactScores(
        precision=mean(lambda clip: clip.precision),
        recall=mean(lambda clip: clip.recall),
        f1=mean(lambda clip: clip.f1),
        contradicted=mean(lambda clip: _share(clip.said, _CONTRADICTED)),
        parts={name: value for name, value in parts.items() if value.n},
        by_length=_by_length(told),
        unsure=1 - len(told) / len(clips) if clips else 0.0,
    )


def judges_agree(one: Sequence[ClipFacts], other: Sequence[ClipFacts], *, resamples: int = 2000) -> dict[str, Estimate]:
    """How far two judges' precision and recall of the same clips are apart, on the mean; nan where none is shared."""
    found = {}
    theirs = {clip.clip_id: clip for clip in other if not clip.why}
    both = [(clip, theirs[clip.clip_id]) for clip in one if not clip.why and clip.clip_id in theirs]
    for name in ("precision", "recall"):
        pairs = [(getattr(a, name), getattr(b, name), a.video) for a, b in both]
        known = [(abs(a - b), video) for a, b, video in pairs if a is not None and b is not None]
        found[name] = clustered_estimate([v for v, _ in known], [video for _, video in known], resamples=resamples)
    return found


def _by_length(told: Sequence[ClipFacts]) -> tuple[dict[str, float], ...]:
    """Mean length and scores of equally many texts, the shortest first; nothing of fewer than two for each part."""
    if len(told) < 2 * _PARTS:
        return ()
    ordered = sorted(told, key=lambda clip: clip.words)
    parts = [[ordered[place] for place in places] for places in np.array_split(np.arange(len(ordered)), _PARTS)]
    return tuple(
        {
            "words": _mean([clip.words for clip in part]),
            "precision": _mean([clip.precision for clip in part if clip.precision is not None]),
            "recall": _mean([clip.recall for clip in part if clip.recall is not None]),
            "f1": _mean([clip.f1 for clip in part]),
            "n": float(len(part)),
        }
        for part in parts
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _parts(fact: Fact) -> tuple[str, str]:
    return fact.modality, fact.aspect


def _of(facts: Sequence[Fact], part: str) -> list[Fact]:
    return [fact for fact in facts if part in _parts(fact)]


def _share(facts: Sequence[Fact], verdict: str = _SUPPORTED) -> float | None:
    return sum(fact.verdict == verdict for fact in facts) / len(facts) if facts else None
