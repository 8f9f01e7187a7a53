"""Texts of a clip beside its first: counted, never taken for a video that is known; those that come later are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.ingest import IngestResult, ingest, said
from flywheel.ingest.items import Item
from flywheel.ingest.said import FirstTexts
from flywheel.store import Workspace

BEFORE = Path(__file__).parent / "before"


def take(workspace: Workspace, *sources: Path) -> tuple[int, int, int, int]:
    with workspace.lock():
        result: IngestResult = ingest(workspace, [str(source) for source in sources])
    assert result.rejected == 0
    return result.clips, result.known, result.other_texts, result.new_texts


def rows(path: Path, *texts: object, **more: object) -> Path:
    path.write_text("\n".join(json.dumps({"video": "still.mp4", "text": text, **more}) for text in texts))
    return path


def test_a_clip_keeps_its_first_text_and_none_is_known(
    make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    shutil.copy(BEFORE / "still.mp4", tmp_path)
    w = make_workspace()
    assert take(w, tmp_path / "still.mp4") == (1, 0, 0, 0)
    # A table's words for a video that came without any are its words.
    assert take(w, rows(tmp_path / "a.jsonl", "one", "two", "one")) == (0, 1, 1, 1)
    texts = w.annotations(round=0)["text"].to_list()
    assert texts == ["one"]
    for _ in range(2):
        assert take(w, tmp_path / "a.jsonl") == (0, 2, 1, 0)
    assert take(w, rows(tmp_path / "b.jsonl", "three")) == (0, 0, 1, 0)
    assert w.annotations(round=0)["text"].to_list() == texts
    spans = rows(tmp_path / "c.jsonl", "a", ["b", "c"], "a", start=0, end=0.5)
    assert take(w, spans) == (1, 1, 2, 0)
    assert take(w, spans) == (0, 2, 2, 0)


def test_a_folder_and_its_table_in_one_run(make_workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    shutil.copy(BEFORE / "still.mp4", tmp_path)
    w = make_workspace()
    assert take(w, tmp_path / "still.mp4", rows(tmp_path / "a.jsonl", "one")) == (1, 1, 0, 0)
    assert w.clips()["transcript"].to_list() == w.annotations(round=0)["text"].to_list() == ["one"]
    (tmp_path / "still.txt").write_text("beside")
    other = make_workspace(name="other")
    assert take(other, tmp_path / "still.mp4", tmp_path / "a.jsonl") == (1, 0, 1, 0)
    assert other.clips()["transcript"].to_list() == ["beside"]


def test_so_many_clips_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(said, "_MOST", 50)
    first = FirstTexts()
    for number in range(said._MOST + 10):
        assert not first.is_another(str(number), Item(path=Path("v"), transcript="a"))
    assert len(first._texts) == said._MOST
    assert first.is_another(str(said._MOST), Item(path=Path("v"), transcript="b"))
    assert not first.is_another("0", Item(path=Path("v"), transcript="b")), "forgotten"
