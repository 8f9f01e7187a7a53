"""A picture of MLflow on a demo's workspace, as `flywheel dashboard` names it: its rounds compared.

python experiments/screenshots/dashboard.py flywheel-demo       # writes docs/images/dashboard-rounds.png
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
from flywheel.rounds.conductor import publish
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker

OUT = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    root = Path(sys.argv[1])
    workspace = Workspace.open(root)
    context = RoundContext(workspace)
    for round in workspace.rounds():
        publish(context, round)
    view = Tracker(workspace).comparison()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "dashboard", "--config", str(root), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(base, timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1700, "height": 1150})
            page.goto(f"{base}/{view}")
            page.wait_for_timeout(12_000)
            # MLflow's assistant takes a third of the page.
            page.mouse.click(1658, 35)
            page.wait_for_timeout(1500)
            page.screenshot(path=str(OUT / "dashboard-rounds.png"))
            browser.close()
    finally:
        import os
        import signal

        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


if __name__ == "__main__":
    main()
