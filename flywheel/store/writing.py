"""Writers of a workspace's records and corrections; the caller holds the lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.config import Config
from flywheel.core.errors import UserError
from flywheel.core.types import (
    CAPTION,
    LEARN,
    Annotation,
    Clip,
    Correction,
    Cue,
    Generation,
    NoiseSignal,
    Preference,
    SoundVersion,
    Stage,
    content_id,
    form_of,
)
from flywheel.store import schema
from flywheel.store.database import Database, parts
from flywheel.store.mirror import is_gone
from flywheel.store.places import on_record, whole
from flywheel.store.records import Records
from flywheel.store.times import time_after
from flywheel.store.view import CURATION_RUN, View


class TakenDown(UserError):
    """What was written is about a clip that was taken down."""


#: Decisions of one commit.
_DECISIONS_TOGETHER = 131_072
_NEWEST = sql.select(sql.func.max(schema.corrections.c.at))
_NEWEST_CHOICE = sql.select(sql.func.max(schema.preferences.c.at))


class WritableView(View):
    """The workspace as it is now, with the writers of all kinds of records."""

    records: Records

    def __init__(self, root: Path, config: Config, database: Database) -> None:
        super().__init__(root, config, database)
        self.records = Records(root, database)

    def add_clips(self, clips: Iterable[Clip]) -> int:
        """Add clips, and note that their files were taken in; returns how many were new."""
        new = list(clips)
        count = self.records.append("clips", [asdict(clip) for clip in new])
        # Afterwards: killed between, the file is looked at once more, and nothing is added twice.
        self._note_ingested({clip.content_hash: clip.uri for clip in new})
        return count

    def known_contents(self, hashes: Iterable[str]) -> set[str]:
        """Those of these content hashes whose files gave clips."""
        wanted = list(hashes)
        states = self._ingested(wanted)
        if None in states.values():
            self.settle_ingested()
            states = self._ingested(wanted)
        return {content_hash for content_hash, ingested in states.items() if ingested}

    def locate(self, places: Mapping[str, str], stamps: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Remember where contents (hash -> path) lie now, unless the place on record still exists.

        ``stamps`` are bytes and time of change (ns) of the files at these paths when their contents were read.
        """
        locations = schema.locations
        query = sql.select(locations.c.content_hash, locations.c.uri)
        with self.database.transaction() as connection:
            before: dict[str, str] = {}
            for part in parts(places):
                rows = connection.execute(query.where(locations.c.content_hash.in_(part))).all()
                before.update({content_hash: whole(self.root, uri) for content_hash, uri in rows})
            new = [
                {"content_hash": h, "uri": on_record(self.root, uri), "ingested": False}
                for h, uri in places.items()
                if h not in before
            ]
            self.database.insert_new(connection, locations, new)
            here = {h for h, uri in places.items() if before.get(h, uri) == uri or is_gone(self.root, before[h])}
            moved = [h for h in here if before.get(h, places[h]) != places[h]]
            for content_hash in moved:
                where = locations.c.content_hash == content_hash
                values = {"uri": on_record(self.root, places[content_hash]), "num_bytes": None, "mtime_ns": None}
                connection.execute(sql.update(locations).where(where).values(values))
            found = [{"hash": h, "size": size, "at": at} for h, (size, at) in (stamps or {}).items() if h in here]
            if found:
                update = sql.update(locations).where(locations.c.content_hash == sql.bindparam("hash"))
                update = update.values(num_bytes=sql.bindparam("size"), mtime_ns=sql.bindparam("at"))
                connection.execute(update, found)

    def add_generations(self, generations: Iterable[Generation]) -> int:
        """Add models' replies; returns how many were new."""
        return self.records.append("generations", [dict(vars(generation)) for generation in generations])

    def add_annotations(self, annotations: Sequence[Annotation], round: int) -> int:
        """Add texts of a round; returns how many were new."""
        return self.records.append("annotations", [dict(vars(a)) for a in annotations], round=round)

    def add_tracks(self, tracks: Mapping[str, str]) -> int:
        """Note of clips which streams of their files were chosen and left, as JSON; returns how many."""
        return self.records.append(
            "tracks", [{"id": clip_id, "clip_id": clip_id, "tracks": told} for clip_id, told in tracks.items()]
        )

    def add_transcripts(self, rows: Sequence[tuple[str, int, str, Sequence[Cue]]]) -> int:
        """Add words that came after their clips: (clip, how many it has already, words, cues); returns how many."""
        return self.records.append(
            "transcripts",
            [
                {
                    "id": content_id("transcript", clip_id, number, words),
                    "clip_id": clip_id,
                    "transcript": words,
                    "cues": [asdict(cue) for cue in cues],
                }
                for clip_id, number, words, cues in rows
            ],
        )

    def add_recognitions(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add what a recogniser made of files' sound, as :data:`flywheel.store.columns.SCHEMAS` has it; returns how
        many were new."""
        return self.records.append("recognitions", rows)

    def add_asr_transcripts(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add clips' parts of recognitions; returns how many were new."""
        return self.records.append("asr_transcripts", rows)

    def add_sounds(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add what clips' sounds told, as :data:`flywheel.store.columns.SCHEMAS` has it; returns how many were new."""
        return self.records.append("sounds", [{"version": "", **row} for row in rows])

    def add_speech_quality(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add what a network estimates of clips' sounds, as :data:`flywheel.store.columns.SCHEMAS` has it; returns how
        many were new."""
        return self.records.append("speech_quality", [{"version": "", **row} for row in rows])

    def add_sound_versions(self, versions: Sequence[SoundVersion]) -> int:
        """Add what became of clips' sounds; returns how many were new. Their files are there before."""
        return self.records.append("sound_versions", [dict(vars(version)) for version in versions])

    def add_vectors(self, rows: Sequence[dict[str, Any]]) -> int:
        """Add clips' vectors, as :func:`flywheel.store.vectors.vector_row` makes them; returns how many were new."""
        return self.records.append("vectors", rows)

    def add_decisions(self, run: str, decided: pl.DataFrame) -> int:
        """Add a run's decisions (``clip_id, kept, score, reason``) and put them in force; returns how many were new.

        They are in force when all are there: killed between, those before stay so.
        """
        added = 0
        for part in decided.iter_slices(_DECISIONS_TOGETHER):
            rows = [{**row, "run": run, "id": f"{run}:{row['clip_id']}"} for row in part.iter_rows(named=True)]
            added += self.records.append("decisions", rows)
        self._ledger.set_meta(CURATION_RUN, run)
        return added

    def add_clip_verdict(self, clip_id: str, *, kept: bool, reason: str) -> None:
        """Add what a lead said of a clip: it is kept, or dropped, whatever policies say."""
        number = self.records.of_clips("verdicts", [clip_id], columns=["id"]).height
        at = datetime.now(UTC).isoformat(timespec="seconds")
        row = {"id": content_id("verdict", clip_id, number, kept, reason), "clip_id": clip_id, "kept": kept}
        self.records.append("verdicts", [{**row, "reason": reason, "at": at}])

    def add_judgements(self, rows: Sequence[dict[str, Any]], round: int) -> int:
        """Add what a judge said of clips in a round; returns how many were new.

        Rows are as :data:`flywheel.store.columns.SCHEMAS` has them, but for ids and round, which are made here.
        """
        names = ("clip_id", "swapped", "seen_id", "heard_id", "generation_id", "unscored")
        keyed = [{**row, "round": round, "id": content_id(round, *(row[name] for name in names))} for row in rows]
        return self.records.append("judgements", keyed, round=round)

    def add_control_judgements(self, rows: Sequence[dict[str, Any]], round: int) -> int:
        """Add what a judge said of pairs that are no clip's own; returns how many were new.

        Rows are as :data:`flywheel.store.columns.SCHEMAS` has them, but for ids and round, which are made here.
        """
        names = ("clip_id", "other_id", "purpose", "generation_id", "unscored")
        keyed = [{**row, "round": round, "id": content_id(round, *(row[name] for name in names))} for row in rows]
        return self.records.append("control_judgements", keyed, round=round)

    def add_twins(self, others: Mapping[str, str]) -> int:
        """Add clips (ids) with the clips whose sound they are judged with to calibrate; returns how many were new."""
        rows = [{"id": content_id("twin", *pair), "clip_id": pair[0], "other_id": pair[1]} for pair in others.items()]
        return self.records.append("twins", rows)

    def add_match_probabilities(self, run: str, found: pl.DataFrame) -> int:
        """Add P(match) (``clip_id``, ``p_match``) as a run of curation had it; returns how many were new."""
        added = 0
        for part in found.iter_slices(_DECISIONS_TOGETHER):
            rows = [{**row, "run": run, "id": f"{run}:{row['clip_id']}"} for row in part.iter_rows(named=True)]
            added += self.records.append("match_probabilities", rows)
        return added

    def add_noise_signals(self, signals: Sequence[NoiseSignal], round: int) -> int:
        """Add what a round's training thought of texts; returns how many were new."""
        rows = [{"id": content_id(round, s.annotation_id, s.origin), "round": round, **asdict(s)} for s in signals]
        return self.records.append("noise_signals", rows, round=round)

    def add_examples(self, rows: Sequence[dict[str, Any]], round: int) -> int:
        """Add what a stage of the round learned from; returns how many were new.

        Rows are as :data:`flywheel.store.columns.SCHEMAS` has them, but for ids and round, which are made here.
        """
        keyed = [{**row, "round": round, "id": content_id(round, *row.values())} for row in rows]
        return self.records.append("examples", keyed, round=round)

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
        about: str = "",
    ) -> int:
        """Add a failure; returns 0 where it is on record. The same failure of the same thing is one row."""
        return self.add_rejects([reject(round, stage, uri, clip_id, reason, kind, purpose, about)], round)

    def add_rejects(self, rows: Sequence[dict[str, Any]], round: int) -> int:
        """Add failures of a round, as :func:`reject` makes them; returns how many were new."""
        return self.records.append("rejected", rows, round=round)

    def dismiss(self, reject_ids: Sequence[str], reason: str) -> int:
        """Close rejects, with a reason; returns how many were open. The same failure stays closed."""
        rows = self.records.rows("rejected", reject_ids, ["id", "clip_id"])
        at = datetime.now(UTC).isoformat(timespec="seconds")
        closed = [{**row, "reason": reason, "at": at} for row in rows.iter_rows(named=True)]
        return self.records.append("dismissals", closed)

    def add_corrections(
        self,
        corrections: Sequence[Correction],
        *,
        said_now: Collection[str] = (),
        check: Callable[[sql.Connection], None] | None = None,
    ) -> int:
        """Add all corrections that are new, in one transaction; returns how many were.

        Those with the ids ``said_now`` get this time, in their order, and later than all that was said before: the time
        is what they are ordered by, and clocks are set back. ``check`` is called with the lock of writing, so that
        what it sees is so until these are added: what it raises adds none. Raises TakenDown, and adds none, where a
        clip was taken down meanwhile.
        """
        with self.database.change() as (connection, _):
            # With the lock of writing: a takedown that is noted later removes these.
            _check_not_taken_down(connection, {c.clip_id for c in corrections})
            if check is not None:
                check(connection)
            times = _times(connection, _NEWEST, corrections, said_now)
            rows = [{**asdict(c), "at": at} for c, at in zip(corrections, times, strict=True)]
            return self.database.insert_new(connection, schema.corrections, rows)

    def add_preferences(
        self,
        preferences: Sequence[Preference],
        *,
        said_now: Collection[str] = (),
        check: Callable[[sql.Connection], None] | None = None,
    ) -> int:
        """Add all choices that are new, in one transaction; returns how many were.

        ``said_now``, ``check`` and what is raised as in :meth:`add_corrections`.
        """
        with self.database.change() as (connection, change):
            _check_not_taken_down(connection, {p.clip_id for p in preferences})
            if check is not None:
                check(connection)
            times = _times(connection, _NEWEST_CHOICE, preferences, said_now)
            rows = [
                {**asdict(p), "pair_id": p.pair_id, "at": at, "change": change}
                for p, at in zip(preferences, times, strict=True)
            ]
            return self.database.insert_new(connection, schema.preferences, rows)

    def _ingested(self, hashes: Iterable[str]) -> dict[str, bool | None]:
        """Content hashes on record -> whether they gave clips; None where it was not noted."""
        columns = schema.locations.c
        query = sql.select(columns.content_hash, columns.ingested)
        states: dict[str, bool | None] = {}
        with self.database.transaction() as connection:
            for part in parts(hashes):
                states.update(connection.execute(query.where(columns.content_hash.in_(part))).all())
        return states

    def _note_ingested(self, places: Mapping[str, str]) -> None:
        locations = schema.locations
        rows = [{"content_hash": h, "uri": on_record(self.root, u), "ingested": True} for h, u in places.items()]
        with self.database.transaction() as connection:
            self.database.insert_new(connection, locations, rows)
            for part in parts(places):
                where = locations.c.content_hash.in_(part)
                connection.execute(sql.update(locations).where(where).values(ingested=True))

    def settle_ingested(self) -> None:
        """Note of all contents whether they gave clips: workspaces of older layouts did not."""
        for frame in self.records.batches("clips", columns=["content_hash", "uri"]):
            first = frame.unique("content_hash", keep="first", maintain_order=True)
            self._note_ingested(dict(first.iter_rows()))
        unknown = schema.locations.c.ingested.is_(None)
        with self.database.transaction() as connection:
            connection.execute(sql.update(schema.locations).where(unknown).values(ingested=False))


def _times(
    connection: sql.Connection,
    newest_of: sql.Select[Any],
    decisions: Sequence[Correction] | Sequence[Preference],
    said_now: Collection[str],
) -> list[str]:
    """When each was said; those of ``said_now`` now, in their order and later than all on record."""
    newest = connection.execute(newest_of).scalar() if said_now else None
    times = []
    for decision in decisions:
        at = decision.at.astimezone(UTC).isoformat()
        if decision.id in said_now:
            at = newest = time_after(newest)
        times.append(at)
    return times


def _check_not_taken_down(connection: sql.Connection, clip_ids: Iterable[str]) -> None:
    column = schema.takedowns.c.clip_id
    for part in parts(sorted(clip_ids)):
        gone = connection.execute(sql.select(column).where(column.in_(part)).limit(1)).scalar()
        if gone is not None:
            raise TakenDown(f"clip {gone}: was taken down; nothing can be said of it any more.")


def reject_id(round: int, kind: str, purpose: str, clip_id: str, about: str) -> str:
    """The id of the failure to write what a clip has several of in a round; ``about`` tells them apart."""
    return content_id("rejected", round, form_of(kind, purpose), clip_id, about)


def reject(
    round: int,
    stage: Stage,
    uri: str,
    clip_id: str,
    reason: str,
    kind: str = CAPTION,
    purpose: str = LEARN,
    about: str = "",
    source: str = "",
    span: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    """The row of a failure; kind and purpose are of a text that could not be written, ``about`` as :func:`reject_id`.

    ``source`` and ``span`` (start and end in seconds, None: not named) are of what ingest rejects. Names and reasons
    are on record as text, whatever bytes a name has.
    """
    if about:
        row = reject(round, stage, uri, clip_id, reason, kind, purpose)
        return {**row, "id": reject_id(round, kind, purpose, clip_id, about)}
    uri, reason, source = (text.encode("utf-8", "backslashreplace").decode() for text in (uri, reason, source))
    kind, purpose = (kind, purpose) if stage == "annotate" else ("", "")
    form = [form_of(kind, purpose)] if (kind, purpose) not in (("", ""), (CAPTION, LEARN)) else []
    return {
        "id": content_id(round, stage, uri, clip_id, reason, *form, *([span] if span != (None, None) else [])),
        "round": round,
        "uri": uri,
        "clip_id": clip_id,
        "stage": stage,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "purpose": purpose,
        "source": source,
        "start_s": span[0],
        "end_s": span[1],
    }
