"""Pictures of the review page for the docs, of a small playground with the bundled model's texts.

python experiments/screenshots/run.py            # writes docs/images/review-*; with names, those alone

The picture in Japanese wants a font that has its letters.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from flywheel.core.config import template
from flywheel.core.types import Annotation
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


#: What is shown of texts that no English page would show: id, what a model wrote, and what a person makes of it.
WRITTEN = {
    "rtl": (
        "كرة حمراء كبيرة تتحرك من اليسار إلى اليمين (2 مرات)، ثم يُسمع جرس.",
        "كرة حمراء صغيرة تتحرك من اليسار إلى اليمين (3 مرات)، ثم يُسمع جرس.",
    ),
    "cjk": ("大きな赤い円が左から右へ転がり、ベルが鳴る。", "大きな青い円が左から右へ転がり、ベルが二度鳴る。"),
}
_WINDOW = {"width": 1280, "height": 800}
#: Picture -> the text that it shows (the next one if empty), and the window.
STATES: dict[str, tuple[str, dict[str, Any]]] = {
    "review-rtl": ("rtl", {"viewport": _WINDOW}),
    "review-cjk": ("cjk", {"viewport": _WINDOW}),
    "review-rtl-phone": ("rtl", {"viewport": {"width": 390, "height": 844}}),
    # What a browser's 200 % leaves of the same window.
    "review-zoom-200": ("", {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}),
    "review-forced-colours": ("", {"viewport": _WINDOW, "forced_colors": "active", "color_scheme": "dark"}),
}


def written_rows(workspace: Workspace) -> list[Annotation]:
    """The texts of WRITTEN as a model's, of train clips."""
    clips = sorted(workspace.clips("train")["id"])[3:]
    fields = {"round": 1, "kind": "caption", "generation_id": "", "source": "model", "mean_logprob": -1.0}
    return [
        Annotation(id=name, clip_id=clip, text=text, **fields)
        for clip, (name, (text, _)) in zip(clips, WRITTEN.items(), strict=False)
    ]


def save_small(page: Any, name: str) -> None:
    """The page as a WebP picture, a third of a PNG's size."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(OUT / f"{name}.webp", quality=80, method=6)


def take_states(browser: Any, url: str, workspace: Workspace, names: list[str]) -> None:
    """Pictures of STATES, with a change begun in each."""
    for name, (text, options) in STATES.items():
        if names and name not in names:
            continue
        page = browser.new_context(**options).new_page()
        # By two people: what lies before one comes first.
        page.goto(f"{url}/invite/{invite(workspace, 'Ann' if text else 'Bob', 'lead')}")
        page.goto(f"{url}/?text={text}" if text else url)
        page.wait_for_selector("#work:not([hidden])")
        # The page's policy keeps Playwright from waiting for an expression.
        while not page.evaluate("video.readyState >= 2"):
            page.wait_for_timeout(50)
        page.evaluate("video.pause(); video.currentTime = 1.5")
        said = str(page.text_content("#model"))
        page.evaluate("scrollTo(0, 0)")
        page.fill("#text", WRITTEN[text][1] if text else said.replace("There is", "One sees", 1))
        page.wait_for_timeout(800)
        save_small(page, name)
        page.context.close()


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
            workspace.add_annotations(written_rows(workspace), 1)
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
            names = sys.argv[1:]
            take_states(browser, url, workspace, names)
            for name, options in SHOTS:
                if names and name not in names:
                    continue
                page = browser.new_context(**options).new_page()
                page.goto(f"{url}/invite/{link}")
                page.wait_for_selector("#work:not([hidden])")
                page.wait_for_timeout(1200)
                page.evaluate("document.getElementById('video').currentTime = 1.5")
                said = str(page.text_content("#model"))
                page.fill("#text", said.replace("There is", "One sees").replace("large", "small", 1))
                page.wait_for_timeout(600)
                page.screenshot(path=OUT / f"{name}.png")
            if names and "review-keys" not in names:
                return
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
