"""Scores of questions that are asked in groups: few right answers of a group count for little (Video-MME-v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.benchmark.items import Group

Steps = tuple[tuple[int, ...], ...]

KINDS = ("relevance", "logic")
#: Scores by how many of a group's four answers count, as MME-Benchmarks/Video-MME-v2 has them.
_RELEVANCE = (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0)
STRUCTURES: Mapping[Steps, tuple[float, ...]] = {
    ((0,), (1,), (2,), (3,)): _RELEVANCE,
    ((0,), (1, 2), (3,)): (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    ((0, 1), (2,), (3,)): (0.0, 1 / 10, 2 / 10, 5 / 10, 1.0),
}


def steps_of(structure: Sequence[Any]) -> Steps:
    """The steps of a structure such as ``[1, [2, 3], 4]``, by places from 0."""
    return tuple(tuple(int(n) - 1 for n in (step if isinstance(step, list | tuple) else [step])) for step in structure)


def group_score(group: Group, right: Sequence[bool]) -> float:
    """The score in [0, 1] of a group's answers in order: of ``relevance`` by how many are right, of ``logic`` by how
    far the chain holds. It breaks at the first step with a wrong answer; the right ones of that step still count.

    Raises ValueError for a structure that is unknown.
    """
    if group.kind == "relevance":
        return _RELEVANCE[sum(right)]
    if group.steps not in STRUCTURES:
        raise ValueError(f"group {group.id}: unknown structure {group.steps}")
    held = 0
    for step in group.steps:
        good = sum(right[place] for place in step)
        held += good
        if good < len(step):
            break
    return STRUCTURES[group.steps][held]
