"""Which of several candidate replies about a clip becomes its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flywheel.core.types import Generation
from flywheel.kinds import Reply
from flywheel.metrics import token_f1

CandidateReply = tuple[Generation, Reply]


def by_logprob(replies: Sequence[CandidateReply]) -> CandidateReply:
    """The reply with the highest mean log-prob (nats per token)."""
    return max(replies, key=lambda reply: reply[0].mean_logprob)


def by_bayes_risk(replies: Sequence[CandidateReply]) -> CandidateReply:
    """The reply of minimum Bayes risk: nearest to the others by mean word F1, ties by mean log-prob."""

    def value(index: int) -> tuple[float, float]:
        generation, reply = replies[index]
        others = [token_f1(reply.text, other.text) for i, (_, other) in enumerate(replies) if i != index]
        return (sum(others) / len(others) if others else 0.0, generation.mean_logprob)

    return replies[max(range(len(replies)), key=value)]


SELECTIONS: Mapping[str, Callable[[Sequence[CandidateReply]], CandidateReply]] = {
    "logprob": by_logprob,
    "mbr": by_bayes_risk,
}
