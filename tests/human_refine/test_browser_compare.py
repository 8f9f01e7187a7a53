"""The compare page in real Chromium, served by the real command: all pairs chosen of by keys alone, also on a phone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flywheel.core.types import standing_choices
from flywheel.store import Workspace
from human_refine.people import invite
from tests.human_refine.pair_bed import write_pairs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 390, "height": 780})
        page.set_default_timeout(8000)
        page.add_init_script("localStorage.setItem('flywheel-autoplay', 'false')")
        yield page
        chromium.close()


@pytest.fixture
def url(workspace: Workspace) -> Iterator[Callable[[], str]]:
    """Gives the address of the page, which the real command serves from then on."""
    served: list[subprocess.Popen[str]] = []

    def start() -> str:
        settings = ("--set=review.compare=1", "--set=review.gold_share=0", "--set=review.overlap_share=0")
        command = [sys.executable, "-m", "flywheel.cli", "review", "--config", str(workspace.root), "--port", "0"]
        served.append(subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, text=True))
        assert served[0].stdout is not None
        return served[0].stdout.readline().split()[0]

    yield start
    for process in served:
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def _shown(page: Any) -> tuple[str, str]:
    page.wait_for_selector("[aria-busy=false] #work:not([hidden]) #left")
    return page.text_content("#left"), page.text_content("#right")


def _press(page: Any, key: str) -> None:
    """Press a key, and wait until what it did is kept and shown."""
    with page.expect_response(lambda r: r.url.endswith(("/api/compare/next", "/api/compare/undo"))):
        page.keyboard.press(key)
    page.wait_for_selector("body[aria-busy=false]")


def test_all_pairs_are_chosen_of_by_keys_alone(page: Any, url: Callable[[], str], workspace: Workspace) -> None:
    clips = write_pairs(workspace, more=4)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    # It is the turn of a pair, so that the review page hands over to this one.
    page.goto(f"{url()}/invite/{invite(workspace, 'ann', 'refiner')}")
    page.wait_for_url("**/compare")
    first = _shown(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone"
    for choice in ("left", "right", "equal", "both_bad", "skip"):
        box = page.locator(f"[data-choice={choice}]").bounding_box()
        assert box["height"] >= 44, "as high as a finger"
    _press(page, "4")
    assert _shown(page) != first
    _press(page, "u")
    assert _shown(page) == first, "the same pair on the same sides"
    page.keyboard.press(" ")
    page.wait_for_selector("#play:has-text('Pause')")
    wanted = {}
    while page.is_visible("#work"):
        left, right = _shown(page)
        wanted[frozenset((left, right))] = "newer text"
        _press(page, "1" if "newer" in left else "2")
    assert "you preferred round 1" in page.text_content("#done-words")
    assert f"round 1 {len(wanted)} time" in page.text_content("#done-words")
    assert page.evaluate("document.activeElement.id") == "done-title"
    standing = standing_choices(workspace.preference_records())
    assert [p.chosen for p in standing] == ["second"] * (len(clips) - 1)
    assert all(p.seconds > 0 for p in standing)
    assert errors == []
