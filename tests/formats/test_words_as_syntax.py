"""Texts and names that are syntax elsewhere: sheets, subtitles, cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flywheel.formats import corrections
from flywheel.formats.card import Card
from flywheel.formats.rows import ReviewRow
from flywheel.formats.subtitles import webvtt

_FORMULAS = [
    '=cmd|"/C calc"!A0',
    "+1",
    "-1 degree",
    "@SUM(1)",
    "'=x",
    "''-x",
    "'tis",
    "''",
    "'",
    "a =b",
    "=\n",
    '- a, "b"',
]


def test_no_cell_is_a_formula_and_each_comes_back(tmp_path: Path) -> None:
    rows = [
        ReviewRow(annotation_id=str(n), uri=text, text=text, round=1, start_s=0.0, end_s=1.0, fps=25.0)
        for n, text in enumerate(_FORMULAS)
    ]
    file = tmp_path / "queue.csv"
    corrections.get("csv").write(rows, file)
    back = list(corrections.read_corrections(file))
    assert [row.values["text"] for row in back] == _FORMULAS
    assert [row.values["model_text"] for row in back] == _FORMULAS
    import csv

    with open(file, newline="") as sheet:
        cells = [cell for row in csv.reader(sheet) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]


@pytest.mark.parametrize("name", ["a-->b", "a--->b", "a\n\n00:00.000 --> 00:09.000"])
def test_a_name_in_a_note_is_no_cue(name: str) -> None:
    assert "-->" not in webvtt([], note=name)


@pytest.mark.parametrize("licence", ["", "cc-by-4.0", "CC BY: see #2", "a\nb: c", "'", "no", "1.0"])
def test_a_licence_is_one_value_of_the_front_matter(licence: str) -> None:
    card = Card(
        name="a\n# b",
        form="hf",
        round=1,
        champion_since="",
        num_clips=1,
        hours=0.1,
        counts={},
        left_out={},
        model={},
        rounds=(),
        licence=licence,
        num_refiners=0,
    )
    _, front, rest = card.text("load").split("---\n", 2)
    assert yaml.safe_load(front)["license"] == (licence or "other")
    assert rest.splitlines()[0].startswith("# a")


def test_one_annotation_of_a_task_takes_no_other_with_it(tmp_path: Path) -> None:
    good = {"result": [{"from_name": "caption", "value": {"text": ["A ball."]}}]}
    task = {"data": {"annotation_id": "t", "fps": 1, "start_s": 0, "model_text": "x"}}
    file = tmp_path / "t.json"
    file.write_text(json.dumps([{**task, "annotations": [good, {"result": 3}, None, good]}, {"data": 1}, 2]))
    rows = list(corrections.read_corrections(file))
    assert [bool(row.problem) for row in rows] == [False, True, True, False, True, True]
    assert [row.values["text"] for row in rows if not row.problem] == ["A ball.", "A ball."]
