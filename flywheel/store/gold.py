"""Gold: the table of clips whose right text is known. The newest row of a clip counts, an empty text ends it."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sql

from flywheel.core.types import content_id
from flywheel.store import schema as db
from flywheel.store.times import time_after
from flywheel.store.view import View
from flywheel.store.workspace import Workspace


def gold_texts(workspace: View) -> dict[str, str]:
    """Clip id -> right text, of all clips that are gold today."""
    query = sql.select(db.gold.c.clip_id, db.gold.c.text).order_by(db.gold.c.at, db.gold.c.id)
    with workspace.database.transaction() as connection:
        texts = {row.clip_id: row.text for row in connection.execute(query)}
    return {clip_id: text for clip_id, text in texts.items() if text}


def newest_gold(workspace: Workspace, limit: int) -> list[tuple[str, str, str]]:
    """Clip id, right text and giver of the clips that are gold today, the newest entry first, ``limit`` at most."""
    rows = db.gold.c
    place = sql.func.row_number().over(partition_by=rows.clip_id, order_by=(rows.at.desc(), rows.id.desc()))
    last = sql.select(rows.clip_id, rows.text, rows.by, rows.at, place.label("place")).subquery()
    query = sql.select(last.c.clip_id, last.c.text, last.c.by).where(last.c.place == 1, last.c.text != "")
    with workspace.database.transaction() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(last.c.at.desc()).limit(limit))]


def gold_givers(workspace: Workspace) -> dict[str, str]:
    """Clip id -> who gave its newest entry."""
    query = sql.select(db.gold.c.clip_id, db.gold.c.by).order_by(db.gold.c.at, db.gold.c.id)
    with workspace.database.transaction() as connection:
        return {row.clip_id: row.by for row in connection.execute(query)}


def add_gold(workspace: Workspace, texts: Mapping[str, str], by: str) -> int:
    """Adds a row for each clip (id -> right text); returns how many were new."""
    with workspace.database.change() as (connection, _):
        at = time_after(connection.execute(sql.select(sql.func.max(db.gold.c.at))).scalar())
        rows = [
            {"id": content_id("gold", clip_id, text, by, at), "clip_id": clip_id, "text": text, "by": by, "at": at}
            for clip_id, text in texts.items()
        ]
        return workspace.database.insert_new(connection, db.gold, rows)
