"""Shards and tables that hold videos: what people's tools write, and what breaks in them is one reject."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.core.errors import UserError
from flywheel.ingest.items import Item, Rules
from flywheel.ingest.passed import Passed
from flywheel.ingest.sources import items


def read(source: Path, media: Path, **rules: str) -> tuple[list[Item], dict[str, int]]:
    """The items of a source, and what was passed over."""
    passed = Passed()
    found = list(items(str(source), media, Rules(**rules), passed))  # type: ignore[arg-type]
    return found, dict(passed.counts)


def said(found: list[Item]) -> list[tuple[bytes, str | None]]:
    """Content and text of the items without a problem, in their order."""
    return [(item.path.read_bytes(), item.transcript) for item in found if not item.problem]


def tar_of(path: Path, *members: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_each_camera_has_its_own_words_or_the_samples(tmp_path: Path) -> None:
    shard = tar_of(
        tmp_path / "s.tar",
        ("d/1.left.mp4", b"L"),
        ("d/1.left.txt", b"left"),
        ("d/1.right.mp4", b"R"),
        ("d/1.txt", b"both"),
        ("d/2.mp4", b"2"),
        ("d/2.mkv", b"again"),
        ("d/2.caption.txt", b"other"),
        ("d/3.json", b'{"caption": ["a", "b"]}'),
        ("d/3.mp4", b"3"),
        ("d/4.long.txt", b"long"),
        ("d/4.mp4", b"4"),
        ("d/4.txt", b"short"),
        ("d/5.a.caption", b"five"),
        ("d/5.a.mp4", b"5"),
        ("d/5.a.txt", b"cinq"),
        ("d/LICENSE", b"free"),
    )
    found, passed = read(shard, tmp_path / "m")
    assert said(found) == [
        (b"L", "left"),
        (b"R", "both"),
        (b"2", "other"),
        (b"3", "a"),
        (b"4", "short"),
        (b"5", "five"),
    ]
    assert [item.others for item in found if not item.problem] == [0, 0, 0, 1, 1, 1]
    assert [item.problem for item in found if item.problem] == [
        "sample d/LICENSE: holds no video, but a name without an ending"
    ]
    assert passed == {"without an ending": 1}


def test_keys_with_dots_are_samples_of_their_own(tmp_path: Path) -> None:
    members = [
        part
        for number in range(40)
        for part in ((f"clip.v1.{number:04}.mp4", b"%d" % number), (f"clip.v1.{number:04}.txt", b"text %d" % number))
    ]
    found, _ = read(tar_of(tmp_path / "s.tar", *members), tmp_path / "m")
    assert said(found) == [(b"%d" % number, f"text {number}") for number in range(40)]


def test_a_sample_holds_no_more_than_so_many_files(tmp_path: Path) -> None:
    members = [(f"1.{number}.txt", b"x") for number in range(200)]
    found, _ = read(tar_of(tmp_path / "s.tar", *members, ("1.mp4", b"1"), ("1.txt", b"one")), tmp_path / "m")
    assert said(found) == [(b"1", "one")]
    assert sum("belongs to no video" in item.problem for item in found) == len(found) - 1 > 100


def test_what_a_mac_and_other_tools_add_is_passed_over(tmp_path: Path) -> None:
    shard = tar_of(
        tmp_path / "s.tar",
        ("./._1.mp4", b"x"),
        ("./1.mp4", b"1"),
        ("__MACOSX/._1.txt", b"x"),
        ("./._1.txt", b"x"),
        ("./1.txt", b"one"),
        ("./1.wav", b"sound"),
        (".DS_Store", b"x"),
        ("2.wav", b"sound"),
        ("2.txt", b"two"),
        ("n" * 300 + ".mp4", b"long name"),
    )
    found, passed = read(shard, tmp_path / "m")
    assert said(found) == [(b"1", "one"), (b"long name", None)]
    assert [item.problem for item in found if item.problem] == ["sample 2: holds no video, but .txt, .wav"]
    assert passed == {"hidden files and folders": 4, ".wav": 2}


def test_a_json_beside_a_text_and_spans_of_one_member(tmp_path: Path) -> None:
    facts = {"timestamps": [[0, 1], [1, 2]], "sentences": ["a", "b"]}
    shard = tar_of(
        tmp_path / "s.tar",
        ("1.json", b'{"start_s": 1, "end_s": 2, "caption": "of json"}'),
        ("1.mp4", b"1"),
        ("1.txt", b"of text"),
        ("2.json", json.dumps(facts).encode()),
        ("2.mp4", b"2"),
        ("3.json", b"{"),
        ("3.mp4", b"3"),
    )
    found, _ = read(shard, tmp_path / "m")
    assert [(item.start_s, item.end_s, item.transcript, item.others) for item in found[:3]] == [
        (1.0, 2.0, "of text", 1),
        (0.0, 1.0, "a", 0),
        (1.0, 2.0, "b", 0),
    ]
    assert "is not JSON" in found[3].problem


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_that_breaks_keeps_what_is_before_and_behind(tmp_path: Path, form: int) -> None:
    video = b"v" * 3000
    members = [(f"{n}.{e}", video + b"%d" % n if e == "mp4" else b"%d" % n) for n in range(4) for e in ("mp4", "txt")]
    whole = tar_of(tmp_path / "s.tar", *members, form=form).read_bytes()
    size = 512 + 3072 + 512 + 512

    def broken(content: bytes) -> tuple[list[str | None], list[str]]:
        (tmp_path / "b.tar").write_bytes(content)
        found, _ = read(tmp_path / "b.tar", tmp_path / "m")
        return [text for _, text in said(found)], [item.problem for item in found if item.problem]

    assert broken(whole) == (["0", "1", "2", "3"], [])
    assert broken(whole + whole) == (["0", "1", "2", "3"] * 2, []), "one behind the other"
    texts, problems = broken(whole[: 2 * size + 1500])
    assert texts == ["0", "1"]
    assert "cut short" in problems[-1]
    assert "can't be read" in problems[0] or "cut short" in problems[0]
    texts, problems = broken(whole[: 2 * size])
    assert (texts, len(problems)) == (["0", "1"], 1)
    assert "cut short at byte" in problems[0]
    texts, problems = broken(whole[:size] + b"\xff" * 512 + whole[size + 512 :])
    assert texts == ["0", "2", "3"]
    assert "is damaged between bytes" in " ".join(problems)
    texts, problems = broken(b"\xff" * 512 + whole[512:])
    assert texts == ["1", "2", "3"]


def test_what_is_no_tar_is_said(tmp_path: Path) -> None:
    for content in (b"", b"x" * 2000, b"\x1f\x8b" + b"x" * 2000):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(UserError, match="not a readable tar file without compression"):
            read(tmp_path / "b.tar", tmp_path / "m")


VIDEOS: list[Any] = [{"bytes": b"1", "path": "sub/a.webm"}, {"bytes": None, "path": "b.mp4"}, None]


def hub_table() -> pa.Table:
    video = pa.array(VIDEOS, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    texts = pa.array(["one", "two", "three"], pa.large_string())
    return pa.table(
        {
            "video": video,
            "caption": texts.cast(pa.string()).dictionary_encode(),
            "audio": pa.array([{"bytes": b"x", "path": "a.wav"}] * 3),
            "speaker": texts,
        }
    )


def test_hub_parquet_of_any_types(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"2")
    pq.write_table(hub_table(), tmp_path / "t.parquet", row_group_size=2)
    found, _ = read(tmp_path / "t.parquet", tmp_path / "m", split_key="speaker")
    assert said(found) == [(b"1", "one"), (b"2", "two")]
    assert [(item.path.suffix, item.shared, item.is_new_copy) for item in found[:2]] == [
        (".webm", "one", True),
        (".mp4", "two", False),
    ]
    assert found[2].problem.startswith("row 3: names no video")
    lists = pa.table({"videos": pa.array([VIDEOS[:2]]), "text": ["both"]})
    pq.write_table(lists, tmp_path / "l.parquet")
    assert said(read(tmp_path / "l.parquet", tmp_path / "m")[0]) == [(b"1", "both"), (b"2", "both")]
    members = pa.table({"mp4": VIDEOS[:1], "json": [{"caption": "of json"}], "__key__": ["1"]})
    pq.write_table(members, tmp_path / "w.parquet")
    assert said(read(tmp_path / "w.parquet", tmp_path / "m")[0]) == [(b"1", "of json")]
    large = pa.table({"video": pa.array([b"3"], pa.large_binary()), "text": ["large"]})
    pq.write_table(large, tmp_path / "b.parquet")
    assert said(read(tmp_path / "b.parquet", tmp_path / "m")[0]) == [(b"3", "large")]


def test_a_row_group_that_is_damaged_is_one_reject(tmp_path: Path) -> None:
    rows = pa.table({"video": [b"%d" % n for n in range(3)], "text": [f"text {n}" for n in range(3)]})
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=1, compression="zstd", use_dictionary=False)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    chunk = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(1).column(0)
    at = chunk.data_page_offset
    content[at : at + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    (tmp_path / "t.parquet").write_bytes(content)
    found, _ = read(tmp_path / "t.parquet", tmp_path / "m")
    assert said(found) == [(b"0", "text 0"), (b"2", "text 2")]
    assert "row group 1 can't be read" in next(item.problem for item in found if item.problem)


def test_datasets_on_disk_with_a_shard_that_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "ds"
    files = [f"data-0000{n}-of-00003.arrow" for n in range(3)]
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
        for number, name in enumerate(files):
            rows = pa.table({"video": [f"{split}{number}".encode()], "text": [f"{split} {number}"]})
            with pa.OSFile(str(folder / split / name), "wb") as out, pa.ipc.new_stream(out, rows.schema) as stream:
                stream.write_table(rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    (folder / "train" / files[1]).write_bytes(b"x" * 100)
    found, _ = read(folder, tmp_path / "m")
    assert [text for _, text in said(found)] == ["train 0", "train 2", "test 0", "test 1", "test 2"]
    assert "can't be read as a table" in next(item.problem for item in found if item.problem)
    assert [text for _, text in said(read(folder / "test" / files[0], tmp_path / "m")[0])] == ["test 0"]
    (folder / "train" / "state.json").write_text("{")
    found, passed = read(folder, tmp_path / "m")
    assert [text for _, text in said(found)] == ["test 0", "test 1", "test 2", "train 0", "train 2"], "one by one"
    assert [item.path.name for item in found if item.problem] == ["train"]
    assert passed == {".json": 2}
    (tmp_path / "plain").mkdir()
    for name in ("state.json", "a.mp4"):
        (tmp_path / "plain" / name).write_bytes(b"{}")
    found, passed = read(tmp_path / "plain", tmp_path / "m")
    assert ([item.path.name for item in found], passed) == (["a.mp4"], {".json": 1})


def test_json_lists_are_read_without_their_end(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    rows = [{"video": "a.mp4", "text": "x" * 3_000_000}, {"video": "b.mp4", "text": "b"}, 7]
    (tmp_path / "l.json").write_text(json.dumps(rows, indent=1))
    found, _ = read(tmp_path / "l.json", tmp_path / "m")
    assert [len(item.transcript or "") for item in found] == [3_000_000, 1, 0]
    assert "must be an object" in found[2].problem
    (tmp_path / "l.json").write_text(json.dumps(rows)[:-10])
    found, _ = read(tmp_path / "l.json", tmp_path / "m")
    assert [len(item.transcript or "") for item in found] == [3_000_000, 0]
    assert "cut short" in found[1].problem


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"v1": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["a"]}}, [("v1.mp4", 0.0, "a")]),
        ({"database": {"v1": {"annotations": [{"segment": [1, 2], "sentence": "a", "id": 0},
                                              {"segment": [2, 3], "sentence": "b", "id": 1}]}}},
         [("v1.mp4", 1.0, "a"), ("v1.mp4", 2.0, "b")]),
        ({"videos": [{"video_id": "v1"}], "sentences": [{"video_id": "v1", "caption": "a", "sen_id": 0}]},
         [("v1.mp4", None, "a")]),
        ({"v1": {"start": [0, 1], "end": [1, 2], "text": ["a", "b"]}}, [("v1.mp4", 0.0, "a"), ("v1.mp4", 1.0, "b")]),
        ([{"videoID": "v1", "enCap": ["a", "b"]}], [("v1.mp4", None, "a")]),
        ({"annotations": [{"video": "v1", "caption": "a"}]}, [("v1.mp4", None, "a")]),
        ({"video": "v1.mp4", "caption": "a"}, [("v1.mp4", None, "a")]),
    ],
    ids=["activitynet", "youcook2", "msr-vtt", "howto100m", "vatex", "list", "one"],
)  # fmt: skip
def test_annotation_files_that_people_publish(tmp_path: Path, content: Any, found: list[Any]) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v1.mp4").write_bytes(b"1")
    (tmp_path / "a.json").write_text(json.dumps(content))
    read_items, _ = read(tmp_path / "a.json", tmp_path / "m")
    assert [(item.path.name, item.start_s, item.transcript) for item in read_items] == found
