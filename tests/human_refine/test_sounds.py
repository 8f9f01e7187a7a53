"""Two sounds of a clip, blind: who hears which, that films differ in the sound alone, and what choices say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from flywheel.core.errors import MediaError
from flywheel.core.types import Preference, standing_choices
from flywheel.curation.repair.heard import HeardChoice, heard_choices, margin_of, said_by_people
from flywheel.curation.repair.repairing import repair_clips, undo
from flywheel.curation.repair.side_by_side import FILMS, SoundsSideBySide, equally_loud
from flywheel.media.audio import read_audio
from flywheel.media.encode import transcode
from flywheel.media.grey import read_grey
from flywheel.rounds.takedown import take_down
from flywheel.sound.quality import level_db, sound_quality
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from human_refine.choices import choices_on_record
from human_refine.people import exclude, invite
from human_refine.server import create_app
from human_refine.sound_pairs import sound_pair
from tests.curation.test_repairing import looked_at
from tests.human_refine.page_bed import Refiner
from tests.rendered import RATE_HZ, impacts, tones

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two edited sounds."""
    return looked_at(tmp_path_factory.mktemp("heard"))


@pytest.fixture
def repaired(whole: Path, make_workspace: Callable[..., Workspace], tmp_path: Path) -> Workspace:
    """The same, one test's own."""
    shutil.copytree(whole / "w", tmp_path / "w")
    return make_workspace()


def _pieces(samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Samples in blocks that no other length divides."""
    return np.array_split(samples, 7)


def test_a_level_by_blocks_is_the_level_of_the_whole() -> None:
    sound = tones(impacts(1, 2.0), 1, length_s=2.0)
    for samples in (sound, 1e-5 * sound, sound[:100], np.zeros(48_000, np.float32), np.full(4_800, np.nan, np.float32)):
        whole = sound_quality(samples, RATE_HZ).level_db
        assert level_db(_pieces(samples), RATE_HZ) == pytest.approx(whole, abs=1e-9)


def test_the_louder_sound_is_made_as_loud_as_the_other() -> None:
    quiet = tones(impacts(1, 2.0), 1, length_s=2.0)
    loud = 4 * tones(impacts(2, 2.0), 2, length_s=2.0)
    for pair in ((quiet, loud), (loud, quiet)):
        first, second = (np.concatenate(list(sound)) for sound in equally_loud(*(partial(_pieces, s) for s in pair)))
        assert len(first) == len(pair[0])
        levels = [sound_quality(samples, 48_000).level_db for samples in (first, second)]
        assert abs(levels[0] - levels[1]) < 0.2
        assert max(np.abs(first).max(), np.abs(second).max()) <= np.abs(loud).max()


def test_the_margin_is_where_people_surely_prefer_what_was_edited() -> None:
    def said(rise: float, outcome: float) -> HeardChoice:
        return HeardChoice(outcome=outcome, rise=rise, refiner="ann")

    good, bad = [said(0.5 + n / 100, 1.0) for n in range(16)], [said(0.1 + n / 1000, 0.0) for n in range(12)]
    found = margin_of([*bad, *good])
    assert found is not None
    assert 0.1 < found <= 0.5
    assert margin_of(good[:2]) is None, "two choices say nothing"
    assert margin_of(bad) is None
    assert margin_of([]) is None


def _pairs(person: Refiner) -> dict[str, Any]:
    answer = person.http.post("/api/sounds/next", json={})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def _choose(person: Refiner, pair: dict[str, Any], chosen: str, number: int) -> Any:
    body = {"pair_id": pair["pair_id"], "chosen": chosen, "seconds": 3.0, "save_id": f"save-{person.name}-{number:04d}"}
    return person.http.post("/api/sounds/choices", json=body)


def _film(person: Refiner, pair: dict[str, Any], side: str, folder: Path) -> Path:
    answer = person.http.get(pair["films"][side])
    assert answer.status_code == 200, answer.text
    file = folder / f"{pair['pair_id']}-{side}.mp4"
    file.write_bytes(answer.content)
    return file


def _ready(person: Refiner, pair: dict[str, Any]) -> None:
    """Asks as the page does until both films are there."""
    until = time.monotonic() + 60
    while not (answer := person.http.get(f"/api/sounds/video/{pair['pair_id']}")).json()["ready"]:
        assert answer.status_code == 202
        assert time.monotonic() < until
        time.sleep(0.1)


def _is_edited(film: Path, w: Workspace, clip_id: str) -> bool:
    """Whether the film's sound is another than the original's."""
    clip = ClipIndex(w)[clip_id]
    original = read_audio(Path(clip.uri), clip.start_s, clip.end_s, rate_hz=RATE_HZ)
    heard = read_audio(film, 0.0, clip.duration_s, rate_hz=RATE_HZ)
    length = min(len(original), len(heard))
    return bool(np.corrcoef(original[:length], heard[:length])[0, 1] < 0.8)


@pytest.mark.slow
def test_a_person_hears_pairs_blind_and_equally_loud_and_is_told_at_the_end(
    repaired: Workspace, tmp_path: Path
) -> None:
    w = repaired
    ann = Refiner(create_app(w, sounds=SoundsSideBySide(w)), w, "ann")
    assert "/sounds" in ann.http.get("/").text
    assert ann.http.get("/sounds").status_code == 200
    done = 0
    while (said := _pairs(ann))["pair"] is not None:
        pair = said["pair"]
        assert said["result"] is None
        assert _pairs(ann)["pair"] == pair, "what is leased comes first, on the same sides"
        assert not {"edited", "version", "original"} & set(json.dumps(pair).replace('"', " ").split()), "blind"
        _ready(ann, pair)
        films = [_film(ann, pair, side, tmp_path) for side in ("left", "right")]
        edited = [_is_edited(film, w, pair["clip_id"]) for film in films]
        assert sorted(edited) == [False, True]
        levels = [sound_quality(read_audio(film, 0, 4, rate_hz=RATE_HZ), RATE_HZ).level_db for film in films]
        assert abs(levels[0] - levels[1]) < 1
        (_, grey), (_, other) = (read_grey(film, 0, 4) for film in films)
        assert np.array_equal(grey, other), "the same picture"
        if not done:
            assert _choose(ann, pair, "left", 90).status_code == 200
            assert ann.http.post("/api/sounds/undo", json={}).json()["pair"] == pair
        assert _choose(ann, pair, "left" if edited[0] else "right", done).status_code == 200
        done += 1
    assert done == 2
    assert said["counts"] == {"done": 2, "of": 2, "mine": 2}
    assert said["result"]["chosen"] == [0, 2]
    # Pages keep to their own choices, and files of choices to those of texts.
    assert len(ann.http.get("/api/sounds/history").json()["history"]) == 2
    assert ann.http.get("/api/compare/history").json()["history"] == []
    assert ann.http.post("/api/compare/undo", json={}).json()["pair"] is None
    assert list(choices_on_record(w)) == []
    people = said_by_people(w)
    assert (people["edited_better"]["value"], people["edited_better"]["n"], people["refiners"]) == (1.0, 2, 1)
    assert people["edited_better"]["low"] < 0.5, "two choices prove nothing"
    assert people["margin"] is None
    assert all(choice.rise > 0.03 for choice in heard_choices(w))
    # An edited sound that stands no longer is not asked about, and a takedown leaves no film.
    clip_id = standing_choices(w.preference_records())[0].clip_id
    with w.lock():
        undo(w, clip_id)
    pair = sound_pair(clip_id, "o", "v")
    assert ann.http.get(f"/media/sounds/{pair.pair_id}/left").status_code == 410
    assert len(list((w.root / FILMS).glob("*.mp4"))) == 4
    with w.lock():
        take_down(w, [clip_id], "asked to", rewrite=lambda: None)
    assert not (w.root / FILMS).exists()
    assert len(heard_choices(w)) == 1
    exclude(w, "ann", "was not there")
    assert said_by_people(w) == {}


@pytest.mark.slow
def test_two_servers_make_a_film_at_once_and_neither_has_the_others_file(
    repaired: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flywheel.curation.repair.side_by_side as module
    from flywheel.media.resounded import write_resounded

    servers = [SoundsSideBySide(repaired) for _ in range(2)]
    pair, together, written = servers[0].pairs()[0], threading.Barrier(2, timeout=60), list[Path]()

    def both(picture: Path, out: Path, sound: Any) -> None:
        together.wait()
        written.extend((picture, out))
        write_resounded(picture, out, sound)

    monkeypatch.setattr(module, "write_resounded", both)
    monkeypatch.setattr(module, "_KEPT", 2)
    folder = repaired.root / FILMS
    folder.mkdir(parents=True)
    old, new = folder / "a.12.tmp.mp4", folder / "b.12.tmp.mp4"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    with ThreadPoolExecutor(2) as pool:
        films = list(pool.map(lambda server: server.film(pair, edited=True, patience_s=60), servers))
    assert films[0] == films[1]
    assert len(set(written[1::2])) == 4
    assert len(set(written[::2])) == 2
    # What another server writes stays, what a killed one left goes.
    assert sorted(folder.iterdir()) == sorted([new, *folder.glob(f"{pair.pair_id}-*.mp4")])
    assert len(list(folder.iterdir())) == 3
    assert _is_edited(films[0], repaired, pair.clip_id)


@pytest.mark.slow
def test_films_hold_up_no_video_and_a_failure_is_told_and_tried_again(
    repaired: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flywheel.curation.repair.side_by_side as module

    w, go_on, tries = repaired, threading.Event(), list[int]()

    def slow(*arguments: Any, **options: Any) -> None:
        tries.append(1)
        assert go_on.wait(60)
        if len(tries) == 1:
            raise MediaError("the disk was away")
        transcode(*arguments, **options)

    monkeypatch.setattr(module, "transcode", slow)
    app = create_app(w, sounds=SoundsSideBySide(w))
    ann = Refiner(app, w, "ann")
    pair = _pairs(ann)["pair"]
    made = f"/api/sounds/video/{pair['pair_id']}"
    # More than there are threads for videos, all while one film is made.
    page = TestClient(app, headers=ann.http.headers, cookies=ann.http.cookies)
    with page, ThreadPoolExecutor(12) as people:
        assert {answer.status_code for answer in people.map(page.get, [made] * 24)} == {202}
    assert ann.http.get(pair["films"]["left"]).json()["ready"] is False
    clip = ClipIndex(w)[pair["clip_id"]]
    assert ann.http.get(f"/api/video/{clip.id}").json() == {"ready": True}
    assert len(tries) == 1
    go_on.set()
    until = time.monotonic() + 60
    while (answer := ann.http.get(made)).status_code == 202:
        assert time.monotonic() < until
    assert (answer.status_code, "the disk was away" in answer.text) == (404, True)
    _ready(ann, pair)
    assert len(tries) == 2
    assert ann.http.get(pair["films"]["left"], headers={"Range": "bytes=0-9"}).status_code == 206


@pytest.mark.slow
def test_of_a_long_sound_a_few_seconds_are_held(tmp_path: Path) -> None:
    import flywheel.curation.repair.side_by_side as module
    from flywheel.media.wav import write_wav

    length_s, rate_hz = 60, 48_000
    noise = np.random.default_rng(0).normal(0, 0.1, (rate_hz, 1)).astype(np.float32)
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for file in files:
        write_wav(file, [noise] * length_s, length=length_s * rate_hz, channels=1, rate_hz=rate_hz)
    tracemalloc.start()
    try:
        # The second sound ends earlier than the clip: it is as long all the same.
        sounds = equally_loud(*(partial(module._sound, file, n, length_s) for n, file in enumerate(files)))
        lengths = [sum(map(len, sound)) for sound in sounds]
        ends = sum(map(len, module._sound(files[0], 40, 70)))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lengths == [length_s * rate_hz, (length_s - 1) * rate_hz]
    assert ends == 30 * rate_hz
    assert held < 4 * length_s * rate_hz, "less than one of them takes"


@pytest.mark.slow
def test_choices_stand_in_the_line_and_the_figures_of_repair(repaired: Workspace) -> None:
    from flywheel.curation.repair.summary import headline, summary
    from flywheel.rounds.stages import repair as stage

    w = repaired
    now, pairs = datetime.now(UTC), SoundsSideBySide(w).pairs()
    choices = [
        Preference(
            id=f"p{n}",
            clip_id=pair.clip_id,
            first_id=pair.first_id,
            second_id=pair.second_id,
            chosen=chosen,  # type: ignore[arg-type]
            refiner="ann",
            left="first",
            at=now,
        )
        for n, (pair, chosen) in enumerate(zip(pairs, ("second", "equal"), strict=True))
    ]
    w.add_preferences([*choices, replace(choices[0], id="p9", refiner="bob", chosen="first")])
    with w.lock():
        run = repair_clips(w, ClipIndex(w), round=1)
        found = summary(w, run, ClipIndex(w))
    assert found.people["edited_better"]["value"] == 0.75, "one choice a video, the first"
    assert "people prefer the edited sound of 0.75 [" in headline(asdict(found))
    figures = stage.figures(found)
    assert figures["repair/preferred"] == 0.75
    assert figures["repair/preferred_low"] < 0.75 < figures["repair/preferred_high"]


def test_without_edited_sounds_nothing_is_asked(make_workspace: Callable[..., Workspace]) -> None:
    w = make_workspace()
    ann = Refiner(create_app(w, sounds=SoundsSideBySide(w)), w, "ann")
    said = _pairs(ann)
    assert (said["pair"], said["result"], said["counts"]["of"]) == (None, None, 0)
    assert "/sounds" not in ann.http.get("/").text
    assert ann.http.get("/media/sounds/nothing/left").status_code == 410


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        page = chromium.new_page(viewport={"width": 390, "height": 780})
        page.set_default_timeout(20_000)
        page.add_init_script("localStorage.setItem('flywheel-autoplay', 'false')")
        yield page
        chromium.close()


@pytest.fixture
def url(repaired: Workspace) -> Iterator[Callable[[], str]]:
    """Gives the address of the page, which the real command serves from then on."""
    served: list[subprocess.Popen[str]] = []

    def start() -> str:
        command = [sys.executable, "-m", "flywheel.cli", "review", "--config", str(repaired.root), "--port", "0"]
        served.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert served[0].stdout is not None
        return served[0].stdout.readline().split()[0]

    yield start
    for process in served:
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def _until(page: Any, holds: str) -> None:
    """Waits until an expression of the page holds; the page's own policy forbids Playwright's way."""
    until = time.monotonic() + 60
    while not page.evaluate(holds):
        assert time.monotonic() < until, holds
        page.wait_for_timeout(50)


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_sounds_are_heard_and_chosen_of_by_keys_alone(page: Any, url: Callable[[], str], repaired: Workspace) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    address = url()
    page.goto(f"{address}/invite/{invite(repaired, 'ann', 'refiner')}")
    page.goto(f"{address}/sounds")
    for number in range(2):
        page.wait_for_selector("body[aria-busy=false]")
        _until(page, "document.getElementById('video').readyState >= 2")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone"
        assert page.get_attribute("[data-hear=left]", "aria-pressed") == "true"
        left = page.evaluate("document.getElementById('video').src")
        page.keyboard.press("ArrowRight")
        _until(page, "document.getElementById('video').src.endsWith('/right')")
        _until(page, "document.getElementById('video').currentTime > 0.1")
        assert page.get_attribute("[data-hear=right]", "aria-pressed") == "true"
        page.keyboard.press("ArrowLeft")
        _until(page, "document.getElementById('video').readyState >= 2")
        assert page.evaluate("document.getElementById('video').src") == left
        assert page.evaluate("document.getElementById('video').currentTime") > 0.05, "it goes on where the other was"
        with page.expect_response(lambda r: r.url.endswith("/api/sounds/next")):
            page.keyboard.press("12"[number])
    page.wait_for_selector("#done:not([hidden])")
    assert "You preferred the edited sound of" in page.text_content("#done-words")
    assert sorted(p.chosen for p in standing_choices(repaired.preference_records())) in (
        ["first", "first"],
        ["first", "second"],
        ["second", "second"],
    )
    assert errors == []
