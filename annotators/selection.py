"""Which of several candidates of a clip becomes its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flywheel.core.types import Generation
from flywheel.kinds import Reply
from flywheel.metrics import token_f1

Candidate = tuple[Generation, Reply]


def by_logprob(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest mean log-prob (nats per token)."""
    return max(candidates, key=lambda candidate: candidate[0].mean_logprob)


def by_bayes_risk(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate of minimum Bayes risk: nearest to the others by mean word F1, ties by mean log-prob."""

    def value(index: int) -> tuple[float, float]:
        generation, reply = candidates[index]
        others = [token_f1(reply.text, other.text) for i, (_, other) in enumerate(candidates) if i != index]
        return (sum(others) / len(others) if others else 0.0, generation.mean_logprob)

    return candidates[max(range(len(candidates)), key=value)]


SELECTIONS: Mapping[str, Callable[[Sequence[Candidate]], Candidate]] = {"logprob": by_logprob, "mbr": by_bayes_risk}
