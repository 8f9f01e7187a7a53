"""Words beside videos: which file is taken, what is said of the others, and words that come later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.ingest import IngestResult, ingest
from flywheel.ingest.beside import Listings, words_of_side_cars
from flywheel.ingest.languages import is_language
from flywheel.store import Workspace

Make = Callable[..., Workspace]
VIDEO = Path(__file__).parent / "before" / "still.mp4"


def cue(text: str) -> str:
    return f"1\n00:00:00,100 --> 00:00:00,900\n{text}\n"


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["a.srt", "a.vtt", "a.txt"], "a.vtt"),
        (["a.mp4.srt", "a.txt"], "a.mp4.srt"),
        (["a.en.srt", "a.srt"], "a.srt"),
        (["a.en.srt", "a.txt"], "a.en.srt"),
        (["a.en.srt", "a.de.srt"], "a.de.srt"),
        (["a.en.forced.srt", "a.en.srt"], "a.en.srt"),
        (["a.en.forced.srt"], None),
        (["a.en-orig.vtt", "a.zh-Hans.vtt"], "a.en-orig.vtt"),
        (["a.sdh.srt", "a.en.srt"], "a.en.srt"),
        (["a.SRT"], "a.SRT"),
        (["a.English.ass"], "a.English.ass"),
        (["a.part2.srt", "a.old.srt", "ab.srt"], None),
        (["a.sup", "a.idx"], None),
        (["a.en.txt"], "a.en.txt"),
    ],
)
def test_which_of_several_is_taken(tmp_path: Path, names: list[str], taken: str | None) -> None:
    for name in names:
        (tmp_path / name).write_text(cue(name))
    words = words_of_side_cars(tmp_path / "a.mp4", None, Listings())
    assert [cue.text for cue in words.cues] == ([taken] if taken else [])
    assert words.is_there == (taken is not None)
    passed = "".join(note.of for note in words.notes)
    assert ("forced" in passed) == (names == ["a.en.forced.srt"])
    assert ("a.sup" in passed) == ("a.sup" in names)


def test_words_of_another_video_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.en.mp4").write_bytes(b"")
    (tmp_path / "a.en.srt").write_text(cue("another's"))
    assert not words_of_side_cars(tmp_path / "a.mp4", None, Listings()).is_there
    assert words_of_side_cars(tmp_path / "a.en.mp4", None, Listings()).is_there
    assert [is_language(name) for name in ("en", "pt-BR", "zh_Hant", "fil", "old", "v2", "cut")] == [True] * 4 + [
        False
    ] * 3


def test_what_cant_be_read_is_said_and_the_next_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.vtt").write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\n" + "سلام عليكم".encode("cp1256"))
    (tmp_path / "a.srt").write_text("a page of nothing that has times")
    (tmp_path / "a.txt").write_bytes("Le café très chaud, où est-il".encode("cp1252"))
    words = words_of_side_cars(tmp_path / "a.mp4", None, Listings())
    assert words.text == "Le café très chaud, où est-il"
    assert [(note.of, note.what.split(",")[0]) for note in words.notes] == [
        ("a.vtt", "is no UTF-8"),
        ("a.srt", "holds no subtitles that can be read"),
        ("a.txt", "read as Windows-1252"),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    shutil.copy(VIDEO, tmp_path / "in" / "a.mp4")
    return tmp_path / "in"


def take(workspace: Workspace, source: Path) -> IngestResult:
    with workspace.lock():
        return ingest(workspace, [str(source)])


def stands(workspace: Workspace) -> tuple[str, list[str], list[str]]:
    """The clip's words, those of an index of clips, and all texts of round 0."""
    clip = workspace.clips().row(0, named=True)
    [again] = workspace.clips_by_id([clip["id"]]).to_dicts()
    [part] = next(workspace.clip_batches(["transcript"]))["transcript"].to_list()
    assert clip["transcript"] == again["transcript"] == part
    assert clip["cues"] == again["cues"]
    return clip["transcript"], [cue["text"] for cue in clip["cues"]], workspace.annotations(round=0)["text"].to_list()


@pytest.mark.slow
def test_words_that_come_later_and_change_are_new_texts(make_workspace: Make, folder: Path) -> None:
    w = make_workspace()
    assert take(w, folder).clips == 1
    (folder / "a.srt").write_text(cue("one"))
    result = take(w, folder)
    assert (result.clips, result.known, result.new_texts) == (0, 0, 1)
    assert stands(w) == ("one", ["one"], ["one"])
    assert (again := take(w, folder)).known == 1
    assert again.new_texts == 0
    for number, text in enumerate(("two", "one"), 2):
        (folder / "a.srt").write_text(cue(text))
        assert take(w, folder).new_texts == 1
        assert stands(w)[:2] == (text, [text])
        assert stands(w)[2][-1] == text
        assert w.count("annotations") == number
    (folder / "a.srt").unlink()
    assert take(w, folder).known == 1
    assert stands(w)[0] == "one", "what is gone is no new text"


def test_what_a_table_said_of_a_span_stays(make_workspace: Make, folder: Path) -> None:
    row = {"video": "a.mp4", "start": 0.2, "end": 0.8, "caption": "said by the table"}
    (folder / "list.jsonl").write_text(json.dumps(row))
    w = make_workspace()
    assert take(w, folder / "list.jsonl").clips == 1
    (folder / "a.srt").write_text(cue("beside"))
    take(w, folder)
    assert stands(w) == ("said by the table", [], ["said by the table"])


def test_words_of_a_copy_elsewhere_are_not_the_clips(make_workspace: Make, folder: Path, tmp_path: Path) -> None:
    w = make_workspace()
    (folder / "a.srt").write_text(cue("one"))
    assert take(w, folder).clips == 1
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "a.srt").write_text(cue("another"))
    assert take(w, tmp_path / "copy").known == 1
    assert stands(w)[0] == "one"
