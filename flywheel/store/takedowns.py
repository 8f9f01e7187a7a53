"""Clips that were taken down: the notes of them, and the removal of all that the store holds of a clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.types import SHUFFLED, content_id
from flywheel.store import schema
from flywheel.store.columns import SCHEMAS
from flywheel.store.database import Database, parts
from flywheel.store.ledger import Ledger
from flywheel.store.records import Records
from flywheel.store.videos import Video
from flywheel.store.view import snapshot_file

#: Kinds of text that tell of other clips of the video than their own.
_OF_SEVERAL = ("redundancy", "narrative")
#: Spans that share no more than this are neighbours.
_TOUCH_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a video that was taken down, in seconds of its file; without times the whole of it."""

    content_hash: str
    streams: str = ""
    start_s: float | None = None
    end_s: float | None = None
    reason: str

    def is_whole(self) -> bool:
        """Whether nothing of the video may come back."""
        return self.start_s is None or self.end_s is None

    def overlaps(self, start_s: float, end_s: float) -> bool:
        """Whether a clip of these times shows something of the span."""
        if self.start_s is None or self.end_s is None:
            return True
        return min(end_s, self.end_s) - max(start_s, self.start_s) > _TOUCH_S


#: Key of a note's usage that names the clip in whose note it stands.
_NOTED_WITH = "noted_with"
_SPAN_COLUMNS = ("content_hash", "streams", "start_s", "end_s", "reason")


class Takedowns:
    """Notes what was taken down, and removes it; only the holder of the workspace's lock may write."""

    def __init__(self, root: Path, database: Database, records: Records, ledger: Ledger) -> None:
        self._root, self._db, self._records, self._ledger = root, database, records, ledger

    def reasons(self) -> dict[str, str]:
        """Ids of clips that were taken down -> why. They are refused when they come again."""
        columns = schema.takedowns.c
        with self._db.transaction() as connection:
            return dict(connection.execute(sql.select(columns.clip_id, columns.reason)).all())

    def count(self) -> int:
        """How many clips were taken down."""
        with self._db.transaction() as connection:
            return int(connection.execute(sql.select(sql.func.count()).select_from(schema.takedowns)).scalar_one())

    def among(self, clip_ids: Iterable[str]) -> set[str]:
        """Those of these clips that were taken down, or are being taken down."""
        column, found = schema.takedowns.c.clip_id, set[str]()
        with self._db.transaction() as connection:
            for part in parts(clip_ids):
                found |= set(connection.execute(sql.select(column).where(column.in_(part))).scalars())
        return found

    def refusals(self, videos: Iterable[Video]) -> dict[str, list[Span]]:
        """Content hashes of these videos -> what of them was taken down, in this container or in another."""
        columns, wanted = schema.refused.c, list(videos)
        if not wanted:
            return {}
        found: dict[str, Span] = {}
        with self._db.transaction() as connection:
            for part in parts(wanted):
                streams = [video.streams for video in part if video.streams]
                where = columns.content_hash.in_([v.content_hash for v in part]) | columns.streams.in_(streams)
                for row in connection.execute(sql.select(schema.refused).where(where)):
                    found[row.id] = Span(**{name: row._mapping[name] for name in _SPAN_COLUMNS})
        of = {
            v.content_hash: [
                s for s in found.values() if s.content_hash == v.content_hash or (v.streams and s.streams == v.streams)
            ]
            for v in wanted
        }
        return {content_hash: spans for content_hash, spans in of.items() if spans}

    def note(
        self, clip_ids: Collection[str], reason: str, usage: Mapping[str, Any], spans: Collection[Span] = ()
    ) -> None:
        """Note that these clips go, why, where they were used, and what is refused from now on. Earlier notes stay."""
        ids, row = sorted(clip_ids), {"reason": reason, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        # Once for all of them: a file's thousand clips would each hold what a thousand were used for.
        texts = [json.dumps(dict(usage))] + [json.dumps({_NOTED_WITH: i}) for i in ids[:1]] * (len(ids) - 1)
        with self._db.change() as (connection, _):
            notes = [{"clip_id": i, **row, "usage": text} for i, text in zip(ids, texts, strict=False)]
            self._db.insert_new(connection, schema.takedowns, notes)
            rows = [{"id": content_id("refused", s.content_hash, s.start_s, s.end_s), **asdict(s)} for s in spans]
            self._db.insert_new(connection, schema.refused, rows)

    def usage(self, clip_ids: Collection[str]) -> dict[str, Any] | None:
        """Where these clips were used, as it was noted; None where nothing was."""
        columns = schema.takedowns.c
        query = sql.select(columns.usage).order_by(columns.clip_id).limit(1)
        with self._db.transaction() as connection:
            for part in parts(sorted(clip_ids)):
                if (text := connection.execute(query.where(columns.clip_id.in_(part))).scalar()) is not None:
                    break
            else:
                return None
            usage = dict(json.loads(text))
            if with_clip := usage.get(_NOTED_WITH):
                usage = json.loads(connection.execute(query.where(columns.clip_id == with_clip)).scalar_one())
        return usage

    def remove_records(self, clip_ids: Collection[str]) -> dict[str, int]:
        """Remove all records of these clips but the clips themselves; returns how many of each kind."""
        texts = self._records.of_clips("annotations", clip_ids, columns=["id"])["id"].to_list()
        contents = self._records.rows("clips", clip_ids, columns=["content_hash"])["content_hash"].unique().to_list()
        removed = self._remove_twins(clip_ids)
        for kind, count in self._remove_tellings(clip_ids, contents).items():
            removed[kind] = removed.get(kind, 0) + count
        # Annotations last: what hangs on them is found by their ids.
        for kind in sorted(SCHEMAS, key=lambda kind: kind == "annotations"):
            if kind == "clips":
                continue
            if "clip_id" in SCHEMAS[kind]:
                gone = self._records.remove({kind: pl.col("clip_id").is_in(sorted(clip_ids))})
                removed[kind] = removed.get(kind, 0) + gone[kind]
            elif "annotation_id" in SCHEMAS[kind]:
                removed |= self._records.remove({kind: pl.col("annotation_id").is_in(texts)})
            elif "content_hash" in SCHEMAS[kind]:
                # What is of the whole file. Its other clips keep their own parts.
                removed |= self._records.remove({kind: pl.col("content_hash").is_in(contents)})
        return removed

    def _remove_twins(self, clip_ids: Collection[str]) -> dict[str, int]:
        """Remove what other clips have of these: judgements of their pictures with the sounds of these."""
        with_these = pl.col("other_id").is_in(sorted(clip_ids))
        others = self._records.read("twins", columns=["clip_id"], where=with_these)["clip_id"].unique().to_list()
        if not others:
            return {}
        of_others, shuffled = pl.col("clip_id").is_in(sorted(others)), pl.col("purpose") == SHUFFLED
        texts = self._records.read("annotations", columns=["generation_id"], where=of_others & ~shuffled)
        # Replies that gave no text say no whose they are: of these clips only those that texts stand on stay.
        replies = of_others & ~pl.col("id").is_in(texts["generation_id"].to_list())
        removed = self._records.remove({"generations": replies, "annotations": of_others & shuffled})
        # Pairs last: they are what is found by, killed between.
        return (
            removed
            | self._records.remove({"control_judgements": with_these})
            | self._records.remove({"twins": with_these})
        )

    def _remove_tellings(self, clip_ids: Collection[str], contents: Collection[str]) -> dict[str, int]:
        """Remove what other clips of these videos have of these: accounts of several shots, and their replies."""
        of_videos = pl.col("content_hash").is_in(sorted(contents)) & ~pl.col("id").is_in(sorted(clip_ids))
        others = self._records.read("clips", columns=["id"], where=of_videos)["id"].to_list()
        of_others, of_several = pl.col("clip_id").is_in(sorted(others)), pl.col("kind").is_in(_OF_SEVERAL)
        columns = ["generation_id", "kind"]
        texts = self._records.read("annotations", columns=columns, where=of_others) if others else pl.DataFrame()
        if texts.is_empty() or not texts["kind"].is_in(_OF_SEVERAL).any():
            return {}
        # As of twins: replies that gave no text go too.
        kept = texts.filter(~of_several)["generation_id"].to_list()
        return self._records.remove(
            {"generations": of_others & ~pl.col("id").is_in(kept), "annotations": of_others & of_several}
        )

    def remove_clips(self, clip_ids: Collection[str], *, keep_removals: bool = False) -> dict[str, int]:
        """Remove the clips themselves, and the places of files that give no other clip; returns how many clips.

        That such a file's source was removed, with its path, goes too, but where it is only cut otherwise.
        """
        hashes = set(self._records.rows("clips", clip_ids, columns=["content_hash"])["content_hash"])
        others = pl.col("content_hash").is_in(sorted(hashes)) & ~pl.col("id").is_in(sorted(clip_ids))
        kept = set(self._records.read("clips", columns=["content_hash"], where=others)["content_hash"])
        # Before the clips: a file that comes again must not be taken for one that is in.
        with self._db.change() as (connection, _):
            for part in parts(sorted(hashes - kept)):
                where = schema.locations.c.content_hash.in_(part)
                connection.execute(sql.delete(schema.locations).where(where))
        if not keep_removals:
            self._records.remove({"removals": pl.col("video").is_in(sorted(hashes - kept))})
        return self._records.remove({"clips": pl.col("id").is_in(sorted(clip_ids))})

    def forget_people(self, clip_ids: Collection[str]) -> int:
        """Remove people's words of these clips, from the snapshots too; returns how many corrections of today."""
        corrections, gold, leases = schema.corrections, schema.gold, schema.leases
        count = 0
        with self._db.change() as (connection, _):
            for part in parts(sorted(clip_ids)):
                these = corrections.c.clip_id.in_(part)
                texts = sql.select(corrections.c.annotation_id).where(these).distinct()
                for annotation_id in connection.execute(texts).scalars().all():
                    connection.execute(
                        sql.delete(leases).where(leases.c.annotation_id.startswith(annotation_id, autoescape=True))
                    )
                count += connection.execute(sql.delete(corrections).where(these)).rowcount
                connection.execute(sql.delete(gold).where(gold.c.clip_id.in_(part)))
                for table in (schema.flags, schema.preferences):
                    connection.execute(sql.delete(table).where(table.c.clip_id.in_(part)))
        for round in self._ledger.rounds():
            self._forget_in_snapshot(round, set(clip_ids))
        return count

    def _forget_in_snapshot(self, round: int, clip_ids: set[str]) -> None:
        snapshot = self._ledger.snapshot(round)
        if snapshot is None:
            return
        file = snapshot_file(self._root, round)
        frame = pl.read_parquet(file, glob=False)
        kept = frame.filter(~pl.col("clip_id").is_in(sorted(clip_ids)))
        gold = {clip_id: text for clip_id, text in snapshot.gold.items() if clip_id not in clip_ids}
        if kept.height == frame.height and gold == snapshot.gold:
            return
        temporary = file.with_suffix(".tmp")
        kept.write_parquet(temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        # The hash first: killed between, the file still holds the rows, so the same takedown finds and removes them.
        self._ledger.set_snapshot(replace(snapshot, corrections_sha256=digest, gold=gold))
        temporary.replace(file)
