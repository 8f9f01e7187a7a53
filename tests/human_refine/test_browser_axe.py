"""What keeps people from using the pages, as axe-core finds it: nothing, in no state of any page."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.types import Annotation
from tests.human_refine.browser_bed import Served, goes_on, opened, pytestmark, text_of, until  # noqa: F401


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, from the package of .ci/axe.txt."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core is not installed: pip install --no-deps --require-hashes -r .ci/axe.txt")
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def look(axe: str) -> Callable[[Any, str], None]:
    """Looks through a page in a state, and says what is wrong with it."""

    def look(page: Any, state: str) -> None:
        if not page.evaluate("Boolean(window.axe)"):
            page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false, iframes: false})")
        problems = [
            f"{one['id']} ({one['impact']}): {node['html'][:150]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert problems == [], state
        assert len(found["passes"]) > 5, "it looked"

    return look


def _cues(served: Served) -> str:
    """Id of a text with timed cues."""
    clip = sorted(served.workspace.clips("train")["id"])[0]
    cues = [{"start_s": 0.3, "end_s": 1.0, "text": "A bell rings."}, {"start_s": 1.2, "end_s": 2.0, "text": "A dog."}]
    row = Annotation(
        id="dense",
        round=1,
        kind="dense_caption",
        clip_id=clip,
        generation_id="",
        source="model",
        text="A bell rings. A dog.",
        mean_logprob=-1.0,
        payload=json.dumps({"cues": cues}),
    )
    with served.workspace.lock():
        served.workspace.add_annotations([row], 1)
    return "/?text=dense"


def test_the_reviewers_page(browser: Any, served: Served, look: Callable[[Any, str], None], tmp_path: Path) -> None:
    cues = _cues(served)
    (served.root / "guide.md").write_text("# Captions\n\nName what moves.\n\n- colours\n")
    served.start("--set=review.guidelines=guide.md", "--set=review.blind_share=1", "--set=review.daily_goal=5")
    page = browser.new_page()
    page.goto(served.url)
    look(page, "closed")
    page = opened(browser, served.link("ann"))
    look(page, "guidelines")
    page.keyboard.press("Escape")
    look(page, "blind")
    page.fill("#text", "What I saw myself.")
    page.click("#save")
    page.wait_for_selector("#blind-dialog[open]")
    look(page, "blind, saved")
    _next(page, "Enter")
    if page.evaluate("item.kind") != "caption":
        _next(page, "s")
    page.keyboard.press("v")
    page.fill("#text", text_of(page) + " And more.")
    look(page, "work, with changes")
    for key, dialog in (("?", "help"), ("r", "reject-dialog"), ("b", "flag-dialog")):
        page.keyboard.press("Escape")
        page.keyboard.press(key)
        page.wait_for_selector(f"#{dialog}[open]")
        look(page, dialog)
        page.keyboard.press("Escape")
    file = tmp_path / "mine.jsonl"
    good = {"annotation_id": sorted(served.workspace.annotations(round=1)["id"])[0], "verdict": "edit", "text": "Mine."}
    bad = [{"annotation_id": f"none{i}", "verdict": "accept"} for i in range(80)]
    file.write_text("\n".join(map(json.dumps, [good, *bad])))
    page.click("#open-upload")
    page.set_input_files("#file", str(file))
    until(page, "document.getElementById('upload-report').textContent.includes('Would be added: 1')")
    look(page, "upload, with more rows than fit")
    page.keyboard.press("Escape")
    # Another person's word on the same text: bob's lease ran out.
    shown = page.evaluate("item.annotation_id")
    with served.workspace.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = 1")
    other = opened(browser, served.link("lou", "lead"))
    other.goto(f"{served.url}/?text={shown}")
    until(other, f"item && item.annotation_id === {json.dumps(shown)}")
    other.keyboard.press("Escape")
    before = text_of(other)
    other.fill("#text", "Lou's.")
    other.click("#save")
    other.wait_for_selector("#blind-dialog[open]")
    other.keyboard.press("Enter")
    goes_on(other, before)
    page.click("#save")
    page.wait_for_selector("#conflict[open]")
    look(page, "conflict of two people")
    page.click("#take-theirs")
    until(page, f"!item || item.annotation_id !== {json.dumps(shown)}")
    # What lies before the lead may be the text with cues itself.
    other.goto(served.url + cues)
    other.wait_for_selector("#cue-editor:not([hidden])")
    look(other, "timed cues")
    other.goto(served.link("bob"))
    look(other, "another person's link")
    while page.is_visible("#work"):
        _next(page, "s")
    look(page, "done")


def _next(page: Any, key: str) -> None:
    """Presses a key that leads to another text, or to the end."""
    before = page.evaluate("item.annotation_id")
    page.keyboard.press(key)
    until(page, f"!item || item.annotation_id !== {json.dumps(before)}")


def test_the_leads_pages(browser: Any, served: Served, look: Callable[[Any, str], None]) -> None:
    page = opened(browser, served.link("lou", "lead"))
    before = text_of(page)
    page.fill("#text", "What is there.")
    page.keyboard.press("Control+Enter")
    goes_on(page, before)
    look(page, "work")
    page.goto(served.url + "/lead")
    look(page, "people")
    page.goto(served.url + "/home")
    look(page, "home")
    page.goto(served.url + "/lead/person/lou")
    look(page, "one person")
    page.goto(served.url + "/clips?people=edit")
    until(page, "document.querySelectorAll('#list > li').length > 1")
    page.click("#list button >> nth=0")
    page.wait_for_selector("#detail-video[src]", state="attached")
    look(page, "clips")
    page.click("#show-rejects")
    until(page, "document.getElementById('count').textContent === 'Nothing failed.'")
    look(page, "what failed")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(served.url)
    until(page, "item !== null")
    page.click("#open-menu")
    look(page, "a phone")
    page.goto(served.url + "/nothing")
    look(page, "no such page")
