"""The search box of the page of clips in real Chromium, over a real index: what is found, and by what."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import yaml

from flywheel.models import encoders
from flywheel.models.encoder_files import save_encoder
from flywheel.search.indexing import index
from flywheel.store import Workspace
from tests.human_refine.browser_bed import NO_AUTOPLAY, SETTINGS, Served, pytestmark, until  # noqa: F401

_SMALL = yaml.safe_load(
    "{width: 16, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 16, patch: 8, bands: 8, times: 8, "
    "sound_patch: 8, words: 6, vocabulary: 128}"
)
#: The index by an encoder that learned nothing: no step of training is waited for.
_MINE = "index.folder=mine"


@pytest.fixture
def found(served: Served) -> int:
    """How many clips are indexed; the server has answered a first question, for which it imports and loads the encoder.

    No browser runs yet, which would take the processor from it.
    """
    save_encoder(encoders.build("trimodal", **_SMALL), served.root / "mine")
    workspace = Workspace.open(served.root, [*SETTINGS, _MINE])
    with workspace.lock():
        done = index(workspace)
    workspace.database.close()
    served.start(f"--set={_MINE}")
    with httpx.Client(base_url=served.url, timeout=240) as person:
        person.get(served.link("lou", "lead"))
        person.get("/api/search", params={"text": "a red ball"}).raise_for_status()
    return done.clips


def test_clips_are_searched_by_picture_and_sound(found: int, browser: Any, served: Served) -> None:
    context = browser.new_context()
    context.request.get(served.link("lou", "lead"), max_redirects=0)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(NO_AUTOPLAY)
    page.problems = []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.goto(served.url + "/clips")
    until(page, "document.querySelectorAll('#list > li').length > 1")
    page.fill("#words", "a red ball")
    assert answered(page, lambda: page.select_option("#by", "content")) == 200
    until(page, "document.getElementById('count').textContent.includes('most like it')")
    assert page.is_disabled("#people")
    assert page.locator("#list > li").count() == found
    by = page.locator("#list > li p.aside").all_text_contents()
    assert len(by) == found
    assert all(line.startswith("Found by ") and "picture" in line for line in by)
    best = [float(line.split("picture ")[1].split(",")[0].replace("−", "-")) for line in by]
    assert best != [0.0] * len(best)
    assert answered(page, lambda: page.select_option("#split", "anchor")) == 200
    until(page, f"document.querySelectorAll('#list > li').length < {found}")
    page.click("#list button >> nth=0")
    page.wait_for_selector("#detail-video[src]", state="attached")
    page.fill("#words", "?!")
    assert answered(page, lambda: page.keyboard.press("Enter")) == 422
    until(page, "document.getElementById('notice').textContent.includes('says no word')")
    assert "--" not in page.text_content("#notice"), "a page has no options"
    assert page.text_content("#count") == "", "nothing is searched any more"
    page.select_option("#by", "words")
    assert not page.is_disabled("#people")
    assert [text for text in page.problems if "422" not in text] == []


def answered(page: Any, act: Any) -> int:
    """The status of the server's answer to the search that ``act`` begins."""
    with page.expect_response(lambda answer: "/api/search" in answer.url) as answer:
        act()
    return int(answer.value.status)
