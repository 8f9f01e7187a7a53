"""The review page in real Chromium, served by the real command: watch, edit, accept, reject, undo, all from the
keyboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.config import template
from flywheel.core.types import Annotation
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from flywheel.store.flags import open_flags
from human_refine.gold import gold_texts
from human_refine.people import invite
from tests.human_refine.pair_bed import write_pairs

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


_SETTINGS = ["tracking.enabled=false", "annotate.engine=fake", "corpus.test_share=0"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def _pages_closed(browser: Any) -> Iterator[None]:
    """Pages that stay open go on playing their videos beside the next test."""
    yield
    for context in browser.contexts:
        context.close()


class Served:
    """A workspace, and the page over it, which is started by who asks for its address."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace.open(self.root, _SETTINGS)
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


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 24 clips with texts, to be copied."""
    folder = tmp_path_factory.mktemp("ready")
    write_playground(folder, seed=8, num_clips=24, noise_rate=0.5)
    Workspace.create(folder / "w", template())
    workspace = Workspace.open(folder / "w", _SETTINGS)
    with workspace.lock():
        ingest(workspace, [str(folder / "corpus")])
        context = RoundContext(workspace)
        context.ask(context.split("train", "anchor"), by=0, round=1)
    workspace.database.close()
    return folder / "w"


@pytest.fixture
def served(tmp_path: Path, ready: Path) -> Iterator[Served]:
    shutil.copytree(ready, tmp_path / "w")
    found = Served(tmp_path / "w")
    yield found
    found.stop()
    found.workspace.database.close()


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
    page.reload()
    until(page, "video.readyState >= 1")
    _swipe(page, 150)
    assert page.is_hidden("#reject-dialog")
    assert served.said() == [], "nobody is met by it who did not ask for it"
    page.click("#open-menu")
    page.click("#open-help")
    page.check("#swipes")
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
