"""The tracker: one MLflow run per wheel, a child per round, a grandchild per stage, metrics with step = round.

A tracker that is down never stops a round: what it could not be sent is kept in ``spool/tracking.jsonl`` of the
workspace and sent, in order, the next time it answers. MLflow itself stands behind :mod:`flywheel.store._mlflow`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.core.errors import BorderError
from flywheel.core.progress import say
from flywheel.core.secrets import without_secrets
from flywheel.store._mlflow import NotTaken, Runs
from flywheel.store.workspace import Workspace

#: MLflow's own limit is 6,000 characters; nobody reads a parameter of more than this.
_LONGEST_PARAMETER = 500


class Tracker:
    """The wheel's runs in MLflow. No method raises: what the tracker did not take is spooled, after one line of why.

    Arguments are plain values, so that they can lie on disk until the tracker answers.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._enabled = workspace.config.tracking.enabled
        self._runs = Runs(workspace)
        self._spool = Spool(workspace.root / "spool" / "tracking.jsonl")
        self._down = False

    def tracking_uri(self) -> str:
        """Address of the tracking server, or of the workspace's own database."""
        return self._runs.uri

    def metrics(self, round: int, values: Mapping[str, float]) -> None:
        """Log a round's figures, in its run and in the wheel's, step = round."""
        self._send("metrics", round=round, values=dict(values))

    def parameters(self, round: int, values: Mapping[str, Any]) -> None:
        """Log a round's parameters; one that changed stands beside the first as a tag."""
        self._send("parameters", round=round, values=_shortened(values))

    def tags(self, round: int, values: Mapping[str, str]) -> None:
        """Set a round's tags, by which MLflow's lists and comparisons can be filtered."""
        self._send("tags", round=round, values=dict(values))

    def stage(self, round: int, stage: str, values: Mapping[str, float], parameters: Mapping[str, Any]) -> None:
        """Log a stage's figures and words in its own run under its round's."""
        self._send("stage", round=round, stage=stage, values=dict(values), parameters=_shortened(parameters))

    def dataset(self, round: int) -> None:
        """Log the round's annotations by their digest."""
        self._send("dataset", round=round)

    def candidate(self, round: int) -> None:
        """Register a round's model as a version with the alias ``candidate``."""
        self._send("alias", round=round, alias="candidate")

    def champion(self, round: int) -> None:
        """Give a round's model the alias ``champion``; with the base (0), which is no round's, nobody has it."""
        self._send("alias", round=round, alias="champion")

    def artifacts(self, round: int, paths: Sequence[Path]) -> None:
        """Upload files into the round's run."""
        self._send("artifacts", round=round, paths=[str(path) for path in paths])

    def replace(
        self, round: int, gone: Sequence[str], paths: Sequence[Path], tables: Mapping[str, Mapping[str, list[Any]]]
    ) -> None:
        """Delete what the round's run has under the names ``gone``, then upload these files and these tables.

        Nothing where the round has no run and nothing waits for the tracker. What can't be deleted is said.
        """
        if self._workspace.meta(f"mlflow_round_{round}") is None and not len(self._spool):
            return
        uploads = {"paths": [str(path) for path in paths], "tables": {name: dict(t) for name, t in tables.items()}}
        self._send("replace", round=round, gone=list(gone), **uploads)

    def table(self, round: int, rows: Mapping[str, list[Any]], name: str) -> None:
        """Log a table (column -> values) of the round once."""
        self._send("table", round=round, rows=dict(rows), name=name)

    def plot(self, path: Path) -> None:
        """Upload a picture of all rounds into the wheel's run."""
        self._send("plot", round=None, path=str(path))

    def view(
        self,
        sections: Mapping[str, Sequence[str]],
        headline: str = "",
        intervals: Sequence[str] = (),
    ) -> None:
        """Set up MLflow's page of the wheel's rounds: section -> the figures charted in it.

        ``headline`` stands on top; ``intervals`` names the figures that have an interval.
        """
        words = {"headline": headline, "intervals": list(intervals)}
        self._send("view", round=None, sections={name: list(figures) for name, figures in sections.items()}, **words)

    def training(self, round: int, logged: Sequence[tuple[Mapping[str, float], int]]) -> None:
        """Log a training's figures (values, step) in the round's run."""
        self._send("training", round=round, logged=[(dict(values), step) for values, step in logged])

    def sink(self, round: int) -> TrainingSink:
        """Return what a training of the round reports to."""
        return TrainingSink(self, round)

    def send_spooled(self) -> int:
        """Send what could not be sent before; returns how much is left."""
        if self._enabled and not self._down:
            self._attempt(self._drain)
        return len(self._spool)

    def comparison(self, page: str = "CHART") -> str:
        """Return the path of MLflow's page of all rounds; empty, its front page, where nothing can be compared yet.

        ``page`` is ``CHART`` for their figures or ``ARTIFACT`` for their texts of the same clips side by side.
        """
        experiment, view = self._workspace.meta("mlflow_experiment"), self._workspace.meta("mlflow_view")
        if experiment is None or view is None:
            return ""
        key = view if page == "CHART" else f"{view}-texts"
        return f"#/experiments/{experiment}/runs?compareRunsMode={page}&viewStateShareKey={key}"

    def _send(self, what: str, **arguments: Any) -> None:
        if not self._enabled:
            return
        # In order: what waits goes first.
        if not self._down:
            self._attempt(self._drain)
        if self._down or not self._attempt(lambda: self._deliver(what, arguments)):
            self._spool.append({"what": what, **arguments})

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Do it; False, after one line, where the tracker is down."""
        try:
            work()
        except BorderError as error:
            self._down = True
            say(
                f"tracking: {self.tracking_uri()}: {error}. Going on without; it is told when it answers again, "
                "the figures are in reports/."
            )
        return not self._down

    def _drain(self) -> None:
        self._spool.drain(lambda entry: self._deliver(entry.pop("what", ""), entry))

    def _deliver(self, what: str, arguments: Mapping[str, Any]) -> None:
        try:
            self._runs.deliver(what, arguments)
        except NotTaken as error:
            # It must not keep back what comes after it, nor pass for a tracker that is down.
            say(f"tracking: {what} of round {arguments.get('round')} was not taken ({error})")


class Spool:
    """Entries that wait for the tracker: a line of JSON each, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return len(self._lines())

    def append(self, entry: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def drain(self, deliver: Callable[[dict[str, Any]], None]) -> None:
        """Deliver the entries in order and forget them, up to the first that raises.

        Killed meanwhile, it delivers the same again, which changes nothing: figures have their step, a table that is
        there stays.
        """
        lines = self._lines()
        done = 0
        try:
            for line in lines:
                if (entry := _parsed(line)) is not None:
                    deliver(entry)
                done += 1
        finally:
            if done:
                self._keep(lines[done:])

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []

    def _keep(self, lines: Sequence[str]) -> None:
        if not lines:
            self._path.unlink()
            return
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        temporary.replace(self._path)


def _parsed(line: str) -> dict[str, Any] | None:
    """Return an entry; None for the last line of a process that was killed while it wrote."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _shortened(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: without_secrets(str(value))[:_LONGEST_PARAMETER] for name, value in values.items()}


class TrainingSink:
    """Gathers a training's figures and sends them at its end, so that no step waits for the tracker."""

    def __init__(self, tracker: Tracker, round: int) -> None:
        self._tracker, self._round = tracker, round
        self._logged: list[tuple[dict[str, float], int]] = []

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._logged.append((dict(values), step))

    def flush(self) -> None:
        self._tracker.training(self._round, self._logged)
        self._logged = []
