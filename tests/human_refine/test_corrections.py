"""Corrections from files: good rows kept, a clear line per bad row, nothing half done, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation
from flywheel.store import Workspace
from flywheel.store.gold import add_gold, gold_texts
from human_refine import import_corrections
from human_refine.people import exclude, excluded


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace]) -> Workspace:
    w = make_workspace("review.max_chars=40")
    rows = [
        Annotation(
            id=f"a{i}",
            round=1,
            kind="caption",
            clip_id=f"c{i}",
            generation_id="",
            source="model",
            text=f"text {i}",
            mean_logprob=-i,
        )
        for i in range(6)
    ]
    w.add_annotations(rows, 1)
    return w


def test_jsonl(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    good = [
        {"annotation_id": "a0", "verdict": "edit", "text": "  a  better\ntext ", "refiner": "ann", "seconds": 12.5},
        {"annotation_id": "a1", "verdict": "accept"},
        {"annotation_id": "a2", "verdict": "reject", "reason": "wrong clip", "at": "2026-03-01T10:00:00"},
    ]
    bad = [
        ({"annotation_id": "nope", "verdict": "accept"}, "annotation 'nope' is unknown"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "   "}, "this one is empty"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "x" * 41}, "41 characters, at most 40"),
        ({"annotation_id": "a3", "verdict": "love"}, "verdict 'love' is unknown"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "y", "colour": 1}, "unknown column 'colour'"),
        ({"annotation_id": "a3", "verdict": "edit", "text": 5}, "'text' must be text, got int"),
        ({"verdict": "accept"}, "needs 'annotation_id'"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "y", "seconds": -1}, "seconds must be zero or more"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "y", "seconds": "NaN"}, "seconds must be zero or more"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "y", "at": "yesterday"}, "ISO 8601"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "a\x00b"}, "U+0000"),
        ({"annotation_id": "a3", "verdict": "edit", "text": "\ud800"}, "lone surrogate"),
        (good[1], "same as an earlier line"),
        ([1], "must be an object"),
    ]
    lines = [json.dumps(row).encode() for row in good] + [json.dumps(row).encode() for row, _ in bad]
    file.write_bytes(b"\n".join([*lines, b'{"annotation_id": "a4", "verdict": "edit", "text": "\xff"}', b"{broken"]))
    report = import_corrections(workspace, file)
    assert report.added == 3
    assert len(report.refused) == len(bad) + 2
    for number, (_, message) in enumerate(bad, len(good) + 1):
        assert any(line.startswith(f"c.jsonl: line {number}: ") and message in line for line in report.refused), message
    assert any("not valid UTF-8 at byte" in line for line in report.refused)
    kept = {c.annotation_id: c for c in workspace.correction_records()}
    assert kept["a0"].text == "a better text"
    assert kept["a0"].clip_id == "c0"
    assert kept["a2"].at.isoformat() == "2026-03-01T10:00:00+00:00"
    again = import_corrections(workspace, file)
    assert (again.added, again.known) == (0, 4), "the doubled row is known too, the second time"
    assert workspace.corrections().height == 3


def test_what_is_meant_is_what_counts(workspace: Workspace, tmp_path: Path) -> None:
    """An accept with another text is an edit, a row that nobody filled in is not done, a contradiction is said."""
    file = tmp_path / "half.csv"
    shown = dict(workspace.annotations().select("id", "text").iter_rows())
    file.write_text(
        "annotation_id,verdict,text,reason\n"
        f"a0,accept,a red ball,\na1,accept,{shown['a1']},\na2,accept,,\na3,, {shown['a3']} ,\na4,,,\n"
        "a5,,a blue ball,\na5,reject,a blue ball,\ngone,,some text,\n"
    )
    for report in (import_corrections(workspace, file, preview=True), import_corrections(workspace, file)):
        assert (report.added, report.known, report.blank) == (3, 0, 3)
        assert [line.split(": ", 1)[1] for line in report.refused] == [
            "line 7: the text was changed, and the verdict is empty: say edit, or accept, reject or skip.",
            "line 8: a reject leaves no text, and this one was changed: say edit, or put why into 'reason'.",
        ]
    kept = {c.annotation_id: (c.verdict, c.text) for c in workspace.correction_records()}
    assert kept == {"a0": ("edit", "a red ball"), "a1": ("accept", ""), "a2": ("accept", "")}
    assert import_corrections(workspace, file).known == 3


def test_csv(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_bytes(
        '\ufeffannotation_id,verdict,text\r\na0,edit,"two\r\nlines, and a comma"\r\n\r\n'.encode()
        + "a1,edit,gr\u00fcn\r\na2,edit\r\n".encode()
        + b"a3,edit,\xff\xfe\r\na4,accept,\r\n"
    )
    report = import_corrections(workspace, file)
    assert report.added == 3
    assert {c.annotation_id: c.text for c in workspace.correction_records()} == {
        "a0": "two lines, and a comma",
        "a1": "grün",
        "a4": "",
    }
    assert len(report.refused) == 2
    assert "has 2 cells, the header has 3" in report.refused[0]
    assert "not valid UTF-8" in report.refused[1]


def test_files_that_are_no_corrections(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,text\n1,x\n")
    with pytest.raises(UserError, match="needs the columns annotation_id, verdict; has id, text"):
        import_corrections(workspace, tmp_path / "c.csv")
    (tmp_path / "c.ods").write_text("")
    with pytest.raises(UserError, match=r"unknown ending '\.ods'"):
        import_corrections(workspace, tmp_path / "c.ods")
    with pytest.raises(UserError, match="can't be read"):
        import_corrections(workspace, tmp_path / "gone.jsonl")
    assert workspace.corrections().is_empty()


def test_what_is_imported_later_is_later_whatever_the_clock_says(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without a time of their own: also of one file, whose order is that of its lines."""
    import flywheel.store.times as times

    def add(*texts: str, **more: str) -> None:
        file = tmp_path / "c.jsonl"
        rows = [{"annotation_id": "a0", "verdict": "edit", "text": text, "refiner": "r", **more} for text in texts]
        file.write_text("\n".join(map(json.dumps, rows)))
        assert import_corrections(workspace, file).added == len(texts)

    add("first", "second", "third")

    class Back(times.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return times.datetime(2001, 1, 1, tzinfo=times.UTC)

    monkeypatch.setattr(times, "datetime", Back)
    add("fourth", "fifth")
    add("long ago", at="2020-01-01T00:00:00")
    said = [c.text for c in workspace.correction_records()]
    assert said == ["long ago", "first", "second", "third", "fourth", "fifth"]


def test_of_exclusions_and_gold_the_later_counts_whatever_the_clock_says(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flywheel.store.times as times

    file = tmp_path / "c.jsonl"
    file.write_text(json.dumps({"annotation_id": "a0", "verdict": "accept", "refiner": "eve"}))
    import_corrections(workspace, file)
    exclude(workspace, "eve", "a try")
    add_gold(workspace, {"c0": "first"}, "boss")

    class Back(times.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return times.datetime(2001, 1, 1, tzinfo=times.UTC)

    monkeypatch.setattr(times, "datetime", Back)
    assert excluded(workspace) == {"eve"}
    exclude(workspace, "eve", "a try", undo=True)
    assert excluded(workspace) == frozenset()
    add_gold(workspace, {"c0": "second"}, "boss")
    assert gold_texts(workspace) == {"c0": "second"}
