"""Every way in, and every file either clips or a rejected row with its reason."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.config import Corpus
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.ingest.clips import split_of
from flywheel.store import Workspace

Make = Callable[..., Workspace]


@pytest.fixture
def videos(corpus: Path) -> list[Path]:
    return sorted((corpus / "corpus").glob("*.mp4"))


def take(workspace: Workspace, *sources: Path) -> tuple[int, int, int]:
    with workspace.lock():
        result = ingest(workspace, [str(s) for s in sources])
    return result.clips, result.known, result.rejected


def test_folder(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace()
    assert take(w, corpus / "corpus") == (20, 0, 0)
    clips = w.clips()
    assert clips["has_audio"].all()
    assert clips["end_s"].is_between(3.1, 3.3).all()
    spoken = clips.filter(pl.col("transcript") != "").height
    assert w.annotations(round=0).height == spoken < 20
    assert (clips["sounds"] != "").all()
    assert take(w, corpus / "corpus") == (0, 20, 0), "the same again is nothing new"
    assert w.clips().height == 20


def test_bad_files_are_rows_and_the_rest_goes_on(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(videos[0], folder / "good.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello")
    (folder / "head.mp4").write_bytes(videos[1].read_bytes()[:200])
    w = make_workspace()
    assert take(w, folder) == (1, 0, 3)
    reasons = dict(w.rejected().select(pl.col("uri").str.split("/").list.last(), "reason").iter_rows())
    assert set(reasons) == {"empty.mp4", "text.mp4", "head.mp4"}
    assert "0 bytes" in reasons["empty.mp4"]
    assert all(reasons.values())
    assert take(w, folder) == (0, 1, 3)
    assert w.rejected().height == 3, "the same failure is one row"
    shutil.copy(videos[2], folder / "text.mp4")
    assert take(w, folder)[0] == 1
    assert w.rejected(open_only=True).height == 2, "mended files close their reject"


def test_duplicates_are_one_clip_and_moved_files_are_found(
    make_workspace: Make, videos: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(videos[0], folder / "a.mp4")
    shutil.copy(videos[0], folder / "b.mp4")
    w = make_workspace()
    assert take(w, folder)[:2] == (1, 1)
    for name in ("a.mp4", "b.mp4"):
        (folder / name).unlink()
    shutil.copy(videos[0], folder / "moved.mp4")
    assert take(w, folder) == (0, 1, 0)
    assert w.clips()["uri"].to_list() == [str((folder / "moved.mp4").resolve())]


def test_spans_from_jsonl(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    rows = [
        {"video": str(videos[0]), "start_s": 0.5, "end_s": 1.5, "transcript": "a part"},
        {"video": str(videos[0]), "start_s": 9.0, "end_s": 14.0},
        {"video": str(videos[0]), "start_s": 2.0, "end_s": 1.0},
        {"video": "missing.mp4"},
        {"nothing": 1},
    ]
    file = tmp_path / "list.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    w = make_workspace()
    assert take(w, file) == (1, 0, 5)
    clip = w.clips().to_dicts()[0]
    assert (clip["start_s"], clip["end_s"], clip["transcript"]) == (0.5, 1.5, "a part")
    assert (
        w.rejected().filter(pl.col("reason").str.contains(r"need 0 <= start_s < end_s <= 3\.\d+, got \[9, 14\)")).height
        == 1
    )


def test_parquet_and_metadata_folder(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    pl.DataFrame({"path": [str(v) for v in videos[:3]], "caption": ["x", "y", None]}).write_parquet(
        tmp_path / "t.parquet"
    )
    w = make_workspace()
    assert take(w, tmp_path / "t.parquet")[0] == 3
    folder = tmp_path / "vf"
    folder.mkdir()
    shutil.copy(videos[4], folder / "v.mp4")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "v.mp4", "text": "said"}))
    assert take(w, folder)[0] == 1
    pl.DataFrame({"other": [1]}).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="needs a column"):
        take(w, tmp_path / "bad.parquet")


def test_hf_dataset(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict(
        {"video": [{"bytes": v.read_bytes(), "path": v.name} for v in videos[:2]], "text": ["one", "two"]}
    ).save_to_disk(str(tmp_path / "ds"))
    w = make_workspace()
    assert take(w, tmp_path / "ds")[0] == 2
    assert sorted(w.clips()["transcript"]) == ["one", "two"]


def test_webdataset(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as tar:
        for number, video in enumerate(videos[:3]):
            for suffix, content in (("mp4", video.read_bytes()), ("txt", f"text {number}".encode())):
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    w = make_workspace()
    assert take(w, tmp_path / "shard-000000.tar")[0] == 3
    assert sorted(w.clips()["transcript"]) == ["text 0", "text 1", "text 2"]
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="not a readable tar"):
        take(w, tmp_path / "broken.tar")


def test_sidecar_cues_go_to_their_span(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    shutil.copy(videos[0], tmp_path / "v.mp4")
    (tmp_path / "v.vtt").write_text(
        "WEBVTT\n\n00:00.200 --> 00:00.900\n<b>first</b>\n\n00:01.800 --> 00:02.400\nsecond\n"
    )
    w = make_workspace("corpus.split_by=length", "corpus.clip_len_s=1.6")
    assert take(w, tmp_path / "v.mp4")[0] == 2
    assert w.clips().sort("start_s")["transcript"].to_list() == ["first", "second"]


def test_scene_cuts(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(tmp_path / "cuts.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rng = np.random.default_rng(0)
        for colour in ((220, 30, 30), (30, 200, 60), (40, 60, 220)):
            still = np.clip(np.array(colour) + rng.normal(0, 25, (120, 160, 3)), 0, 255).astype(np.uint8)
            for _ in range(40):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(still, format="rgb24")))
        container.mux(stream.encode(None))
    w = make_workspace("corpus.split_by=scene")
    assert take(w, tmp_path / "cuts.mp4")[0] == 3, w.rejected()["reason"].to_list()
    assert w.clips().sort("start_s")["start_s"].to_list() == pytest.approx([0, 2, 4], abs=0.11)


def test_nothing_there(make_workspace: Make, tmp_path: Path) -> None:
    w = make_workspace()
    with pytest.raises(UserError, match=r"gone: no such file or folder\. .*lost: no such file"):
        take(w, tmp_path / "gone", tmp_path / "lost")
    (tmp_path / "dry").mkdir()
    with pytest.raises(UserError, match="holds no video files"):
        take(w, tmp_path / "dry")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_row(make_workspace: Make, videos: list[Path], tmp_path: Path) -> None:
    shutil.copy(videos[0], tmp_path / "locked.mp4")
    (tmp_path / "locked.mp4").chmod(0)
    w = make_workspace()
    assert take(w, tmp_path / "locked.mp4") == (0, 0, 1)


def test_split_is_stable_and_shared_out() -> None:
    corpus = Corpus()
    splits = [split_of(f"clip{i}", corpus) for i in range(4000)]
    assert splits == [split_of(f"clip{i}", corpus) for i in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("anchor") / 4000 == pytest.approx(0.1, abs=0.02)


def test_real_videos(make_workspace: Make, real_clips: Path) -> None:
    w = make_workspace()
    clips, _, rejected = take(w, real_clips)
    assert clips + rejected == 5
    assert rejected == 0
    nasa = w.clips().filter(pl.col("uri").str.contains("nasa")).to_dicts()[0]
    assert "Webb" in nasa["transcript"], "subtitles inside the file are its transcript"
