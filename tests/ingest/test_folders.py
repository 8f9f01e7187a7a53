"""Folders as people have them: what of them is read, what is passed over, and which links are followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.ingest import links
from flywheel.ingest.items import Item, Rules
from flywheel.ingest.passed import Passed
from flywheel.ingest.sources import items


def put(*files: Path, content: bytes = b"film") -> None:
    """Files with their folders."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def read(source: Path, **rules: str) -> tuple[list[Item], dict[str, int]]:
    """The items of a source, and what was passed over."""
    passed = Passed()
    found = list(items(str(source), source.parent / "media", Rules(**rules), passed))  # type: ignore[arg-type]
    return found, dict(passed.counts)


def names(found: list[Item]) -> list[str]:
    return [item.path.name for item in found if not item.problem]


def problems(found: list[Item]) -> dict[str, str]:
    return {item.path.name: item.problem for item in found if item.problem}


def test_each_file_is_taken_or_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(*(folder / name for name in ("a.MP4", "b.mkv", "sub/c.webm", "sub/deep/d.mp4")))
    put(*(folder / name for name in ("a.txt", "b.mkv.srt", "sub/c.de.vtt", "sub/d.vtt", "notes.txt")))
    put(
        *(
            folder / name
            for name in (".DS_Store", "._a.MP4", ".hidden/e.mp4", "Thumbs.db", "sub/x.jpg", "y.JPG", "LICENSE")
        )
    )
    put(*(folder / name for name in ("z.zip", "more.tar.gz", "f.mp4.part", "g.mp4.crdownload")))
    put(folder / "list.m3u8", folder / "list.jsonl", folder / "shard.tar")
    (folder / "empty").mkdir()
    found, passed = read(folder)
    assert names(found) == ["a.MP4", "b.mkv", "c.webm", "d.mp4"]
    assert {name: problem.split(":")[0] for name, problem in problems(found).items()} == {
        "z.zip": "is a compressed archive",
        "more.tar.gz": "is a compressed archive",
        "f.mp4.part": "is half a download",
        "g.mp4.crdownload": "is half a download",
    }
    assert passed == {
        "hidden files and folders": 4,
        ".jpg": 2,
        "without an ending": 1,
        # Words of no video; a list and a shard beside loose videos.
        ".txt": 1,
        ".vtt": 1,
        ".m3u8": 1,
        ".jsonl": 1,
        ".tar": 1,
    }


def test_a_folder_without_videos_says_what_it_holds(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.jpg", tmp_path / "in" / "b.jpg", tmp_path / "in" / ".x")
    with pytest.raises(
        UserError, match=r"holds no video files, but \.jpg \(2\), hidden files and folders \(1\)\. Known"
    ):
        read(tmp_path / "in")


def test_kinds_that_are_counted_are_bounded(tmp_path: Path) -> None:
    passed = Passed()
    for number in range(1000):
        passed.count(f".{number}")
        passed.note(str(number))
    assert (len(passed.counts), sum(passed.counts.values()), len(passed.notes)) == (65, 1000, 20)


def test_linked_folders_are_read_once_and_lead_nowhere_up(tmp_path: Path) -> None:
    folder, disk = tmp_path / "in", tmp_path / "disk"
    put(
        folder / "own.mp4",
        folder / "sub" / "s.mp4",
        disk / "a.mp4",
        disk / "more" / "b.mp4",
        folder / ".store" / "h.mp4",
    )
    (folder / "linked").symlink_to(disk)
    (folder / "again").symlink_to(os.path.relpath(disk, folder))
    (folder / "inside").symlink_to("sub")
    (folder / "of-hidden").symlink_to(".store")
    (folder / "loop").symlink_to(".")
    (folder / "up").symlink_to("..")
    (disk / "back").symlink_to(folder)
    (disk / "more" / "loop").symlink_to(disk)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    found, passed = read(folder)
    assert sorted(names(found)) == ["a.mp4", "b.mp4", "h.mp4", "own.mp4", "s.mp4"]
    assert "holds its source" in problems(found)["up"]
    assert passed["links to folders that are read anyway"] == 5
    # What lies beside a video in a linked folder is that folder's own.
    by_name = {item.path.name: item for item in found}
    assert by_name["a.mp4"].root is not None
    assert by_name["a.mp4"].root.folder == disk
    (folder / "disk.mp4").symlink_to(disk / "a.mp4")
    (folder / "list.jsonl").write_text('{"video": "linked/a.mp4"}\n{"video": "disk.mp4"}\n{"video": "linked/no.mp4"}\n')
    of_list, _ = read(folder / "list.jsonl")
    assert (names(of_list), set(problems(of_list))) == (["a.mp4", "no.mp4"], {"disk.mp4"})
    assert not names(read(folder / "list.jsonl", links="refuse")[0])
    (folder / "disk.mp4").unlink()
    refused, _ = read(folder, links="refuse")
    assert sorted(names(refused)) == ["own.mp4", "s.mp4"]
    assert "is a link to a folder" in problems(refused)["again"]


def test_videos_of_linked_folders_are_loose_ones(tmp_path: Path) -> None:
    folder, disk = tmp_path / "in", tmp_path / "disk"
    put(disk / "a.mp4")
    folder.mkdir()
    (disk / "up").symlink_to(folder)
    (folder / "linked").symlink_to(disk)
    (folder / "list.jsonl").write_text(json.dumps({"video": "linked/a.mp4", "start": 0, "end": 1}))
    found, passed = read(folder)
    assert [(item.path.name, item.start_s) for item in found] == [("a.mp4", None)]
    assert passed == {".jsonl": 1, "links to folders that are read anyway": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files to others")
def test_somebody_elses_link_leads_to_their_own_folders_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, mine, theirs = tmp_path / "in", tmp_path / "mine", tmp_path / "theirs"
    put(folder / "own.mp4", mine / "a.mp4", theirs / "b.mp4")
    for name, to in (("mine", mine), ("theirs", theirs)):
        (folder / name).symlink_to(to)
        os.chown(folder / name, 1234, 1234, follow_symlinks=False)
    os.chown(theirs, 1234, 1234)
    found, _ = read(folder)
    assert names(found) == ["own.mp4", "b.mp4"]
    assert "somebody else's link" in problems(found)["mine"]


def test_stores_are_followed_and_their_links_keep_their_names(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "rev"
    key = "SHA256E-s4--0123abc.mp4"
    put(blobs / ("0123456789abcdef" * 4), blobs / key, blobs / "id_rsa", tmp_path / "hub" / "film.mp4")
    snapshot.mkdir(parents=True)
    for name, to in (("hub.mp4", "0123456789abcdef" * 4), ("annex.mp4", key), ("key.mp4", "id_rsa")):
        (snapshot / name).symlink_to(f"../../blobs/{to}")
    (snapshot / "out.mp4").symlink_to("../../film.mp4")
    found, _ = read(snapshot)
    assert names(found) == ["annex.mp4", "hub.mp4"]
    assert set(problems(found)) == {"key.mp4", "out.mp4"}
    assert not names(read(snapshot, links="refuse")[0])
    followed = names(read(snapshot, links="follow")[0])
    assert sorted(followed) == ["annex.mp4", "hub.mp4", "key.mp4", "out.mp4"]
    assert names(read(snapshot / "hub.mp4")[0]) == ["hub.mp4"]
    put(blobs / "0a1b2c3d", content=json.dumps({"file_name": "hub.mp4", "text": "one"}).encode())
    (snapshot / "metadata.jsonl").symlink_to("../../blobs/0a1b2c3d")
    found, passed = read(snapshot)
    assert [(item.path.name, item.transcript) for item in found] == [("hub.mp4", "one")]
    assert passed == {"videos that metadata.jsonl does not name": 3}


def test_only_names_of_stores_are_taken_for_them() -> None:
    taken = ("3b1f9c", "d41d8cd98f00b204e9800998ecf8427e", "MD5E-s1--x.mp4", "SHA256-s12-S1-C2--ab")
    assert all(links.is_of_a_store(Path("/x") / name) for name in taken)
    refused = ("passwd", "id_rsa", "3b1f9", "3b1f9c.mp4", "words.txt", "abcdef.txt", "0x3b1f9c")
    assert not any(links.is_of_a_store(Path("/x") / name) for name in refused)


def test_metadata_describes_its_folder_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(
        *(
            folder / name
            for name in ("loose.mp4", "train/a.mp4", "train/more/b.mp4", "test/c.mp4", "odd/d.mp4", "val/e.mp4")
        )
    )
    rows = [{"file_name": "a.mp4", "text": "one"}]
    (folder / "train" / "metadata.csv").write_text("file_name,text\na.mp4,one\n")
    (folder / "test" / "metadata.jsonl").write_text(json.dumps({"file_name": "c.mp4", "text": "two"}))
    pl.DataFrame({"file_name": ["e.mp4"], "text": ["three"]}).write_parquet(folder / "val" / "metadata.parquet")
    (folder / "odd" / "metadata.csv").write_text("licence\nfree\n")
    found, passed = read(folder)
    said = {item.path.name: item.transcript for item in found if not item.problem}
    assert said == {"loose.mp4": None, "a.mp4": "one", "c.mp4": "two", "e.mp4": "three"}
    assert "needs a column" in problems(found)["odd"]
    assert passed == {"videos that metadata.csv does not name": 1}
    (folder / "metadata.jsonl").write_text(json.dumps({**rows[0], "file_name": "train/a.mp4"}))
    found, passed = read(folder)
    assert names(found) == ["a.mp4"]
    assert passed == {"videos that metadata.jsonl does not name": 5, "other metadata files": 4}


def test_shards_and_tables_are_read_where_no_video_lies_loose(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = pl.DataFrame({"video": [b"one", b"two"], "caption": ["1", "2"]})
    for part in ("data/train-0", "data/train-1", "data/sub/test-0"):
        put(folder / f"{part}.parquet")
        rows.with_columns(video=pl.lit(part.encode()) + pl.col("video")).write_parquet(folder / f"{part}.parquet")
    pl.DataFrame({"x": [1]}).write_parquet(folder / "data" / "stats.parquet")
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "notes.jsonl").write_text('{"text": "no video"}\n')
    (folder / "broken.tar").write_bytes(b"x" * 2000)
    (folder / "broken.parquet").write_bytes(b"PAR1" + b"x" * 2000)
    (folder / "rows.jsonl").write_text("{broken\n")
    found, passed = read(folder)
    assert sorted(item.transcript or "" for item in found if not item.problem) == ["1", "1", "1", "2", "2", "2"]
    reasons = " ".join(item.problem for item in found)
    assert "not a readable tar" in reasons
    assert "broken.parquet: can't be read as a table" in reasons
    assert "line 1: not JSON" in reasons
    assert passed == {".parquet": 1, ".json": 1, ".jsonl": 1}
    (folder / "out.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    rows.write_parquet(tmp_path / "elsewhere.parquet")
    assert "link out of its source" in problems(read(folder)[0])["out.parquet"]
    (folder / "out.parquet").unlink()
    put(folder / "loose.mp4")
    found, passed = read(folder)
    assert names(found) == ["loose.mp4"]
    assert passed == {".parquet": 5, ".json": 1, ".jsonl": 2, ".tar": 1}


def test_a_list_beside_the_folder_of_its_videos(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(folder / "videos" / "a.mp4", folder / "videos" / "b.mp4")
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A."}]
    (folder / "data.json").write_text(json.dumps([{"id": "0", "video": "a.mp4", "conversations": turns}]))
    found, passed = read(folder)
    assert [(item.path.name, item.transcript) for item in found] == [("a.mp4", "A.")]
    assert passed == {"videos that data.json does not name": 1}
    (folder / "data.json").write_text(json.dumps({"version": 1}))
    found, passed = read(folder)
    assert (names(found), passed) == (["a.mp4", "b.mp4"], {".json": 1})
