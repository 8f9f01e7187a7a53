"""`flywheel dashboard` in a real browser: MLflow's own pages open on the wheel's rounds, by its own shared views."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.errors import UserError
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.publish import reports_until
from flywheel.rounds.verdict import headline, verdict_word
from flywheel.store import Workspace, dashboard
from flywheel.store.dashboard import open_dashboard
from flywheel.store.tracking import Tracker
from tests.human_refine.browser_bed import CHROMIUM, FLAGS
from tests.rounds.test_rounds import context_of, correct

Make = Callable[..., Workspace]


def test_a_port_that_is_taken_is_said_before_mlflow_starts(ingested: Workspace) -> None:
    (ingested.root / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"dashboard: 127.0.0.1:{port} is not free .Address already in use"):
            dashboard._serve(ingested, Tracker(ingested), "127.0.0.1", port)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_rounds_stand_compared_as_it_opens(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    context = context_of(make_workspace, corpus, "tracking.enabled=true")
    run_round(context, until="annotate")
    for clip in context.split("anchor"):
        correct(context, clip.id, "what a person sees")
    run_round(context)
    run_round(RoundContext(context.workspace))
    root = context.workspace.root
    views = {page: Tracker(context.workspace).comparison(page) for page in ("CHART", "ARTIFACT")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(tmp_path / "output", "w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "flywheel.cli", "dashboard", "--config", str(root), "--port", str(port)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        _wait_for(base, server)
        assert f"{base}/{views['CHART']}" in (tmp_path / "output").read_text()
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{base}/{views['CHART']}")
            verdict = verdict_word(context.workspace.stage(2, "gate")[1]["verdict"])
            for name in ("round 000", f"round 002 {verdict}", root.name):
                page.get_by_role("link", name=name, exact=True).first.wait_for(timeout=60_000)
            for title in ("Quality", "Diversity", "Quantity and cost"):
                page.get_by_text(title).first.wait_for(timeout=60_000)
            page.get_by_text("distinct_3").first.wait_for(timeout=60_000)
            # The last verdicts stand on top, and in sight.
            verdicts = headline(reports_until(context, 2))
            assert verdicts.startswith("Round 2 ")
            top = page.get_by_text(f"Quality. {verdicts}").first.bounding_box()
            assert top is not None
            assert top["y"] < 600
            assert page.get_by_role("link", name="annotate 001").count() == 0, "stages are not rounds"
            # Loaded anew: MLflow reads the view's name once per page.
            page.goto("about:blank")
            page.goto(f"{base}/{views['ARTIFACT']}")
            clip = sorted(context.split("test"), key=lambda c: c.id)[0]
            page.get_by_text(Path(clip.uri).name).first.wait_for(timeout=60_000)
            measured = context.workspace.annotations(round=2, purpose="measure")
            text = dict(measured.select("clip_id", "text").iter_rows())[clip.id]
            page.get_by_text(text).first.wait_for(timeout=60_000)
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_a_tracking_servers_pages_are_named(make_workspace: Make) -> None:
    w = make_workspace("tracking.uri=http://mlflow.example:5000/")
    assert open_dashboard(w, "127.0.0.1", 5000) == ["http://mlflow.example:5000/"], "nothing to compare yet"
    w.set_meta("mlflow_experiment", "3")
    w.set_meta("mlflow_view", "key")
    figures, texts = open_dashboard(w, "127.0.0.1", 5000)
    address = "http://mlflow.example:5000/#/experiments/3/runs?compareRunsMode="
    assert figures == f"{address}CHART&viewStateShareKey=key"
    assert texts == f"{address}ARTIFACT&viewStateShareKey=key-texts"


def test_of_its_own_database_the_process_becomes_mlflows_server(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace()
    with pytest.raises(UserError, match=r"no tracked round yet. Run 'flywheel round' first"):
        open_dashboard(w, "127.0.0.1", 5000)
    (w.root / "mlflow.db").touch()
    w.set_meta("mlflow_experiment", "3")
    w.set_meta("mlflow_view", "key")
    asked: list[list[str]] = []

    def become(_: str, arguments: list[str], environment: dict[str, str]) -> None:
        asked.append(arguments)
        raise SystemExit

    monkeypatch.setattr(os, "execve", become)
    with pytest.raises(SystemExit):
        open_dashboard(w, "0.0.0.0", 5001)
    command = " ".join(asked[0])
    assert "-m mlflow server" in command
    assert f"--backend-store-uri sqlite:///{w.root}/mlflow.db" in command
    assert command.endswith("--host 0.0.0.0 --port 5001")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["The rounds compared", "Their texts side by side"]


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    import time

    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")
