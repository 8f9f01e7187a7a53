"""The search box of the page of clips in real Chromium, over a real index: what is found, and by what."""

from __future__ import annotations

from typing import Any

from flywheel.search.indexing import index
from flywheel.store import Workspace
from tests.human_refine.browser_bed import SETTINGS, Served, opened, pytestmark, until  # noqa: F401

_SMALL = (
    "index.sizes={width: 16, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 16, patch: 8, bands: 8, "
    "times: 8, sound_patch: 8, words: 6, vocabulary: 128}",
    "index.steps=4",
    "index.batch=8",
)


def test_clips_are_searched_by_picture_and_sound(browser: Any, served: Served) -> None:
    page = opened(browser, served.link("lou", "lead"))
    page.goto(served.url + "/clips")
    until(page, "document.querySelectorAll('#list > li').length > 1")
    assert page.locator("#by").count() == 0, "there is no index yet"
    # Made while the server runs.
    workspace = Workspace.open(served.root, [*SETTINGS, *_SMALL])
    with workspace.lock():
        done = index(workspace)
    workspace.database.close()
    page.reload()
    until(page, "document.querySelectorAll('#list > li').length > 1")
    page.fill("#words", "a red ball")
    page.select_option("#by", "content")
    until(page, "document.getElementById('count').textContent.includes('most like it')", 240)
    assert page.is_disabled("#people")
    assert page.locator("#list > li").count() == done.clips
    by = page.locator("#list > li p.aside").all_text_contents()
    assert len(by) == done.clips
    assert all(line.startswith("Found by ") and "picture" in line for line in by)
    best = [float(line.split("picture ")[1].split(",")[0].replace("−", "-")) for line in by]
    assert best != [0.0] * len(best)
    page.select_option("#split", "anchor")
    until(page, f"document.querySelectorAll('#list > li').length < {done.clips}")
    page.click("#list button >> nth=0")
    page.wait_for_selector("#detail-video[src]", state="attached")
    page.fill("#words", "?!")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('notice').textContent.includes('says no word')")
    page.select_option("#by", "words")
    assert not page.is_disabled("#people")
    assert [text for text in page.problems if "422" not in text] == []
