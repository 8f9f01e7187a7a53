"""The review page's API: videos and their sound, and files with corrections."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import sqlalchemy as sql
from anyio.to_thread import current_default_thread_limiter
from fastapi.testclient import TestClient

from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.encode import transcode
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from human_refine.people import invite
from human_refine.server import create_app
from tests.human_refine.page_bed import Make, Refiner


def test_media_by_range(ann: Refiner) -> None:
    item = ann.next()
    whole = ann.http.get(item["media"])
    assert whole.status_code == 200
    assert whole.headers["content-type"] == "video/mp4"
    part = ann.http.get(item["media"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert ann.http.get(item["media"], headers={"Range": f"bytes={len(whole.content) + 5}-"}).status_code == 416
    peaks = ann.http.get(f"/api/waveform/{item['clip_id']}").json()["peaks"]
    assert len(peaks) == 400
    assert 0.05 < max(peaks) <= 1


@pytest.mark.slow
def test_nobody_waits_for_anothers_waveform(app: object, ann: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than the server has threads, on a disk that does not answer."""
    disk, asked_for = threading.Event(), threading.Event()

    def slow(path: Path, *span: float, **options: int) -> object:
        asked_for.set()
        assert disk.wait(60)
        return read_audio(path, *span, **options)

    monkeypatch.setattr("human_refine.media.read_audio", slow)
    sounds = f"/api/waveform/{ann.next()['clip_id']}"
    page = TestClient(app, headers=ann.http.headers, cookies=ann.http.cookies)  # type: ignore[arg-type]
    with page, ThreadPoolExecutor(8) as people:
        assert page.portal is not None
        threads = page.portal.call(current_default_thread_limiter)
        threads.total_tokens = 4
        waiting = [people.submit(page.get, sounds) for _ in range(6)]
        assert asked_for.wait(20)
        time.sleep(0.3)
        try:
            assert people.submit(page.post, "/api/next", json={}).result(10).json()["item"] is not None
            assert not any(one.done() for one in waiting)
        finally:
            disk.set()
        assert {one.result().status_code for one in waiting} == {200}


@pytest.mark.parametrize(
    "path", ["../flywheel.db", "..%2fflywheel.db", "%2e%2e/flywheel.yaml", "/etc/passwd", "....//flywheel.db", "x" * 65]
)
def test_media_is_no_way_to_files(ann: Refiner, path: str) -> None:
    for place in ("/media/", "/static/"):
        answer = ann.http.get(place + path)
        assert answer.status_code in (404, 422), (place, path)
        assert b"SQLite" not in answer.content


@pytest.mark.slow
def test_a_video_that_is_gone(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    clip = create_app(workspace).state.review.service.queue.clip(item["clip_id"])
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE locations SET uri = '/nowhere.mp4'"))
    app = create_app(workspace, lambda: ["round 1: promoted"])
    fresh = TestClient(app, headers={"Authorization": f"Bearer {ann.token}"})
    answer = fresh.get(f"/media/{clip.id}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "the file is gone")
    assert fresh.get(f"/api/video/{clip.id}").status_code == 404
    lead = TestClient(fresh.app, headers={"Authorization": f"Bearer {invite(workspace, 'lou', 'lead')}"})
    page = lead.get("/lead").text
    assert f"/clips?clip={clip.id}" in page, "a lead is told which videos can't be shown"
    assert "<li>round 1: promoted</li>" in page, "and where the rounds stand"


@pytest.mark.slow
def test_what_browsers_cannot_play_becomes_what_they_can(real_clips: Path, make_workspace: Make) -> None:
    from flywheel.media.probe import probe
    from human_refine.media import Proxies, playable

    w = make_workspace()
    with w.lock():
        ingest(w, [str(real_clips)])
    from flywheel.store.view import clip_of

    for row in w.clips().iter_rows(named=True):
        clip = clip_of(row)
        file = Proxies(w.root / "cache" / "proxies", 10**9).file(clip, 60)
        assert playable(file), clip.uri
        assert abs(probe(file).duration_s - probe(Path(clip.uri)).duration_s) < 0.2, clip.uri


@pytest.mark.slow
def test_nobody_waits_for_anothers_copy(
    ann: Refiner, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that has to be made playable: 202 until it is there, and all else goes on."""
    others_went_on = threading.Event()

    def slow(*arguments: object, **options: object) -> None:
        assert others_went_on.wait(60)
        transcode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("human_refine.media.transcode", slow)
    long = tmp_path / "long.mkv"
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    with av.open(str(long), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with workspace.lock():
        assert ingest(workspace, [str(long)]).clips == 1
    clip_id = workspace.clips().filter(workspace.clips()["uri"] == str(long))["id"][0]
    first = ann.http.get(f"/api/video/{clip_id}")
    assert (first.status_code, first.json()["ready"]) == (202, False)
    assert ann.http.get(f"/media/{clip_id}").status_code == 202
    began = time.monotonic()
    item = ann.next()
    assert ann.http.get(f"/api/video/{item['clip_id']}").json() == {"ready": True}, (
        "what browsers play is there at once"
    )
    assert ann.say(item, "accept").status_code == 200
    assert ann.http.get(f"/api/video/{clip_id}").status_code == 202, "all of this while it is made"
    others_went_on.set()
    while (answer := ann.http.get(f"/api/video/{clip_id}")).status_code == 202:
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    assert answer.json() == {"ready": True}
    assert ann.http.get(f"/media/{clip_id}", headers={"Range": "bytes=0-9"}).status_code == 206


def test_upload_with_a_preview_and_bad_rows(ann: Refiner, workspace: Workspace) -> None:
    ids = sorted(workspace.annotations(round=1, kind="caption")["id"])
    rows = (
        f'{{"annotation_id": "{ids[0]}", "verdict": "edit", "text": "From a file.", "refiner": "bob"}}\n'
        f'{{"annotation_id": "nope", "verdict": "accept"}}\n'
        f'{{"annotation_id": "{ids[1]}", "verdict": "accept"}}\nnot json\n'
    ).encode()
    for preview, kept in ((True, 0), (False, 2), (False, 2)):
        answer = ann.http.post(
            f"/api/corrections/import?preview={str(preview).lower()}", files={"file": ("c.jsonl", rows)}
        )
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["num_refused"] == 2
        assert any("line 2" in r and "unknown" in r for r in said["refused"])
        assert workspace.corrections().height == kept
    assert (said["added"], said["known"]) == (0, 2)
    assert set(workspace.corrections()["refiner"]) == {"ann"}, "a refiner's file is that refiner's"


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("c.zip", b"PK\x03\x04" + b"\0" * 100, 415, ".csv, .json, .jsonl"),
        ("c.csv", b"\0" * 100, 422, "needs the column"),
        ("c.csv", b"annotation_id,verdict\n" + b'"' + b"x" * 300_000 + b'",accept\n', 200, "not CSV"),
        ("../../c.jsonl", b"{}", 200, "needs 'annotation_id'"),
        ("c.jsonl", b"[" * 100_000, 200, "not JSON"),
        ("c.jsonl", b"x" * (2 << 20), 413, "too large"),
    ],
)
def test_files_that_are_refused(
    ann: Refiner, workspace: Workspace, name: str, content: bytes, status: int, reason: str
) -> None:
    answer = ann.http.post("/api/corrections/import", files={"file": (name, content)})
    assert answer.status_code == status, answer.text
    assert reason in answer.text
    assert workspace.corrections().is_empty()


def test_a_paste_of_ten_megabytes(ann: Refiner, workspace: Workspace) -> None:
    answer = ann.say(ann.next(), "edit", "x" * (10 << 20))
    assert answer.status_code == 413
    assert "too large" in answer.json()["detail"]
    assert ann.next() is not None


@pytest.mark.slow
def test_overlap_and_agreement(annotated: Path, tmp_path: Path, make_workspace: Make) -> None:
    """Every text lies before two people and no third; how far they agree is measured, and goes into the round's
    report."""
    from flywheel.rounds.stages import review, to_record

    shutil.copytree(annotated, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    w = make_workspace("review.overlap_share=1")
    app = create_app(w)
    people = [Refiner(app, w, name) for name in ("ann", "bob", "cy")]
    seen: dict[str, list[str]] = {}
    for person in people * 30:
        if (item := person.next()) is None:
            continue
        seen.setdefault(item["annotation_id"], []).append(person.name)
        assert item["mine"] == ""
        assert (
            person.say(item, "edit", "A red ball rolls." if len(seen) % 2 else "A blue cat sleeps.").status_code == 200
        )
    assert len(seen) == w.annotations(round=1, kind="caption").height
    assert all(len(names) == len(set(names)) == 2 for names in seen.values())
    found = to_record(review.run(RoundContext(w), 1))
    assert found["overlap"] == len(seen)
    assert found["alpha"] <= 1
    assert {r["refiner"] for r in found["refiners"]} == {"ann", "bob", "cy"}
    assert found["seconds_each"] == 2.5
    lead = Refiner(app, w, "lou", "lead")
    assert "Krippendorff" in lead.http.get("/lead").text
