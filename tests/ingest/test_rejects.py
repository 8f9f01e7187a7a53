"""Rejects of an ingest: written together, each row its own, and tried again from their source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.ingest import ingest
from flywheel.rejects import open_rejects, retried
from flywheel.store import Workspace
from flywheel.store.writing import reject

Make = Callable[..., Workspace]


@pytest.fixture
def video(corpus: Path) -> Path:
    return sorted((corpus / "corpus").glob("*.mp4"))[0]


def written(table: Path, *rows: dict[str, Any]) -> str:
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(table)


def test_rejects_of_a_run_are_written_together(make_workspace: Make, tmp_path: Path) -> None:
    table = written(tmp_path / "t.jsonl", *({"video": f"/nowhere/{i}.mp4"} for i in range(300)))
    w = make_workspace()
    assert ingest(w, [table], dry_run=True).rejected == 300
    assert w.rejected().is_empty()
    with w.lock():
        assert ingest(w, [table]).rejected == 300
        assert len(list((w.root / "rejected").rglob("part-*"))) == 1
    assert w.rejected()["uri"].to_list() == [f"/nowhere/{i}.mp4" for i in range(300)]
    with w.lock():
        ingest(w, [table])
    assert w.rejected().height == 300, "the same failure is one row"


def test_a_reject_of_an_earlier_version_gets_its_source_when_it_comes_again(
    make_workspace: Make, tmp_path: Path
) -> None:
    file, w = tmp_path / "videos" / "empty.mp4", make_workspace()
    file.parent.mkdir()
    file.touch()
    w.add_rejected(round=0, stage="ingest", uri=str(file), clip_id="", reason="the file is empty (0 bytes)")
    for _ in range(2):
        with w.lock():
            ingest(w, [str(file.parent)])
    assert w.rejected()["source"].to_list() == ["", str(file)]
    assert open_rejects(w).frame["source"].to_list() == [str(file)], "one, which can be tried again"


@pytest.mark.slow
def test_spans_are_rejected_and_tried_again_as_their_table_names_them(
    make_workspace: Make, video: Path, tmp_path: Path
) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    table = written(
        tmp_path / "t.jsonl",
        {"video": "a.mp4", "start_s": 0, "end_s": 1, "text": "the first second of a"},
        {"video": "a.mp4", "start_s": 1, "end_s": 900, "text": "a row with a wrong end"},
        {"video": "a.mp4", "start_s": 2, "end_s": 900, "text": "another one"},
        {"video": "b.mp4", "start_s": 0, "end_s": 1, "text": "the first second of b"},
        {"video": "b.mp4", "start_s": 1, "end_s": 2, "text": "the second one"},
    )
    w = make_workspace()
    with w.lock():
        assert ingest(w, [table]).rejected == 4
    found = open_rejects(w)
    spans = [(1.0, 900.0), (2.0, 900.0), (0.0, 1.0), (1.0, 2.0)]
    assert found.frame.select("start_s", "end_s").rows() == spans, "a clip of the same file hides none"
    assert f"{tmp_path / 'a.mp4'} from 1 s to 900 s: need 0 <=" in found.to_text(9)
    shutil.copy(video, tmp_path / "b.mp4")
    (tmp_path / "b.mp4").open("ab").write(b"\0")
    again = retried(w, found)
    assert (again.tried, again.open, again.left) == (4, 2, [])
    of_b = w.clips().filter(w.clips()["uri"] == str(tmp_path / "b.mp4"))
    assert of_b.select("start_s", "end_s", "transcript").rows() == [
        (0.0, 1.0, "the first second of b"),
        (1.0, 2.0, "the second one"),
    ]
    assert open_rejects(w).frame.select("start_s", "end_s").rows() == spans[:2]


def test_a_reject_without_a_source_is_left_for_its_ingest(make_workspace: Make, tmp_path: Path) -> None:
    old, link = tmp_path / "old.mp4", tmp_path / "in" / "link.mp4"
    link.parent.mkdir()
    link.symlink_to(old)
    old.write_bytes(b"a video")
    w = make_workspace()
    with w.lock():
        w.add_rejects([reject(0, "ingest", str(old), "", "can't be read")], 0)
        assert ingest(w, [str(link.parent)]).first_rejected == [
            f"{link}: is a link out of its source (corpus.links: follow takes it)"
        ]
    again = retried(w, open_rejects(w))
    assert (again.tried, len(again.left)) == (0, 1)
    assert again.left[0].startswith(f"ingest: 2 files whose source is not on record, such as {old}: run 'flywheel")
    assert w.rejected().height == 2, "a link is not followed for being named again"
