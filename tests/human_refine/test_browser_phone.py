"""The review page on a phone, in both schemes: sizes, contrast, swipes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.human_refine.browser_bed import Served, goes_on, opened, pytestmark, text_of, until  # noqa: F401

#: Every element with text of its own: what it is, its colour, and the ground below it.
_COLOURS = """() => {
  const solid = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!c.endsWith(', 0)') && c !== 'transparent') return c;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const shown = Array.from(document.querySelectorAll('body *')).filter((e) => e.offsetParent);
  return shown.filter((e) => Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => [e.tagName + '#' + e.id, getComputedStyle(e).color, solid(e)]);
}"""


def _contrast(front: str, back: str) -> float:
    """WCAG 2.2's contrast ratio of two CSS colours."""

    def light(colour: str) -> float:
        parts = [float(v) / 255 for v in re.findall(r"[\d.]+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(front), light(back)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_contrast(browser: Any, served: Served, scheme: str) -> None:
    page = opened(
        browser, served.link("ann"), viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )
    until(page, "video.readyState >= 1")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "nothing to be scrolled sideways"
    boxes = [b.bounding_box() for b in page.locator(".verdicts button").all()]
    assert all(box and box["height"] >= 44 for box in boxes), "large enough for a thumb"
    box, bar = page.locator("#text").bounding_box(), page.locator(".verdicts").bounding_box()
    assert box["y"] < bar["y"] < 844 - 40, "text and actions are seen at once"
    page.fill("#text", text_of(page) + " more")
    pairs = page.evaluate(_COLOURS)
    assert len(pairs) > 15
    poor = [(what, round(_contrast(front, back), 2)) for what, front, back in pairs if _contrast(front, back) < 4.5]
    assert poor == []
    page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate(
        "item.text = text.value = 'A red ball rolls. '.repeat(170); item.max_chars = 4000; showModel(); refreshText()"
    )
    assert page.evaluate("text.value.length") > 3000
    save = page.locator("#save").bounding_box()
    assert save["y"] + save["height"] <= 800, "Accept is in sight whatever the text's length"
    page.set_viewport_size({"width": 390, "height": 844})
    unnamed = page.evaluate(
        "Array.from(document.querySelectorAll('button, input, textarea'))"
        ".filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length)))"
        ".map(e => e.id)"
    )
    assert unnamed == []
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", (
        "where the focus is can be seen"
    )
    if scheme == "light":
        _swipes_and_a_goal(page, served)


def _swipes_and_a_goal(page: Any, served: Served) -> None:
    """Both are set by the person: a finger's way over the clip, and how many captions are a day's."""
    page.goto(f"{served.url}/?first=anchors")
    until(page, "video.readyState >= 1")
    kept = page.evaluate("[remembered('anchors-first', null), wish().anchors_first]")
    assert kept == [None, True], "a link asks for anchors in its tab, and nothing is kept of it"
    _swipe(page, 150)
    assert page.is_hidden("#reject-dialog")
    assert served.said() == [], "nobody is met by it who did not ask for it"
    page.click("#open-menu")
    page.click("#open-help")
    page.check("#swipes")
    assert page.is_checked("#anchors-first")
    page.uncheck("#anchors-first")
    assert page.evaluate("[remembered('anchors-first', null), wish().anchors_first]") == [False, False]
    page.check("#anchors-first")
    page.fill("#goal", "1")
    page.click("#help-close")
    until(page, "document.getElementById('progress').textContent.endsWith('today 0 of 1')")
    _swipe(page, 40)
    assert served.said() == [], "too short"
    before = text_of(page)
    with page.expect_request("**/api/next") as asked:
        _swipe(page, 150)
    assert asked.value.post_data_json["anchors_first"]
    goes_on(page, before)
    assert [s["verdict"] for s in served.said()] == ["accept"]
    assert page.text_content("#progress").endswith("today 1 of 1, goal reached")
    until(page, "video.readyState >= 1")
    _swipe(page, -150)
    page.wait_for_selector("#reject-dialog[open]")


def _swipe(page: Any, across: int) -> None:
    """A finger over the middle of the clip, as the screen itself would tell of it."""
    box = page.locator(".screen").bounding_box()
    x, y = box["x"] + box["width"] / 2 - across / 2, box["y"] + box["height"] / 2
    screen = page.context.new_cdp_session(page)
    for kind, part in (("touchStart", 0.0), ("touchMove", 0.5), ("touchMove", 1.0), ("touchEnd", None)):
        points = [] if part is None else [{"x": x + part * across, "y": y}]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    screen.detach()
