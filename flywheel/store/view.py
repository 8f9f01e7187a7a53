"""Reads of a workspace that can be frozen at a round: as it is now, or as it was at the round's gate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.config import Config
from flywheel.core.types import (
    CAPTION,
    CRITERIA,
    CURATE,
    INDEX,
    LEARN,
    MEASURE,
    REPAIR,
    Annotation,
    Clip,
    Correction,
    Cue,
    Preference,
)
from flywheel.store import schema
from flywheel.store.cache import FrameCache
from flywheel.store.database import Database, ends_with, parts
from flywheel.store.ledger import Ledger, Snapshot
from flywheel.store.open_rejects import taken_in
from flywheel.store.originals import Originals
from flywheel.store.places import forms, whole
from flywheel.store.reading import RecordReader
from flywheel.store.shards import SHARD_ROWS
from flywheel.store.sound_files import SoundFiles

#: Bytes of a GiB.
GIB = 1 << 30
#: Where the database keeps which run of curation was the last.
CURATION_RUN = "curation_run"
#: Values in one list where each query goes through a whole table.
_LONG_LIST = 20_000
#: Columns of a clip that words that come later take the place of.
_WORDS = {"transcript", "cues"}
#: Rejects that are alike in these are of one thing, which failed for another reason the last time.
SAME_FAILURE = ["uri", "clip_id", "stage", "round", "kind", "purpose", "start_s", "end_s"]
_REJECT_OF_TEXT = ["clip_id", "round", "stage", "kind", "purpose"]


class View:
    """What can be read of a workspace at any time. ``snapshot`` is the time it is frozen at; None is now.

    There is nothing here that a frozen view would read live, but for the places of files: those are where they are.
    """

    def __init__(self, root: Path, config: Config, database: Database, snapshot: Snapshot | None = None) -> None:
        self.root = root
        self.config = config
        self.database = database
        self.snapshot = snapshot
        self.records = RecordReader(root, database, None if snapshot is None else snapshot.position)
        self.originals = Originals(root, database)
        most_bytes = int(config.corpus.cache_gib * GIB)
        self.cache = FrameCache(root / "cache" / "frames", most_bytes, check=self.originals.check)
        self.sound_files = SoundFiles(root)
        self._ledger = Ledger(database)

    # Records, as polars frames, empty with the right columns where there is nothing.

    def count(self, kind: str, *, round: int | None = None) -> int:
        """Number of records of a kind, from the database alone."""
        return self.records.count(kind, round=round)

    def clips(self, split: str | None = None) -> pl.DataFrame:
        """All clips, ``uri`` being where the file was last seen."""
        frame = self.records.read("clips")
        with self.database.transaction() as connection:
            columns = schema.locations.c
            places = connection.execute(sql.select(columns.content_hash, columns.uri)).all()
        frame = self._with_words(_with_places(frame, [(row[0], whole(self.root, row[1])) for row in places]))
        return frame if split is None else frame.filter(pl.col("split") == split)

    def clip_batches(
        self,
        columns: Sequence[str] | None = None,
        split: str | None = None,
        rows: int = SHARD_ROWS,
        *,
        asr: bool = True,
    ) -> Iterator[pl.DataFrame]:
        """The clips in frames of at most ``rows``, with these columns: for more clips than memory holds.

        Without ``asr``, their words are those that people or their sources gave, and no recogniser's.
        """
        needed = columns
        if columns is not None:
            also = [
                *(["content_hash"] if "uri" in columns else []),
                *(["id", "transcript"] if _WORDS & set(columns) else []),
            ]
            needed = list(dict.fromkeys([*columns, *also]))
        where = None if split is None else pl.col("split") == split
        for frame in self.records.batches("clips", columns=needed, where=where, rows=rows):
            if "uri" in frame.columns:
                frame = _with_places(frame, self._places(frame["content_hash"].unique()))
            frame = self._with_words(frame, asr=asr)
            yield frame if columns is None else frame.select(columns)

    def clips_at(self, paths: Iterable[str]) -> pl.DataFrame:
        """``id``, ``content_hash``, ``uri`` and times of the clips whose files lie at these paths now."""
        wanted = sorted(set(paths))
        columns = ["id", "content_hash", "uri", "start_s", "end_s"]
        if not wanted:
            return self.records.rows("clips", (), columns)
        places = schema.locations.c
        here: list[str] = []
        with self.database.transaction() as connection:
            for part in parts(forms(self.root, wanted), _LONG_LIST):
                here += connection.execute(sql.select(places.content_hash).where(places.uri.in_(part))).scalars()
        # Also those that were there when they were taken in, and have no other place on record.
        where = pl.col("content_hash").is_in(here) | pl.col("uri").is_in(wanted)
        frame = self.records.read("clips", columns=columns, where=where)
        frame = _with_places(frame, self._places(frame["content_hash"].unique()))
        return frame.filter(pl.col("uri").is_in(wanted))

    def clips_named(self, name: str) -> pl.DataFrame:
        """As :meth:`clips_at`, of the clips whose file has this name, in whichever folder."""
        place = schema.locations.c.uri
        with self.database.transaction() as connection:
            named = sql.select(place).where(ends_with(place, f"/{name}"))
            paths = list(connection.execute(named).scalars())
        return self.clips_at(whole(self.root, path) for path in paths)

    def find_clips(self, name: str) -> pl.DataFrame:
        """The clips whose id begins with ``name``, or whose file lies at this path. Only their shards are opened."""
        ids = self.records.keys_from("clips", name) or self.clips_at(path_forms(name))["id"].to_list()
        return self.clips_by_id(ids)

    def clips_by_id(self, ids: Collection[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The clips with these ids, as :meth:`clips` has them.

        Of ``columns``, where they are named, ``id``, ``uri`` and ``content_hash`` must be some.
        """
        frame = self.records.rows("clips", ids, columns)
        return self._with_words(_with_places(frame, self._places(frame["content_hash"].unique())))

    def generations(self) -> pl.DataFrame:
        """All replies of models, with their tokens: large. Count them with :meth:`count`."""
        return self.records.read("generations")

    def annotations(
        self, round: int | None = None, kind: str | None = None, purpose: str | None = None
    ) -> pl.DataFrame:
        """Texts of a round or of all rounds, by kind (``caption``, …) and purpose (``learn``, ``measure``).

        With neither, all; a kind alone means those to learn from.
        """
        return self.records.read("annotations", round=round, where=_texts(kind, purpose))

    def texts(self, round: int, purpose: str, *columns: str, kind: str = CAPTION) -> pl.DataFrame:
        """Some columns of a round's texts of one kind and purpose; the others are not read."""
        return self.records.read("annotations", round=round, columns=columns, where=_texts(kind, purpose))

    def count_texts(self, round: int, kind: str = CAPTION, purpose: str = LEARN) -> int:
        """How many texts of this kind and purpose a round has."""
        return sum(f.height for f in self.annotation_batches(["id"], round=round, kind=kind, purpose=purpose))

    def annotation_batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        round: int | None = None,
        kind: str | None = None,
        purpose: str | None = None,
        rows: int = SHARD_ROWS,
    ) -> Iterator[pl.DataFrame]:
        """The rows of :meth:`annotations` in frames of at most ``rows``."""
        where = _texts(kind, purpose)
        return self.records.batches("annotations", columns=columns, round=round, where=where, rows=rows)

    def examples(self, round: int | None = None) -> pl.DataFrame:
        """What rounds learned from: a row for each text and stage, with the corrections that it stands on."""
        return self.records.read("examples", round=round)

    def rejected(self, round: int | None = None, *, open_only: bool = False) -> pl.DataFrame:
        """Rows that failed, with stage and reason.

        An open reject is one without a later success that nobody closed; what a training left out is open until a
        later round begins.
        """
        frame = self.records.read("rejected", round=round)
        if not open_only or frame.is_empty():
            return frame
        written = pl.concat([self._written(frame), frame.select(_REJECT_OF_TEXT).clear()])
        frame = frame.join(written, on=_REJECT_OF_TEXT, how="anti", maintain_order="left")
        ingested = frame.filter(pl.col("stage") == "ingest")
        frame = frame.filter(~pl.col("id").is_in(taken_in(ingested, self.clips_at(ingested["uri"]))))
        frame = frame.filter(~((pl.col("stage") == "transcribe") & pl.col("clip_id").is_in(self._recognised(frame))))
        for stage, kind in ((CURATE, "sounds"), (INDEX, "vectors"), (REPAIR, "sound_versions")):
            frame = self._without_measured(frame, stage, kind)
        newest = max(self.rounds(), default=0)
        closed_by_success = ["ingest", "transcribe", "annotate", CURATE, INDEX, REPAIR]
        frame = frame.filter(pl.col("stage").is_in(closed_by_success) | (pl.col("round") == newest))
        last = frame.unique(SAME_FAILURE, keep="last", maintain_order=True)
        closed = self.records.known("dismissals", last["id"]) if self.records.count("dismissals") else set[str]()
        return last.filter(~pl.col("id").is_in(sorted(closed))) if closed else last

    def removed_videos(self, round: int | None = None) -> set[str]:
        """Contents whose source was removed, so that a round does not use their clips; by default those of all."""
        rows = self.records.read("removals", columns=["video", "removed", "from_round"])
        if round is not None:
            rows = rows.filter(pl.col("from_round") <= round)
        return set(rows.unique("video", keep="last", maintain_order=True).filter("removed")["video"])

    # Sound.

    def sound_versions(self, clip_id: str | None = None) -> pl.DataFrame:
        """What became of clips' sounds, or of one clip's, oldest first, as :class:`SoundVersion` has it.

        ``standing`` is true of the edited sounds that are read in place of their originals now.
        """
        where = None if clip_id is None else pl.col("clip_id") == clip_id
        rows = self.records.read("sound_versions", where=where)
        return rows.with_columns(standing=pl.col("clip_id").is_last_distinct() & (pl.col("version") != ""))

    def standing_sounds(self) -> pl.DataFrame:
        """The edited sounds that stand: id, clip_id, version, content_hash and num_bytes of each."""
        columns = ["id", "clip_id", "version", "content_hash", "num_bytes"]
        standing = self.records.rows("sound_versions", (), columns)
        for frame in self.records.batches("sound_versions", columns=columns):
            # Of most clips the original stands: nothing of them is kept.
            last = frame.unique("clip_id", keep="last", maintain_order=True)
            before = standing.join(last, on="clip_id", how="anti", maintain_order="left")
            standing = pl.concat([before, last.filter(pl.col("version") != "")])
        return standing

    # Curation.

    def decisions(self, run: str | None = None) -> pl.DataFrame:
        """``clip_id``, ``kept``, ``score`` (null: can't be told) and ``reason`` of each clip.

        Those of a run of curation, by default of the last one; of a frozen view of its round's. Empty without any.
        """
        if run is None:
            run = self._curation_run()
        columns = ["clip_id", "kept", "score", "reason"]
        if not run:
            return self.records.rows("decisions", (), columns)
        return self.records.read("decisions", columns=columns, where=pl.col("run") == run)

    def decision_on(self, clip_id: str) -> dict[str, Any] | None:
        """``kept``, ``score`` and ``reason`` of one clip by the last run of curation, looked up; None without any."""
        run = self._curation_run()
        rows = self.records.rows("decisions", [f"{run}:{clip_id}"], ["kept", "score", "reason"]).to_dicts()
        return rows[0] if run and rows else None

    def verdicts_on(self, clip_id: str) -> list[dict[str, Any]]:
        """``kept``, ``reason`` and ``at`` of all that leads said of one clip, oldest first."""
        return self.records.of_clips("verdicts", [clip_id], ["kept", "reason", "at"]).to_dicts()

    def _curation_run(self) -> str | None:
        """The last run of curation, of a frozen view its round's."""
        return self._ledger.meta(CURATION_RUN) if self.snapshot is None else self.curated(self.snapshot.round)

    def curated(self, round: int) -> str | None:
        """The run of curation whose decisions a round goes by; None where its stage did not run, or is not done."""
        if self.snapshot is not None and round > self.snapshot.round:
            return None
        state, record = self._ledger.stage(round, CURATE)
        return str(record["run"]) if state == "done" and record.get("run") else None

    def clip_verdicts(self) -> pl.DataFrame:
        """``clip_id``, ``kept``, ``reason`` and ``at`` of what leads said last of clips."""
        rows = self.records.read("verdicts", columns=["clip_id", "kept", "reason", "at"])
        return rows.unique("clip_id", keep="last", maintain_order=True)

    def judgements(self, round: int | None = None, *, swapped: bool = False, words: bool = True) -> pl.DataFrame:
        """``clip_id``, a column for each of CRITERIA (null: unscored), ``reasons``, ``p_match`` and what they rest on.

        The last judgement of each clip, in a round or in all; ``swapped`` are those in which what is heard was shown
        first. ``p_match`` is the last run's of curation (:meth:`decisions`), null where it had none; ``unscored`` says
        why there are no scores. Without ``words`` scores, ``p_match`` and ``unscored`` alone are read: the
        reasons of a million clips are most of them.
        """
        read = None if words else ["clip_id", "swapped", "scores", "unscored"]
        rows = self.records.read("judgements", round=round, columns=read, where=pl.col("swapped") == swapped)
        last = rows.unique("clip_id", keep="last", maintain_order=True)
        scores, rest = _scores(), ("reasons", "sources", "unscored", "round", "seen_id", "heard_id", "generation_id")
        known = last.join(self._match_probabilities(), on="clip_id", how="left", maintain_order="left")
        return known.select("clip_id", *scores, "p_match", *(rest if words else ("unscored",)))

    def control_judgements(self, purpose: str, round: int | None = None) -> pl.DataFrame:
        """``clip_id`` and a column for each of CRITERIA (null: unscored), the last judgement of each clip.

        Those of a round or of all. ``purpose`` is ``repeated`` or ``shuffled``: what a judge said once more, or of
        another video's sound.
        """
        rows = self.records.read("control_judgements", round=round, where=pl.col("purpose") == purpose)
        last = rows.unique("clip_id", keep="last", maintain_order=True)
        return last.select("clip_id", *_scores())

    def twins(self) -> dict[str, str]:
        """Clips that calibrate a judge -> the clip of another video whose sound each is judged with."""
        return dict(self.records.read("twins", columns=["clip_id", "other_id"]).iter_rows())

    def _match_probabilities(self) -> pl.DataFrame:
        columns = ["clip_id", "p_match"]
        if not (run := self._curation_run()):
            return self.records.rows("match_probabilities", (), columns)
        return self.records.read("match_probabilities", columns=columns, where=pl.col("run") == run)

    # People's words.

    def corrections(self) -> pl.DataFrame:
        """Corrections of all texts, oldest first."""
        if self.snapshot is not None:
            return pl.read_parquet(snapshot_file(self.root, self.snapshot.round), glob=False)
        rows = schema.corrections
        with self.database.transaction() as connection:
            found = connection.execute(sql.select(rows).order_by(rows.c.at, rows.c.id)).mappings().all()
        columns = {c.name: pl.Float64 if c.name == "seconds" else pl.String for c in rows.columns}
        return pl.DataFrame([dict(row) for row in found], schema=columns)

    def num_corrections(self) -> int:
        """Number of rows of corrections, whatever they say: skips and what was taken back too."""
        if self.snapshot is not None:
            return self.corrections().height
        with self.database.transaction() as connection:
            return int(connection.execute(sql.select(sql.func.count()).select_from(schema.corrections)).scalar_one())

    def correction_records(self) -> list[Correction]:
        """Corrections of all texts as objects, oldest first."""
        return [Correction(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in self.corrections().to_dicts()]

    def preferences(self) -> pl.DataFrame:
        """What people chose of two texts of a clip, oldest first; of a frozen view what came before its gate."""
        table = schema.preferences
        columns = [c for c in table.columns if c.name not in ("pair_id", "change")]
        query = sql.select(*columns).order_by(table.c.at, table.c.id)
        if self.snapshot is not None:
            query = query.where(table.c.change <= self.snapshot.changes)
        with self.database.transaction() as connection:
            # An older workspace that can only be read has no such table, and nobody has chosen anything there.
            missing = bool(self.database.read_only) and not self.database.has(connection, table)
            found = [] if missing else connection.execute(query).mappings().all()
        dtypes = {c.name: pl.Float64 if c.name == "seconds" else pl.String for c in columns}
        return pl.DataFrame([dict(row) for row in found], schema=dtypes)

    def preference_records(self) -> list[Preference]:
        """The same as objects."""
        return [Preference(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in self.preferences().to_dicts()]

    # Rounds.

    def champion(self) -> int:
        """The round whose model is in force, of a frozen view that view's; 0 is the base."""
        return self._ledger.champion() if self.snapshot is None else self.snapshot.round

    def retired(self) -> frozenset[int]:
        """Rounds whose models were champions and were taken back: what they wrote is no longer used."""
        return self._ledger.retired() if self.snapshot is None else frozenset(self.snapshot.retired)

    def writers(self) -> dict[int, int | None]:
        """Rounds that began -> the round whose model wrote their texts; None where none did yet."""
        return self._ledger.writers() if self.snapshot is None else dict(self.snapshot.writers)

    def rounds(self) -> list[int]:
        """Rounds that began, in order."""
        return self._ledger.rounds() if self.snapshot is None else sorted(self.snapshot.writers)

    def kinds_of(self, round: int) -> list[str]:
        """The kinds of text beside captions that a round's annotation wrote."""
        return list(self._ledger.stage(round, "annotate")[1].get("also", {}))

    def stamp(self) -> tuple[object, ...]:
        """Numbers that change with whatever decides on the current texts: records, corrections, gold, people."""
        if self.snapshot is not None:
            return (self.snapshot.round, self.snapshot.position, self.snapshot.corrections_sha256)
        tables = (schema.shards, schema.corrections, schema.gold, schema.exclusions, schema.champions, schema.takedowns)
        queries: list[sql.Select[Any]] = [sql.select(sql.func.count()).select_from(table) for table in tables]
        queries += [
            sql.select(sql.func.sum(schema.shards.c.num_rows)),
            sql.select(sql.func.max(schema.shards.c.position)),
        ]
        # Who is invited again may have another role.
        queries.append(sql.select(sql.func.max(schema.refiners.c.at)))
        with self.database.transaction() as connection:
            return tuple(connection.execute(query).scalar() for query in queries)

    def places(self, hashes: Iterable[str]) -> dict[str, str]:
        """Contents -> where their files were last seen."""
        return dict(self._places(list(hashes)))

    def _places(self, hashes: Sequence[str] | pl.Series) -> list[tuple[str, str]]:
        """(content hash, path) of these contents where they were last seen."""
        columns = schema.locations.c
        query = sql.select(columns.content_hash, columns.uri)
        places: list[tuple[str, str]] = []
        with self.database.transaction() as connection:
            for part in parts(hashes):
                places += connection.execute(query.where(columns.content_hash.in_(part))).all()
        return [(content_hash, whole(self.root, path)) for content_hash, path in places]

    def _with_words(self, clips: pl.DataFrame, *, asr: bool = True) -> pl.DataFrame:
        """The clips with the words that came later, where a frame has columns of words and there are such words.

        What a recogniser heard stands where nobody gave words.
        """
        names = [name for name in clips.columns if name in _WORDS]
        if not names or clips.is_empty():
            return clips
        if self.records.count("transcripts"):
            clips = _with_newest(clips, names, self.records.of_clips("transcripts", clips["id"], ["clip_id", *names]))
        if asr and self.records.count("asr_transcripts"):
            silent = clips.filter(pl.col("transcript") == "")["id"]
            clips = _with_newest(clips, names, self.records.of_clips("asr_transcripts", silent, ["clip_id", *names]))
        return clips

    def _recognised(self, rejects: pl.DataFrame) -> list[str]:
        """Clips of these failures of recognition that a recogniser was through with by now."""
        failed = rejects.filter(pl.col("stage") == "transcribe")["clip_id"].unique()
        if failed.is_empty():
            return []
        return self.records.of_clips("asr_transcripts", failed, ["clip_id"])["clip_id"].unique().to_list()

    def _without_measured(self, rejects: pl.DataFrame, stage: str, kind: str) -> pl.DataFrame:
        """The failures without those of clips that have this stage's record by now; of the others' only the last."""
        is_stage = pl.col("stage") == stage
        failed = rejects.filter(is_stage)
        if failed.is_empty():
            return rejects
        # A text has its vector also where its clip can't be read.
        read = pl.lit(True) if kind != "vectors" else pl.col("modality") != "text"
        of_these = pl.col("clip_id").is_in(failed["clip_id"].unique().sort().implode())
        if kind == "vectors" and (last := self.records.shards(kind)[-1:]):
            # Those of an encoder that is not in use any more are of a clip that could be read once.
            read &= pl.col("model") == self.records.of_shards(kind, last, ["model"])["model"][-1]
        measured = self.records.read(kind, columns=["clip_id"], where=of_these & read)["clip_id"]
        stale = (pl.col("round") < pl.col("round").max().over("clip_id", "stage")) | pl.col("clip_id").is_in(
            measured.implode()
        )
        return rejects.filter(~(is_stage & stale))

    def _written(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Which of these failures have a text by now, as far as columns of :data:`_REJECT_OF_TEXT` tell."""
        failed = rejects.filter(pl.col("stage") == "annotate").select(_REJECT_OF_TEXT).unique()
        later: list[pl.DataFrame] = [failed.clear()]
        columns = [name for name in _REJECT_OF_TEXT if name != "stage"]
        for (round,), group in failed.group_by("round"):
            # A text of another round is no success of this one.
            for frame in self.annotation_batches(columns, round=int(str(round))):
                later.append(group.join(frame, on=columns, how="semi"))
        return pl.concat(later)


def snapshot_file(root: Path, round: int) -> Path:
    """Where the copy of the corrections of a round's time lies."""
    return root / "snapshots" / f"round={round:03d}" / "corrections.parquet"


def clip_of(row: dict[str, Any]) -> Clip:
    """A clip from a row of its frame."""
    return Clip(**{**row, "cues": tuple(Cue(**cue) for cue in row["cues"])})


def annotation_of(row: dict[str, Any]) -> Annotation:
    """An annotation from a row of its frame."""
    return Annotation(**row)


def _scores() -> list[pl.Expr]:
    """A judgement's scores, a column for each criterion; null where there are none."""
    return [pl.col("scores").list.get(n, null_on_oob=True).alias(name) for n, name in enumerate(CRITERIA)]


def _texts(kind: str | None, purpose: str | None) -> pl.Expr | None:
    """Which annotations are of this kind and purpose; None is all."""
    if kind == "evaluation":
        # What captions that measure were called before texts had a purpose.
        kind, purpose = CAPTION, MEASURE
    if kind is not None and purpose is None:
        purpose = LEARN
    tests = [pl.col(name) == value for name, value in (("kind", kind), ("purpose", purpose)) if value is not None]
    return pl.all_horizontal(tests) if tests else None


def _with_newest(clips: pl.DataFrame, names: Sequence[str], words: pl.DataFrame) -> pl.DataFrame:
    """The clips, those that have rows of words with the last of them in these columns."""
    newest = words.unique("clip_id", keep="last").rename({"clip_id": "id"})
    joined = clips.join(newest, on="id", how="left", suffix="__later", maintain_order="left")
    return joined.with_columns(pl.coalesce(f"{name}__later", name).alias(name) for name in names).select(clips.columns)


def path_forms(name: str) -> set[str]:
    """The places that a path on the command line may mean; a link into a store is on record under its own name."""
    path = Path(name)
    return {name, str(path.resolve()), str(path.parent.resolve() / path.name)}


def _with_places(clips: pl.DataFrame, places: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """The clips with ``uri`` replaced where their content was seen."""
    seen = pl.DataFrame(places, schema={"content_hash": pl.String, "seen": pl.String}, orient="row")
    clips = clips.join(seen, on="content_hash", how="left", maintain_order="left")
    return clips.with_columns(uri=pl.coalesce("seen", "uri")).drop("seen")
