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

from flywheel.rounds import RoundContext, run_round
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker
from tests.human_refine.test_browser import CHROMIUM, FLAGS
from tests.rounds.test_rounds import context_of, correct

Make = Callable[..., Workspace]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


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
            page = browser.new_page(viewport={"width": 1700, "height": 1150})
            page.goto(f"{base}/{views['CHART']}")
            for name in ("round 000", "round 001", "round 002", root.name):
                page.get_by_role("link", name=name, exact=True).first.wait_for(timeout=60_000)
            for title in ("Quality", "Diversity", "Quantity and cost"):
                page.get_by_text(title).first.wait_for(timeout=60_000)
            page.get_by_text("distinct_3").first.wait_for(timeout=60_000)
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
