"""The review page in real Chromium: who serves it, how it is opened, and what is asked of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.store import Workspace
from human_refine.people import invite

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]


SETTINGS = ["tracking.enabled=false", "annotate.engine=fake", "corpus.test_share=0"]


class Served:
    """A workspace, and the page over it, which is started by who asks for its address."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace.open(self.root, SETTINGS)
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        if self.process is None:
            self.start()
        return self._url

    def start(self, *settings: str, port: str = "0") -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "flywheel.cli",
                "review",
                "--config",
                str(self.root),
                "--port",
                port,
                "--set=review.max_chars=300",
                "--set=review.overlap_share=0",
                *settings,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self._url = self.process.stdout.readline().split()[0]

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def link(self, name: str, role: str = "refiner") -> str:
        return f"{self.url}/invite/{invite(self.workspace, name, role)}"

    def said(self) -> list[dict[str, Any]]:
        return self.workspace.corrections().to_dicts()


#: Leases are renewed every minute.
RENEWS_OFTEN = "const every = setInterval; window.setInterval = (act, ms) => every(act, ms === 60000 ? 150 : ms)"
#: Clips that play by themselves beside a test take time that it does not need.
NO_AUTOPLAY = "try { localStorage.setItem('flywheel-autoplay', 'false') } catch (error) { /* no page yet */ }"


def opened(browser: Any, link: str, *, autoplay: bool = False, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    if not autoplay:
        page.add_init_script(NO_AUTOPLAY)
    page.problems = []
    page.set_default_timeout(60_000)
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" and "409" not in m.text else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.goto(link)
    until(page, "document.getElementById('model').textContent.length > 0")
    return page


def clip_of(page: Any) -> str:
    """The clip that is shown; its video may be asked for a moment after its text is there."""
    page.wait_for_selector("#video[src]", state="attached")
    return str(page.get_attribute("#video", "src")).rsplit("/", 1)[1]


def text_of(page: Any) -> str:
    return str(page.text_content("#model"))


def until(page: Any, expression: str, timeout_s: float = 60.0) -> None:
    """Wait for it without evaluating strings in the page, which its security policy forbids."""
    gives_up = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < gives_up, (expression, page.text_content("#notice"), page.problems)
        page.wait_for_timeout(30)


def goes_on(page: Any, before: str) -> None:
    until(page, f"document.getElementById('model').textContent !== {json.dumps(before)}")
