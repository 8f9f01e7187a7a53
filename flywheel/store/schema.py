"""Tables of a workspace's database, their layout's number, and the migrations from older layouts.

Records lie in Parquet; the database says which shards count, which keys exist, and all that changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import sqlalchemy as sql

from flywheel.core.errors import BorderError
from flywheel.core.types import CAPTION, LEARN, MEASURE

metadata = sql.MetaData()

#: Layout of the database; a later layout brings its migration.
VERSION = 6
#: Where :data:`meta` keeps the layout's number.
VERSION_KEY = "schema_version"
#: Where :data:`meta` of a database that was moved keeps its new address.
MOVED_TO = "moved_to"
#: Where :data:`meta` keeps the database's identity, and the number of its last change: every change has one.
IDENTITY, NUMBER = "database_id", "changes"
#: Where :data:`meta` of a database elsewhere keeps the mark of the folder that it belongs to.
OWNER = "workspace"

#: Text that sorts byte by byte, which PostgreSQL does not do of itself:
#: times, and keys that are looked up by beginning.
_BYTES = sql.String().with_variant(sql.String(collation="C"), "postgresql")

#: What a workspace remembers that has no table of its own, by name.
meta = sql.Table(
    "meta",
    metadata,
    sql.Column("key", sql.String, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)

#: A shard is part of the workspace from the moment its row is committed here, not before.
shards = sql.Table(
    "shards",
    metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("kind", sql.String, nullable=False, index=True),
    sql.Column("round", sql.Integer),
    sql.Column("num_rows", sql.Integer, nullable=False),
    #: The shard holds the commits ``first`` to ``position`` of its kind: several, once small shards were merged.
    sql.Column("first", sql.Integer, nullable=False),
    sql.Column("position", sql.Integer, nullable=False),
    #: Checksum of the file; NULL in rows of layouts that kept none, until 'flywheel doctor' notes it.
    sql.Column("crc32", sql.BigInteger),
)

#: Shards that somebody gave up, since they were damaged or gone: what they were, and when.
given_up = sql.Table(
    "given_up",
    metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("kind", sql.String, nullable=False),
    sql.Column("round", sql.Integer),
    sql.Column("num_rows", sql.Integer, nullable=False),
    sql.Column("why", sql.Text, nullable=False),
    sql.Column("at", sql.String, nullable=False),
)

#: The unique keys: a record that exists can't be written again, whoever tries.
keys = sql.Table(
    "keys",
    metadata,
    sql.Column("kind", sql.String, primary_key=True),
    sql.Column("key", _BYTES, primary_key=True),
    #: Number of the commit that wrote the row; the shard is the one of this kind that spans it.
    sql.Column("position", sql.Integer, nullable=False),
    # Kind and key would be stored twice otherwise, in the table and in its index.
    sqlite_with_rowid=False,
)

#: Files whose rows another shard holds now, or nobody should. Merged ones stay for a while, for readers that have just
#: listed them.
superseded = sql.Table(
    "superseded",
    metadata,
    sql.Column("name", sql.String, primary_key=True),
    #: Seconds since 1970.
    sql.Column("at", sql.Float, nullable=False),
)

#: Where a file's content was last seen: a file that moved is the same clip.
locations = sql.Table(
    "locations",
    metadata,
    sql.Column("content_hash", sql.String, primary_key=True),
    sql.Column("uri", sql.Text, nullable=False),
    #: Whether the content gave clips; NULL in rows of layouts that did not note it, until somebody asks.
    sql.Column("ingested", sql.Boolean),
    #: The file when its content was last read: one that has another size or time now is read before it is believed.
    sql.Column("num_bytes", sql.BigInteger),
    sql.Column("mtime_ns", sql.BigInteger),
)

#: Videos by content, each with the side of the corpus on which all of its clips are. A row outlives its clips: what
#: was taken down is known when it comes again.
videos = sql.Table(
    "videos",
    metadata,
    #: 60 bits of the content's hash, so that other tables can point here in few bytes.
    sql.Column("number", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sql.Column("content_hash", sql.String, nullable=False),
    #: Videos of one family are on one side; it is drawn by the family's name.
    sql.Column("family", sql.String, nullable=False, index=True),
    #: train, test or anchor; empty where older versions put its clips on several.
    sql.Column("side", sql.String, nullable=False),
    #: What the source says that must stay together (corpus.split_key), hashed; empty where it is the file alone.
    sql.Column("shared", sql.String, nullable=False, index=True),
    #: Hash of the coded pictures, whatever the container; empty where it was not read.
    sql.Column("streams", sql.String, nullable=False, index=True),
    #: Small pictures, to tell copies by.
    sql.Column("pictures", sql.LargeBinary, nullable=False),
)

#: Bands of the perceptual hashes of videos' pictures: where a copy is looked up.
looks_like = sql.Table(
    "looks_like",
    metadata,
    sql.Column("band", sql.Integer, primary_key=True),
    sql.Column("number", sql.BigInteger, primary_key=True),
    sql.Column("picture", sql.SmallInteger, primary_key=True),
    sqlite_with_rowid=False,
)

#: Families on different sides that a video joined which was refused for it; a new draw puts them on one.
joined = sql.Table(
    "joined",
    metadata,
    sql.Column("first", sql.String, primary_key=True),
    sql.Column("second", sql.String, primary_key=True),
)

corrections = sql.Table(
    "corrections",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("annotation_id", sql.String, nullable=False, index=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("verdict", sql.String, nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("refiner", sql.String, nullable=False, index=True),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("payload", sql.Text, nullable=False, server_default=""),
    #: What is said now is later than all before, whatever the clock says: its order is this one.
    sql.Column("at", _BYTES, nullable=False, index=True),
)

#: What people chose of two texts of a clip. Layout 5 had no such table at first: it is made where it is missing.
preferences = sql.Table(
    "preferences",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("first_id", sql.String, nullable=False),
    sql.Column("second_id", sql.String, nullable=False),
    #: Of both texts, whichever is called first.
    sql.Column("pair_id", sql.String, nullable=False, index=True),
    sql.Column("chosen", sql.String, nullable=False),
    sql.Column("refiner", sql.String, nullable=False, index=True),
    sql.Column("left", sql.String, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    #: As of corrections: what is said now is later than all before.
    sql.Column("at", _BYTES, nullable=False),
    #: Number of the change that brought it: what a round's data has is what came before its gate.
    sql.Column("change", sql.BigInteger, nullable=False),
)
#: Who may refine. The token itself is nowhere: only its hash.
refiners = sql.Table(
    "refiners",
    metadata,
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("role", sql.String, nullable=False),
    sql.Column("token_hash", sql.String, nullable=False, unique=True),
    sql.Column("at", sql.String, nullable=False),
)

#: Browsers that are signed in, each by the hash of what its cookie holds, until when (seconds since 1970). A session
#: ends with the token that opened it.
sessions = sql.Table(
    "sessions",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("name", sql.String, nullable=False),
    sql.Column("token_hash", sql.String, nullable=False),
    sql.Column("until", sql.Float, nullable=False),
)

#: Clips whose right text is known, to check refiners with; the newest row of a clip counts.
gold = sql.Table(
    "gold",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("by", sql.String, nullable=False),
    sql.Column("at", _BYTES, nullable=False),
)

#: Clips that were taken down, and are refused when they come again; ``usage`` says where they were used, as JSON.
takedowns = sql.Table(
    "takedowns",
    metadata,
    sql.Column("clip_id", sql.String, primary_key=True),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", _BYTES, nullable=False),
    sql.Column("usage", sql.Text, nullable=False),
)

#: Spans of videos that were taken down: what overlaps one is refused, whatever its file is called.
refused = sql.Table(
    "refused",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("content_hash", sql.String, nullable=False, index=True),
    sql.Column("streams", sql.String, nullable=False, index=True),
    #: Seconds of the file; both NULL for the whole of it.
    sql.Column("start_s", sql.Float),
    sql.Column("end_s", sql.Float),
    sql.Column("reason", sql.Text, nullable=False),
)

#: Datasets that were taken away, and of which clips, as JSON.
exports = sql.Table(
    "exports",
    metadata,
    sql.Column("out", sql.Text, primary_key=True),
    sql.Column("at", _BYTES, nullable=False),
    sql.Column("round", sql.Integer, nullable=False),
    sql.Column("clips", sql.Text, nullable=False),
)

#: Refiners whose words are left out, and taken in again; the newest row of a name counts.
exclusions = sql.Table(
    "exclusions",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("refiner", sql.String, nullable=False),
    sql.Column("excluded", sql.Boolean, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", _BYTES, nullable=False),
)

#: Texts that a person wants a lead to look at; the newest row of a person on a text counts. Layout 5 had no such table
#: at first: it is made where it is missing.
flags = sql.Table(
    "flags",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("annotation_id", sql.String, nullable=False, index=True),
    sql.Column("clip_id", sql.String, nullable=False, index=True),
    sql.Column("refiner", sql.String, nullable=False),
    sql.Column("flagged", sql.Boolean, nullable=False),
    sql.Column("note", sql.Text, nullable=False),
    sql.Column("at", _BYTES, nullable=False),
)

#: Parts of passes that several processes share (:mod:`flywheel.store.claims`): whose each is and until when, by the
#: database's own clock, or that it is done. Layout 5 had no such table at first: it is made where it is missing.
claims = sql.Table(
    "claims",
    metadata,
    #: Round and form of the texts, and among how many clips the parts were drawn.
    sql.Column("name", _BYTES, primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("worker", sql.String, nullable=False),
    sql.Column("until", sql.Float, nullable=False),
    sql.Column("done", sql.Boolean, nullable=False),
)

#: Wrong tokens of the last minute, by the address they came from: one count for all servers of a workspace.
attempts = sql.Table(
    "attempts",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("address", sql.String, nullable=False, index=True),
    #: Until when it counts, by the database's clock.
    sql.Column("until", sql.Float, nullable=False, index=True),
)

#: Tables that layout 5 did not have at first.
LATER = (flags, preferences, claims, attempts)

#: Which annotation lies before whom, and until when (seconds since 1970).
leases = sql.Table(
    "leases",
    metadata,
    sql.Column("annotation_id", sql.String, primary_key=True),
    sql.Column("refiner", sql.String, nullable=False, index=True),
    sql.Column("until", sql.Float, nullable=False),
)

stages = sql.Table(
    "stages",
    metadata,
    sql.Column("round", sql.Integer, primary_key=True),
    sql.Column("stage", sql.String, primary_key=True),
    sql.Column("state", sql.String, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False, default=0.0),
    sql.Column("result", sql.Text, nullable=False, default="{}"),
)

champions = sql.Table(
    "champions",
    metadata,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("round", sql.Integer, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("at", sql.String, nullable=False),
    #: "promote" or "rollback"; ``details`` is what the champion consists of, as JSON.
    sql.Column("action", sql.String, nullable=False, server_default="promote"),
    sql.Column("details", sql.Text, nullable=False, server_default="{}"),
)

#: Rounds that began, with the stages they go through in order, as JSON.
rounds = sql.Table(
    "rounds",
    metadata,
    sql.Column("round", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("stages", sql.Text, nullable=False),
    #: Empty for rounds that began before this was noted.
    sql.Column("began_at", sql.String, nullable=False),
)

#: Sums over all passes that wrote a round's texts of a kind and purpose, as JSON.
costs = sql.Table(
    "costs",
    metadata,
    sql.Column("round", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("kind", sql.String, primary_key=True),
    sql.Column("purpose", sql.String, primary_key=True),
    sql.Column("figures", sql.Text, nullable=False),
)

#: Looks that the gate had at candidates for a champion's place: each spends some of its budget of errors.
looks = sql.Table(
    "looks",
    metadata,
    sql.Column("champion", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("round", sql.Integer, nullable=False),
    #: Of the scores that were looked at.
    sql.Column("digest", sql.String, nullable=False),
)

#: Data of rounds as it was at their gates: the last commit, the hash of the corrections' copy, and as JSON what else
#: may change.
snapshots = sql.Table(
    "snapshots",
    metadata,
    sql.Column("round", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("position", sql.Integer, nullable=False),
    sql.Column("corrections_sha256", sql.String, nullable=False),
    sql.Column("frozen", sql.Text, nullable=False),
)

#: Stages of every round that began before its order was recorded.
_FIRST_ORDER = ("annotate", "review", "pretrain", "finetune", "evaluate", "gate")


def _run(*statements: str) -> Callable[[sql.Connection], None]:
    def migrate(connection: sql.Connection) -> None:
        for statement in statements:
            connection.execute(sql.text(statement))

    return migrate


def _to_4(connection: sql.Connection) -> None:
    """Keys name commits by number, and costs, looks, snapshots and rounds get tables of their own."""
    for table in (superseded, rounds, costs, looks, snapshots):
        table.create(connection)
    _run(
        'ALTER TABLE shards ADD COLUMN "first" INTEGER NOT NULL DEFAULT 0',
        'UPDATE shards SET "first" = position',
        "ALTER TABLE locations ADD COLUMN ingested BOOLEAN",
        "ALTER TABLE keys RENAME TO keys_3",
    )(connection)
    keys.create(connection)
    # In the order of the keys, which the old index has: nothing is sorted, and pages are written one after the other.
    connection.execute(
        sql.text(
            "INSERT INTO keys (kind, key, position) SELECT k.kind, k.key, s.position FROM keys_3 k "
            "JOIN shards s ON s.name = k.shard ORDER BY k.kind, k.key"
        )
    )
    before, now = (
        connection.execute(sql.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in ("keys_3", "keys")
    )
    if before != now:
        raise BorderError(
            f"{before - now} record keys name shards that are not part of this workspace. "
            "Restore its database from a backup."
        )
    connection.execute(sql.text("DROP TABLE keys_3"))
    _move_meta(connection)


def _move_meta(connection: sql.Connection) -> None:
    values: dict[str, str] = dict(connection.execute(sql.select(meta.c.key, meta.c.value)).all())
    writers = _writers(connection)
    for round in writers:
        if round:
            order = {"round": round, "stages": json.dumps(_FIRST_ORDER), "began_at": ""}
            connection.execute(sql.insert(rounds).values(order))
    for key, value in values.items():
        family, _, rest = key.partition(":")
        match family:
            case "cost":
                connection.execute(sql.insert(costs).values(**_cost(rest), figures=value))
            case "looks":
                for number, (round, digest) in enumerate(json.loads(value), start=1):
                    look = {"champion": int(rest), "number": number, "round": round, "digest": digest}
                    connection.execute(sql.insert(looks).values(look))
            case "snapshot":
                connection.execute(sql.insert(snapshots).values(**_snapshot(json.loads(value), writers)))
            case _:
                continue
        connection.execute(sql.delete(meta).where(meta.c.key == key))


def _writers(connection: sql.Connection) -> dict[int, int | None]:
    """Rounds that began, with the round whose model wrote their texts."""
    rows = connection.execute(sql.select(stages.c.round, stages.c.stage, stages.c.result).order_by(stages.c.round))
    writers: dict[int, int | None] = {}
    for row in rows:
        writers.setdefault(row.round, None)
        if row.stage == "annotate":
            writers[row.round] = json.loads(row.result).get("by")
    return writers


def _cost(rest: str) -> dict[str, int | str]:
    round, form = rest.split(":", 1)
    kind, _, purpose = form.partition(":")
    if form == "evaluation":
        kind, purpose = CAPTION, MEASURE
    return {"round": int(round), "kind": kind, "purpose": purpose or LEARN}


def _snapshot(old: Mapping[str, object], writers: Mapping[int, int | None]) -> dict[str, object]:
    round, values = old["round"], old["values"]
    assert isinstance(round, int)
    assert isinstance(values, dict)
    frozen = {
        "leads": values.get("leads", []),
        "gold": values.get("gold", {}),
        "excluded": values.get("excluded", []),
        "retired": values.get("retired", []),
        "writers": {str(r): by for r, by in writers.items() if r <= round},
    }
    names = ("round", "position", "corrections_sha256")
    return {**{name: old[name] for name in names}, "frozen": json.dumps(frozen)}


#: Layout -> what brings it to the next one. Tables that are missing afterwards are made.
MIGRATIONS: Mapping[int, Callable[[sql.Connection], None]] = {
    1: _run(
        "ALTER TABLE corrections ADD COLUMN payload TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX IF NOT EXISTS ix_corrections_refiner ON corrections (refiner)",
    ),
    # SQLite alone had layouts before this one.
    2: _run(
        "ALTER TABLE shards ADD COLUMN position INTEGER NOT NULL DEFAULT 0",
        "UPDATE shards SET position = rowid",
        "ALTER TABLE champions ADD COLUMN action VARCHAR NOT NULL DEFAULT 'promote'",
        "ALTER TABLE champions ADD COLUMN details TEXT NOT NULL DEFAULT '{}'",
    ),
    3: _to_4,
    # Identity and number of changes come with the first opening.
    4: _run(
        "ALTER TABLE locations ADD COLUMN num_bytes BIGINT",
        "ALTER TABLE locations ADD COLUMN mtime_ns BIGINT",
        "ALTER TABLE shards ADD COLUMN crc32 BIGINT",
        "CREATE INDEX IF NOT EXISTS ix_corrections_at ON corrections (at)",
    ),
    # Paths of files inside the workspace are as seen from it; older programs read whole ones alone.
    5: _run(),
}
