"""A workspace: one folder with the records, the database, the caches, the models and the reports of a corpus."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core import config as configuration
from flywheel.core.errors import UserError
from flywheel.core.types import (
    CAPTION,
    LEARN,
    MEASURE,
    Annotation,
    Clip,
    Correction,
    Cue,
    Generation,
    NoiseSignal,
    Stage,
    content_id,
    form_of,
)
from flywheel.store import database as db
from flywheel.store.cache import FrameCache
from flywheel.store.records import Records

_GIB = 1 << 30
#: Values that a query names one by one; for more the whole table is read.
_FEW = 500


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A round's data as it was: shards up to ``position``, the corrections of that time, and ``values`` that may have changed since."""

    round: int
    position: int
    corrections_sha256: str
    values: dict[str, Any]


class Workspace:
    """Open one with :meth:`open`; writing needs the lock, which one process holds at a time (``with workspace.lock():``)."""

    def __init__(self, root: Path, config: configuration.Config, database: db.Database) -> None:
        self.root = root
        self.config = config
        self.database = database
        self.records = Records(root, database)
        #: What this view of the workspace is frozen at; None is now.
        self.snapshot: Snapshot | None = None
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
                    f"{self.root}: in use by another flywheel process (pid {holder}). Wait for it to end, or stop it.",
                    code="busy",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            with self.database.exclusive() as alone:
                if not alone:
                    raise UserError(
                        f"{self.root}: in use by a flywheel process on another machine. Wait for it to end, or stop it.",
                        code="busy",
                    )
                self.records.sweep()
                yield self
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether another process holds the workspace for writing now."""
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        with self.database.exclusive() as alone:
            return not alone

    # Readers. Each returns a polars frame, empty with the right columns where there is nothing.

    def clips(self, split: str | None = None) -> pl.DataFrame:
        """All clips, ``uri`` being where the file was last seen."""
        frame = self._located(self.records.read("clips"))
        return frame if split is None else frame.filter(pl.col("split") == split)

    def _clips_at(self, uris: list[str]) -> pl.DataFrame:
        """``content_hash`` and ``uri`` of all clips that may lie at these places now."""
        columns = ("content_hash", "uri")
        if len(uris) > _FEW:
            return self._located(self.records.read("clips", columns=columns))
        query = sql.select(db.locations.c.content_hash).where(db.locations.c.uri.in_(uris))
        with self.database.transaction() as connection:
            hashes = list(connection.execute(query).scalars())
        where = pl.col("uri").is_in(uris) | pl.col("content_hash").is_in(hashes)
        return self._located(self.records.read("clips", columns=columns, where=where))

    def clip_rows(self, ids: Iterable[str]) -> pl.DataFrame:
        """The clips with these ids, ``uri`` being where the file was last seen; only their shards are opened."""
        return self._located(self.records.rows("clips", ids))

    def _located(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of clips with the place where their content (``content_hash``) was last seen as ``uri``."""
        query = sql.select(db.locations)
        if frame.height <= _FEW:
            query = query.where(db.locations.c.content_hash.in_(frame.get_column("content_hash").unique().to_list()))
        with self.database.transaction() as connection:
            moved = [tuple(row) for row in connection.execute(query)]
        seen = pl.DataFrame(moved, schema={"content_hash": pl.String, "seen": pl.String}, orient="row")
        frame = frame.join(seen, on="content_hash", how="left", maintain_order="left")
        return frame.with_columns(uri=pl.coalesce("seen", "uri")).drop("seen")

    def generations(self) -> pl.DataFrame:
        return self.records.read("generations")

    def annotations(
        self, round: int | None = None, kind: str | None = None, purpose: str | None = None
    ) -> pl.DataFrame:
        """Texts of a round or of all rounds, by kind (``caption``, …) and purpose (``learn``, ``measure``).

        With neither, all; a kind alone means those to learn from.
        """
        if kind == "evaluation":
            # What captions that measure were called before texts had a purpose.
            kind, purpose = CAPTION, MEASURE
        if kind is not None and purpose is None:
            purpose = LEARN
        frame = self.records.read("annotations", round=round)
        if kind is not None:
            frame = frame.filter(pl.col("kind") == kind)
        return frame if purpose is None else frame.filter(pl.col("purpose") == purpose)

    def rejected(self, round: int | None = None, *, open_only: bool = False) -> pl.DataFrame:
        """Rows that failed, with stage and reason. An open reject is one without a later success."""
        frame = self.records.read("rejected", round=round)
        if not open_only or frame.is_empty():
            return frame
        failed = frame.get_column("clip_id").unique().implode()
        written = (
            self.records.read(
                "annotations", columns=("clip_id", "round", "kind", "purpose"), where=pl.col("clip_id").is_in(failed)
            )
            .with_columns(stage=pl.lit("annotate"))
            .unique()
        )
        clips = self._clips_at(frame.filter(pl.col("stage") == "ingest").get_column("uri").unique().to_list())
        clips = clips.select("uri").with_columns(stage=pl.lit("ingest")).unique()
        frame = frame.join(written, on=["clip_id", "round", "stage", "kind", "purpose"], how="anti")
        return frame.join(clips, on=["uri", "stage"], how="anti").unique(
            ["uri", "clip_id", "stage", "round", "kind", "purpose"], keep="last", maintain_order=True
        )

    def corrections(self) -> pl.DataFrame:
        if self.snapshot is not None:
            return pl.read_parquet(self._snapshot_file(self.snapshot.round))
        with self.database.transaction() as connection:
            rows = connection.execute(
                sql.select(db.corrections).order_by(db.corrections.c.at, db.corrections.c.id)
            ).mappings()
            schema = {c.name: pl.Float64 if c.name == "seconds" else pl.String for c in db.corrections.columns}
            return pl.DataFrame([dict(row) for row in rows], schema=schema)

    def num_corrections(self) -> int:
        """Rows of corrections, whatever they say."""
        with self.database.transaction() as connection:
            return int(connection.execute(sql.select(sql.func.count()).select_from(db.corrections)).scalar_one())

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

    def add_rejected(
        self,
        *,
        round: int,
        stage: Stage,
        uri: str,
        clip_id: str,
        reason: str,
        kind: str = CAPTION,
        purpose: str = LEARN,
    ) -> int:
        """The same failure of the same thing is one row, however often it is met."""
        kind, purpose = (kind, purpose) if stage == "annotate" else ("", "")
        form = [form_of(kind, purpose)] if (kind, purpose) not in (("", ""), (CAPTION, LEARN)) else []
        row = {
            "id": content_id(round, stage, uri, clip_id, reason, *form), "round": round, "uri": uri, "clip_id": clip_id,
            "stage": stage, "reason": reason, "at": datetime.now(UTC).isoformat(timespec="seconds"), "kind": kind, "purpose": purpose,
        }  # fmt: skip
        return self.records.append("rejected", [row], round=round)

    def add_corrections(self, corrections: Sequence[Correction]) -> int:
        """Insert all that are new, in one transaction; returns how many were."""
        rows = [{**asdict(c), "at": c.at.astimezone(UTC).isoformat()} for c in corrections]
        with self.database.transaction() as connection:
            return self.database.insert_new(connection, db.corrections, rows)

    # What went out, and what must not come in.

    def taken_down(self) -> dict[str, str]:
        """Clip id -> why it was taken down."""
        with self.database.transaction() as connection:
            return {row.clip_id: row.reason for row in connection.execute(sql.select(db.takedowns))}

    def forget_corrections(self, clip_ids: Iterable[str]) -> int:
        """Remove what people said of these clips, from the snapshots too; returns how many rows of today went."""
        ids = sorted(clip_ids)
        with self.database.transaction() as connection:
            mine = sql.select(db.corrections.c.annotation_id).where(db.corrections.c.clip_id.in_(ids))
            for key in set(connection.execute(mine).scalars()):
                connection.execute(sql.delete(db.leases).where(db.leases.c.annotation_id.startswith(key)))
            count = connection.execute(sql.delete(db.corrections).where(db.corrections.c.clip_id.in_(ids))).rowcount
            connection.execute(sql.delete(db.gold).where(db.gold.c.clip_id.in_(ids)))
        for round in self.rounds():
            if (known := self.frozen(round)) is None:
                continue
            file = self._snapshot_file(round)
            frame = pl.read_parquet(file)
            kept = frame.filter(~pl.col("clip_id").is_in(ids))
            gold = {c: t for c, t in known.values.get("gold", {}).items() if c not in ids}
            if kept.height == frame.height and gold == known.values.get("gold", {}):
                continue
            temporary = file.with_suffix(".tmp")
            kept.write_parquet(temporary)
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            # The hash first: killed between, the file still holds the rows, so that the same takedown again finds and removes them.
            self.set_meta(
                f"snapshot:{round}",
                json.dumps({**asdict(known), "corrections_sha256": digest, "values": {**known.values, "gold": gold}}),
            )
            temporary.replace(file)
        return int(count)

    def add_export(self, out: Path, round: int, clip_ids: Iterable[str]) -> None:
        """Remember a dataset that was taken away, for the day when one of its clips must go."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self.database.transaction() as connection:
            connection.execute(sql.delete(db.exports).where(db.exports.c.out == str(out)))
            connection.execute(
                sql.insert(db.exports).values(out=str(out), at=at, round=round, clips=json.dumps(sorted(clip_ids)))
            )

    def forget_export(self, out: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(sql.delete(db.exports).where(db.exports.c.out == out))

    def exports(self) -> list[dict[str, Any]]:
        with self.database.transaction() as connection:
            rows = connection.execute(sql.select(db.exports).order_by(db.exports.c.at)).mappings().all()
        return [{**row, "clips": json.loads(row["clips"])} for row in rows]

    # Rounds and their stages.

    def stage(self, round: int, stage: Stage) -> tuple[str, dict[str, Any]]:
        """(state, result) of a stage; ("pending", {}) where it never began."""
        query = sql.select(db.stages.c.state, db.stages.c.result).where(
            db.stages.c.round == round, db.stages.c.stage == stage
        )
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
            rows = connection.execute(
                sql.select(db.stages.c.stage, db.stages.c.seconds).where(db.stages.c.round == round)
            )
            return {row.stage: row.seconds for row in rows}

    def money(self, round: int) -> float:
        """What a round's texts of all kinds cost so far."""
        query = sql.select(db.meta.c.value).where(db.meta.c.key.like(f"cost:{round}:%"))
        with self.database.transaction() as connection:
            return sum(float(json.loads(raw).get("money", 0.0)) for raw in connection.execute(query).scalars())

    def rounds(self) -> list[int]:
        """Rounds that began, in order."""
        with self.database.transaction() as connection:
            return list(
                connection.execute(sql.select(db.stages.c.round).distinct().order_by(db.stages.c.round)).scalars()
            )

    # Champions: a row for each change, none is ever changed. The newest says who is in force, so that a kill leaves the old one or the new one.

    def champions(self) -> list[dict[str, Any]]:
        """Every promotion and rollback, oldest first: ``round``, ``action``, ``reason``, ``at``, and what the champion consists of."""
        with self.database.transaction() as connection:
            rows = connection.execute(sql.select(db.champions).order_by(db.champions.c.id)).mappings().all()
        return [
            {**{k: v for k, v in row.items() if k not in ("id", "details")}, **json.loads(row["details"])}
            for row in rows
        ]

    def lineage(self) -> list[int]:
        """The champions that rollbacks would go back through, from the base (0) to the one in force."""
        stack = [0]
        for row in self.champions():
            # Going back to one that was champion takes away those that came after it.
            stack = stack[: stack.index(row["round"]) + 1] if row["round"] in stack else [*stack, row["round"]]
        return stack

    def retired(self) -> frozenset[int]:
        """Rounds whose models were champions and were taken back: what they wrote is no longer used."""
        if self.snapshot is not None:
            return frozenset(self.snapshot.values["retired"])
        return frozenset(row["round"] for row in self.champions()) - frozenset(self.lineage())

    def champion(self) -> int:
        """The round whose model is in force; 0 is the base."""
        if self.snapshot is not None:
            return self.snapshot.round
        with self.database.transaction() as connection:
            found = connection.execute(
                sql.select(db.champions.c.round).order_by(db.champions.c.id.desc()).limit(1)
            ).scalar()
        return int(found) if found is not None else 0

    def promote(
        self, round: int, reason: str, *, action: str = "promote", details: Mapping[str, Any] | None = None
    ) -> None:
        """Put a round's model in force: one row, so whoever reads sees the champion before or after."""
        with self.database.transaction() as connection:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            values = {
                "round": round,
                "reason": reason,
                "at": at,
                "action": action,
                "details": json.dumps(dict(details or {})),
            }
            connection.execute(sql.insert(db.champions).values(**values))

    # A round's data as it was.

    def freeze(self, round: int, values: Mapping[str, Any]) -> Snapshot:
        """Keep what a round's data is now: how far the records go, and a copy of the corrections; ``values`` are other things that may change.
        A round that is frozen already stays as it is. The caller holds the lock."""
        if (known := self.frozen(round)) is not None:
            return known
        with self.database.transaction() as connection:
            position = int(
                connection.execute(sql.select(sql.func.coalesce(sql.func.max(db.shards.c.position), 0))).scalar_one()
            )
        file = self._snapshot_file(round)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        self.corrections().write_parquet(temporary)
        temporary.replace(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found = Snapshot(round=round, position=position, corrections_sha256=digest, values=dict(values))
        self.set_meta(f"snapshot:{round}", json.dumps(asdict(found)))
        return found

    def frozen(self, round: int) -> Snapshot | None:
        raw = self.meta(f"snapshot:{round}")
        return Snapshot(**json.loads(raw)) if raw is not None else None

    def as_of(self, round: int) -> Workspace:
        """The workspace as it was when a round came to its gate, for reading. Raises UserError for a round that never did, and where its copy of
        the corrections is gone or changed."""
        found = self.frozen(round)
        if found is None:
            raise UserError(f"round {round}: never came to its gate, so there is no data of it as it was.")
        file = self._snapshot_file(round)
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != found.corrections_sha256:
            raise UserError(f"{file}: is gone or changed. Restore it from a backup.")
        view = Workspace(self.root, self.config, self.database)
        view.snapshot, view.records.until = found, found.position
        return view

    def _snapshot_file(self, round: int) -> Path:
        return self.root / "snapshots" / f"round={round:03d}" / "corrections.parquet"

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
