"""Choices between two texts: kept, read and written as files, in the past as they were, and gone with their clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Preference, standing_choices
from flywheel.store import Workspace
from flywheel.store.preferences import all_choices, choices_of, choices_on
from flywheel.store.writing import TakenDown
from human_refine import export_choices, import_corrections, import_gold
from tests.store.test_view import clip


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace]) -> Workspace:
    """Three clips with a text of each of two rounds; those of the last are in the same words."""
    w = make_workspace()
    w.add_clips([clip(n, split) for n, split in enumerate(("anchor", "anchor", "test", "anchor"))])
    for round in (1, 2):
        texts = [f"text {n} of round {round if n < 3 else 1}" for n in range(4)]
        rows = [
            Annotation(
                id=f"r{round}-{n}",
                round=round,
                kind="caption",
                clip_id=f"c{n}",
                generation_id="",
                source="model",
                text=text,
                mean_logprob=-1.0,
                purpose="measure",
            )
            for n, text in enumerate(texts)
        ]
        w.add_annotations(rows, round)
    return w


def _row(number: int, chosen: str = "first", **more: object) -> dict[str, object]:
    return {"first_id": f"r1-{number}", "second_id": f"r2-{number}", "chosen": chosen, **more}


def _write(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_good_rows_are_kept_and_each_bad_one_is_named(workspace: Workspace, tmp_path: Path) -> None:
    good = [
        _row(0, "second", refiner="ann", left="second", seconds="3,5", at="2026-03-01T10:00:00"),
        _row(1, " Neither ", refiner="bob"),
        _row(2, ""),
    ]
    bad = [
        (_row(0, "best"), "chosen 'best' is unknown; there are first, second"),
        (_row(0, left="top"), "first or second, got 'top'"),
        (_row(3), "the two texts are the same"),
        ({**_row(0), "second_id": "r2-1"}, "of different clips"),
        ({**_row(0), "second_id": "nope"}, "annotation 'nope' is unknown, no caption, or its clip is gone"),
        ({**_row(0), "second_id": "12345"}, "a number that a spreadsheet made of an id"),
        ({"first_id": "r1-0", "chosen": "first"}, "needs 'second_id'"),
        (_row(0, colour=1), "unknown column 'colour'"),
        (_row(0, at="tomorrow"), "ISO 8601"),
        (_row(0, seconds=-1), "zero or more"),
        ({"annotation_id": "r1-0", "verdict": "accept", "chosen": "first"}, "unknown column 'chosen'"),
    ]
    file = _write(
        tmp_path / "c.jsonl", [*good, *(row for row, _ in bad), {"annotation_id": "r1-1", "verdict": "accept"}]
    )
    report = import_corrections(workspace, file)
    assert (report.choices, report.added, report.blank, len(report.refused)) == (2, 1, 1, len(bad))
    for number, (_, message) in enumerate(bad, len(good) + 1):
        assert any(line.startswith(f"c.jsonl: line {number}: ") and message in line for line in report.refused), message
    first, second = workspace.preference_records()
    at = datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert (first.clip_id, first.chosen, first.left, first.seconds, first.at) == ("c0", "second", "second", 3.5, at)
    assert (second.chosen, second.refiner, second.left) == ("both_bad", "bob", "")
    again = import_corrections(workspace, file)
    assert (again.choices, again.added, again.known) == (0, 0, 3)
    assert import_gold(workspace, file, "lead").refused[0].endswith("a choice between two texts is no gold.")


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.parquet"])
def test_what_is_written_is_the_same_when_it_is_read(workspace: Workspace, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="nobody has chosen"):
        export_choices(workspace, tmp_path / name)
    import_corrections(
        workspace, _write(tmp_path / "a.jsonl", [_row(0, refiner="=ann"), _row(1, "equal", seconds=2.5)])
    )
    before = workspace.preferences()
    workspace.add_preferences([_choice(7, first_id="gold:c0", second_id="gold:c1:c0")])
    assert export_choices(workspace, tmp_path / name) == 2
    assert import_corrections(workspace, tmp_path / name).known == 2
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("DELETE FROM preferences"))
    assert import_corrections(workspace, tmp_path / name).choices == 2
    assert workspace.preferences().equals(before)
    with pytest.raises(UserError, match=r"written as \.jsonl, \.csv, \.parquet"):
        export_choices(workspace, tmp_path / "c.srt")


def _choice(number: int, chosen: str = "first", **more: object) -> Preference:
    names = {"clip_id": "c0", "first_id": "r1-0", "second_id": "r2-0", "refiner": "ann"}
    at = datetime(2026, 1, 1, number, tzinfo=UTC)
    return Preference(**{"id": f"p{number}", **names, "chosen": chosen, "at": at, **more})  # type: ignore[arg-type]


def test_a_persons_latest_choice_on_a_pair_stands() -> None:
    turned = _choice(2, "second", first_id="r2-0", second_id="r1-0")
    other = _choice(3, refiner="bob")
    assert turned.pair_id == other.pair_id, "whichever is called first"
    assert standing_choices([other, _choice(1), turned]) == [turned, other]
    assert standing_choices([_choice(1), _choice(2, "skip")]) == [_choice(1)]
    assert standing_choices([_choice(1), _choice(2, "withdraw")]) == []


def test_choices_are_looked_up_and_go_with_their_clip_also_from_the_past(workspace: Workspace) -> None:
    late = replace(_choice(9, "equal"), clip_id="c1", first_id="r1-1", second_id="r2-1", refiner="bob")
    assert workspace.add_preferences([_choice(1)]) == 1
    workspace.freeze(1, leads=[], gold={}, excluded=[])
    assert workspace.add_preferences([_choice(1), late], said_now=["p9"]) == 1, "the same is not taken twice"
    assert [p.id for p in workspace.as_of(1).preference_records()] == ["p1"]
    assert [p.id for p in choices_on(workspace, late.pair_id)] == ["p9"]
    assert [p.id for p in choices_of(workspace, "ann", 5)] == ["p1"]
    assert all_choices(workspace)[0] == (_choice(1).pair_id, "first", "ann")
    workspace.takedowns.note(["c0"], "asked for", {})
    workspace.takedowns.forget_people(["c0"])
    assert [p.id for p in workspace.preference_records()] == ["p9"]
    assert workspace.as_of(1).preferences().is_empty()
    with pytest.raises(TakenDown, match="c0: was taken down"):
        workspace.add_preferences([_choice(2)])


def test_a_workspace_of_before_there_were_choices(workspace: Workspace) -> None:
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("DROP TABLE preferences"))
    again = Workspace.open(workspace.root)
    assert again.preferences().is_empty()
    assert again.add_preferences([_choice(1)]) == 1
    again.database.close()
