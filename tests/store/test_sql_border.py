"""Whatever SQL raises comes out of every public method of the store as one line of ours."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sql

from flywheel.core.config import load_config, template
from flywheel.core.errors import BorderError, FlywheelError
from flywheel.core.types import NoiseSignal
from flywheel.store import Workspace, database, schema
from flywheel.store.columns import SCHEMAS
from flywheel.store.database import Database, sqlite_url
from flywheel.store.ledger import Ledger, Snapshot
from flywheel.store.records import Records
from flywheel.store.takedowns import Takedowns
from flywheel.store.videos import Video, Videos
from flywheel.store.writing import reject
from tests.store.test_compaction import fill, text
from tests.store.test_view import choice, clip, correction, sound_version

SNAPSHOT = Snapshot(round=3, position=1, corrections_sha256="x", gold={}, writers={})
VIDEO = Video(content_hash="h0", family="f", side="train", streams="s", bands=((1, 2, 3),))
#: Methods that ask no database.
WITHOUT_SQL = {"Database.close", "Database.is_sqlite", "Workspace.create", "Workspace.open", "Workspace.model_folder"}
WITHOUT_SQL |= {
    "Workspace.report_folder",
    "Database.has",
    "Database.clock",
    "Database.insert_new",
    "Database.replace",
    "Database.exclusive",
    "Records.checked",
    # With nothing new there is nothing to read; what it calls where there is, is tried as a search.
    "Records.index_words",
    # Of workspaces on an object store alone, which are on PostgreSQL.
    "Records.trim_copies",
    "Workspace.publish",
    "Workspace.discard",
    "Workspace.url",
}
#: Methods that write.
WRITERS = {
    "append",
    "remove",
    "begin_round",
    "set_stage",
    "add_cost",
    "add_look",
    "promote",
    "set_snapshot",
    "add_export",
    "forget_export",
    "set_meta",
    "set_first",
    "note",
    "remove_records",
    "remove_clips",
    "forget_people",
    "locate",
    "freeze",
    "add_clips",
    "add_generations",
    "add_annotations",
    "add_clip_verdict",
    "add_decisions",
    "add_asr_transcripts",
    "add_recognitions",
    "add_control_judgements",
    "add_judgements",
    "add_match_probabilities",
    "add_twins",
    "add_sounds",
    "add_speech_quality",
    "add_sound_versions",
    "add_vectors",
    "add_noise_signals",
    "add_examples",
    "add_rejected",
    "add_rejects",
    "add_corrections",
    "add_preferences",
    "add",
    "draw",
    "rewrite",
    "describe",
    "list_older",
    "note_joined",
    "unite",
}


def calls(w: Workspace, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Class and method -> a call of it. The test holds that no public method is left out."""
    d, e, r, t, v = w.database, w.ledger, w.records, w.takedowns, w.videos
    target = Database(sqlite_url(tmp_path / "other.db"))
    everything = pl.lit(True)

    def transaction() -> None:
        with d.transaction() as connection:
            connection.execute(sql.select(schema.keys))

    def change() -> None:
        with d.change():
            pass

    def share() -> None:
        with w.share():
            w.set_meta("x", "y")

    def lock() -> None:
        with w.lock():
            pass

    def move(other: Database) -> None:
        e.set_meta(schema.MOVED_TO, "")
        d.move_to(other, "there", "x")

    return {
        "Database.change": change,
        "Database.is_empty": d.is_empty,
        "Database.scrub": d.scrub,
        "Database.state": d.state,
        "Database.transaction": transaction,
        "Ledger.add_export": lambda: e.add_export(tmp_path, 1, ["c1"]),
        "Ledger.add_look": lambda: e.add_look(7, 1, "x"),
        "Ledger.begin_round": lambda: e.begin_round(9, ("annotate",)),
        "Ledger.count_retry": lambda: e.count_retry(1),
        "Ledger.champion": e.champion,
        "Ledger.champions": e.champions,
        "Ledger.cost": lambda: e.cost(1, "caption"),
        "Ledger.costs": lambda: e.costs(1, "learn"),
        "Ledger.exports": e.exports,
        "Ledger.exports_with": lambda: e.exports_with(["c1"]),
        "Ledger.has_export": lambda: e.has_export("/taken"),
        "Ledger.forget_export": lambda: e.forget_export("/taken"),
        "Ledger.last_position": e.last_position,
        "Ledger.lineage": e.lineage,
        "Ledger.looks": lambda: e.looks(0),
        "Ledger.meta": lambda: e.meta("x"),
        "Ledger.money": lambda: e.money(1),
        "Ledger.order": lambda: e.order(1),
        "Ledger.promote": lambda: e.promote(1, "x"),
        "Ledger.retired": e.retired,
        "Ledger.rounds": e.rounds,
        "Ledger.add_cost": lambda: e.add_cost(1, "caption", "learn", {"money": 1.0}),
        "Ledger.set_first": lambda: e.set_first("first", "y"),
        "Ledger.set_meta": lambda: e.set_meta("x", "y"),
        "Ledger.set_snapshot": lambda: e.set_snapshot(SNAPSHOT),
        "Ledger.set_stage": lambda: e.set_stage(1, "annotate", "done", {}),
        "Ledger.snapshot": lambda: e.snapshot(1),
        "Ledger.stage": lambda: e.stage(1, "annotate"),
        "Ledger.stages_s": lambda: e.stages_s(1),
        "Ledger.writers": e.writers,
        "Records.append": lambda: r.append("annotations", [dict(vars(text(77)))], round=1),
        "Records.batches": lambda: list(r.batches("annotations")),
        "Records.compact": lambda: r.compact("annotations"),
        "Records.count": lambda: r.count("annotations"),
        "Records.files": lambda: r.files("annotations"),
        "Records.keys_from": lambda: r.keys_from("annotations", "a"),
        "Records.known": lambda: r.known("annotations", ["a1-0"]),
        "Records.of_shards": lambda: r.of_shards("annotations", r.shards("annotations"), ["id"]),
        "Records.of_clips": lambda: r.of_clips("annotations", ["c0"]),
        "Records.position": lambda: r.position("annotations", "a1-0"),
        "Records.read": lambda: r.read("annotations"),
        "Records.remove": lambda: r.remove({"annotations": everything}),
        "Records.rounds": lambda: r.rounds("annotations"),
        "Records.shards": lambda: r.shards("annotations"),
        "Records.rows": lambda: r.rows("annotations", ["a1-0"]),
        "Records.sweep": r.sweep,
        "Takedowns.forget_people": lambda: t.forget_people(["c0"]),
        "Takedowns.note": lambda: t.note(["c0"], "x", {}),
        "Takedowns.reasons": t.reasons,
        "Takedowns.remove_clips": lambda: t.remove_clips(["c0"]),
        "Takedowns.remove_records": lambda: t.remove_records(["c1"]),
        "Takedowns.usage": lambda: t.usage(["c0"]),
        "Takedowns.count": t.count,
        "Takedowns.among": lambda: t.among(["c0"]),
        "Takedowns.refusals": lambda: t.refusals([VIDEO]),
        "Videos.add": lambda: v.add([VIDEO]),
        "Videos.batches": lambda: list(v.batches()),
        "Videos.draw": lambda: v.draw(lambda _: "train", {}),
        "Videos.families": v.families,
        "Videos.joined": v.joined,
        "Videos.sides": lambda: v.sides(["h0"]),
        "Records.rewrite": lambda: r.rewrite("annotations", lambda frame: frame.reverse()),
        "Workspace.places": lambda: w.places(["h0"]),
        "Videos.count": v.count,
        "Videos.describe": lambda: v.describe(VIDEO),
        "Videos.known": lambda: v.known(["h0"]),
        "Videos.leak": v.leak,
        "Videos.list_older": v.list_older,
        "Videos.note_joined": lambda: v.note_joined(["a", "b"]),
        "Videos.sharing": lambda: v.sharing("s"),
        "Videos.showing": lambda: v.showing([1]),
        "Videos.unite": lambda: v.unite(["a", "b"], "a"),
        "Videos.with_streams": lambda: v.with_streams("s"),
        "Workspace.add_asr_transcripts": lambda: w.add_asr_transcripts([blank("asr_transcripts")]),
        "Workspace.add_recognitions": lambda: w.add_recognitions([blank("recognitions")]),
        "Workspace.add_clip_verdict": lambda: w.add_clip_verdict("c0", kept=False, reason="x"),
        "Workspace.add_decisions": lambda: w.add_decisions("r", DECIDED),
        "Workspace.add_judgements": lambda: w.add_judgements([blank("judgements")], 1),
        "Workspace.add_control_judgements": lambda: w.add_control_judgements([blank("control_judgements")], 1),
        "Workspace.add_match_probabilities": lambda: w.add_match_probabilities("r", MATCHES),
        "Workspace.add_twins": lambda: w.add_twins({"c0": "c1"}),
        "Workspace.control_judgements": lambda: w.control_judgements("repeated"),
        "Workspace.judgements": w.judgements,
        "Workspace.twins": w.twins,
        "Workspace.add_sounds": lambda: w.add_sounds([blank("sounds")]),
        "Workspace.add_speech_quality": lambda: w.add_speech_quality([blank("speech_quality")]),
        "Workspace.sound_versions": lambda: w.sound_versions(),
        "Workspace.standing_sounds": lambda: w.standing_sounds(),
        "Workspace.add_sound_versions": lambda: w.add_sound_versions([sound_version("c0", "v")]),
        "Workspace.add_vectors": lambda: w.add_vectors([blank("vectors")]),
        "Workspace.clip_verdicts": w.clip_verdicts,
        "Workspace.curated": lambda: w.curated(1),
        "Workspace.decisions": w.decisions,
        "Workspace.decision_on": lambda: w.decision_on("c0"),
        "Workspace.verdicts_on": lambda: w.verdicts_on("c0"),
        "Workspace.add_annotations": lambda: w.add_annotations([text(78)], 1),
        "Workspace.add_clips": lambda: w.add_clips([clip(78)]),
        "Workspace.add_corrections": lambda: w.add_corrections([correction(2)]),
        "Workspace.add_examples": lambda: w.add_examples([{**EXAMPLE}], 1),
        "Workspace.add_export": lambda: w.add_export(tmp_path, 1, ["c1"]),
        "Workspace.add_generations": lambda: w.add_generations([GENERATION]),
        "Workspace.add_noise_signals": lambda: w.add_noise_signals([SIGNAL], 1),
        "Workspace.add_rejected": lambda: w.add_rejected(round=1, stage="annotate", uri="x", clip_id="c", reason="x"),
        "Workspace.add_rejects": lambda: w.add_rejects(
            [reject(round=1, stage="annotate", uri="x", clip_id="d", reason="x")], 1
        ),
        "Workspace.annotation_batches": lambda: list(w.annotation_batches()),
        "Workspace.annotations": w.annotations,
        "Workspace.as_of": lambda: w.as_of(1),
        "Workspace.begin_round": lambda: w.begin_round(8, ("annotate",)),
        "Workspace.add_tracks": lambda: w.add_tracks({"c0": "{}"}),
        "Workspace.add_transcripts": lambda: w.add_transcripts([("c0", 1, "other words", ())]),
        "Workspace.champion": w.champion,
        "Workspace.champions": w.champions,
        "Workspace.clip_batches": lambda: list(w.clip_batches()),
        "Workspace.clips": w.clips,
        "Workspace.clips_at": lambda: w.clips_at(["x"]),
        "Workspace.clips_named": lambda: w.clips_named("x"),
        "Workspace.dismiss": lambda: w.dismiss(["x"], "known"),
        "Workspace.kinds_of": lambda: w.kinds_of(1),
        "Workspace.clips_by_id": lambda: w.clips_by_id(["c0"]),
        "Workspace.correction_records": w.correction_records,
        "Workspace.corrections": w.corrections,
        "Workspace.count": lambda: w.count("clips"),
        "Workspace.count_texts": lambda: w.count_texts(1),
        "Workspace.examples": w.examples,
        "Workspace.exports": w.exports,
        "Workspace.find_clips": lambda: w.find_clips("c0"),
        "Workspace.freeze": lambda: w.freeze(5, leads=[], gold={}, excluded=[]),
        "Workspace.frozen": lambda: w.frozen(1),
        "Workspace.generations": w.generations,
        "Workspace.is_locked": w.is_locked,
        "Workspace.known_contents": lambda: w.known_contents(["h0"]),
        "Workspace.lineage": w.lineage,
        "Workspace.removed_videos": w.removed_videos,
        "Workspace.locate": lambda: w.locate({"h99": "/x"}),
        "Workspace.lock": lock,
        "Workspace.share": share,
        "Workspace.meta": lambda: w.meta("x"),
        "Workspace.money": lambda: w.money(1),
        "Workspace.num_corrections": w.num_corrections,
        "Workspace.order": lambda: w.order(1),
        "Workspace.add_preferences": lambda: w.add_preferences([choice(2)]),
        "Workspace.preference_records": w.preference_records,
        "Workspace.preferences": w.preferences,
        "Workspace.promote": lambda: w.promote(1, "x"),
        "Workspace.rejected": lambda: w.rejected(open_only=True),
        "Workspace.retired": w.retired,
        "Workspace.rounds": w.rounds,
        "Workspace.settle_ingested": w.settle_ingested,
        "Workspace.set_meta": lambda: w.set_meta("x", "y"),
        "Workspace.set_stage": lambda: w.set_stage(1, "gate", "done", {}),
        "Workspace.stage": lambda: w.stage(1, "gate"),
        "Workspace.stages_s": lambda: w.stages_s(1),
        "Workspace.stamp": w.stamp,
        "Workspace.taken_down": w.taken_down,
        "Workspace.texts": lambda: w.texts(1, "learn", "text"),
        "Workspace.writers": w.writers,
        # Last: what was moved takes nothing any more.
        "Workspace.move_database": lambda: w.move_database(sqlite_url(tmp_path / "third.db")),
        "Database.move_to": lambda: move(target),
    }


DECIDED = pl.DataFrame({"clip_id": ["c0"], "kept": [True], "score": [0.5], "reason": [""]})
MATCHES = pl.DataFrame({"clip_id": ["c0"], "p_match": [0.5]})
SIGNAL = NoiseSignal(annotation_id="a1-0", origin="pretrain", value=1.0)
EXAMPLE: dict[str, Any] = {"stage": "pretrain", "clip_id": "c0", "annotation_id": "a1-0", "source": "model"}
EXAMPLE |= {"use": "learned", "weight": 1.0, "text_hash": "x", "corrections": []}


def blank(kind: str) -> dict[str, Any]:
    """A row of a kind of record with an id alone."""
    return {**dict.fromkeys(SCHEMAS[kind]), "id": "x"}


class _Generation:
    def __init__(self) -> None:
        self.id, self.clip_id, self.prompt, self.model, self.adapter, self.sampling = "g", "c0", "p", "m", "", "s"
        self.candidate, self.text, self.token_ids, self.logprobs = 0, "x", (1,), (-1.0,)
        self.tokens_in, self.tokens_out, self.seconds, self.finish = 1, 1, 0.1, "stop"


GENERATION: Any = _Generation()


def filled(root: Path) -> Workspace:
    Workspace.create(root, template())
    w = Workspace.open(root, ["tracking.enabled=false"])
    w.add_clips([clip(0), clip(1)])
    fill(w, 9)
    w.add_rejected(round=1, stage="annotate", uri="x", clip_id="c9", reason="x")
    w.add_corrections([correction(0)])
    w.set_stage(1, "annotate", "done", {"by": 0})
    w.freeze(1, leads=[], gold={}, excluded=[])
    return w


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    w = filled(tmp_path / "w")
    yield w
    w.database.close()


def outcomes(w: Workspace, tmp_path: Path, only: set[str] | None = None) -> dict[str, Exception | None]:
    """Class and method -> what it raised."""
    raised: dict[str, Exception | None] = {}
    for name, call in calls(w, tmp_path).items():
        if only is not None and name.split(".")[1] not in only:
            continue
        try:
            call()
            raised[name] = None
        except Exception as error:
            raised[name] = error
    return raised


def is_ours(raised: dict[str, Exception | None], but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert {n: e for n, e in raised.items() if e is None and n not in but} == {}, "went on without its database"
    assert {n: repr(e) for n, e in raised.items() if e is not None and not isinstance(e, FlywheelError)} == {}
    assert {n: str(e) for n, e in raised.items() if "\n" in str(e)} == {}, "one line each"


def test_every_public_method_is_tried(workspace: Workspace, tmp_path: Path) -> None:
    there = {
        f"{cls.__name__}.{name}"
        for cls in (Database, Ledger, Records, Takedowns, Videos, Workspace)
        for name in dir(cls)
        if not name.startswith("_")
    }
    assert set(calls(workspace, tmp_path)) == there - WITHOUT_SQL


@pytest.mark.slow
def test_all_goes_well_where_all_is_well(workspace: Workspace, tmp_path: Path) -> None:
    """Otherwise the other tests would show nothing."""
    assert {n: repr(e) for n, e in outcomes(workspace, tmp_path).items() if e is not None} == {}


def test_a_file_that_is_no_database(workspace: Workspace, tmp_path: Path) -> None:
    workspace.database.close()
    for end in ("-wal", "-shm"):
        (workspace.root / f"flywheel.db{end}").unlink(missing_ok=True)
    (workspace.root / "flywheel.db").write_bytes(b"these are not the pages you look for" * 1000)
    raised = outcomes(workspace, tmp_path)
    # The lock of a folder is no matter of SQL, nor is whether it is held.
    is_ours(raised, but={"Workspace.is_locked"})
    assert "damaged, or not a workspace's" in str(raised["Workspace.clips"])
    with pytest.raises(BorderError, match="not a database"):
        Workspace.open(workspace.root)


def test_missing_tables(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.database.transaction() as connection:
        for table in schema.metadata.sorted_tables:
            table.drop(connection)
    raised = outcomes(workspace, tmp_path)
    is_ours(raised, but={"Workspace.is_locked", "Database.scrub"})
    assert "Restore it from a backup" in str(raised["Workspace.clips"])


def test_a_database_that_can_only_be_read(workspace: Workspace, tmp_path: Path) -> None:
    workspace.database.close()
    file = workspace.root / "flywheel.db"
    read_only = Database(f"sqlite:///file:{file}?mode=ro&uri=true")
    w = Workspace(workspace.root, load_config(workspace.root / "flywheel.yaml"), read_only)
    try:
        is_ours(outcomes(w, tmp_path, WRITERS))
        assert w.clips().height == 2
    finally:
        read_only.close()


@pytest.mark.slow
def test_a_database_that_another_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    workspace.database.close()
    monkeypatch.setattr(database, "BUSY_MS", 20)
    other = sqlite3.connect(workspace.root / "flywheel.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        raised = outcomes(workspace, tmp_path, WRITERS)
        is_ours(raised)
        assert "database is locked" in str(raised["Workspace.add_clips"])
        assert workspace.clips().height == 2, "readers go on"
    finally:
        other.close()


@pytest.mark.slow
def test_a_postgresql_database_that_is_gone(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    filled(tmp_path / "w").database.close()
    shutil.rmtree(tmp_path / "w")
    url = postgresql()
    Workspace.create(tmp_path / "w", template())
    w = Workspace.open(tmp_path / "w", [f"store.database={url}", "tracking.enabled=false"])
    w.add_clips([clip(0)])
    fill(w, 9)
    name = sql.make_url(url).database
    admin = sql.create_engine(
        url.replace(f"/{name}?", "/postgres?").replace("postgresql:", "postgresql+psycopg:"),
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(sql.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
    is_ours(outcomes(w, tmp_path), but={"Database.scrub"})
    w.database.close()
