"""Sources that are broken or meant badly: each such file is a rejected row, the others are taken in, nothing hangs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest

from flywheel.core.errors import MediaError, UserError
from flywheel.ingest import arrow_files, ingest, tables
from flywheel.ingest.beside import MOST_TEXT_BYTES
from flywheel.ingest.sources import items
from flywheel.media.border import time_limit
from flywheel.media.frames import iter_frames, read_frames
from flywheel.media.probe import file_hash, probe
from flywheel.media.scenes import scene_cuts
from flywheel.store import Workspace

Make = Callable[..., Workspace]


@pytest.fixture
def video(corpus: Path) -> Path:
    return min((corpus / "corpus").glob("*.mp4"))


@pytest.fixture
def folder(tmp_path: Path, video: Path) -> Path:
    """A source with one good file."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(video, folder / "good.mp4")
    return folder


def take(workspace: Workspace, *sources: Path) -> dict[str, str]:
    """File's name -> reason of what is rejected; all that is good is taken in."""
    with workspace.lock():
        result = ingest(workspace, [str(source) for source in sources])
    assert result.clips + result.known == 1
    rows = workspace.rejected().select(pl.col("uri").str.split("/").list.last(), "reason").iter_rows()
    reasons = dict(rows)
    assert result.rejected == len(reasons)
    return reasons


def short_video(path: Path, times: list[int], *, size: int = 32, codec: str = "mpeg4") -> None:
    """A video whose pictures stand at these times, in tenths of a second."""
    base = Fraction(1, 10)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", base
        for at in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_what_is_no_regular_file(make_workspace: Make, folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")
    os.mkfifo(folder / "link-behind")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "to-pipe.mp4").symlink_to("link-behind")
    (folder / "around").symlink_to(folder)
    (folder / "folder.mp4").mkdir()
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"x")
    reasons = take(make_workspace("corpus.links=follow"), folder)
    assert set(reasons) == {"pipe.mp4", "device.mp4", "loop.mp4", "link-behind", "caf\\udce9.mp4"}
    assert "no regular file" in reasons["pipe.mp4"]
    assert "no regular file" in reasons["device.mp4"]
    assert "rename it" in reasons["caf\\udce9.mp4"]


@pytest.mark.parametrize("beside", ["good.txt", "good.mp4.srt"])
def test_what_lies_beside_is_a_small_regular_file(make_workspace: Make, folder: Path, beside: str) -> None:
    (folder / beside).write_text("1" * MOST_TEXT_BYTES + "x")
    shutil.copy(folder / "good.mp4", folder / "other.mp4")
    with open(folder / "other.mp4", "ab") as file:
        file.write(b"\0" * 8)
    w = make_workspace("corpus.links=follow")
    assert "larger than 16 MiB" in take(w, folder)["good.mp4"]
    for make in (lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")):
        (folder / beside).unlink()
        make(folder / beside)
        with w.lock():
            assert ingest(w, [str(folder)]).rejected == 1
        assert "no regular file" in w.rejected()["reason"][-1]
    (folder / beside).unlink()
    (folder / beside).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "pointer of Git LFS" in take(w, folder)["good.mp4"]


@pytest.mark.slow
def test_no_link_leads_out_of_its_source(make_workspace: Make, folder: Path, tmp_path: Path, video: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "words.txt").write_text("root:x:0:0")
    other = max(video.parent.glob("*.mp4"))
    shutil.copy(other, secret / "video.mp4")
    (folder / "good.txt").symlink_to(secret / "words.txt")
    (folder / "link.mp4").symlink_to(secret / "video.mp4")
    (folder / "here.mp4").symlink_to("good.mp4")
    w = make_workspace()
    with w.lock():
        result = ingest(w, [str(folder)])
    assert (result.clips, result.rejected) == (0, 3)
    reasons = dict(w.rejected().select(pl.col("uri").str.split("/").list.last(), "reason").iter_rows())
    assert "link out of its source" in reasons["link.mp4"]
    assert "good.txt beside it is a link out of its source" in reasons["good.mp4"]
    assert "root:x" not in str(w.clips().to_dicts())
    (folder / "good.txt").unlink()
    with w.lock():
        assert ingest(w, [str(folder)]).rejected == 1
    assert w.clips().height == 1, "a link within the source is one more name"
    # A table names files wherever they are, but no link that leads elsewhere.
    rows = [{"video": "link.mp4"}, {"video": str(folder / "link.mp4")}, {"video": str(secret / "video.mp4")}]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "list.jsonl").write_text(json.dumps(rows[0]))
    with w.lock():
        result = ingest(w, [str(tmp_path / "lists" / "list.jsonl"), str(folder / "list.jsonl")])
    assert (result.clips, result.rejected) == (1, 3)
    (folder / "good.txt").symlink_to(secret / "words.txt")
    followed = make_workspace("corpus.links=follow", name="followed")
    with followed.lock():
        assert ingest(followed, [str(folder)]).clips == 2
    assert "root:x:0:0" in followed.clips()["transcript"].to_list()


def test_playlists_are_no_videos(make_workspace: Make, folder: Path, tmp_path: Path, video: Path) -> None:
    secret = tmp_path / "secret.ts"
    with av.open(str(video)) as source, av.open(str(secret), "w", format="mpegts") as out:
        track = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    assert probe(secret).duration_s > 1
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:3.0,\nSECRET\n#EXT-X-ENDLIST\n"
    (folder / "list.m3u8").write_text(hls.replace("SECRET", f"file://{secret}"))
    (folder / "near.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    (folder / "hls.ts").write_text(hls.replace("SECRET", "../secret.ts"))
    (folder / "names.jsonl").write_text('{"video": "list.m3u8"}\n')
    reasons = take(make_workspace(), folder, folder / "names.jsonl")
    assert set(reasons) == {"near.mp4", "list.m3u8", "hls.ts"}
    for name in reasons:
        for read in (probe, scene_cuts, lambda path: read_frames(path, [0.0])):
            with pytest.raises(MediaError):
                read(folder / name)


@pytest.mark.parametrize("split_by", ["none", "length", "scene"])
def test_time_stamps_far_away(make_workspace: Make, folder: Path, split_by: str) -> None:
    short_video(folder / "far.mkv", [*range(24), 10_000_000_000])
    short_video(folder / "hours.mkv", [*range(24), 360_000])
    began = time.process_time()
    reasons = take(make_workspace(f"corpus.split_by={split_by}"), folder)
    assert time.process_time() - began < 10
    assert set(reasons) == {"far.mkv", "hours.mkv"}
    assert all("but it holds 25 pictures" in reason for reason in reasons.values())


def test_most_clips_and_most_pixels_of_a_file(make_workspace: Make, folder: Path) -> None:
    short_video(folder / "long.mkv", list(range(0, 1000, 10)))
    short_video(folder / "large.mkv", list(range(3)), size=512)
    reasons = take(make_workspace("corpus.split_by=length", "corpus.max_clips=8", "corpus.max_pixels=60000"), folder)
    assert "would become 9 clips, at most 8 are taken (corpus.max_clips)" in reasons["long.mkv"]
    assert "512 x 512 pixels, at most 60000 fit" in reasons["large.mkv"]


@pytest.mark.slow
def test_a_picture_that_grows_within_its_file_is_not_decoded(tmp_path: Path) -> None:
    """Only the first picture's size was looked at when the file was taken in."""
    parts = b""
    for size, start in ((32, 0), (2960, 90)):
        short_video(tmp_path / f"{size}.ts", [start, start + 1], size=size, codec="libx264")
        parts += (tmp_path / f"{size}.ts").read_bytes()
    (tmp_path / "grows.ts").write_bytes(parts)
    shapes = []
    with contextlib.suppress(MediaError):
        shapes += [frame.shape for frame in iter_frames(tmp_path / "grows.ts", [0.0, 9.1])]
    assert set(shapes) <= {(32, 32, 3)}


@pytest.mark.slow
def test_a_file_has_so_much_time(make_workspace: Make, folder: Path, tmp_path: Path) -> None:
    with open(folder / "holes.mp4", "wb") as file:
        file.truncate(1 << 40)
    w = make_workspace("corpus.max_seconds=1")
    began = time.monotonic()
    assert "takes longer than 1 s" in take(w, folder)["holes.mp4"]
    assert time.monotonic() - began < 30
    for read in (probe, file_hash, scene_cuts):
        with time_limit(0.0), pytest.raises(MediaError, match="takes longer than 0 s"):
            read(folder / "good.mp4")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"video": "good.mp4", "start_s": ' + "1" * 5000 + "}", "too many digits"),
        ('{"video": "good.mp4", "start_s": ' + "1" * 400 + "}", "must be seconds"),
        ('{"video": "a\\u0000.mp4"}', "can be no file's name"),
        ('{"video": "a\\ud800.mp4"}', "rename it"),
        ('{"video": "' + "x" * (1 << 17) + '"}', "is longer than"),
    ],
)
def test_rows_that_end_no_ingest(
    make_workspace: Make, folder: Path, row: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST_LINE", 1 << 17)
    good = json.dumps({"video": "good.mp4", "text": "\ud800 \x1b[2J a\u202e bell"})
    (folder / "rows.jsonl").write_text(f"{row}\n{good}\n")
    w = make_workspace()
    assert reason in " ".join(take(w, folder / "rows.jsonl").values())
    assert w.clips()["transcript"].to_list() == ["[2J a bell"], "without what nobody can see"


def test_a_table_of_too_many_rows_is_refused_unread(
    make_workspace: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of one value weighs nothing, however long it is."""
    monkeypatch.setattr(arrow_files, "_MOST_ROWS", 3)
    for count in (3, 4):
        pl.select(pl.repeat("good.mp4", count).alias("video")).write_parquet(folder / f"{count}.parquet")
    w = make_workspace()
    with w.lock():
        assert ingest(w, [str(folder / "3.parquet")]).known == 2
        with pytest.raises(UserError, match=r"4\.parquet: holds 4 rows, at most 3 are taken\. Split it"):
            ingest(w, [str(folder / "4.parquet")])


def _tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return path


def test_tars_hold_no_more_than_they_weigh(make_workspace: Make, tmp_path: Path, video: Path) -> None:
    members = {
        "a.mp4": video.read_bytes(),
        "b.mp4": b"no video",
        "b.txt": b"words",
        "c.mp4": b"none",
        "c.txt": b"x" * (2 << 20),
    }
    w = make_workspace()
    with pytest.raises(UserError, match="without compression"), w.lock():
        ingest(w, [str(_tar(tmp_path / "z.tar", members, "w:gz"))])
    with w.lock():
        result = ingest(w, [str(_tar(tmp_path / "a.tar", members))])
    assert (result.clips, result.rejected) == (1, 2)
    kept = sorted(path.name for path in (w.root / "media").iterdir())
    assert kept == [Path(w.clips()["uri"][0]).name], "what was rejected is not kept"
    # A good sample beside a bad one of the same content keeps it.
    bad = json.dumps({"start_s": 90, "end_s": 99}).encode()
    other = max(video.parent.glob("*.mp4")).read_bytes()
    with w.lock():
        again = _tar(tmp_path / "b.tar", {"x.json": bad, "x.mp4": other, "y.mp4": other, "z.json": bad, "z.mp4": other})
        assert ingest(w, [str(again)]).clips == 1
    assert all(Path(uri).exists() for uri in w.clips()["uri"])


def test_a_link_that_comes_while_a_table_is_read_is_refused(tmp_path: Path) -> None:
    """A place is looked up once for neighbouring rows, and not for a whole table."""
    folder, secret = tmp_path / "in", tmp_path / "secret.mp4"
    folder.mkdir()
    secret.write_bytes(b"somebody else's")
    (folder / "a.mp4").write_bytes(b"a video")
    rows = [{"video": "a.mp4", "start_s": n, "end_s": n + 1} for n in range(400)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = items(str(folder / "t.jsonl"), tmp_path / "media")
    assert not next(stream).problem
    (folder / "a.mp4").unlink()
    (folder / "a.mp4").symlink_to(secret)
    problems = [item.problem for item in stream]
    assert not any(problems[:100])
    assert all(problem.startswith("is a link out of its source") for problem in problems[128:])
