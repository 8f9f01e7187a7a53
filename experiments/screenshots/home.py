"""Pictures of the home page and the compare page on a demo's workspace.

python experiments/screenshots/home.py flywheel-demo       # writes docs/images/home.webp and compare.webp
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from experiments.screenshots.run import save_small
from flywheel.store import Workspace
from human_refine.people import invite

#: Picture -> the page, what it waits for, and the window.
SHOTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "home": ("/home", "img.charts", {"viewport": {"width": 1280, "height": 1000}}),
    "compare": (
        "/compare",
        "[aria-busy=false] #work:not([hidden])",
        {"viewport": {"width": 1280, "height": 800}},
    ),
}


def main() -> None:
    command = [sys.executable, "-m", "flywheel.cli", "open", "--config", sys.argv[1], "--port", "0"]
    # The pictures are taken by a browser of their own.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": "true"})
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split("/home")[0]
        link = f"{url}/invite/{invite(Workspace.open(Path(sys.argv[1])), 'Ann', 'lead')}"
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for name, (place, awaited, options) in SHOTS.items():
                page = browser.new_context(**options).new_page()
                page.goto(link)
                page.goto(url + place)
                page.wait_for_selector(awaited)
                page.wait_for_timeout(2500)
                save_small(page, name)
                page.context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
