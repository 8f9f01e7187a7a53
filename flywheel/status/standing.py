"""Where a workspace stands: read from the records, computed anew each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import polars as pl

from flywheel.core.errors import BorderError
from flywheel.core.foreign import as_lines
from flywheel.core.types import Stage
from flywheel.rounds.outlook import Outlook, outlook_of
from flywheel.rounds.progress import INTERRUPTED, current_round, current_stage, skipped_stages, stage_state
from flywheel.rounds.schedule.state import is_running, state_of
from flywheel.store import Workspace
from flywheel.store.corrections import count_standing
from flywheel.store.people import excluded_names
from flywheel.store.videos import Leak

Found = TypeVar("Found")
#: Reasons of rejects that the terminal shows.
_MOST_REASONS = 20
#: Files that are named with each.
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class RejectReason:
    """How many open rejects of a stage have one reason, and the first files."""

    stage: str
    reason: str
    rows: int
    files: Sequence[str] = ()

    def __str__(self) -> str:
        more = ", …" if self.rows > len(self.files) else ""
        return f"{self.rows} x {self.stage}: {self.reason} ({', '.join(self.files)}{more})"


@dataclass(frozen=True, kw_only=True)
class ScheduleStatus:
    """Phase of the schedule since a time, and the next time (ISO 8601; None where there is none).

    Beside the phases of :class:`flywheel.rounds.schedule.state.State` it may be "stopped": no process runs it.
    """

    cron: str
    phase: str
    since: str
    message: str
    next: str | None


@dataclass(frozen=True, kw_only=True)
class UnseenAdapter:
    """A stage whose adapter changed nothing that its proof could see, and which weights wrote instead (nats)."""

    round: int
    stage: str
    effect: float
    noise: float
    wrote: str

    def __str__(self) -> str:
        wrote = "merged weights" if self.wrote == "merged" else "the base"
        nats = f"{self.effect:.2g} nats, noise {self.noise:.1e}"
        return f"round {self.round}, {self.stage}: adapter changes nothing that could be seen ({nats}); {wrote} wrote"


@dataclass(frozen=True, kw_only=True)
class SkippedStage:
    """A stage that did nothing, and why."""

    round: int
    stage: Stage
    reason: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.stage} was skipped ({self.reason})"


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a workspace stands.

    ``state`` is the stage's: pending, running, ``interrupted`` (begun, and no process is at it), waiting or done.
    ``champion`` is a round, 0 is the base; ``clips`` counts by split. ``annotations`` are the models' texts,
    ``transcripts`` those that came with the videos (None where damage hides which they are, and ``annotations`` are
    then all texts); ``corrections`` are people's words that stand. ``skipped`` are stages of this round and of the one
    before.
    """

    round: int
    stage: Stage
    state: str
    message: str
    schedule: ScheduleStatus | None
    champion: int
    clips: Mapping[str, int]
    annotations: int
    transcripts: int | None
    generations: int
    corrections: int
    open_rejects: int
    reject_reasons: Sequence[RejectReason]
    #: What can't be read; then clips are not told apart, and rejects not counted.
    damage: str = ""
    unseen_adapters: Sequence[UnseenAdapter] = ()
    #: Clips that measure, of videos that are learned from too; None where the split is by video.
    leak: Leak | None = None
    skipped: Sequence[SkippedStage] = ()
    #: The last rounds' verdicts, what is needed and impossible, and the next commands; None where nothing tells.
    outlook: Outlook | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values; ``champion`` is ``{"round"}``."""
        lists = {
            "reject_reasons": [asdict(reason) for reason in self.reject_reasons],
            "unseen_adapters": [asdict(adapter) for adapter in self.unseen_adapters],
            "skipped": [asdict(stage) for stage in self.skipped],
        }
        values = {name: value for name, value in asdict(self).items() if name != "outlook"}
        block = {} if self.outlook is None else self.outlook.to_json()
        return {**values, "champion": {"round": self.champion}, **lists, **block}

    def __str__(self) -> str:
        champion = "the base model" if self.champion == 0 else f"round {self.champion}"
        lines = [
            *(self.outlook.lines() if self.outlook is not None else ()),
            *map(str, self.skipped),
            f"round {self.round}: {self.stage} {self._how}" + _in_brackets(self.message),
            f"champion: {champion}",
            "clips: " + (", ".join(f"{n} {split}" for split, n in self.clips.items()) or "none"),
            f"annotations: {self.annotations} {self._whose}",
            f"corrections: {self.corrections}",
            f"files and texts that failed: {self.open_rejects}",
        ]
        lines += [str(adapter) for adapter in self.unseen_adapters]
        lines += [f"split: {self.leak}"] if self.leak else []
        if plan := self.schedule:
            following = f", next {plan.next}" if plan.next else ""
            lines.append(f"schedule '{plan.cron}': {plan.phase}{_in_brackets(plan.message)}{following}")
        lines += [f"  {reason}" for reason in self.reject_reasons[:_MOST_REASONS]]
        lines += [self.damage] if self.damage else []
        if self.outlook is not None:
            lines += [f"{'Next:' if n == 0 else '     '} {line}" for n, line in enumerate(self.outlook.next)]
        return as_lines(lines)

    @property
    def _how(self) -> str:
        return "was interrupted; 'flywheel round' goes on" if self.state == INTERRUPTED else f"is {self.state}"

    @property
    def _whose(self) -> str:
        of_models = f"by models (of {self.generations} generations)"
        if self.transcripts is None:
            return f"that came with the videos or were written {of_models}"
        return f"{of_models}, {self.transcripts} that came with the videos"


def status_of(workspace: Workspace) -> Status:
    """Round, stage and its state, champion, counts, open rejects with their reasons."""
    round = current_round(workspace)
    stage = current_stage(workspace, round)
    state, result = stage_state(workspace, round, stage), workspace.stage(round, stage)[1]
    damage: list[str] = []
    rejects = _readable(lambda: workspace.rejected(open_only=True), damage)
    clips = _readable(lambda: workspace.records.read("clips", columns=("split",)), damage)
    reasons: list[tuple[str, str, int, list[str]]] = []
    if rejects is not None:
        files = pl.col("uri").unique(maintain_order=True).head(_NAMED).alias("files")
        counts = rejects.group_by("stage", "reason").agg(pl.len(), files)
        reasons = counts.sort("len", "reason", descending=[True, False]).rows()
    splits = {"unread": workspace.count("clips")}
    if clips is not None:
        splits = dict(clips.group_by("split").len().sort("split").iter_rows())
    given = _readable(lambda: _transcripts(workspace), damage)
    outlook = _readable(lambda: outlook_of(workspace, 0 if rejects is None else rejects.height), damage)
    return Status(
        round=round,
        stage=stage,
        state=state,
        message=result.get("message", ""),
        schedule=_schedule_of(workspace),
        champion=workspace.champion(),
        clips=splits,
        annotations=workspace.count("annotations") - (0 if given is None else given.height),
        transcripts=None if given is None else given.height,
        generations=workspace.count("generations"),
        corrections=count_standing(workspace, excluded_names(workspace)),
        open_rejects=0 if rejects is None else rejects.height,
        reject_reasons=tuple(RejectReason(stage=s, reason=r, rows=n, files=f) for s, r, n, f in reasons),
        damage="; ".join(dict.fromkeys(damage)),
        unseen_adapters=tuple(_unseen_adapters(workspace, round)),
        leak=None if clips is None else workspace.videos.leak(),
        outlook=outlook,
        skipped=tuple(
            SkippedStage(round=r, stage=stage, reason=reason)
            for r in (round - 1, round)
            for stage, reason in (skipped_stages(workspace, r) if r > 0 else {}).items()
        ),
    )


def _readable(read: Callable[[], Found], damage: list[str]) -> Found | None:
    """What is read; None where a shard is damaged, and then what is wrong is added: the rest can still be said."""
    try:
        return read()
    except BorderError as error:
        if error.code != "shard":
            raise
        damage.append(str(error))
        return None


def _unseen_adapters(workspace: Workspace, round: int) -> Iterator[UnseenAdapter]:
    """Of the round that runs and the one before it."""
    for number in range(max(0, round - 1), round + 1):
        for stage in ("annotate", "evaluate"):
            proof = workspace.stage(number, stage)[1].get("proof") or {}
            if proof.get("verdict") == "unseen":
                yield UnseenAdapter(
                    round=number,
                    stage=stage,
                    effect=proof["adapter_to_base"],
                    noise=proof["noise"],
                    wrote=proof["wrote"],
                )


def _transcripts(workspace: Workspace) -> pl.DataFrame:
    """The texts that came with the videos."""
    source = pl.col("source") == "transcript"
    return workspace.records.read("annotations", round=0, columns=("source",), where=source)


def _schedule_of(workspace: Workspace) -> ScheduleStatus | None:
    state = state_of(workspace)
    if state is None:
        return None
    # Here: reading cron lines takes a library that most workspaces don't need.
    from flywheel.rounds.schedule.times import Times, zone_of

    if not is_running(workspace.root):
        was = f"{state.phase} since {state.since}" if state.since else state.phase
        message = f"no process runs it; it was {was}; 'flywheel schedule start' goes on"
        return ScheduleStatus(cron=state.cron, phase="stopped", since=state.since, message=message, next=None)
    following = Times(state.cron, zone_of(workspace.config.schedule.timezone)).after(datetime.now(UTC))
    return ScheduleStatus(
        cron=state.cron,
        phase=state.phase,
        since=state.since,
        message=state.message,
        next=None if following is None else following.isoformat(),
    )


def _in_brackets(message: str) -> str:
    return f" ({message})" if message else ""
