"""MLflow's border: each public method of the tracker survives what MLflow raises, with one line and nothing lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.store import Workspace, _mlflow
from flywheel.store._mlflow import NotTaken, Runs
from flywheel.store.tracking import Spool, Tracker

mlflow = pytest.importorskip("mlflow")
Make = Callable[..., Workspace]

METHODS: dict[str, Callable[[Tracker], object]] = {
    "metrics": lambda t: t.metrics(1, {"x": 1.0}),
    "parameters": lambda t: t.parameters(1, {"p": "v" * 9000}),
    "tags": lambda t: t.tags(1, {"verdict": "promoted"}),
    "stage": lambda t: t.stage(1, "gate", {"seconds": 1.0}, {"reason": "better"}),
    "dataset": lambda t: t.dataset(1),
    "candidate": lambda t: t.candidate(1),
    "champion": lambda t: t.champion(0),
    "artifacts": lambda t: t.artifacts(1, [Path(__file__)]),
    "table": lambda t: t.table(1, {"clip": ["a"]}, "samples.json"),
    "plot": lambda t: t.plot(Path(__file__)),
    "view": lambda t: t.view({"Quality": ["quality/agreement"]}),
    "training": lambda t: t.training(1, [({"loss": 1.0}, 1)]),
    "sink": lambda t: _flushed(t),
    "replace": lambda t: _replaced(t),
}
#: Public methods that send nothing of their own.
OTHERS = {"tracking_uri", "send_spooled", "comparison"}

DOWN: dict[str, Exception] = {
    "unreachable": requests.exceptions.ConnectionError("Max retries exceeded\nwith url: /api"),
    "internal": mlflow.exceptions.MlflowException("API request failed with 500"),
    "rest": mlflow.exceptions.RestException({"error_code": "INTERNAL_ERROR", "message": "database is locked"}),
    "denied": mlflow.exceptions.RestException({"error_code": "PERMISSION_DENIED", "message": "who are you?"}),
    "sql": sql.exc.OperationalError("SELECT 1", {}, Exception("disk I/O error")),
    "disk": OSError(28, "No space left on device"),
    "import": ImportError("No module named 'mlflow.pyfunc'"),
    "attribute": AttributeError("module 'mlflow' has no attribute 'log_table'"),
    "silent": RuntimeError(),
}
REFUSED: dict[str, Exception] = {
    "invalid": mlflow.exceptions.MlflowException.invalid_parameter_value("Invalid metric name"),
    "missing": mlflow.exceptions.RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}),
    "bad": mlflow.exceptions.RestException({"error_code": "BAD_REQUEST", "message": "too long"}),
}


def _flushed(tracker: Tracker) -> None:
    sink = tracker.sink(1)
    sink.log({"loss": 1.0}, 3)
    sink.flush()


def _replaced(tracker: Tracker) -> None:
    # Of a round that the tracker knows.
    tracker._workspace.set_meta("mlflow_round_1", "run")
    tracker.replace(1, ["report.html"], [Path(__file__)], {"samples.json": {"clip": ["a"]}})


class Raises:
    """Stands where MLflow has a function or a client: any use of it raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def break_mlflow(patch: pytest.MonkeyPatch, error: Exception, *, connected: bool) -> None:
    """Make MLflow raise, when it is connected to or in all that follows."""
    patch.setattr(mlflow, "set_tracking_uri", lambda _: None)
    patch.setattr(mlflow, "get_experiment_by_name", (lambda _: object()) if connected else Raises(error))
    patch.setattr(mlflow, "set_experiment", lambda _: SimpleNamespace(experiment_id="7"))
    for name in ("start_run", "MlflowClient"):
        patch.setattr(mlflow, name, Raises(error))


def tracker_of(make: Make) -> Tracker:
    w = make("tracking.enabled=true")
    row = {
        "round": 1,
        "kind": "caption",
        "clip_id": "c",
        "generation_id": "",
        "source": "model",
        "text": "a",
        "mean_logprob": 0.0,
        "payload": "",
        "purpose": "learn",
    }
    w.records.append("annotations", [{"id": "a", **row}], round=1)
    return Tracker(w)


def test_the_walk_is_complete() -> None:
    public = {name for name in vars(Tracker) if not name.startswith("_")}
    assert public == set(METHODS) | OTHERS


@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
@pytest.mark.parametrize("kind", DOWN)
@pytest.mark.slow
def test_a_tracker_that_fails_costs_one_line_and_nothing_is_lost(
    kind: str,
    connected: bool,
    make_workspace: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    w = tracker_of(make_workspace)._workspace
    spool = w.root / "spool" / "tracking.jsonl"
    break_mlflow(monkeypatch, DOWN[kind], connected=connected)
    for count, (name, call) in enumerate(METHODS.items(), 1):
        tracker = Tracker(w)
        call(tracker)
        assert len(spool.read_text().splitlines()) == count, f"{name} is spooled once"
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, (name, lines)
        assert lines[0].startswith("tracking: sqlite:///")
        assert "Going on without" in lines[0]
    whats = [json.loads(line)["what"] for line in spool.read_text().splitlines()]
    assert whats == [{"candidate": "alias", "champion": "alias", "sink": "training"}.get(n, n) for n in METHODS]
    assert Tracker(w).send_spooled() == len(METHODS), "still there"
    assert max(map(len, spool.read_text().splitlines())) < 1000, "parameters are cut"


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_never_taken_keeps_nothing_back(
    kind: str, make_workspace: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = tracker_of(make_workspace)
    break_mlflow(monkeypatch, REFUSED[kind], connected=True)
    for name, call in METHODS.items():
        call(tracker)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, (name, lines)
        assert "was not taken (" in lines[0]
    assert not (tracker._workspace.root / "spool").exists()


def test_an_interrupt_is_no_failure_of_the_tracker(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    tracker = tracker_of(make_workspace)
    break_mlflow(monkeypatch, OSError(), connected=True)
    monkeypatch.setattr(mlflow, "start_run", stop)
    with pytest.raises(KeyboardInterrupt):
        tracker.metrics(1, {"x": 1.0})


def test_the_border_names_what_failed(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = make_workspace("tracking.enabled=true")
    break_mlflow(monkeypatch, DOWN["unreachable"], connected=True)
    with pytest.raises(BorderError, match=r"^Max retries exceeded$") as raised:
        Runs(w).deliver("metrics", {"round": 1, "values": {}})
    assert raised.value.__cause__ is DOWN["unreachable"]
    with pytest.raises(NotTaken, match="another version of flywheel wrote it"):
        Runs(w).deliver("songs", {"round": 1})
    # As an older version spooled it: nothing to do, and no error.
    Runs(w).deliver("view", {"round": None, "figures": ["quality/agreement"]})


def half_made(root: Path, *tables: str) -> Exception:
    """What MLflow says of tables that another process left half-made; leaves such a file."""
    with sqlite3.connect(root / "mlflow.db") as connection:
        for table in ("_alembic_tmp_trace_tags", *tables):
            connection.execute(f"CREATE TABLE {table} (x)")
            connection.execute(f"INSERT INTO {table} VALUES (1)")
    connection.close()
    words = "table _alembic_tmp_trace_tags already exists"
    return sql.exc.OperationalError("CREATE TABLE", {}, sqlite3.OperationalError(words))


def test_a_half_made_database_without_runs_is_put_aside(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace("tracking.enabled=true")
    error = half_made(w.root)
    monkeypatch.setattr(_mlflow, "_MAKING_S", 0.0)
    break_mlflow(monkeypatch, AssertionError("it is used"), connected=True)

    def look(_: str) -> object:
        if (w.root / "mlflow.db").exists():
            raise error
        return object()

    monkeypatch.setattr(mlflow, "get_experiment_by_name", look)
    with pytest.raises(BorderError, match="it is used"):
        Runs(w).deliver("metrics", {"round": 1, "values": {}})
    (aside,) = w.root.glob("mlflow.db*")
    assert aside.name.startswith("mlflow.db.unfinished-")
    assert f"it is {aside.name} now" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["runs", "_alembic_tmp_runs"])
def test_a_half_made_database_with_runs_stays_and_is_named(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    w = make_workspace("tracking.enabled=true")
    break_mlflow(monkeypatch, half_made(w.root, table), connected=False)
    monkeypatch.setattr(_mlflow, "_MAKING_S", 0.0)
    with pytest.raises(BorderError, match=r"mlflow.db is half-written .*: rename it to mlflow.db.unfinished-"):
        Runs(w).deliver("metrics", {"round": 1, "values": {}})
    assert [path.name for path in w.root.glob("mlflow.db*")] == ["mlflow.db"]


def test_switched_off_nothing_is_sent_or_kept(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(make_workspace())
    monkeypatch.setattr(Runs, "deliver", Raises(AssertionError("sent")))
    for call in METHODS.values():
        call(tracker)
    assert not (tracker._workspace.root / "spool").exists()
    assert tracker.comparison() == ""


def test_a_spool_is_drained_in_order_up_to_what_fails(tmp_path: Path) -> None:
    spool, path = Spool(tmp_path / "spool" / "s.jsonl"), tmp_path / "spool" / "s.jsonl"
    spool.drain(lambda _: None)
    for i in range(4):
        spool.append({"what": "x", "i": i})
    with path.open("a") as file:
        file.write('{"what": "tor')
    seen: list[int] = []

    def deliver(entry: dict[str, Any]) -> None:
        if entry["i"] == 2 and len(seen) == 2:
            seen.append(-1)
            raise BorderError("down")
        seen.append(entry["i"])

    with pytest.raises(BorderError):
        spool.drain(deliver)
    assert (seen, len(spool)) == ([0, 1, -1], 3)
    spool.drain(deliver)
    assert (seen, len(spool), path.exists()) == ([0, 1, -1, 2, 3], 0, False), "a torn line is left out"
