"""A workspace: one folder with the records, the database, the caches, the models and the reports of a corpus."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core import config as configuration
from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Clip, Correction, Cue, Generation, NoiseSignal, Stage, content_id
from flywheel.store import database as db
from flywheel.store.cache import FrameCache
from flywheel.store.records import Records

_GIB = 1 << 30


class Workspace:
    """Open one with :meth:`open`; writing needs the lock, which one process holds at a time (``with workspace.lock():``)."""

    def __init__(self, root: Path, config: configuration.Config, database: db.Database) -> None:
        self.root = root
        self.config = config
        self.database = database
        self.records = Records(root, database)
        self.cache = FrameCache(root / "cache" / "frames", int(config.corpus.cache_gib * _GIB))

    @classmethod
    def open(cls, path: str | Path, overrides: list[str] | None = None) -> Workspace:
        """Open a workspace folder or its ``flywheel.yaml``. Raises UserError where there is none."""
        root = Path(path)
        file = root / configuration.FILE_NAME if root.is_dir() else root
        config = configuration.load_config(file, overrides)
        root = file.parent.resolve()
        local = root / "flywheel.db"
        if not config.store.database:
            workspace = cls(root, config, db.Database(db.sqlite_url(local)))
            if moved := workspace.meta(db.MOVED_TO):
                raise UserError(f"{local}: was moved to {moved}. Write store.database: {moved} into {file.name}.")
            return workspace
        workspace = cls(root, config, db.Database(os.path.expandvars(config.store.database)))
        workspace._belongs(local)
        return workspace

    def _belongs(self, local: Path) -> None:
        """That a database elsewhere is this folder's: with another's every record would be missing, or another corpus' be here."""
        mark = self.root / ".workspace"
        known = self.meta("workspace")
        if known is None:
            if local.exists() and not db.Database(db.sqlite_url(local)).is_empty():
                raise UserError(
                    f"store.database: {self.database.name} is empty, and {local} is not. Take its rows along with 'flywheel move-database URL'."
                )
            known = uuid.uuid4().hex
            self.set_meta("workspace", known)
            mark.write_text(known)
        if not mark.exists() or mark.read_text().strip() != known:
            raise UserError(
                f"store.database: {self.database.name} belongs to another workspace than {self.root}. Give each a database of its own."
            )

    def move_database(self, url: str) -> int:
        """Take all rows over to an empty database, and leave a mark in this one; returns how many. The caller holds the lock."""
        other = db.Database(os.path.expandvars(url))
        count = self.database.copy_to(other)
        there = Workspace(self.root, self.config, other)
        known = uuid.uuid4().hex
        (self.root / ".workspace").write_text(known)
        there.set_meta("workspace", known)
        self.set_meta(db.MOVED_TO, sql.make_url(url).render_as_string(hide_password=True))
        other.close()
        return count

    @classmethod
    def create(cls, folder: Path, text: str) -> Path:
        """Write a config into a folder that has none; returns its path."""
        file = folder / configuration.FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(file, "x", encoding="utf-8") as out:
                out.write(text)
        except FileExistsError as error:
            raise UserError(f"{file}: exists already. Edit it, or name another folder.") from error
        except OSError as error:
            raise UserError(f"{folder}: can't be written ({error.strerror}).") from error
        return file

    @contextlib.contextmanager
    def lock(self) -> Iterator[Workspace]:
        """Hold the workspace for writing; sweeps what a killed writer left. Raises UserError while another process holds it."""
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise UserError(
                    f"{self.root}: in use by another flywheel process (pid {holder}). Wait for it to end, or stop it."
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            with self.database.exclusive() as alone:
                if not alone:
                    raise UserError(
                        f"{self.root}: in use by a flywheel process on another machine. Wait for it to end, or stop it."
                    )
                self.records.sweep()
                yield self
        finally:
            os.close(descriptor)

    # Readers. Each returns a polars frame, empty with the right columns where there is nothing.

    def clips(self, split: str | None = None) -> pl.DataFrame:
        """All clips, ``uri`` being where the file was last seen."""
        frame = self.records.read("clips")
        with self.database.transaction() as connection:
            moved = [tuple(row) for row in connection.execute(sql.select(db.locations))]
        seen = pl.DataFrame(moved, schema={"content_hash": pl.String, "seen": pl.String}, orient="row")
        frame = frame.join(seen, on="content_hash", how="left", maintain_order="left")
        frame = frame.with_columns(uri=pl.coalesce("seen", "uri")).drop("seen")
        return frame if split is None else frame.filter(pl.col("split") == split)

    def generations(self) -> pl.DataFrame:
        return self.records.read("generations")

    def annotations(self, round: int | None = None, kind: str | None = None) -> pl.DataFrame:
        frame = self.records.read("annotations", round=round)
        return frame if kind is None else frame.filter(pl.col("kind") == kind)

    def rejected(self, round: int | None = None, *, open_only: bool = False) -> pl.DataFrame:
        """Rows that failed, with stage and reason. An open reject is one without a later success."""
        frame = self.records.read("rejected", round=round)
        if not open_only or frame.is_empty():
            return frame
        written = self.annotations().select("clip_id", "round", "kind").with_columns(stage=pl.lit("annotate")).unique()
        clips = self.clips().select("uri").with_columns(stage=pl.lit("ingest")).unique()
        frame = frame.join(written, on=["clip_id", "round", "stage", "kind"], how="anti")
        return frame.join(clips, on=["uri", "stage"], how="anti").unique(
            ["uri", "clip_id", "stage", "round", "kind"], keep="last", maintain_order=True
        )

    def corrections(self) -> pl.DataFrame:
        with self.database.transaction() as connection:
            rows = connection.execute(sql.select(db.corrections).order_by(db.corrections.c.at, db.corrections.c.id)).mappings()
            schema = {c.name: pl.Float64 if c.name == "seconds" else pl.String for c in db.corrections.columns}
            return pl.DataFrame([dict(row) for row in rows], schema=schema)

    def correction_records(self) -> list[Correction]:
        return [Correction(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in self.corrections().to_dicts()]

    # Writers; the caller holds the lock.

    def add_clips(self, clips: Iterable[Clip]) -> int:
        return self.records.append("clips", [asdict(clip) for clip in clips])

    def known_contents(self) -> set[str]:
        """Content hashes of the files that gave clips."""
        return set(self.records.read("clips").get_column("content_hash"))

    def locate(self, places: Mapping[str, str]) -> None:
        """Remember where contents (hash -> path) lie now, except where a place that still exists is known."""
        with self.database.transaction() as connection:
            known = {row.content_hash: row.uri for row in connection.execute(sql.select(db.locations))}
            new = [{"content_hash": h, "uri": uri} for h, uri in places.items() if h not in known]
            if new:
                connection.execute(sql.insert(db.locations), new)
            for content_hash, uri in places.items():
                if content_hash in known and known[content_hash] != uri and not Path(known[content_hash]).exists():
                    where = db.locations.c.content_hash == content_hash
                    connection.execute(sql.update(db.locations).where(where).values(uri=uri))

    def add_generations(self, generations: Iterable[Generation]) -> int:
        return self.records.append("generations", [dict(vars(generation)) for generation in generations])

    def add_annotations(self, annotations: Sequence[Annotation], round: int) -> int:
        return self.records.append("annotations", [dict(vars(a)) for a in annotations], round=round)

    def add_noise_signals(self, signals: Sequence[NoiseSignal], round: int) -> int:
        rows = [{"id": content_id(round, s.annotation_id, s.origin), "round": round, **asdict(s)} for s in signals]
        return self.records.append("noise_signals", rows, round=round)

    def add_examples(self, rows: Sequence[dict[str, Any]], round: int) -> int:
        """What a stage of the round learned from; rows as :data:`flywheel.store.records.SCHEMAS` has them, ids are made here."""
        keyed = [{**row, "round": round, "id": content_id(round, *row.values())} for row in rows]
        return self.records.append("examples", keyed, round=round)

    def examples(self, round: int | None = None) -> pl.DataFrame:
        """What rounds learned from: a row for each text and stage, with the corrections that it stands on."""
        return self.records.read("examples", round=round)

    def add_rejected(self, *, round: int, stage: Stage, uri: str, clip_id: str, reason: str, kind: str = "caption") -> int:
        """The same failure of the same thing is one row, however often it is met."""
        kind = kind if stage == "annotate" else ""
        row = {
            "id": content_id(round, stage, uri, clip_id, reason, *([] if kind in ("", "caption") else [kind])), "round": round, "uri": uri, "clip_id": clip_id,
            "stage": stage, "reason": reason, "at": datetime.now(UTC).isoformat(timespec="seconds"), "kind": kind,
        }  # fmt: skip
        return self.records.append("rejected", [row], round=round)

    def add_corrections(self, corrections: Sequence[Correction]) -> int:
        """Insert all that are new, in one transaction; returns how many were."""
        rows = [{**asdict(c), "at": c.at.astimezone(UTC).isoformat()} for c in corrections]
        with self.database.transaction() as connection:
            return self.database.insert_new(connection, db.corrections, rows)

    # Rounds and their stages.

    def stage(self, round: int, stage: Stage) -> tuple[str, dict[str, Any]]:
        """(state, result) of a stage; ("pending", {}) where it never began."""
        query = sql.select(db.stages.c.state, db.stages.c.result).where(db.stages.c.round == round, db.stages.c.stage == stage)
        with self.database.transaction() as connection:
            row = connection.execute(query).first()
        return (row.state, json.loads(row.result)) if row else ("pending", {})

    def set_stage(self, round: int, stage: Stage, state: str, result: dict[str, Any], seconds: float = 0.0) -> None:
        """Record a stage's state. Seconds add up over interrupted tries."""
        with self.database.transaction() as connection:
            where = (db.stages.c.round == round, db.stages.c.stage == stage)
            before = connection.execute(sql.select(db.stages.c.seconds).where(*where)).scalar()
            values = {"state": state, "result": json.dumps(result), "seconds": (before or 0.0) + seconds}
            if before is None:
                connection.execute(sql.insert(db.stages).values(round=round, stage=stage, **values))
            else:
                connection.execute(sql.update(db.stages).where(*where).values(**values))

    def stages_s(self, round: int) -> dict[str, float]:
        with self.database.transaction() as connection:
            rows = connection.execute(sql.select(db.stages.c.stage, db.stages.c.seconds).where(db.stages.c.round == round))
            return {row.stage: row.seconds for row in rows}

    def rounds(self) -> list[int]:
        """Rounds that began, in order."""
        with self.database.transaction() as connection:
            return list(connection.execute(sql.select(db.stages.c.round).distinct().order_by(db.stages.c.round)).scalars())

    def champion(self) -> int:
        """The round whose model is in force; 0 is the base."""
        with self.database.transaction() as connection:
            found = connection.execute(sql.select(db.champions.c.round).order_by(db.champions.c.id.desc()).limit(1)).scalar()
        return int(found) if found is not None else 0

    def promote(self, round: int, reason: str) -> None:
        with self.database.transaction() as connection:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            connection.execute(sql.insert(db.champions).values(round=round, reason=reason, at=at))

    # Places.

    def model_folder(self, round: int) -> Path:
        return self.root / "models" / f"round={round:03d}"

    def report_folder(self, round: int) -> Path:
        return self.root / "reports" / f"round={round:03d}"

    def meta(self, key: str) -> str | None:
        with self.database.transaction() as connection:
            found = connection.execute(sql.select(db.meta.c.value).where(db.meta.c.key == key)).scalar()
        return None if found is None else str(found)

    def set_meta(self, key: str, value: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(sql.delete(db.meta).where(db.meta.c.key == key))
            connection.execute(sql.insert(db.meta).values(key=key, value=value))


def clip_of(row: dict[str, Any]) -> Clip:
    return Clip(**{**row, "cues": tuple(Cue(**cue) for cue in row["cues"])})


def annotation_of(row: dict[str, Any]) -> Annotation:
    return Annotation(**row)
