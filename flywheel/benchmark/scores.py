"""Scores of answers: accuracy with intervals that resample whole videos, by type and length, and groups' scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.benchmark.answers import UNPARSED
from flywheel.benchmark.groups import group_score
from flywheel.benchmark.items import Item
from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a benchmark's items were answered.

    ``accuracy`` is over all that were asked, those without a readable answer (``unparsed``) counted as wrong;
    ``chance`` is that of guessing. ``by_type`` and ``by_length`` are of the same; ``groups`` are scores of whole groups
    by kind, of those alone that were asked whole.
    """

    accuracy: Estimate
    chance: float
    unparsed: int
    by_type: Mapping[str, Estimate] = field(default_factory=dict)
    by_length: Mapping[str, Estimate] = field(default_factory=dict)
    groups: Mapping[str, Estimate] = field(default_factory=dict)


def score(items: Sequence[Item], places: Sequence[int] | NDArray[np.int64]) -> Score:
    """Score the place that was chosen for each item, ``UNPARSED`` where none was. Open items have 0 for right.

    Raises ValueError where they differ in length.
    """
    if len(items) != len(places):
        raise ValueError(f"score: {len(places)} answers for {len(items)} items")
    given = np.asarray(places, dtype=np.int64).reshape(-1)
    keys = np.array([max(item.key, 0) for item in items], dtype=np.int64)
    right = (given == keys).astype(np.float64)
    videos = [item.medium for item in items]
    guesses = [1 / len(item.options) if item.options else 0.0 for item in items]
    return Score(
        accuracy=clustered_estimate(right, videos),
        chance=float(np.mean(guesses)) if guesses else float("nan"),
        unparsed=int((given == UNPARSED).sum()),
        by_type=_by([item.type for item in items], right, videos),
        by_length=_by([item.length for item in items], right, videos),
        groups=_group_scores(items, right),
    )


def likeliest(logprobs: Sequence[Sequence[float]]) -> NDArray[np.int64]:
    """The place of each item's likeliest option, ``UNPARSED`` where one is no number; shape (n,).

    ``logprobs`` has a row an item, one value (nats, of the option as a reply) an option. Of equals the first is taken.
    """
    most = max((len(row) for row in logprobs), default=0)
    table = np.full((len(logprobs), most), -np.inf)
    for number, row in enumerate(logprobs):
        table[number, : len(row)] = row
    known = ~np.isnan(table).any(axis=1)
    return np.where(known, np.argmax(np.nan_to_num(table, nan=-np.inf), axis=1), UNPARSED) if most else _none(logprobs)


def _none(logprobs: Sequence[Sequence[float]]) -> NDArray[np.int64]:
    return np.full(len(logprobs), UNPARSED, dtype=np.int64)


def _by(names: Sequence[str], right: NDArray[np.float64], videos: Sequence[str]) -> dict[str, Estimate]:
    """The accuracy of each name's items, names sorted; those without a name are left out."""
    found = defaultdict[str, list[int]](list)
    for place, name in enumerate(names):
        if name:
            found[name].append(place)
    return {name: clustered_estimate(right[found[name]], [videos[p] for p in found[name]]) for name in sorted(found)}


def _group_scores(items: Sequence[Item], right: NDArray[np.float64]) -> dict[str, Estimate]:
    answers = defaultdict[str, dict[int, bool]](dict)
    groups = {item.group.id: item.group for item in items if item.group is not None}
    for item, good in zip(items, right.tolist(), strict=True):
        if item.group is not None:
            answers[item.group.id][item.group.place] = bool(good)
    scores = defaultdict[str, list[tuple[str, float]]](list)
    for name, group in groups.items():
        if sorted(answers[name]) != list(range(_size(group.steps))):
            continue
        value = group_score(group, [answers[name][place] for place in sorted(answers[name])])
        for kind in (group.kind, "all"):
            scores[kind].append((name, value))
    return {
        kind: clustered_estimate([value for _, value in pairs], [name for name, _ in pairs])
        for kind, pairs in scores.items()
    }


def _size(steps: Sequence[Any]) -> int:
    return sum(map(len, steps)) or 4
