"""Flags: texts that a person wants a lead to look at, each with a note. The newest of a person on a text counts."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sql

from flywheel.core.types import content_id
from flywheel.store import schema as db
from flywheel.store.times import time_after
from flywheel.store.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Flag:
    """What a person noted of a text; ``at`` is the time (ISO 8601)."""

    annotation_id: str
    clip_id: str
    refiner: str
    note: str
    at: str


def put_flag(
    workspace: Workspace, annotation_id: str, clip_id: str, refiner: str, *, flagged: bool, note: str = ""
) -> None:
    """Adds a row that flags a text, or takes the flag away."""
    with workspace.database.change() as (connection, _):
        at = time_after(connection.execute(sql.select(sql.func.max(db.flags.c.at))).scalar())
        row = {"annotation_id": annotation_id, "clip_id": clip_id, "refiner": refiner, "flagged": flagged, "note": note}
        row["id"] = content_id("flag", annotation_id, refiner, at)
        connection.execute(sql.insert(db.flags).values(**row, at=at))


def flag_of(workspace: Workspace, annotation_id: str, refiner: str) -> Flag | None:
    """A person's flag of a text; None where there is none."""
    mine = (db.flags.c.annotation_id == annotation_id) & (db.flags.c.refiner == refiner)
    return next(iter(_newest(workspace, mine)), None)


def open_flags(workspace: Workspace, limit: int | None) -> list[Flag]:
    """The flags that stand, newest first, ``limit`` at most where it is given."""
    return _newest(workspace, sql.true(), limit)


def _newest(workspace: Workspace, where: sql.ColumnElement[bool], limit: int | None = None) -> list[Flag]:
    rows = db.flags.c
    place = sql.func.row_number().over(
        partition_by=(rows.annotation_id, rows.refiner), order_by=(rows.at.desc(), rows.id.desc())
    )
    names = ("annotation_id", "clip_id", "refiner", "note", "at")
    last = sql.select(*(rows[name] for name in names), rows.flagged, place.label("place")).where(where).subquery()
    query = sql.select(*(last.c[name] for name in names)).where(last.c.place == 1, last.c.flagged)
    with workspace.database.transaction() as connection:
        found = connection.execute(query.order_by(last.c.at.desc()).limit(limit)).mappings().all()
    return [Flag(**row) for row in found]
