"""What is on record of rounds: their stages, costs, looks, snapshots, champions and exports."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from flywheel.core.types import LEARN
from flywheel.store import schema
from flywheel.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A round's data as it was at its gate.

    ``position`` is the last commit of records. ``corrections_sha256`` is the hash of the copy of the corrections. The
    other fields are what may have changed since: names of lead refiners, gold texts by clip, names of excluded
    refiners, rounds whose models were taken back, and of each round that had begun the one whose model wrote its texts;
    ``changes`` is the number of the last change of the database, up to which choices between texts go.
    """

    round: int
    position: int
    corrections_sha256: str
    leads: tuple[str, ...] = ()
    gold: Mapping[str, str]
    excluded: tuple[str, ...] = ()
    retired: tuple[int, ...] = ()
    writers: Mapping[int, int | None]
    changes: int = 0


#: Fields of a snapshot that have a column of their own; the others are one JSON cell.
_COLUMNS = ("round", "position", "corrections_sha256")


class Ledger:
    """Rounds and what came of them. Only the holder of the workspace's lock writes here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Rounds and their stages.

    def rounds(self) -> list[int]:
        """Rounds that began, in order."""
        column = schema.stages.c.round
        with self._db.transaction() as connection:
            return list(connection.execute(sql.select(column).distinct().order_by(column)).scalars())

    def begin_round(self, round: int, stages: Sequence[str]) -> None:
        """Record the stages that a round goes through, in order. A round that began keeps those it began with."""
        row = {"round": round, "stages": json.dumps(list(stages)), "began_at": _now()}
        with self._db.change() as (connection, _):
            self._db.insert_new(connection, schema.rounds, [row])

    def order(self, round: int) -> tuple[str, ...] | None:
        """The stages that a round goes through, in order; None for one that never began."""
        query = sql.select(schema.rounds.c.stages).where(schema.rounds.c.round == round)
        with self._db.transaction() as connection:
            text = connection.execute(query).scalar()
        return None if text is None else tuple(json.loads(text))

    def stage(self, round: int, stage: str) -> tuple[str, dict[str, Any]]:
        """(state, result) of a stage; ("pending", {}) where it never began."""
        query = sql.select(schema.stages.c.state, schema.stages.c.result).where(
            schema.stages.c.round == round, schema.stages.c.stage == stage
        )
        with self._db.transaction() as connection:
            row = connection.execute(query).first()
        return (row.state, json.loads(row.result)) if row else ("pending", {})

    def set_stage(self, round: int, stage: str, state: str, result: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Record a stage's state and result. Seconds add up over interrupted tries."""
        where = (schema.stages.c.round == round, schema.stages.c.stage == stage)
        with self._db.change() as (connection, _):
            before = connection.execute(sql.select(schema.stages.c.seconds).where(*where)).scalar() or 0.0
            values = {"state": state, "result": json.dumps(dict(result)), "seconds": before + seconds}
            self._db.replace(connection, schema.stages, {"round": round, "stage": stage, **values})

    def stages_s(self, round: int) -> dict[str, float]:
        """Stages of a round that began -> seconds they took so far."""
        query = sql.select(schema.stages.c.stage, schema.stages.c.seconds).where(schema.stages.c.round == round)
        with self._db.transaction() as connection:
            return dict(connection.execute(query).all())

    def count_retry(self, round: int) -> int:
        """Count one more try of a round's rejected clips; returns which it is, 1 for the first."""
        retry = int(self.meta(f"retries:{round}") or 0) + 1
        self.set_meta(f"retries:{round}", str(retry))
        return retry

    def writers(self) -> dict[int, int | None]:
        """Rounds that began -> the round whose model wrote their texts; None where none did yet."""
        query = sql.select(schema.stages.c.round, schema.stages.c.result).where(schema.stages.c.stage == "annotate")
        writers: dict[int, int | None] = dict.fromkeys(self.rounds())
        with self._db.transaction() as connection:
            writers |= {row.round: json.loads(row.result).get("by") for row in connection.execute(query)}
        return writers

    # Costs.

    def cost(self, round: int, kind: str, purpose: str = LEARN) -> dict[str, float]:
        """Sums over all passes that wrote a round's texts of a kind and purpose; empty before the first."""
        where = _columns(schema.costs, round=round, kind=kind, purpose=purpose)
        with self._db.transaction() as connection:
            text = connection.execute(sql.select(schema.costs.c.figures).where(*where)).scalar()
        return dict(json.loads(text)) if text is not None else {}

    def costs(self, round: int, purpose: str) -> dict[str, float]:
        """Sums over all passes that wrote a round's texts of this purpose, of whichever kind."""
        where = _columns(schema.costs, round=round, purpose=purpose)
        sums: dict[str, float] = {}
        with self._db.transaction() as connection:
            for text in connection.execute(sql.select(schema.costs.c.figures).where(*where)).scalars():
                figures = json.loads(text)
                sums |= {name: sums.get(name, 0) + value for name, value in figures.items()}
        return sums

    def add_cost(self, round: int, kind: str, purpose: str, figures: Mapping[str, float]) -> None:
        """Add to the sums on record: of processes that add at once none is forgotten."""
        where = _columns(schema.costs, round=round, kind=kind, purpose=purpose)
        with self._db.change() as (connection, _):
            text = connection.execute(sql.select(schema.costs.c.figures).where(*where)).scalar()
            sums = dict(json.loads(text)) if text is not None else {}
            sums |= {name: sums.get(name, 0) + value for name, value in figures.items()}
            row = {"round": round, "kind": kind, "purpose": purpose, "figures": json.dumps(sums)}
            self._db.replace(connection, schema.costs, row)

    def money(self, round: int) -> float:
        """What a round's texts of all kinds cost so far."""
        query = sql.select(schema.costs.c.figures).where(schema.costs.c.round == round)
        with self._db.transaction() as connection:
            figures = connection.execute(query).scalars().all()
        return sum(float(json.loads(text).get("money", 0.0)) for text in figures)

    # Looks: every comparison of a candidate with a champion spends some of the gate's budget of errors.

    def looks(self, champion: int) -> list[tuple[int, str]]:
        """The looks at this champion's place, oldest first: the candidate's round, and the digest of the scores."""
        looks = schema.looks
        query = sql.select(looks.c.round, looks.c.digest).where(looks.c.champion == champion).order_by(looks.c.number)
        with self._db.transaction() as connection:
            return list(connection.execute(query).all())

    def add_look(self, champion: int, round: int, digest: str) -> int:
        """Record a look; returns its number, from 1. The same look again has the same number."""
        looks = self.looks(champion)
        if (round, digest) in looks:
            return looks.index((round, digest)) + 1
        row = {"champion": champion, "number": len(looks) + 1, "round": round, "digest": digest}
        with self._db.change() as (connection, _):
            connection.execute(sql.insert(schema.looks).values(row))
        return len(looks) + 1

    # Champions: a row for each change, none is ever changed. A kill leaves the old one in force, or the new one.

    def champions(self) -> list[dict[str, Any]]:
        """Every promotion and rollback, oldest first: round, action, reason, time, and what makes up the champion."""
        with self._db.transaction() as connection:
            query = sql.select(schema.champions).order_by(schema.champions.c.id)
            rows = connection.execute(query).mappings().all()
        return [
            {name: value for name, value in row.items() if name not in ("id", "details")} | json.loads(row["details"])
            for row in rows
        ]

    def champion(self) -> int:
        """The round whose model is in force; 0 is the base."""
        query = sql.select(schema.champions.c.round).order_by(schema.champions.c.id.desc()).limit(1)
        with self._db.transaction() as connection:
            return int(connection.execute(query).scalar() or 0)

    def lineage(self) -> list[int]:
        """The champions that rollbacks would go back through, from the base (0) to the one in force."""
        stack = [0]
        for row in self.champions():
            # Going back to one that was champion takes away those that came after it.
            stack = stack[: stack.index(row["round"]) + 1] if row["round"] in stack else [*stack, row["round"]]
        return stack

    def retired(self) -> frozenset[int]:
        """Rounds whose models were champions and were taken back: what they wrote is no longer used."""
        return frozenset(row["round"] for row in self.champions()) - frozenset(self.lineage())

    def promote(
        self, round: int, reason: str, *, action: str = "promote", details: Mapping[str, Any] | None = None
    ) -> None:
        """Put a round's model in force: one row, so that every reader sees the champion before or after."""
        row = {"round": round, "reason": reason, "at": _now(), "action": action}
        with self._db.change() as (connection, _):
            connection.execute(sql.insert(schema.champions).values(**row, details=json.dumps(dict(details or {}))))

    # Snapshots.

    def snapshot(self, round: int) -> Snapshot | None:
        """What is kept of a round's data as it was; None for a round that never came to its gate."""
        query = sql.select(schema.snapshots).where(schema.snapshots.c.round == round)
        with self._db.transaction() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        frozen = json.loads(row["frozen"])
        return Snapshot(
            round=round,
            position=row["position"],
            corrections_sha256=row["corrections_sha256"],
            leads=tuple(frozen["leads"]),
            gold=frozen["gold"],
            excluded=tuple(frozen["excluded"]),
            retired=tuple(frozen["retired"]),
            writers={int(r): by for r, by in frozen["writers"].items()},
            changes=frozen.get("changes", 0),
        )

    def set_snapshot(self, snapshot: Snapshot) -> None:
        """Record a snapshot in place of the round's one before."""
        values = asdict(snapshot)
        row = {name: values.pop(name) for name in _COLUMNS}
        with self._db.change() as (connection, _):
            self._db.replace(connection, schema.snapshots, {**row, "frozen": json.dumps(values)})

    def last_position(self) -> int:
        """Number of the last commit of records."""
        query = sql.select(sql.func.coalesce(sql.func.max(schema.shards.c.position), 0))
        with self._db.transaction() as connection:
            return int(connection.execute(query).scalar_one())

    # Exports.

    def add_export(self, out: Path | str, round: int, clip_ids: Iterable[str]) -> None:
        """Remember a dataset that was taken away, for the day when one of its clips must go."""
        row = {"out": str(out), "at": _now(), "round": round, "clips": json.dumps(sorted(clip_ids))}
        with self._db.transaction() as connection:
            self._db.replace(connection, schema.exports, row)

    def forget_export(self, out: str) -> None:
        """Forget a dataset that is gone."""
        with self._db.transaction() as connection:
            connection.execute(sql.delete(schema.exports).where(schema.exports.c.out == out))

    def has_export(self, out: str) -> bool:
        """Whether a dataset at this place is on record."""
        with self._db.transaction() as connection:
            query = sql.select(schema.exports.c.out).where(schema.exports.c.out == out)
            return connection.execute(query).first() is not None

    def exports(self) -> list[dict[str, Any]]:
        """Datasets that were taken away, oldest first: ``out``, ``at``, ``round`` and ``clips``, their clips' ids."""
        with self._db.transaction() as connection:
            query = sql.select(schema.exports).order_by(schema.exports.c.at)
            rows = connection.execute(query).mappings().all()
        return [{**row, "clips": json.loads(row["clips"])} for row in rows]

    def exports_with(self, clip_ids: Collection[str]) -> list[str]:
        """Folders of the datasets that hold one of these clips, oldest first."""
        exports, wanted, outs = schema.exports.c, set(clip_ids), list[str]()
        with self._db.transaction() as connection:
            for out in connection.execute(sql.select(exports.out).order_by(exports.at)).scalars().all():
                # One list at a time, and read once: a search of it for each clip takes hours where a video had many.
                ids = connection.execute(sql.select(exports.clips).where(exports.out == out)).scalar_one()
                if not wanted.isdisjoint(json.loads(ids)):
                    outs.append(out)
        return outs

    # What has no table of its own.

    def meta(self, key: str) -> str | None:
        """The value of this name; None where there is none."""
        with self._db.transaction() as connection:
            value = connection.execute(sql.select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar()
        return None if value is None else str(value)

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value by its name."""
        with self._db.transaction() as connection:
            self._db.replace(connection, schema.meta, {"key": key, "value": value})

    def set_first(self, key: str, value: str) -> str:
        """Remember a value by its name unless there is one; returns what is remembered now."""
        with self._db.transaction() as connection:
            self._db.insert_new(connection, schema.meta, [{"key": key, "value": value}])
            return str(connection.execute(sql.select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar_one())


def _columns(table: sql.Table, **values: object) -> list[sql.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in values.items()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
