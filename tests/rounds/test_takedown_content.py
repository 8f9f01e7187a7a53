"""What was taken down does not come back: not under another name, cut or container, nor while somebody has it open."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.config import Config
from flywheel.core.types import Annotation
from flywheel.media.encode import transcode
from flywheel.rounds.takedown import planned, take_down, would_take_down
from flywheel.store import Workspace
from tests.house.test_cli import in_process
from tests.human_refine.page_bed import Refiner
from tests.ingest.test_sides import ROUGH, remux, take

Make = Callable[..., Workspace]


def down(workspace: Workspace, *names: str) -> list[str]:
    with workspace.lock():
        return take_down(workspace, names, "the person asked", rewrite=lambda: None).clips


def spans(folder: Path, video: Path, *times: tuple[float, float]) -> Path:
    rows = [{"video": str(video), "start_s": a, "end_s": b} for a, b in times]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "list.jsonl"


def times(workspace: Workspace) -> list[tuple[float, float]]:
    return sorted((round(a, 3), round(b, 3)) for a, b in workspace.clips().select("start_s", "end_s").iter_rows())


def with_config(workspace: Workspace, **corpus: object) -> None:
    values = workspace.config.model_dump()
    workspace.config = Config.model_validate({**values, "corpus": {**values["corpus"], **corpus}})


@pytest.fixture
def video(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(corpus / "corpus" / "clip-00004.mp4", tmp_path / "video.mp4"))


@pytest.mark.slow
def test_a_file_never_comes_back(make_workspace: Make, video: Path, corpus: Path, tmp_path: Path) -> None:
    w = make_workspace()
    other = corpus / "corpus" / "clip-00007.mp4"
    assert take(w, video, other)[0] == 2
    assert len(down(w, str(video))) == 1
    copies = [
        Path(shutil.copy(video, tmp_path / "another name.mp4")),
        remux(video, tmp_path / "matroska.mkv"),
        remux(video, tmp_path / "stream.ts"),
        spans(tmp_path, video, (0.5, 1.5)),
    ]
    transcode(video, tmp_path / "rough.mp4", quality=ROUGH, start_s=0.4)
    for split_by in ("none", "length"):
        with_config(w, split_by=split_by, clip_len_s=1.0)
        for copy in copies:
            assert take(w, copy) == (0, 0, 1), copy.name
        assert take(w, tmp_path / "rough.mp4") == (0, 0, 1)
    reasons = set(w.rejected()["reason"])
    assert reasons == {
        "was taken down: the person asked",
        "looks like a video that was taken down: the person asked",
    }
    assert w.clips()["uri"].to_list() == [str(other)]


@pytest.mark.slow
def test_of_a_clip_the_span_never_comes_back_and_its_neighbours_stay(
    make_workspace: Make, video: Path, tmp_path: Path
) -> None:
    w = make_workspace("corpus.split_by=length", "corpus.clip_len_s=1.0")
    take(w, video)
    assert take(w, spans(tmp_path, video, (1.5, 2.5), (0.2, 0.9)))[0] == 2
    matroska = remux(video, tmp_path / "matroska.mkv")
    assert take(w, spans(tmp_path, matroska, (0.9, 1.2), (0.0, 0.5)))[0] == 2
    second = next(c["id"] for c in w.clips().to_dicts() if (c["start_s"], c["end_s"]) == (1.0, 2.0))
    with w.lock():
        asked = would_take_down(w, planned(w, [second], "x"))
        assert (len(asked.clips), len(asked.overlapping), asked.removed["clips"]) == (3, 2, 3)
        assert w.count("clips") == 7, "a plan changes nothing"
    assert len(down(w, second[:12])) == 3
    stay = [(0.0, 0.5), (0.0, 1.0), (0.2, 0.9), (2.0, 3.2)]
    assert times(w) == stay
    again = spans(tmp_path, video, (1.0, 2.0), (0.9, 1.1), (1.99, 2.5), (1.2, 1.4), (0.0, 3.0), (0.5, 1.0), (2.0, 2.5))
    assert take(w, again) == (2, 0, 5), "the borders may touch"
    assert take(w, spans(tmp_path, matroska, (1.1, 1.9), (2.2, 2.6))) == (1, 0, 1)
    assert times(w) == sorted([*stay, (0.5, 1.0), (2.0, 2.5), (2.2, 2.6)])
    transcode(video, tmp_path / "rough.mp4", quality=ROUGH)
    assert take(w, tmp_path / "rough.mp4") == (0, 0, 1), "which part of it is the one can't be told"


@pytest.mark.slow
def test_a_takedown_asks_first(
    make_workspace: Make, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace()
    take(w, video)
    command = ("takedown", str(video), "--reason", "x", "--config", str(w.root))
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        code, out, err = in_process(monkeypatch, capsys, *command)
    assert (code, out) == (2, "")
    assert "1 clips would be taken down, for good: " in err
    assert "takedown: nothing was done. Say --yes to do this, or --dry-run to only look." in err
    assert any(line.startswith("left in place (outside the workspace): ") for line in err.splitlines()), (
        "a line each, as with --dry-run"
    )
    code, out, _ = in_process(monkeypatch, capsys, *command, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["removed"]["clips"] == 1
    for answer, ends in ((b"n\n", 2), (b"y\n", 0)):
        assert w.count("clips") == 1
        terminal, end = os.openpty()
        os.write(terminal, answer)
        with os.fdopen(end) as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            assert in_process(monkeypatch, capsys, *command)[0] == ends
        os.close(terminal)
    assert w.count("clips") == 0


def test_a_clip_that_is_taken_down_while_somebody_has_it_open(make_workspace: Make, video: Path) -> None:
    from human_refine.server import create_app

    w = make_workspace("corpus.test_share=0", "corpus.anchor_share=0")
    take(w, video)
    clip_id = w.clips()["id"][0]
    said = Annotation(
        id="a1",
        round=1,
        kind="caption",
        clip_id=clip_id,
        generation_id="g",
        source="model",
        text="A red ball.",
        mean_logprob=0.0,
    )
    with w.lock():
        w.add_annotations([said], round=1)
    eve = Refiner(create_app(w), w, "Eve")
    item = eve.next()
    assert eve.http.get(f"/media/{clip_id}").status_code == 200
    # As far as a takedown is in its first moment: what it removes is all there.
    w.takedowns.note([clip_id], "the person asked", {})
    assert eve.http.get(f"/media/{clip_id}").status_code == 410
    assert eve.http.get(f"/api/waveform/{clip_id}").status_code == 410
    answer = eve.say(item, "accept")
    assert answer.status_code == 410
    assert re.search("what you wrote stays in the page", answer.json()["detail"])
    assert w.num_corrections() == 0
    assert eve.http.post("/api/next", json={"without": ""}).status_code in (200, 410)
    assert eve.http.get("/media/never").status_code == 404
