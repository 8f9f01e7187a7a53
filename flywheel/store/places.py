"""Where files lie: on record as seen from the workspace for those inside it, so that each host finds its own copies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import sqlalchemy as sql

from flywheel.store.columns import MENDS, SCHEMAS
from flywheel.store.database import begins_with

#: What a path begins with that is seen from the workspace; all others are whole.
_HERE = "./"
#: What ends the name of a host's folder for a workspace on an object store.
_OF_A_STORE = re.compile(r".*-[0-9a-f]{12}")


def on_record(root: Path, path: str) -> str:
    """A path as records have it: seen from the workspace's folder ``root`` where it lies in there."""
    below = f"{root}/"
    return _HERE + path.removeprefix(below) if path.startswith(below) else path


def whole(root: Path, path: str) -> str:
    """The path on this host of one that is on record."""
    if path.startswith(_HERE):
        return f"{root}/{path.removeprefix(_HERE)}"
    pattern = _other_hosts(root)
    return path if pattern is None else re.sub(pattern, lambda _: f"{root}/", path, count=1)


def forms(root: Path, paths: Iterable[str]) -> list[str]:
    """All that may be on record of these paths: versions before wrote whole ones of all files."""
    return sorted({form for path in paths for form in (path, on_record(root, path))})


def lies_at(root: Path, column: sql.ColumnElement[str], path: str) -> sql.ColumnElement[bool]:
    """Whether a path on record is this one (without its last slash), or lies below this folder."""
    here = (column == path) | begins_with(column, f"{path}/")
    if path == str(root) or str(root).startswith(f"{path}/"):
        return here | begins_with(column, _HERE)
    inner = on_record(root, path)
    return here if inner == path else here | (column == inner) | begins_with(column, f"{inner}/")


def mends_of(kind: str, root: Path) -> dict[str, pl.Expr]:
    """What shards of a kind lack or have otherwise, by column, with paths whole on this host."""
    mends = dict(MENDS.get(kind, {}))
    if "uri" in SCHEMAS[kind]:
        path = pl.col("uri")
        rest = path.str.strip_prefix(_HERE)
        older, pattern = path, _other_hosts(root)
        if pattern is not None:
            older = path.str.replace(pattern, f"{root}/".replace("$", "$$"))
        mends["uri"] = pl.when(path.str.starts_with(_HERE)).then(pl.lit(f"{root}/") + rest).otherwise(older)
    return mends


def put_on_record(root: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows as shards have them: their paths as :func:`on_record` has them."""
    if "uri" not in frame.columns:
        return frame
    path, below = pl.col("uri"), f"{root}/"
    inner = pl.lit(_HERE) + path.str.strip_prefix(below)
    return frame.with_columns(uri=pl.when(path.str.starts_with(below)).then(inner).otherwise(path))


def _other_hosts(root: Path) -> str | None:
    """Finds the beginning of whole paths that versions before wrote on hosts with another folder for this workspace."""
    if root.parent.name != "workspaces" or _OF_A_STORE.fullmatch(root.name) is None:
        return None
    return rf"^/.*/workspaces/{re.escape(root.name)}/"
