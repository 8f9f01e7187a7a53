"""Corrections as files: each format gives back what it was given, and each bad row has its line and its reason."""

from __future__ import annotations

import csv as table
import io
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Cue
from flywheel.formats import corrections
from flywheel.formats.corrections import parquet, read_corrections
from flywheel.formats.rows import OPTIONAL, REQUIRED, ReviewRow, checked_row

CUES = (Cue(start_s=0.5, end_s=1.25, text="A <bell>."), Cue(start_s=1.25, end_s=2.0, text="It stops."))
ODD = 'He said "no",\nand; <left> & \u65e5\u672c \U0001f600'


def row(name: str, text: str = "A bell. It stops.", cues: tuple[Cue, ...] = ()) -> ReviewRow:
    return ReviewRow(
        annotation_id=name, uri="/v/1.mp4", text=text, round=2, start_s=10.0, end_s=13.0, fps=29.97, cues=cues
    )


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("count", [0, 5])
def test_tables_give_back_their_rows_when_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, count: int
) -> None:
    monkeypatch.setattr("flywheel.formats.corrections._table._AT_A_TIME", 2)
    file = tmp_path / f"queue.{form}"
    corrections.get(form).write((row(f"a{i}", ODD) for i in range(count)), file)
    rows = list(read_corrections(file))
    assert len(rows) == count
    # Left as they went out they are no corrections, and no mistakes: nobody gave a verdict.
    assert all((r.problem, r.values["verdict"] or "", r.values["text"]) == ("", "", ODD) for r in rows)
    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[form]
    if count:
        frame = read(file).with_columns(verdict=pl.lit("edit"), refiner=pl.lit("ann"))
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[form](file)
        filled = [r.values for r in read_corrections(file)]
        assert [(v["annotation_id"], v["text"], v["model_text"]) for v in filled] == [
            (f"a{i}", ODD, ODD) for i in range(count)
        ]


@pytest.mark.parametrize(("form", "ending"), [("webvtt", "vtt"), ("srt", "srt")])
def test_subtitles_give_back_their_cues(tmp_path: Path, form: str, ending: str) -> None:
    corrections.get(form).write([row("a1", cues=CUES)], tmp_path / "out")
    [read] = read_corrections(tmp_path / "out" / f"a1.{ending}")
    assert (read.values["annotation_id"], read.values["verdict"]) == ("a1", "edit")
    assert tuple(Cue(**cue) for cue in json.loads(read.values["payload"])["cues"]) == CUES


def label_studio(tmp_path: Path, rows: list[ReviewRow], *results: dict[str, Any]) -> Path:
    """The tasks as written, with these annotations put in by a person."""
    file = tmp_path / "tasks.json"
    corrections.get("label-studio").write(rows, file)
    tasks = json.loads(file.read_text())
    for task, annotation in zip(tasks, results, strict=True):
        task["annotations"] = [{"result": task["predictions"][0]["result"], **annotation}]
    file.write_text(json.dumps(tasks))
    return file


def test_label_studio_gives_back_texts_and_exact_cues(tmp_path: Path) -> None:
    file = label_studio(
        tmp_path,
        [row("a1"), row("a2", cues=CUES), row("a3"), row("a4")],
        {"completed_by": 7},
        {"completed_by": {"username": "ann"}, "lead_time": 2.5},
        {"was_cancelled": True},
        {"result": [{"from_name": "verdict", "value": {"choices": ["reject"]}}]},
    )
    text, cues, skipped, rejected = (r.values for r in read_corrections(file))
    assert (text["verdict"], text["refiner"], text["payload"]) == ("accept", "label-studio-7", "")
    assert (cues["verdict"], cues["refiner"], cues["seconds"]) == ("edit", "ann", 2.5)
    assert tuple(Cue(**cue) for cue in json.loads(cues["payload"])["cues"]) == CUES
    assert skipped["verdict"] == "skip"
    assert (rejected["verdict"], rejected["reason"]) == ("reject", "rejected in Label Studio")


def in_small(tmp_path: Path, rows: list[ReviewRow], *answers: dict[str, Any]) -> Path:
    """A file of JSON-MIN: the tasks' data, and the answers beside it."""
    corrections.get("label-studio").write(rows, tmp_path / "out.json")
    tasks = json.loads((tmp_path / "out.json").read_text())
    # Its own number of an annotation stands where ours was.
    small = [
        {**t["data"], "id": 1, "annotation_id": 71, "annotator": 3, **a} for t, a in zip(tasks, answers, strict=True)
    ]
    (tmp_path / "min.json").write_text(json.dumps(small))
    return tmp_path / "min.json"


def test_label_studio_in_its_smaller_form(tmp_path: Path) -> None:
    spans = [{"ranges": [{"start": 316, "end": 337}], "timelinelabels": ["cue"]}]
    file = in_small(
        tmp_path,
        [row("a1"), row("a2"), row("a3"), row("a4"), row("a5", cues=CUES)],
        {"caption": "A gong.", "lead_time": 2.0, "created_at": "2026-05-01T10:00:00Z"},
        {"caption": {"text": ["A gong.", "It stops."]}, "annotator": "rev@example.org"},
        {"verdict": "reject"},
        {"caption": "x", "text_id": None},
        {"cue": spans, "cue_text": "A gong."},
    )
    text, several, rejected, older, timed = read_corrections(file)
    assert (text.values["annotation_id"], text.values["verdict"], text.values["text"]) == ("a1", "edit", "A gong.")
    assert (text.values["refiner"], text.values["seconds"]) == ("label-studio-3", 2.0)
    assert (several.values["text"], several.values["refiner"]) == ("A gong. It stops.", "rev@example.org")
    assert rejected.values["verdict"] == "reject"
    assert "export it as JSON" in older.problem
    [cue] = json.loads(timed.values["payload"])["cues"]
    assert (round(cue["start_s"], 2), cue["text"]) == (round(315 / 29.97 - 10, 2), "A gong.")


def test_label_studio_users_drafts_and_areas_of_any_shape(tmp_path: Path) -> None:
    area = {"from_name": "caption", "type": "textarea"}
    file = label_studio(
        tmp_path,
        [row(f"a{number}") for number in range(6)],
        {
            "result": [
                {**area, "value": {"text": "A gong."}},
                {**area, "value": {"text": ["It stops."]}},
                {"type": "relation", "from_id": "a", "to_id": "b"},
            ]
        },
        {"completed_by": "rev@example.org"},
        {"completed_by": {"id": 3, "email": ""}},
        {"completed_by": {"id": None}, "created_username": "ann@example.org"},
        {},
        {},
    )
    tasks = json.loads(file.read_text())
    tasks[4] |= {"annotations": [], "drafts": [{"result": []}]}
    tasks[5]["annotations"] = []
    file.write_text(json.dumps(tasks))
    text, mail, number, nobody, draft, untouched = read_corrections(file)
    assert text.values["text"] == "A gong. It stops.", "a text is no list of letters"
    assert [r.values["refiner"] for r in (mail, number, nobody)] == ["rev@example.org", "label-studio-3", ""]
    assert "draft" in draft.problem
    assert (untouched.values["annotation_id"], untouched.values["verdict"]) == ("a5", "")


@pytest.mark.parametrize(
    "change",
    [
        {"data": None},
        {"data": {}},
        {"data": {"fps": 0, "start_s": 0, "annotation_id": "a", "model_text": ""}},
        {"annotations": [{"result": [{"from_name": "caption", "value": None}]}]},
        {"annotations": [{"result": [{"from_name": "cue", "id": "x", "value": {"ranges": []}}]}]},
        {"annotations": [{"result": 7}]},
        {"annotations": 7},
    ],
)
def test_one_broken_task_costs_one_row(tmp_path: Path, change: dict[str, Any]) -> None:
    file = label_studio(tmp_path, [row("a1", cues=CUES), row("a2")], {}, {})
    tasks = json.loads(file.read_text())
    for result in tasks[0]["annotations"][0]["result"]:
        # Without the exact seconds they are counted from frames.
        result.pop("meta", None)
    tasks[0] |= change
    file.write_text(json.dumps(tasks))
    broken, whole = read_corrections(file)
    assert (broken.line, broken.values) == (1, {})
    assert broken.problem.startswith("not a task as exported")
    assert whole.values["annotation_id"] == "a2"


def lines(*values: object) -> bytes:
    return "\n".join(v if isinstance(v, str) else json.dumps(v) for v in values).encode()


GOOD = {"annotation_id": "a1", "verdict": "accept"}


@pytest.mark.parametrize(
    ("name", "content", "problems"),
    [
        ("a.jsonl", b"\xef\xbb\xbf" + lines(GOOD, "", GOOD), ["", ""]),
        ("a.jsonl", lines(GOOD) + b'\n{"annotation_id": "\xff"}', ["", "not valid UTF-8 at byte 19"]),
        ("a.jsonl", lines("{", "7", "[" * 99999, GOOD), ["not JSON", "must be an object", "not JSON", ""]),
        ("a.jsonl", lines('{"annotation_id": 1' + "0" * 9999 + "}", GOOD), ["not JSON", ""]),
        ("a.jsonl", lines({"verdict": "edit"}, {**GOOD, "annotation_id": 7}), ["needs 'annotation_id'"] * 2),
        ("a.jsonl", lines({**GOOD, "text": 0}, {**GOOD, "tekst": ""}), ["must be text", "unknown column 'tekst'"]),
        ("a.jsonl", lines('{"annotation_id": "a", "verdict": "edit", "text": "\\ud800"}'), ["lone surrogate"]),
        ("a.csv", b"verdict, annotation_id\naccept,a1\n\naccept\n", ["", "has 1 cells, the header has 2"]),
        ("a.csv", b"annotation_id,verdict\na1,\xff\na2,edit\n", ["not valid UTF-8", ""]),
        ("a.csv", b'annotation_id,verdict\na1,edit\n"a2,edit\n', ["", "not CSV"]),
        ("a.vtt", b"WEBVTT\n", ["holds no cue"]),
    ],
)
def test_a_bad_row_has_its_reason_and_the_others_stand(
    tmp_path: Path, name: str, content: bytes, problems: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    rows = list(read_corrections(tmp_path / name))
    assert len(rows) == len(problems)
    for read, problem in zip(rows, problems, strict=True):
        assert read.problem == problem if not problem else problem in read.problem
        assert bool(read.values) is not bool(problem)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", b"", r"unknown ending '\.xml'. Corrections come as \.csv, \.json, \.jsonl"),
        ("a", b"", "unknown ending ''"),
        ("a.csv", b"annotation_id,text\n", "needs the column verdict; has annotation_id, text"),
        ("a.csv", b"\n", "needs the columns annotation_id, verdict"),
        ("a.json", b"{}", "must be a list of tasks"),
        ("a.json", b"[1" + b"0" * 9999 + b"]", "not Label Studio's JSON"),
        ("a.parquet", b"PAR1", "can't be read as Parquet"),
        ("gone.csv", None, "can't be read"),
    ],
)
def test_a_file_that_holds_none_is_one_line(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        list(read_corrections(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    text = io.StringIO()
    writer = table.writer(text, lineterminator="\n")
    writer.writerows([["annotation_id", "verdict", "text"], ["a1", "edit", "two\nlines"], ["a2", "", ""]])
    (tmp_path / "a.csv").write_text(text.getvalue())
    assert [r.line for r in read_corrections(tmp_path / "a.csv")] == [3, 4]


def test_every_column_that_is_known_is_taken() -> None:
    values = {**dict.fromkeys((*REQUIRED, *OPTIONAL), "x"), "seconds": 1.5, "round": 3}
    assert checked_row(4, values).values == values


def test_files_that_grow_when_read_are_not_taken_from_everybody() -> None:
    assert set(corrections.endings()) - set(corrections.endings(plain=True)) == {".parquet"}


def test_a_small_parquet_file_stands_for_no_more_than_so_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of one value weigh nothing."""
    monkeypatch.setattr(parquet, "_MOST_ROWS", 20_000)
    monkeypatch.setattr(parquet, "_MOST_CHARS", 5_000_000)
    rows = pl.select(annotation_id=pl.repeat("a" * 1000, 20_001), verdict=pl.repeat("accept", 20_001))
    rows.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="holds 20001 rows, at most 20000"):
        list(read_corrections(tmp_path / "rows.parquet"))
    rows.head(6_000).write_parquet(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="characters of text"):
        list(read_corrections(tmp_path / "text.parquet"))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="no regular file"):
        list(read_corrections(tmp_path / "pipe.csv"))


def test_tasks_of_another_origin_say_what_they_lack() -> None:
    """A project into which people put their own tasks, and not those of an export."""
    tasks = [{"data": {"video": "a.mp4"}}, "text", {"data": {"video": "a.mp4"}, "annotations": [{"result": []}]}]
    problems = [row.problem for row in corrections.get("label-studio").read(json.dumps(tasks).encode(), "")]
    assert len(problems) == 3
    assert all("its data lacks annotation_id, model_text, fps, start_s" in problems[at] for at in (0, 2))
    assert "a task must be an object, got str" in problems[1]
