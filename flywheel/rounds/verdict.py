"""What the last round came to, in sentences: verdict, gain with its interval, the model in use, alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.core.types import Estimate, RoundReport

_TITLES: Mapping[str, str] = {
    "promoted": "promoted",
    "refused": "not promoted",
    "undecided": "undecided: it can't be told yet",
}


@dataclass(frozen=True, kw_only=True)
class VerdictCard:
    """The first block of a report; ``verdict`` is empty for a round without a gate, and the base.

    ``gain`` is the difference in word F1 to people's captions over ``against`` (None where nothing could be tested).
    """

    title: str
    verdict: str
    reason: str = ""
    gain: Estimate | None = None
    against: str = ""
    test: str = ""
    in_use: str = ""
    alarms: Sequence[str] = ()


def card_of(report: RoundReport, champion: int) -> VerdictCard:
    """The card of a round; ``champion`` is the round whose model is in use, 0 for the base."""
    gate: Mapping[str, Any] = report.details.get("gate", {})
    in_use = f"The model in use is {model_name(champion)}."
    verdict = str(gate.get("verdict", ""))
    if not verdict:
        title = f"Round {report.round}: not tested" if report.round else "The base model, before any round"
        return VerdictCard(title=title, verdict="", in_use=in_use)
    gain = gain_of(report)
    return VerdictCard(
        title=f"Round {report.round}: {_TITLES.get(verdict, verdict)}",
        verdict=verdict,
        reason=str(gate.get("reason", "")),
        gain=gain,
        against=model_name(int(gate.get("against", 0))),
        test=_test(gate) if gain is not None else "",
        in_use=in_use,
        alarms=tuple(str(alarm.get("reason", "")) for alarm in gate.get("alarms", ())),
    )


def model_name(round: int) -> str:
    """A round's model in words."""
    return f"round {round}'s model" if round else "the base model"


def gain_of(report: RoundReport) -> Estimate | None:
    """The gate's paired difference of a round to the champion of then, with its 95 % interval; None without a test."""
    difference = report.details.get("gate", {}).get("difference")
    return Estimate(**difference) if difference else None


def verdict_word(verdict: str) -> str:
    """A verdict in a word or two."""
    return _TITLES.get(verdict, verdict).partition(":")[0]


def headline(reports: Sequence[RoundReport], most: int = 2) -> str:
    """The last verdicts with their gains in one line, the newest first; empty before any."""
    said: list[str] = []
    for report in reversed(reports):
        verdict = str(report.details.get("gate", {}).get("verdict", ""))
        if verdict and len(said) < most:
            word, gain = verdict_word(verdict), gain_of(report)
            interval = f" {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if gain is not None else ""
            said.append(f"Round {report.round} {word}{interval}")
    return "; ".join(said)


def _test(gate: Mapping[str, Any]) -> str:
    """How the test went: probability, threshold, and which test against this champion it was."""
    return (
        f"p(better) = {gate['p_better']:.2g}, p(worse) = {gate['p_worse']:.2g}; "
        f"a gain counts at {gate['level']:.2g} or less (test {gate['look']} against this model)"
    )
