"""Append-only records: Parquet shards that become visible whole, and a ledger that lets no key in twice.

A shard is written to a temporary file, synced, renamed, and then committed to the ledger together with its keys in one
transaction. Killed before the commit, its rows do not exist and the file is swept at the next opening for writing; killed
after, they do. Readers read the shards that the ledger names and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.store import database as db

_F, _I, _S, _B = pl.Float64, pl.Int64, pl.String, pl.Boolean

#: kind -> columns. The first column is the key.
SCHEMAS: dict[str, dict[str, pl.DataType | type[pl.DataType]]] = {
    "clips": {
        "id": _S, "uri": _S, "content_hash": _S, "start_s": _F, "end_s": _F, "fps": _F, "width": _I, "height": _I,
        "has_audio": _B, "transcript": _S, "sounds": _S, "split": _S,
        "cues": pl.List(pl.Struct({"start_s": _F, "end_s": _F, "text": _S})),
    },
    "generations": {
        "id": _S, "clip_id": _S, "prompt": _S, "model": _S, "adapter": _S, "sampling": _S, "candidate": _I, "text": _S,
        "token_ids": pl.List(pl.Int32), "logprobs": pl.List(pl.Float32), "tokens_in": _I, "tokens_out": _I, "seconds": _F,
        "finish": _S,
    },
    "annotations": {
        "id": _S, "round": _I, "kind": _S, "clip_id": _S, "generation_id": _S, "source": _S, "text": _S,
        "mean_logprob": _F, "payload": _S, "purpose": _S,
    },
    "rejected": {
        "id": _S, "round": _I, "uri": _S, "clip_id": _S, "stage": _S, "reason": _S, "at": _S, "kind": _S, "purpose": _S,
    },
    #: A clip as a model's point; ``id`` is clip and model.
    "embeddings": {"id": _S, "clip_id": _S, "model": _S, "vector": pl.List(pl.Float32)},
    #: What a stage trained on, or was told not to say: ``use`` is "learned" or "rejected".
    "examples": {
        "id": _S, "round": _I, "stage": _S, "clip_id": _S, "annotation_id": _S, "source": _S, "use": _S, "weight": _F,
        "text_hash": _S, "corrections": pl.List(_S),
    },
    "noise_signals": {"id": _S, "round": _I, "annotation_id": _S, "origin": _S, "value": _F},
}  # fmt: skip

#: A purpose was a kind of its own before texts had one.
_WAS_MEASURED = pl.col("kind") == "evaluation"
#: kind -> what a column holds in shards that were written before there was such a column, or that wrote something else in it.
_BEFORE: dict[str, dict[str, pl.Expr]] = {
    "clips": {"cues": pl.col("cues").fill_null(pl.lit([], dtype=SCHEMAS["clips"]["cues"]))},
    "annotations": {
        "payload": pl.col("payload").fill_null(""),
        "kind": pl.when(_WAS_MEASURED).then(pl.lit("caption")).otherwise("kind"),
        "purpose": pl.col("purpose").fill_null(
            pl.when(_WAS_MEASURED).then(pl.lit("measure")).otherwise(pl.lit("learn"))
        ),
    },
    "rejected": {
        "kind": pl.when(_WAS_MEASURED)
        .then(pl.lit("caption"))
        .otherwise(
            pl.col("kind").fill_null(
                pl.when(pl.col("stage") == "annotate").then(pl.lit("caption")).otherwise(pl.lit(""))
            )
        ),
        "purpose": pl.col("purpose").fill_null(
            pl.when(pl.col("stage") != "annotate")
            .then(pl.lit(""))
            .otherwise(pl.when(_WAS_MEASURED).then(pl.lit("measure")).otherwise(pl.lit("learn")))
        ),
    },
}

_BY_ROUND = {"annotations", "rejected", "noise_signals", "examples"}


class Records:
    """The Parquet side of a workspace."""

    def __init__(self, root: Path, database: db.Database) -> None:
        self.root = root
        self._db = database
        #: Only shards committed up to this place are read; None is all.
        self.until: int | None = None

    def append(self, kind: str, rows: Sequence[dict[str, Any]], *, round: int | None = None) -> int:
        """Write the rows whose key is new, as one shard; returns how many were. Equal keys count once."""
        schema = SCHEMAS[kind]
        key = next(iter(schema))
        unique = {row[key]: row for row in reversed(rows)}
        known = self.known(kind, unique)
        fresh = [row for row in rows if row[key] not in known and unique.pop(row[key], None) is not None]
        if not fresh:
            return 0
        folder = self.root / kind / (f"round={round:03d}" if kind in _BY_ROUND else "")
        name = f"part-{uuid.uuid4().hex}.parquet"
        # By column, which is several times faster than by row.
        frame = pl.DataFrame({name: [row[name] for row in fresh] for name in schema}, schema=schema)
        shard = str((folder / name).relative_to(self.root))
        _write_whole(frame, folder / name)
        with self._db.transaction() as connection:
            position = sql.select(sql.func.coalesce(sql.func.max(db.shards.c.position), 0) + 1).scalar_subquery()
            values = {"name": shard, "kind": kind, "round": round, "num_rows": len(fresh), "position": position}
            connection.execute(sql.insert(db.shards).values(**values))
            connection.execute(sql.insert(db.keys), [{"kind": kind, "key": row[key], "shard": shard} for row in fresh])
        return len(fresh)

    def rows(self, kind: str, keys: Iterable[str]) -> pl.DataFrame:
        """The committed rows with these keys; only the shards that hold them are opened."""
        wanted = list(keys)
        names: set[str] = set()
        with self._db.transaction() as connection:
            for start in range(0, len(wanted), 500):
                some = db.keys.c.key.in_(wanted[start : start + 500])
                names.update(
                    connection.execute(
                        sql.select(db.keys.c.shard).where(db.keys.c.kind == kind, some).distinct()
                    ).scalars()
                )
        return self._scan(kind, sorted(names), pl.col(next(iter(SCHEMAS[kind]))).is_in(wanted))

    def known(self, kind: str, keys: Iterable[str]) -> set[str]:
        """Which of these keys are committed."""
        wanted = list(keys)
        found: set[str] = set()
        with self._db.transaction() as connection:
            for start in range(0, len(wanted), 500):
                query = sql.select(db.keys.c.key).where(
                    db.keys.c.kind == kind, db.keys.c.key.in_(wanted[start : start + 500])
                )
                found.update(connection.execute(query).scalars())
        return found

    def read(
        self,
        kind: str,
        *,
        round: int | None = None,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """Committed rows, in the order of their shards' commits: of a round, these columns, where this holds."""
        query = (
            sql.select(db.shards.c.name)
            .where(db.shards.c.kind == kind)
            .order_by(db.shards.c.position, db.shards.c.name)
        )
        if round is not None:
            query = query.where(db.shards.c.round == round)
        if self.until is not None:
            query = query.where(db.shards.c.position <= self.until)
        with self._db.transaction() as connection:
            names = list(connection.execute(query).scalars())
        return self._scan(kind, names, where, columns)

    def files(self, kind: str, *, round: int | None = None) -> list[Path]:
        """The committed shards, in the order of their commits: for one pass over more rows than memory holds."""
        query = (
            sql.select(db.shards.c.name)
            .where(db.shards.c.kind == kind)
            .order_by(db.shards.c.position, db.shards.c.name)
        )
        if round is not None:
            query = query.where(db.shards.c.round == round)
        with self._db.transaction() as connection:
            return [self.root / name for name in connection.execute(query).scalars()]

    def _scan(
        self, kind: str, names: Sequence[str], where: pl.Expr | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        schema = pl.Schema(SCHEMAS[kind])
        wanted = list(schema) if columns is None else list(columns)
        if not names:
            return pl.DataFrame(schema=schema).select(wanted)
        try:
            # One scan over all shards: thousands of single reads would spend the time on opening files.
            frames = pl.scan_parquet(
                [self.root / name for name in names], hive_partitioning=False, schema=schema, missing_columns="insert"
            )
            frames = frames.with_columns(old.alias(name) for name, old in _BEFORE.get(kind, {}).items())
            if where is not None:
                frames = frames.filter(where)
            return frames.select(wanted).collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BorderError(
                f"{self.root / kind}: a committed shard is missing or damaged ({error}). Restore it from a backup."
            ) from error

    def remove(self, what: Mapping[str, pl.Expr]) -> dict[str, int]:
        """Remove rows (kind -> which) for good; returns how many of each kind. A shard is written anew without them and takes the old one's place in one
        transaction, and only then the old file goes: killed between, the rows are all there or all gone. Only the holder of the lock may call it."""
        removed = {}
        for kind, which in what.items():
            with self._db.transaction() as connection:
                rows = connection.execute(sql.select(db.shards).where(db.shards.c.kind == kind)).mappings().all()
            removed[kind] = sum(self._without(kind, dict(row), which) for row in rows)
        return removed

    def _without(self, kind: str, row: dict[str, Any], which: pl.Expr) -> int:
        key = next(iter(SCHEMAS[kind]))
        frame = self._scan(kind, [row["name"]])
        gone = frame.filter(which)
        if gone.is_empty():
            return 0
        kept = frame.filter(~which)
        name = str(Path(row["name"]).parent / f"part-{uuid.uuid4().hex}.parquet")
        if kept.height:
            _write_whole(kept, self.root / name)
        with self._db.transaction() as connection:
            connection.execute(sql.delete(db.shards).where(db.shards.c.name == row["name"]))
            ids = gone[key].to_list()
            for start in range(0, len(ids), 500):
                mine = (db.keys.c.kind == kind) & db.keys.c.key.in_(ids[start : start + 500])
                connection.execute(sql.delete(db.keys).where(mine))
            if kept.height:
                connection.execute(sql.insert(db.shards).values(**{**row, "name": name, "num_rows": kept.height}))
                connection.execute(sql.update(db.keys).where(db.keys.c.shard == row["name"]).values(shard=name))
        (self.root / row["name"]).unlink(missing_ok=True)
        return gone.height

    def sweep(self) -> int:
        """Remove files that no commit names (a killed writer's); only the holder of the workspace's lock may call it."""
        with self._db.transaction() as connection:
            committed = set(connection.execute(sql.select(db.shards.c.name)).scalars())
        removed = 0
        for kind in SCHEMAS:
            for path in (self.root / kind).rglob("part-*"):
                if path.is_file() and str(path.relative_to(self.root)) not in committed:
                    path.unlink()
                    removed += 1
        return removed


def _write_whole(frame: pl.DataFrame, path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        mend = (
            "Free space on the disk and run the same command; nothing written before is lost."
            if full
            else "Check the folder."
        )
        raise BorderError(f"{path}: can't write ({error}). {mend}") from error


def sync_folder(folder: Path) -> None:
    """Make renames in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
