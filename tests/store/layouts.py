"""Workspaces of older layouts. ``layout3`` was written by the version before layout 4: its dump of SQL and its shards.

Six clips of three files in two rounds, the second one stopped before its pretraining; see ``test_layouts.py``.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from flywheel.core.config import template
from flywheel.store import Workspace

FOLDER = Path(__file__).parent / "layout3"
#: What layouts 1 and 2 did not have.
_LATER = (
    "ALTER TABLE corrections DROP COLUMN payload",
    "ALTER TABLE shards DROP COLUMN position",
    "ALTER TABLE champions DROP COLUMN action",
    "ALTER TABLE champions DROP COLUMN details",
    "DROP TABLE exports",
    "DROP TABLE takedowns",
)


def old_workspace(root: Path, layout: int = 3) -> Path:
    """Put a workspace of layout 3 or 1 there; returns its folder."""
    shutil.copytree(FOLDER, root)
    connection = sqlite3.connect(root / "flywheel.db")
    connection.executescript((root / "flywheel.sql").read_text())
    if layout == 1:
        connection.executescript(";".join(_LATER))
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()
    (root / "flywheel.sql").unlink()
    Workspace.create(root, template())
    return root


def fill_keys(root: Path, count: int) -> None:
    """Add keys of layout 3, as of a large workspace."""
    connection = sqlite3.connect(root / "flywheel.db")
    shard = connection.execute("SELECT name FROM shards WHERE kind = 'annotations'").fetchone()[0]
    rows = ((f"{i * 2654435761 % 2**32:020x}{i:06d}", shard) for i in range(count))
    connection.executemany("INSERT INTO keys VALUES ('annotations', ?, ?)", rows)
    connection.commit()
    connection.close()


def layout_of(root: Path) -> str:
    """The number that the database bears."""
    connection = sqlite3.connect(root / "flywheel.db")
    try:
        return str(connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0])
    finally:
        connection.close()


def contents(root: Path) -> list[str]:
    """All that the database holds, statement by statement."""
    connection = sqlite3.connect(root / "flywheel.db")
    try:
        return list(connection.iterdump())
    finally:
        connection.close()
