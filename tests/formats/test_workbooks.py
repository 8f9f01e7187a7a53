"""Spreadsheets' own files, as Excel, LibreOffice and Google save them."""

from __future__ import annotations

import io
import zipfile
from datetime import time, timedelta
from pathlib import Path

import openpyxl
import pytest

from flywheel.formats import workbooks
from flywheel.formats.corrections import read_corrections
from flywheel.formats.tables import Table

ROWS = [
    ["Corrections of May"],
    [],
    ["Video", "Caption", "start", "end", "by"],
    ["a.mp4", "two\nlines, é", time(0, 1, 30), 1.5, True],
    ["b.mp4", None, timedelta(seconds=90.5), 0.1 + 0.2, 12],
    [],
    ["c.mp4", "=1+1", None, 2, "x"],
]


def workbook(rows: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("another").append(["video", "not read"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def changed(content: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """The workbook with other bytes in one of its parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as parts, zipfile.ZipFile(out, "w") as target:
        for part in parts.infolist():
            read = parts.read(part)
            if part.filename == name:
                assert old in read
                read = read.replace(old, new)
            target.writestr(part.filename, read)
    return out.getvalue()


def table(content: bytes) -> Table:
    return Table(io.BytesIO(content), ("video", "caption", "start", "end"), ("video",), pad=True)


def test_the_first_sheet_is_read_below_its_title() -> None:
    rows = list(table(workbook(ROWS)))
    assert [row.line for row in rows] == [4, 5, 7]
    assert dict(rows[0].values) == {
        "video": "a.mp4",
        "caption": "two\nlines, é",
        "start": "00:01:30",
        "end": "1.5",
        "by": "TRUE",
    }
    assert dict(rows[1].values)["start"] == "00:01:30.500"
    assert dict(rows[1].values)["end"] == "0.3"
    assert rows[1].values["caption"] == ""


def test_a_wrong_extent_hides_no_row() -> None:
    content = workbook(ROWS)
    lying = changed(content, "xl/worksheets/sheet1.xml", b'<dimension ref="A1:E7"', b'<dimension ref="A1:A3"')
    assert len(list(table(lying))) == 3


@pytest.mark.parametrize("ending", [".xlsx", ".csv"])
def test_corrections_come_back_as_a_workbook(tmp_path: Path, ending: str) -> None:
    """Also where its name says that it is CSV."""
    file = tmp_path / f"c{ending}"
    file.write_bytes(
        workbook(
            [
                ["annotation_id", "verdict", "text", "refiner"],
                ["a0", "edit", "'=a red ball", "r"],
                ["a1", "accept"],
            ]
        )
    )
    assert [dict(row.values) for row in read_corrections(file)] == [
        {"annotation_id": "a0", "verdict": "edit", "text": "=a red ball", "refiner": "r"},
        {"annotation_id": "a1", "verdict": "accept"},
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (workbook(ROWS)[:2000], "is no workbook that can be read"),
        (b"PK\x03\x04" + bytes(100), "is no workbook that can be read"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "old workbook of Excel, or one with a password"),
        (changed(workbook(ROWS), "xl/workbook.xml", b"<sheets>", b"<sheets"), "is no workbook that can be read"),
    ],
)
def test_what_cant_be_read_says_so(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        table(content)


def test_a_zip_that_is_no_workbook() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parts:
        parts.writestr("a.txt", "x")
    with pytest.raises(ValueError, match="is no workbook that can be read"):
        table(out.getvalue())


def test_a_workbook_that_unpacks_to_more_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_MOST_BYTES", 1 << 20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as parts:
        for number in range(5):
            parts.writestr(f"xl/{number}.xml", bytes(1 << 20))
    with pytest.raises(ValueError, match="unpacks to 5 MiB, over 1"):
        table(out.getvalue())


def test_a_row_with_an_endless_number_ends_the_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_MOST_ROWS", 1000)
    endless = changed(workbook(ROWS), "xl/worksheets/sheet1.xml", b'<row r="7"', b'<row r="70000000000"')
    rows = list(table(endless))
    assert [row.problem[:27] for row in rows] == ["", "", "the sheet breaks off here ("]


def test_a_sheet_that_breaks_off_keeps_what_it_gave() -> None:
    broken = changed(workbook(ROWS), "xl/worksheets/sheet1.xml", b'<row r="7"', b"<row r='7")
    rows = list(table(broken))
    assert [row.values.get("video", row.problem[:25]) for row in rows[:2]] == ["a.mp4", "b.mp4"]
    assert rows[-1].problem.startswith("the sheet breaks off here")
