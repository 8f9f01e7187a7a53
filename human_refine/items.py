"""Texts as the page shows them, looked up by their ids when they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from flywheel import kinds
from flywheel.core.errors import UserError
from flywheel.core.types import LEARN
from flywheel.store import Workspace
from flywheel.store.parts import read_rows


def _editable_kinds() -> tuple[str, ...]:
    """Names of the kinds that can be edited; a broken plug-in costs its kind and not the page."""
    names = []
    for name in kinds.names():
        with contextlib.suppress(UserError):
            names += [name] if kinds.get(name).editable else []
    return tuple(names)


#: The kinds of text that the page shows, and people can edit there.
EDITABLE_KINDS = _editable_kinds()
#: Rows of the texts that people may correct, of all rounds.
EDITABLE = pl.col("kind").is_in(EDITABLE_KINDS) & (pl.col("purpose") == LEARN)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One text that people look at."""

    annotation_id: str
    clip_id: str
    round: int
    text: str
    kind: str = "caption"
    payload: str = ""


def items_with_ids(workspace: Workspace, annotation_ids: Iterable[str]) -> dict[str, Item]:
    """Annotation id -> item, of those that exist and can be edited."""
    frame = read_rows(
        workspace, "annotations", annotation_ids, ["id", "clip_id", "round", "text", "kind", "payload"], EDITABLE
    )
    rows = frame.rename({"id": "annotation_id"}).iter_rows(named=True)
    return {row["annotation_id"]: Item(**row) for row in rows}
