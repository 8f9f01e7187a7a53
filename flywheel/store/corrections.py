"""Corrections by text, by person and by id: queries that never read the whole table into objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sql

from flywheel.core.types import Correction, Verdict
from flywheel.store import schema as db
from flywheel.store.leases import holder_within
from flywheel.store.view import View
from flywheel.store.workspace import Workspace

_KEYS_A_QUERY = 500


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """How many corrections a person gave, those taken back included but not the taking back."""

    today: int
    in_all: int


def corrections_of(workspace: Workspace, annotation_id: str) -> list[Correction]:
    """All corrections of one text."""
    with workspace.database.transaction() as connection:
        return _on(connection, annotation_id)


def add_checked(
    workspace: Workspace, correction: Correction, lease: str, check: Callable[[list[Correction], str], None]
) -> None:
    """Adds a correction that is said now, unless ``check`` raises for what is on record of its text.

    It is given the text's corrections and who holds the ``lease`` of that key. Nobody can add another one in between,
    whichever server it is: both happen with the lock of writing. So ``check`` waits for no lock and asks no database:
    who has what it waits for may wait for the lock of writing.
    """

    def checked(connection: sql.Connection) -> None:
        check(_on(connection, correction.annotation_id), holder_within(workspace, connection, lease))

    workspace.add_corrections([correction], said_now=[correction.id], check=checked)


def _on(connection: sql.Connection, annotation_id: str) -> list[Correction]:
    query = sql.select(db.corrections).where(db.corrections.c.annotation_id == annotation_id)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [Correction(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]


def count_standing(workspace: View, left_out: Iterable[str] = ()) -> int:
    """How many words of people on texts stand: each one's latest on a text, but for skips and what was taken back.

    The words of the people in ``left_out`` are not counted.
    """
    rows = db.corrections.c
    newest = sql.func.row_number().over(
        partition_by=(rows.annotation_id, rows.refiner), order_by=(rows.at.desc(), rows.id.desc())
    )
    said = sql.select(rows.verdict, newest.label("place")).where(rows.verdict.not_in(["skip", "cant_tell"]))
    last = said.where(rows.refiner.not_in(sorted(left_out))).subquery()
    query = sql.select(sql.func.count()).where(last.c.place == 1, last.c.verdict != "withdraw")
    with workspace.database.transaction() as connection:
        return int(connection.execute(query).scalar_one())


def verdicts_by(workspace: Workspace, refiner: str) -> list[tuple[str, Verdict]]:
    """Text id and verdict of a person's corrections, newest first."""
    query = sql.select(db.corrections.c.annotation_id, db.corrections.c.verdict)
    query = query.where(db.corrections.c.refiner == refiner)
    with workspace.database.transaction() as connection:
        rows = connection.execute(query.order_by(db.corrections.c.at.desc(), db.corrections.c.id.desc())).all()
    return [(row.annotation_id, row.verdict) for row in rows]


def last_words(workspace: Workspace, refiner: str, limit: int) -> list[Correction]:
    """A person's newest word on each text, newest first, ``limit`` at most; what was taken back is left out."""
    rows = db.corrections.c
    newest = sql.func.row_number().over(partition_by=rows.annotation_id, order_by=(rows.at.desc(), rows.id.desc()))
    last = sql.select(db.corrections, newest.label("place")).where(rows.refiner == refiner).subquery()
    query = sql.select(*(last.c[column.name] for column in rows)).where(last.c.place == 1, last.c.verdict != "withdraw")
    with workspace.database.transaction() as connection:
        found = connection.execute(query.order_by(last.c.at.desc(), last.c.id.desc()).limit(limit)).mappings().all()
    return [Correction(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in found]


def words_on_clips(workspace: Workspace, clip_ids: Iterable[str]) -> dict[str, list[Correction]]:
    """Clip id -> all corrections of its texts, oldest first; clips without any are left out."""
    found: dict[str, list[Correction]] = {}
    wanted = list(clip_ids)
    with workspace.database.transaction() as connection:
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = db.corrections.c.clip_id.in_(wanted[start : start + _KEYS_A_QUERY])
            query = sql.select(db.corrections).where(some).order_by(db.corrections.c.at, db.corrections.c.id)
            for row in connection.execute(query).mappings():
                word = Correction(**{**row, "at": datetime.fromisoformat(row["at"])})
                found.setdefault(word.clip_id, []).append(word)
    return found


def clips_with_word(workspace: Workspace, verdict: Verdict, before: str, limit: int) -> list[tuple[str, str]]:
    """Clip id and time (ISO 8601) of standing words of this verdict said earlier than ``before``, newest first.

    An empty ``before`` begins with the newest.
    """
    rows, later = db.corrections.c, db.corrections.alias()
    same = (later.c.annotation_id == rows.annotation_id) & (later.c.refiner == rows.refiner)
    stands = ~sql.exists().where(same & ((later.c.at > rows.at) | ((later.c.at == rows.at) & (later.c.id > rows.id))))
    query = sql.select(rows.clip_id, rows.at).where(rows.verdict == verdict, stands)
    if before:
        query = query.where(rows.at < before)
    with workspace.database.transaction() as connection:
        found = connection.execute(query.order_by(rows.at.desc()).limit(limit))
        return [(row.clip_id, row.at) for row in found]


def words_a_day(workspace: Workspace, since: str) -> list[tuple[str, str, int]]:
    """Person, day (ISO date, UTC) and how many corrections that person gave then, since a day."""
    day = sql.func.substr(db.corrections.c.at, 1, 10)
    query = sql.select(db.corrections.c.refiner, day.label("day"), sql.func.count().label("words"))
    query = query.where(db.corrections.c.at >= since, db.corrections.c.verdict != "withdraw")
    with workspace.database.transaction() as connection:
        return [tuple(row) for row in connection.execute(query.group_by(db.corrections.c.refiner, day).order_by(day))]


def all_verdicts(workspace: Workspace) -> list[tuple[str, Verdict, str]]:
    """Text id, verdict and refiner of all corrections, oldest first."""
    columns = (db.corrections.c.annotation_id, db.corrections.c.verdict, db.corrections.c.refiner)
    with workspace.database.transaction() as connection:
        rows = connection.execute(sql.select(*columns).order_by(db.corrections.c.at, db.corrections.c.id))
        return [(row.annotation_id, row.verdict, row.refiner) for row in rows]


def corrected_ids(workspace: Workspace) -> set[str]:
    """Ids of the texts that somebody said anything about."""
    with workspace.database.transaction() as connection:
        return set(connection.execute(sql.select(db.corrections.c.annotation_id).distinct()).scalars())


def corrected_clips(workspace: Workspace) -> list[str]:
    """Ids of the clips with a correction, in the order of their first one."""
    query = sql.select(db.corrections.c.clip_id).order_by(db.corrections.c.at, db.corrections.c.id)
    with workspace.database.transaction() as connection:
        return list(dict.fromkeys(connection.execute(query).scalars()))


def known_correction_ids(workspace: Workspace, ids: Iterable[str]) -> set[str]:
    """Which of these corrections are in the table."""
    wanted = list(ids)
    present: set[str] = set()
    with workspace.database.transaction() as connection:
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = db.corrections.c.id.in_(wanted[start : start + _KEYS_A_QUERY])
            present.update(connection.execute(sql.select(db.corrections.c.id).where(some)).scalars())
    return present


def latest_correction_at(workspace: Workspace, until: datetime) -> datetime | None:
    """The time of the newest correction that is not later than ``until``; None where there is none."""
    query = sql.select(sql.func.max(db.corrections.c.at)).where(db.corrections.c.at <= until.isoformat())
    with workspace.database.transaction() as connection:
        at = connection.execute(query).scalar()
    return datetime.fromisoformat(at) if at is not None else None


def spoken_by(workspace: Workspace, refiner: str, since: str) -> Spoken:
    """Numbers of a person's corrections, in all and since a day (ISO date, UTC)."""
    given = (db.corrections.c.refiner == refiner) & (db.corrections.c.verdict != "withdraw")
    query = sql.select(sql.func.count()).select_from(db.corrections)
    with workspace.database.transaction() as connection:
        in_all = connection.execute(query.where(given)).scalar_one()
        today = connection.execute(query.where(given & (db.corrections.c.at >= since))).scalar_one()
    return Spoken(today=int(today), in_all=int(in_all))


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a person's latest word on a text is, as long as it stands: accept, edit or reject."""

    annotation_id: str
    clip_id: str
    verdict: Verdict


def standing_words(workspace: View, left_out: Iterable[str] = ()) -> list[Word]:
    """The words that :func:`count_standing` counts."""
    rows = db.corrections.c
    newest = sql.func.row_number().over(
        partition_by=(rows.annotation_id, rows.refiner), order_by=(rows.at.desc(), rows.id.desc())
    )
    columns = (rows.annotation_id, rows.clip_id, rows.verdict)
    said = sql.select(*columns, newest.label("place")).where(rows.verdict.not_in(["skip", "cant_tell"]))
    last = said.where(rows.refiner.not_in(sorted(left_out))).subquery()
    query = sql.select(last.c.annotation_id, last.c.clip_id, last.c.verdict)
    query = query.where(last.c.place == 1, last.c.verdict != "withdraw")
    with workspace.database.transaction() as connection:
        found = connection.execute(query).all()
    return [Word(annotation_id=row.annotation_id, clip_id=row.clip_id, verdict=row.verdict) for row in found]
