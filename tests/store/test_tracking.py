"""MLflow as people see it after some rounds, and a server that answers 500 meanwhile. Real MLflow on its own SQLite."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flywheel.rounds import RoundContext, champion, run_round
from flywheel.rounds.publish import rewrite_reports
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker
from tests.rounds.test_rounds import context_of

Make = Callable[..., Workspace]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def broken_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(500)
            self.end_headers()

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_a_broken_tracker_missed_is_told_when_one_answers(
    make_workspace: Make, corpus: Path, broken_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    context = context_of(make_workspace, corpus, "tracking.enabled=true", f"tracking.uri={broken_server}")
    w = context.workspace
    began = time.monotonic()
    assert run_round(context)["state"] == "done", "a broken tracker stops no round"
    assert time.monotonic() - began < 120
    assert capsys.readouterr().err.count("Going on without") == 1, "said once"
    spool = w.root / "spool" / "tracking.jsonl"
    waiting = [json.loads(line)["what"] for line in spool.read_text().splitlines()]
    assert {"metrics", "parameters", "tags", "stage", "dataset", "table", "artifacts", "alias"} <= set(waiting)
    with spool.open("a") as file:
        file.write('{"what": "metri')  # a process that was killed while it wrote
    local = Workspace.open(w.root, ["tracking.enabled=true"])
    assert Tracker(local).send_spooled() == 0
    assert not spool.exists()
    again = RoundContext(Workspace.open(w.root, ["tracking.enabled=true", *SETTINGS]))
    assert run_round(again)["round"] == 2
    client = mlflow.MlflowClient(f"sqlite:///{w.root / 'mlflow.db'}")
    runs = client.search_runs([local.meta("mlflow_experiment")], max_results=200)
    levels: dict[str, list[str]] = {}
    for run in runs:
        levels.setdefault(run.data.tags["level"], []).append(run.info.run_name)
    assert levels["wheel"] == [w.root.name]
    assert [name[:9] for name in sorted(levels["round"])] == ["round 000", "round 001", "round 002"]
    assert {"annotate 001", "evaluate 001", "gate 001", "annotate 002"} <= set(levels["stage"])
    rounds = {r.data.tags["round"]: r for r in runs if r.data.tags.get("level") == "round"}
    assert rounds["1"].data.tags["verdict"] == "undecided"
    assert "can't tell yet: 0 of at least" in rounds["1"].data.tags["mlflow.note.content"]
    parent = next(r for r in runs if r.data.tags["level"] == "wheel")
    history = client.get_metric_history(parent.info.run_id, "quantity/annotations")
    assert [m.step for m in history] == [0, 1, 2], "each round's figure once, told late or not"
    stages = [r for r in runs if r.data.tags.get("level") == "stage" and r.data.tags["of_round"] == "1"]
    assert {r.data.tags["mlflow.parentRunId"] for r in stages} == {rounds["1"].info.run_id}
    table = mlflow.artifacts.load_dict(f"runs:/{rounds['2'].info.run_id}/samples.json")
    assert table["columns"] == ["clip", "text", "id", "base", "M1", "M2"], (
        "the same clips over the rounds, side by side"
    )
    assert "rounds.png" in {f.path for f in client.list_artifacts(parent.info.run_id)}
    champion.promote(again, 1, "to see the alias")
    versions = {a: client.get_model_version_by_alias(w.root.name, a).tags["round"] for a in ("champion", "candidate")}
    assert versions == {"champion": "1", "candidate": "2"}
    champion.rollback(again)
    assert "champion" not in client.get_registered_model(w.root.name).aliases


def _taken_down_it_is_gone_there_too(context: RoundContext, client: Any, run_id: str) -> None:
    """A clip that is taken down leaves the artifacts of a round's run; with the last one all of them go."""
    import mlflow

    w = context.workspace
    client.log_artifact(run_id, __file__, "curation")

    def names() -> set[str]:
        return {file.path for file in client.list_artifacts(run_id)}

    def ids() -> list[str]:
        table = mlflow.artifacts.load_dict(f"runs:/{run_id}/samples.json")
        return [row[table["columns"].index("id")] for row in table["data"]]

    before = ids()
    with w.lock():
        take_down(w, before[:1], "asked for", rewrite=partial(rewrite_reports, context))
    assert names() == {"report.html", "report.json", "config.yaml", "samples.json"}, "what curation showed is gone"
    assert ids() == before[1:]
    mended = (w.report_folder(1) / "report.html").read_text()
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/report.html") == mended
    with w.lock():
        take_down(w, w.clips()["id"].to_list(), "asked for", rewrite=partial(rewrite_reports, context))
    assert names() == set(), "no clip is left"


SETTINGS = (
    "annotate.engine=fake",
    "pretrain.num_steps=0",
    "finetune.num_steps=0",
    "evaluate.agreement_pairs=0",
    "evaluate.resamples=100",
)


def test_another_tracker_gets_runs_of_its_own(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    import mlflow

    context = context_of(make_workspace, corpus, "tracking.enabled=true")
    run_round(context)
    w = context.workspace
    local = mlflow.MlflowClient(f"sqlite:///{w.root / 'mlflow.db'}")
    _taken_down_it_is_gone_there_too(context, local, w.meta("mlflow_round_1") or "")
    other = Workspace.open(w.root, ["tracking.enabled=true", f"tracking.uri=sqlite:///{tmp_path}/other.db"])
    tracker = Tracker(other)
    tracker.metrics(1, {"x": 2.0})
    tracker.parameters(1, {"p": "one"})
    tracker.parameters(1, {"p": "two"})
    assert not (w.root / "spool" / "tracking.jsonl").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/other.db")
    run = client.get_run(other.meta("mlflow_round_1"))
    assert (run.data.metrics["x"], run.data.params["p"], run.data.tags["p now"]) == (2.0, "one", "two")
