"""The candidate against the champion on the corrected anchors; promoted only where it is shown to be better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flywheel.core.progress import say
from flywheel.core.types import Estimate
from flywheel.rounds.champion import freeze, put_in_force, tested
from flywheel.rounds.context import RoundContext
from flywheel.rounds.progress import comparable_rounds
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.watch import alarms_of


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The verdict (``promoted``, ``refused``, ``undecided``) with its reason, and the round it was tested ``against``.

    ``judgement`` is all that :class:`flywheel.rounds.gate.Judgement` says, ``alarms`` those of the collapse watch.
    """

    against: int = 0
    judgement: Mapping[str, Any] = field(default_factory=dict)
    alarms: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> str:
        return str(self.judgement.get("verdict", ""))

    @property
    def reason(self) -> str:
        return str(self.judgement.get("reason", ""))

    def to_record(self) -> dict[str, Any]:
        return {"against": self.against, **self.judgement, "alarms": list(self.alarms)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> GateResult:
        values = dict(record)
        return cls(against=values.pop("against", 0), alarms=tuple(values.pop("alarms", ())), judgement=values)


def run(context: RoundContext, round: int) -> GateResult:
    """Judge M_round, keep the round's data as it is, and promote the model or not."""
    workspace = context.workspace
    rows = workspace.champions()
    if rows and rows[-1]["round"] == round and "judgement" in rows[-1]:
        # Killed between the promotion and the note of it.
        return GateResult.from_record({"against": rows[-1]["against"], **rows[-1]["judgement"]})
    champion = workspace.champion()
    judgement = tested(context, round)
    alarms = alarms_of([_watch_of(context, r) for r in comparable_rounds(workspace, round)])
    for alarm in alarms:
        say(f"watch: {alarm.reason}")
    if alarms and context.config.gate.on_alarm == "refuse" and judgement.verdict == "promoted":
        reason = f"the watch sees {alarms[0].reason} (gate.on_alarm)"
        judgement = replace(judgement, verdict="refused", reason=reason)
    freeze(context, round)
    record, alarm_records = judgement.record(), [asdict(alarm) for alarm in alarms]
    if judgement.verdict == "promoted":
        put_in_force(context, round, judgement.reason, judgement={**record, "alarms": alarm_records}, against=champion)
    else:
        context.tracker.candidate(round)
    return GateResult(against=champion, judgement=record, alarms=tuple(alarm_records))


def _watch_of(context: RoundContext, round: int) -> dict[str, Estimate]:
    figures = context.workspace.stage(round, "evaluate")[1].get("watch", {})
    return {name: Estimate(**value) for name, value in figures.items()}


STAGE = Stage(run=run, result=GateResult)
