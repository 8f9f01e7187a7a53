"""Pictures of the review page for the docs, of a small playground with the bundled model's texts.

python experiments/screenshots/run.py            # writes docs/images/review-*.png
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from human_refine.people import invite

OUT = Path(__file__).parents[2] / "docs" / "images"
SHOTS = (
    ("review-light", {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"}),
    ("review-dark", {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"}),
    ("review-phone", {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"}),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        root = Path(folder)
        write_playground(root, seed=12, num_clips=24, noise_rate=0.3)
        Workspace.create(root / "w", template())
        workspace = Workspace.open(root / "w", ["tracking.enabled=false"])
        with workspace.lock():
            ingest(workspace, [str(root / "corpus")])
            context = RoundContext(workspace)
            context.ask(context.split("train", "anchor"), by=0, round=1)
        link = invite(workspace, "Ann", "lead")
        server = subprocess.Popen(
            [sys.executable, "-m", "flywheel.cli", "review", "--config", str(root / "w"), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            OUT.mkdir(parents=True, exist_ok=True)
            for name, options in SHOTS:
                page = browser.new_context(**options).new_page()
                page.goto(f"{url}/invite/{link}")
                page.wait_for_selector("#work:not([hidden])")
                page.wait_for_timeout(1200)
                page.evaluate("document.getElementById('video').currentTime = 1.5")
                said = str(page.text_content("#model"))
                page.fill("#text", said.replace("There is", "One sees").replace("large", "small", 1))
                page.wait_for_timeout(600)
                page.screenshot(path=OUT / f"{name}.png")
            page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
            page.goto(f"{url}/invite/{link}")
            page.wait_for_selector("#work:not([hidden])")
            page.keyboard.press("?")
            page.wait_for_timeout(300)
            page.screenshot(path=OUT / "review-keys.png")
        finally:
            server.kill()
            workspace.database.close()


if __name__ == "__main__":
    main()
