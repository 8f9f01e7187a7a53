"""What stands beside the work in real Chromium: guidelines, flags, keys, skipped ones, gold and the lead's pages."""

from __future__ import annotations

import json
from typing import Any

from flywheel.store.flags import open_flags
from human_refine.gold import gold_texts
from tests.human_refine.browser_bed import Served, clip_of, goes_on, opened, pytestmark, text_of, until  # noqa: F401


def _flags(page: Any, served: Served) -> None:
    page.keyboard.press("b")
    page.fill("#flag-note", "Is this a bell?")
    page.click("#flag-on")
    until(page, "document.getElementById('flag').textContent.startsWith('Flagged')")
    [flag] = open_flags(served.workspace, 9)
    assert (flag.refiner, flag.note) == ("leaves", "Is this a bell?")
    page.goto(served.url + str(page.get_attribute("#clip-link", "href")))
    until(page, "document.getElementById('flag').textContent.startsWith('Flagged')")
    page.keyboard.press("b")
    page.click("#flag-off")
    until(page, "document.getElementById('flag').textContent.startsWith('Flag ')")
    assert open_flags(served.workspace, 9) == []


def _own_keys(page: Any) -> None:
    page.keyboard.press("?")
    page.click("#key-rows button >> nth=4")
    page.keyboard.press("a")
    assert "taken" in page.text_content("#key-notice")
    page.click("#key-rows button >> nth=4")
    page.keyboard.press("j")
    page.click("#help-close")
    assert page.text_content("#skip kbd") == "J"
    page.reload()
    until(page, "document.getElementById('model').textContent.length > 0")
    assert page.text_content("#skip kbd") == "J"
    page.keyboard.press("?")
    page.click("#keys-reset")
    page.click("#help-close")
    assert page.text_content("#skip kbd") == "S"


def _without_h264(page: Any) -> None:
    """What a browser without H.264 says of a video that it can't play."""
    clip_of(page)
    page.evaluate("() => { video.canPlayType = () => ''; video.dispatchEvent(new Event('error')); }")
    assert "can't play H.264" in page.text_content("#video-problem-words")
    assert page.is_visible("#video-problem")
    page.evaluate("() => { delete video.canPlayType; }")


def _right_to_left_and_without_blanks(page: Any) -> None:
    assert page.evaluate("['model', 'text', 'diff'].every(id => document.getElementById(id).dir === 'auto')")
    before = page.evaluate("item.text")
    page.evaluate("item.text = '一个红色的球向左滚动。'")
    page.fill("#text", "一个蓝色的球向左滚动。")
    assert len(page.text_content("#diff ins")) < 4, "a word, not the whole text"
    page.evaluate("before => { item.text = before; text.value = before; refreshText(); text.blur() }", before)


def _the_leads_pages(page: Any, served: Served, clip: str) -> None:
    """Search, one clip with what was changed, a word on training, a person's texts."""
    page.goto(served.url + "/clips?words=" + clip)
    until(page, "document.querySelectorAll('#list > li').length === 1")
    assert "truly" in " ".join(page.locator("#list ins").all_text_contents()), "what the person changed is shown"
    page.click("#list button")
    page.wait_for_selector("#detail-video[src]", state="attached")
    assert "Edited by boss" in page.text_content("#detail-words")
    page.fill("#keep-reason", "a test card")
    page.click("#keep button[value=drop]")
    until(page, "document.getElementById('detail-kept').textContent.includes('A lead said drop')")
    assert served.workspace.clip_verdicts().select("clip_id", "kept").rows() == [(clip, False)]
    page.click("#show-rejects")
    until(page, "document.getElementById('count').textContent === 'Nothing failed.'")
    page.goto(served.url + "/lead")
    page.fill("#invite-name", "new one")
    page.click("text=Make a link")
    page.wait_for_selector("#invite-link a")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing to be scrolled sideways"
    with page.expect_navigation():
        page.click("th a >> text=boss")
    until(page, "document.querySelectorAll('ins').length > 0")
    assert page.problems == []


def _again_while_the_page_looks(page: Any) -> None:
    """The page that has nothing to show asks now and then: an answer that comes late does not undo a click."""
    late: list[Any] = []
    page.route("**/api/next", lambda route: late.append(route))
    page.evaluate("void go('/api/next', {})")
    page.click("#again")
    until(page, "!document.getElementById('work').hidden")
    [route] = late
    with page.expect_response("**/api/next"):
        route.continue_()
    page.unroute("**/api/next")
    page.wait_for_timeout(50)
    assert page.is_visible("#work")


def test_guidelines_flags_keys_what_was_skipped_and_signing_out(browser: Any, served: Served) -> None:
    """What stands beside the work, for a person who meets it for the first time."""
    (served.root / "guide.md").write_text("# Captions\n\nName what moves.\n\n- colours\n- <b>sounds</b>\n")
    served.start("--set=review.guidelines=guide.md", "--set=review.reasons=[too short]")
    page = opened(browser, served.link("leaves"))
    page.wait_for_selector("#guide[open]")
    assert page.locator("#guide li").all_text_contents() == ["colours", "<b>sounds</b>"], "markup is text"
    page.keyboard.press("Escape")
    _flags(page, served)
    _own_keys(page)
    assert page.locator("#guide[open]").count() == 0, "once is enough"
    _right_to_left_and_without_blanks(page)
    _without_h264(page)
    first = text_of(page)
    while page.is_visible("#work"):
        before = text_of(page)
        page.keyboard.press("s")
        until(
            page,
            f"!item || item.text !== {json.dumps(before)}",
        )
    assert page.text_content("#again-words") == "You skipped 24 captions: look again"
    _again_while_the_page_looks(page)
    assert text_of(page) == first, "the one skipped first"
    page.keyboard.press("r")
    page.click("#reject-send")
    assert "Give a reason" in page.text_content("#reason-hint")
    page.fill("#reason", "of my own")
    page.keyboard.press("Enter")
    goes_on(page, first)
    assert "undoes" in page.text_content("#saved")
    page.click("#recent-box summary")
    until(page, "document.querySelector('#recent li')?.textContent.startsWith('Rejected')")
    page.click("#recent li:first-child button")
    goes_on(page, text_of(page))
    assert text_of(page) == first, "a decision can be looked at again"
    page.keyboard.press("r")
    reasons = page.locator("[data-reason]").all_text_contents()
    assert [reason.strip() for reason in reasons] == ["1 Too short", "2 of my own"], "the lead's, and one's own"
    page.keyboard.press("Escape")
    page.goto(served.url + "/lead")
    assert "only leads" in page.text_content("main")
    page.goto(served.url)
    with page.expect_navigation():
        page.click("#sign-out")
    assert "open the invite link" in page.text_content("main")
    page.reload()
    assert "open the invite link" in page.text_content("main"), "and it stays so"
    page.context.close()


def test_a_lead_makes_gold_from_the_keyboard(browser: Any, served: Served) -> None:
    """G and a save: from then on nobody's work, and a check of everybody's."""
    train = set(served.workspace.clips("train")["id"])
    page = opened(browser, served.link("boss", "lead"))
    while clip_of(page) not in train:
        before = page.get_attribute("#video", "src")
        page.keyboard.press("s")
        until(page, f"![null, {json.dumps(before)}].includes(document.getElementById('video').getAttribute('src'))")
    clip = clip_of(page)
    page.keyboard.press("g")
    assert page.is_checked("#gold")
    box, label = page.locator("#gold").bounding_box(), page.locator("label:has(#gold)").bounding_box()
    assert box["width"] < 40, "a checkbox"
    assert abs(box["x"] - label["x"]) < 5, "before its words"
    page.keyboard.press("e")
    page.fill("#text", "What is truly there.")
    page.keyboard.press("Control+Enter")
    until(
        page,
        f"!(document.getElementById('video').getAttribute('src') || {json.dumps(clip)}).endsWith({json.dumps(clip)})",
    )
    assert gold_texts(served.workspace) == {clip: "What is truly there."}
    assert not page.is_checked("#gold"), "for that text alone"
    _the_leads_pages(page, served, clip)
    page.context.close()
    other = opened(browser, served.link("plain"))
    assert other.query_selector("#gold") is None
    other.context.close()
