"""Pictures of MLflow on a demo's workspace, as `flywheel dashboard` names its pages:
the rounds' figures, and their texts side by side.

python experiments/screenshots/dashboard.py flywheel-demo       # writes docs/images/dashboard-*.png
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from flywheel.rounds import RoundContext
from flywheel.rounds.publish import publish
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker

OUT = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    root = Path(sys.argv[1])
    workspace = Workspace.open(root)
    context = RoundContext(workspace)
    for round in workspace.rounds():
        publish(context, round)
    views = {name: Tracker(workspace).comparison(page) for name, page in (("rounds", "CHART"), ("texts", "ARTIFACT"))}
    shutil.copy(
        workspace.root / "reports" / f"round={workspace.rounds()[-1]:03d}" / "rounds.png", OUT / "dashboard-plot.png"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "dashboard", "--config", str(root), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(base, timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(60_000)
            page.goto(base)
            page.wait_for_timeout(20_000)
            # MLflow's assistant takes a third of the page, and remembers that it was closed.
            page.mouse.click(1398, 35)
            for name, view in views.items():
                # Four rounds' texts beside each other need room.
                page.set_viewport_size({"width": 2300 if name == "texts" else 1440, "height": 900})
                page.goto("about:blank")
                page.goto(f"{base}/{view}")
                page.wait_for_timeout(30_000)
                page.screenshot(path=str(OUT / f"dashboard-{name}.png"))
            browser.close()
    finally:
        import os
        import signal

        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


if __name__ == "__main__":
    main()
