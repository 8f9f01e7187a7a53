"""Clips forgotten as if they had not been taken in, so that their videos can be cut otherwise."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.store import schema
from flywheel.store.columns import SCHEMAS
from flywheel.store.places import lies_at, whole
from flywheel.store.view import path_forms
from flywheel.store.workspace import Workspace

#: What stays of clips that go: failures are history.
_STAYS = ("clips", "rejected", "dismissals")


def forget_cut(workspace: Workspace, sources: Iterable[str]) -> int:
    """Forget the clips of all files at these paths, or below these folders; returns how many.

    The caller holds the lock. What a recogniser heard of the files stays, as do the sides of their videos. Killed, the
    same call goes on. Raises UserError once a model has written of clips or people have corrected some: that would be
    lost.
    """
    if workspace.count("generations") or workspace.num_corrections():
        raise UserError(
            "ingest --recut: a model has written of clips already, or people have corrected some, which would be lost. "
            "Make a new workspace for other cuts, or set corpus.split_by before the first round."
        )
    uri, found = schema.locations.c.uri, list[str]()
    with workspace.database.transaction() as connection:
        for path in {form.rstrip("/") for source in sources for form in path_forms(source)}:
            query = sql.select(uri).where(lies_at(workspace.root, uri, path))
            found += connection.execute(query).scalars()
    clip_ids = workspace.clips_at(whole(workspace.root, path) for path in found)["id"].to_list()
    if clip_ids:
        these = pl.col("clip_id").is_in(sorted(clip_ids))
        kinds = [kind for kind, columns in SCHEMAS.items() if "clip_id" in columns and kind not in _STAYS]
        workspace.records.remove(dict.fromkeys(kinds, these))
        workspace.takedowns.remove_clips(clip_ids, keep_removals=True)
    return len(clip_ids)
