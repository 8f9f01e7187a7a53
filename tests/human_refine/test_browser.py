"""The review page in real Chromium, served by the real command: watch, edit, accept, reject, undo, all from the
keyboard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.types import Annotation
from tests.human_refine.browser_bed import RENEWS_OFTEN, Served, goes_on, opened, pytestmark, text_of, until  # noqa: F401
from tests.human_refine.pair_bed import write_pairs


def test_watch_and_listen(browser: Any, served: Served) -> None:
    page = opened(browser, served.link("ann"), autoplay=True)
    # It plays when it comes; where it begins again it is paused for a moment.
    until(page, "video.currentTime > item.start_s + 0.1 && !video.paused")
    page.click("#video")
    assert page.evaluate("video.paused"), "a click on the picture pauses it"
    found = page.evaluate(
        "v => [v.videoWidth, v.duration, v.webkitAudioDecodedByteCount]", page.query_selector("#video")
    )
    assert found[0] > 0
    assert 2 < found[1] < 5
    page.evaluate("video.currentTime = item.start_s")
    page.keyboard.press("Space")
    until(page, "document.getElementById('video').currentTime > 0.4")
    page.keyboard.press("Space")
    assert page.evaluate("document.getElementById('video').paused")
    page.keyboard.press("m")
    assert page.evaluate("[video.muted, Number(document.getElementById('volume').value)]") == [True, 0]
    page.fill("#volume", "0.4")
    assert page.evaluate("[video.muted, video.volume]") == [False, 0.4]
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("f")
    until(page, "document.fullscreenElement === video")
    page.keyboard.press("f")
    until(page, "document.fullscreenElement === null")
    _loop_of_a_stretch(page)
    assert page.evaluate("document.getElementById('video').webkitAudioDecodedByteCount") > 0, "it is heard too"
    at = page.evaluate("document.getElementById('video').currentTime")
    page.keyboard.press(".")
    page.keyboard.press(",")
    page.keyboard.press(",")
    assert page.evaluate("document.getElementById('video').currentTime") < at
    for key, speed in (("[", "0.75×"), ("]", "1×"), ("]", "1.25×")):
        page.keyboard.press(key)
        assert page.text_content("#speed") == speed
    until(
        page,
        "(() => { const d = wave.getContext('2d').getImageData(0, 0, wave.width, wave.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n > 500 })()",
    )
    assert page.problems == []


def _loop_of_a_stretch(page: Any) -> None:
    page.evaluate("video.currentTime = item.start_s + 0.5")
    page.keyboard.press("i")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("video.currentTime > item.end_s - 0.1"), "five seconds are all there are"
    page.evaluate("video.currentTime = item.start_s + 0.8")
    page.keyboard.press("o")
    assert "0.50–0.80" in page.text_content("#stretch-words")
    page.evaluate("window.went = []; video.addEventListener('seeking', () => went.push(video.currentTime))")
    page.keyboard.press("Space")
    until(page, "went.length >= 3 && !video.paused")
    assert page.evaluate("went.every((at) => Math.abs(at - item.start_s - 0.5) < 0.05)"), "it goes round"
    page.keyboard.press("Space")
    page.keyboard.press("x")
    assert page.is_hidden("#stretch")


def test_twenty_clips_from_the_keyboard(browser: Any, served: Served) -> None:
    """No mouse: accept, edit, reject with a reason, skip, can't tell, undo."""
    page = opened(browser, served.link("ann"))
    wanted: list[tuple[str, str]] = []
    for number in range(20):
        before = text_of(page)
        match number % 5:
            case 0 | 1:
                page.keyboard.press("a")
                wanted.append(("accept", ""))
            case 2:
                page.keyboard.press("e")
                page.keyboard.press("Control+a")
                page.keyboard.type(f"A red ball rolls number {number}.")
                page.keyboard.press("Control+Enter")
                wanted.append(("edit", f"A red ball rolls number {number}."))
            case 3:
                page.keyboard.press("r")
                page.wait_for_selector("#reject-dialog[open]")
                page.keyboard.press("1")
                wanted.append(("reject", ""))
            case _:
                page.keyboard.press("s" if number % 2 else "c")
                wanted.append(("skip" if number % 2 else "cant_tell", ""))
        if number < 19:
            goes_on(page, before)
    until(page, "document.getElementById('progress').textContent.includes('today 20')")
    said = served.said()
    assert [(s["verdict"], s["text"]) for s in said] == wanted
    assert {s["reason"] for s in said if s["verdict"] == "reject"} == {"about another clip"}
    assert all(0 < s["seconds"] < 60 for s in said)
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    listed = " ".join(page.locator("#help kbd").all_text_contents()).lower()
    assert all(key in listed for key in ("a", "e", "r", "s", "c", "u", "l", "[", "]", ",", ".", "space", "?"))
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    until(page, "document.getElementById('progress').textContent.includes('today 20')")
    page.wait_for_selector("#work:not([hidden])")
    # What the page shows was so before, too: only the record says when the server has heard.
    end = time.monotonic() + 60
    while served.said()[-1]["verdict"] != "withdraw":
        assert time.monotonic() < end, "the withdrawal never came"
        page.wait_for_timeout(50)
    assert page.problems == []


def test_the_difference_is_shown_as_one_types_and_markup_is_text(browser: Any, served: Served) -> None:
    page = opened(browser, served.link("ann"))
    page.keyboard.press("e")
    page.keyboard.type(" <img src=x onerror=document.title='bad'>")
    assert page.locator("#diff ins").all_text_contents()
    assert page.text_content("#save").startswith("Save edit")
    assert page.locator("#diff img").count() == 0
    before = text_of(page)
    page.keyboard.press("Control+Enter")
    goes_on(page, before)
    assert served.said()[0]["text"].endswith("onerror=document.title='bad'>")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    until(page, f"document.getElementById('model').textContent === {json.dumps(before)}")
    assert page.title().startswith("Review")
    page.fill("#text", "x" * 301)
    assert page.is_disabled("#save")
    assert "at most 300" in str(page.text_content("#notice"))
    assert page.problems == []


def test_a_draft_outlives_reload_and_a_dead_server(browser: Any, served: Served) -> None:
    page = opened(browser, served.link("ann"))
    before = text_of(page)
    page.fill("#text", "Half written, then the lights went out.")
    page.reload()
    until(page, "document.getElementById('model').textContent.length > 0")
    assert text_of(page) == before
    assert page.input_value("#text") == "Half written, then the lights went out."
    port = served.url.rsplit(":", 1)[1]
    served.stop()
    page.click("#save")
    until(page, "document.getElementById('notice').textContent.includes('kept')")
    assert page.input_value("#text") == "Half written, then the lights went out."
    served.start(port=port)
    page.click("#save")
    goes_on(page, before)
    assert [s["text"] for s in served.said()] == ["Half written, then the lights went out."]
    assert page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('flywheel-draft'))") == []


def test_two_tabs_and_two_people(browser: Any, served: Served) -> None:
    link = served.link("ann")
    first = opened(browser, link)
    second = first.context.new_page()
    second.problems = []
    second.goto(served.url)
    until(second, "document.getElementById('model').textContent.length > 0")
    assert text_of(first) == text_of(second)
    other = opened(browser, served.link("bob"))
    assert text_of(other) != text_of(first)
    before = text_of(first)
    first.fill("#text", "From the first tab.")
    first.click("#save")
    goes_on(first, before)
    second.fill("#text", "From the second tab.")
    second.click("#save")
    second.wait_for_selector("#conflict[open]")
    assert second.text_content("#conflict-title") == "You saved this in another tab"
    assert second.evaluate("document.activeElement.id") == "take-theirs", "what is saved stays unless one says so"
    assert second.text_content("#theirs") == "From the first tab."
    assert second.locator("#conflict-diff ins").all_text_contents() == ["second"]
    second.click("#keep-mine")
    goes_on(second, before)
    assert [s["text"] for s in served.said()] == ["From the first tab.", "From the second tab."]
    # A lease that ran out: bob's clip is taken over by ann, and bob is told before anything is overwritten.
    with served.workspace.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = 1")
        connection.exec_driver_sql("UPDATE leases SET refiner = 'ann', until = 9e12 WHERE refiner = 'bob'")
    other.fill("#text", "Bob was away.")
    other.click("#save")
    other.wait_for_selector("#conflict[open]")
    assert "lies before ann" in str(other.text_content("#conflict-why"))
    assert other.input_value("#text") == "Bob was away."


def test_upload_with_bad_rows(browser: Any, served: Served, tmp_path: Path) -> None:
    page = opened(browser, served.link("ann"))
    ids = sorted(served.workspace.annotations(round=1)["id"])
    compared = write_pairs(served.workspace)[0]
    choice = {"first_id": f"m0-{compared}", "second_id": f"m1-{compared}", "chosen": "second"}
    alone = tmp_path / "chosen.jsonl"
    alone.write_text(json.dumps(choice))
    page.click("#open-upload")
    page.set_input_files("#file", str(alone))
    until(page, "document.getElementById('upload-send').textContent === 'Import 1 choice'")
    page.click("#upload-send")
    until(page, "document.getElementById('upload-report').textContent.includes('Added: 1 choice.')")
    assert [p.chosen for p in served.workspace.preference_records()] == ["second"]
    page.click("#upload-close")
    file = tmp_path / "mine.jsonl"
    file.write_text(
        json.dumps({"annotation_id": ids[0], "verdict": "edit", "text": "Uploaded text."})
        + "\n"
        + json.dumps({"annotation_id": "none", "verdict": "accept"})
        + "\n"
    )
    page.click("#open-upload")
    page.set_input_files("#file", str(file))
    until(page, "document.getElementById('upload-report').textContent.includes('Would be added: 1')")
    assert "line 2" in str(page.text_content("#upload-report"))
    assert "Uploaded" in " ".join(page.locator("#upload-report ins").all_text_contents())
    assert served.said() == []
    assert page.text_content("#upload-send") == "Import 1 correction"
    page.click("#upload-send")
    until(page, "document.getElementById('upload-report').textContent.includes('Added: 1')")
    assert [s["text"] for s in served.said()] == ["Uploaded text."]


def test_timed_cues_are_nudged_dragged_added_and_kept(browser: Any, served: Served) -> None:
    clip = sorted(served.workspace.clips("train")["id"])[0]
    cues = [
        {"start_s": 0.3, "end_s": 1.0, "text": "A bell rings."},
        {"start_s": 1.2, "end_s": 2.0, "text": "A dog barks."},
    ]
    with served.workspace.lock():
        served.workspace.add_annotations(
            [
                Annotation(
                    id="dense",
                    round=1,
                    kind="dense_caption",
                    clip_id=clip,
                    generation_id="",
                    source="model",
                    text="A bell rings. A dog barks.",
                    mean_logprob=-99.0,
                    payload=json.dumps({"cues": cues}),
                )
            ],
            1,
        )
    page = opened(browser, served.link("ann"))
    for _ in range(24):
        if page.is_visible("#cue-editor"):
            break
        before = text_of(page)
        page.keyboard.press("s")
        goes_on(page, before)
    assert page.locator("#cue-rows li").count() == 2
    assert not page.is_visible("#text")
    fps = served.workspace.clips().filter(served.workspace.clips()["id"] == clip)["fps"][0]
    page.keyboard.press("e")
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Alt+Shift+ArrowLeft")
    assert page.input_value("#cue-rows li:nth-child(1) input >> nth=0") == f"{round(0.3 + 1 / fps, 3):g}"
    assert page.input_value("#cue-rows li:nth-child(1) input >> nth=1") == f"{round(1.0 - 1 / fps, 3):g}"
    # The video that comes moves what is below it.
    until(page, "video.readyState >= 1")
    length = page.evaluate("item.end_s - item.start_s")
    box = page.locator("#wave").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 2.0 / length, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 2.4 / length, box["y"] + 30, steps=4)
    page.mouse.up()
    assert abs(float(page.input_value("#cue-rows li:nth-child(2) input >> nth=1")) - 2.4) < 0.05
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('video').currentTime = item.start_s + 2.6")
    page.wait_for_timeout(200)
    page.keyboard.press("n")
    page.keyboard.type("It is quiet.")
    assert page.locator("#diff ins").all_text_contents() == [" It is quiet."]
    assert page.text_content("#moved li >> nth=0").startswith("Cue 1: 0.300–1.000 → ")
    page.fill("#cue-rows li:nth-child(1) input >> nth=0", "9")
    page.keyboard.press("Control+Enter")
    assert "Cue 1: its beginning 9.000 is not before its end" in str(page.text_content("#notice"))
    assert page.locator("#cue-rows [aria-invalid]").count() == 1
    assert served.said()[-1]["verdict"] == "skip" if served.said() else True
    page.fill("#cue-rows li:nth-child(1) input >> nth=0", f"{round(0.3 + 1 / fps, 3):g}")
    page.reload()
    until(page, "document.getElementById('model').textContent.length > 0")
    assert page.locator("#cue-rows li").count() == 3, "the draft is there after a reload"
    before = text_of(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+Enter")
    goes_on(page, before)
    [kept] = [s for s in served.said() if s["annotation_id"] == "dense"]
    said = json.loads(kept["payload"])["cues"]
    assert [c["text"] for c in said] == ["A bell rings.", "A dog barks.", "It is quiet."]
    assert said[0]["start_s"] == pytest.approx(0.3 + 1 / fps, abs=1e-3)
    assert page.problems == []


def test_blind_first(browser: Any, served: Served) -> None:
    served.start("--set=review.blind_share=1")
    page = opened(browser, served.link("ann"))
    page.add_init_script(RENEWS_OFTEN)
    page.reload()
    until(page, "document.getElementById('model').textContent.length > 0")
    assert text_of(page) == "Hidden until you have written yours."
    assert page.input_value("#text") == ""
    assert page.is_disabled("#save"), "there is nothing to accept yet"
    page.keyboard.press("a")
    assert "first" in str(page.text_content("#notice"))
    assert served.said() == []
    page.fill("#text", "What I saw myself.")
    source = page.get_attribute("#video", "src")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#blind-dialog[open]")
    [kept] = served.said()
    assert (kept["text"], kept["reason"]) == ("What I saw myself.", "written before the model's text was seen")
    assert page.text_content("#blind-mine") == "What I saw myself."
    page.wait_for_timeout(500)
    assert page.text_content("#notice") == "", "what is saved is given back, which is nobody's loss"
    assert page.text_content("#blind-model").startswith("A clip that shows")
    assert page.locator("#blind-mine del").count()
    assert page.locator("#blind-model ins").count()
    page.click("#blind-change")
    until(page, "item.mine === 'What I saw myself.' && document.activeElement === text")
    assert text_of(page).startswith("A clip that shows"), "what was seen is not hidden again"
    page.keyboard.type(" Twice.")
    page.keyboard.press("Control+Enter")
    until(page, f"![null, {json.dumps(source)}].includes(document.getElementById('video').getAttribute('src'))")
    assert [s["text"] for s in served.said()] == ["What I saw myself.", "What I saw myself. Twice."]
    source = page.get_attribute("#video", "src")
    page.fill("#text", "A second one.")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#blind-dialog[open]")
    page.keyboard.press("Enter")
    until(page, f"![null, {json.dumps(source)}].includes(document.getElementById('video').getAttribute('src'))")
    page.click("#reveal")
    assert text_of(page).startswith("A clip that shows")
    assert page.input_value("#text") == text_of(page)
    page.keyboard.press("a")
    until(page, "document.getElementById('progress').textContent.includes('today 4')")
    assert [(s["verdict"], s["reason"]) for s in served.said()][-1] == ("accept", "")
    assert page.problems == []
