"""Videos by content: on which side of the corpus each is, and which others are copies of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.types import Split
from flywheel.store import schema
from flywheel.store.database import Database, parts
from flywheel.store.reading import RecordReader

#: Copies are looked for among at most so many videos that share a band: a picture that very many show tells nothing.
MOST_PER_BAND = 256
#: Pictures of a video that must share a band with those of another before the two are compared.
_LEAST_PICTURES = 2
#: Remembers that the videos of older layouts are listed.
LISTED = "videos_listed"
#: Says "yes" while the corpus is being split anew: clips and videos may be on different sides then.
RESPLITTING = "resplitting"


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video. ``side`` is empty where older versions put its clips on several.

    ``family`` names the videos that share its side, ``shared`` what its source says they share; ``streams`` hashes the
    coded pictures, ``pictures`` are those to compare with, ``bands`` their words in the index, picture by picture.
    """

    content_hash: str
    family: str
    side: Split | str
    shared: str = ""
    streams: str = ""
    pictures: bytes = b""
    bands: Sequence[Sequence[int]] = ()

    @property
    def number(self) -> int:
        return number_of(self.content_hash)


def number_of(content_hash: str) -> int:
    """The number under which a content is listed: 60 bits."""
    return int(hashlib.sha256(content_hash.encode()).hexdigest()[:15], 16)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Test and anchor clips: how many there are, and how many of them are of videos that also have train clips."""

    clips: int
    measured: int

    def __str__(self) -> str:
        share = 100 * self.clips / self.measured
        return (
            f"{self.clips} of {self.measured} test and anchor clips ({share:.0f} %) are of videos that also have train "
            "clips, so figures flatter the models. Split anew by video: flywheel resplit"
        )


class Videos:
    """Reads and writes the list of videos; only the holder of the workspace's lock may write."""

    def __init__(self, database: Database, records: RecordReader) -> None:
        self._db, self._records = database, records

    def known(self, content_hashes: Iterable[str]) -> dict[str, Video]:
        """Those of these contents that are listed."""
        numbers = {number_of(content_hash) for content_hash in content_hashes}
        return {video.content_hash: video for video in self._select("number", numbers)}

    def sharing(self, shared: str) -> list[Video]:
        """A video whose source says this of it; none for an empty word."""
        if not shared:
            return []
        with self._db.transaction() as connection:
            return [_video(row) for row in connection.execute(_rows().where(_c.shared == shared).limit(1))]

    def with_streams(self, streams: str) -> list[Video]:
        """Videos with the same coded pictures; none for an empty hash."""
        return self._select("streams", {streams} if streams else set())

    def showing(self, bands: Collection[int]) -> list[Video]:
        """Videos of which at least two pictures have one of these bands: those worth comparing."""
        columns, hits = schema.looks_like.c, dict[int, set[int]]()
        query = sql.select(columns.number, columns.picture)
        with self._db.transaction() as connection:
            for part in parts(sorted(bands)):
                for number, picture in connection.execute(query.where(columns.band.in_(part))):
                    hits.setdefault(number, set()).add(picture)
        return self._select("number", {n for n, pictures in hits.items() if len(pictures) >= _LEAST_PICTURES})

    def add(self, videos: Sequence[Video]) -> None:
        """List these videos; those that are listed already stay as they are."""
        if not videos:
            return
        rows = [{**_row(video), "number": video.number} for video in videos]
        with self._db.transaction() as connection:
            self._db.insert_new(connection, schema.videos, rows)
            self._index(connection, videos)

    def describe(self, video: Video) -> None:
        """Note what tells copies of a listed video: its streams and pictures."""
        with self._db.transaction() as connection:
            values = {"streams": video.streams, "pictures": video.pictures}
            connection.execute(sql.update(schema.videos).where(_c.number == video.number).values(values))
            self._index(connection, [video])

    def _index(self, connection: sql.Connection, videos: Sequence[Video]) -> None:
        words = {
            (band, video.number, place): None for video in videos for place, of in enumerate(video.bands) for band in of
        }
        crowded = self._crowded(connection, {band for band, _, _ in words})
        names = ("band", "number", "picture")
        rows = [dict(zip(names, word, strict=True)) for word in words if word[0] not in crowded]
        self._db.insert_new(connection, schema.looks_like, rows)

    def batches(self, size: int = 1_000) -> Iterator[list[Video]]:
        """All videos, by number."""
        last = -1
        while True:
            with self._db.transaction() as connection:
                rows = connection.execute(_rows().where(_c.number > last).order_by(_c.number).limit(size)).all()
            if not rows:
                return
            last = rows[-1].number
            yield [_video(row) for row in rows]

    def joined(self) -> list[tuple[str, str]]:
        """Families on different sides that a refused video joined."""
        with self._db.transaction() as connection:
            return [(row.first, row.second) for row in connection.execute(sql.select(schema.joined))]

    def draw(self, side_of: Callable[[str], Split], mark: Mapping[str, str]) -> None:
        """Put every family on the side that its name draws, and note ``mark``; all of it or nothing.

        The families that refused videos joined must be one by then: they are forgotten.
        """
        with self._db.change() as (connection, _):
            names = connection.execute(sql.select(_c.family).distinct()).scalars().all()
            for side in ("train", "test", "anchor"):
                for part in parts(name for name in names if side_of(name) == side):
                    connection.execute(sql.update(schema.videos).where(_c.family.in_(part)).values(side=side))
            connection.execute(sql.delete(schema.joined))
            for key, value in mark.items():
                self._db.replace(connection, schema.meta, {"key": key, "value": value})

    def sides(self, content_hashes: Iterable[str]) -> dict[str, str]:
        """Contents -> their sides, of those that are listed."""
        query, found = sql.select(_c.content_hash, _c.side), dict[str, str]()
        with self._db.transaction() as connection:
            for part in parts({number_of(h) for h in content_hashes}):
                found |= dict(connection.execute(query.where(_c.number.in_(part))).all())
        return found

    def unite(self, families: Collection[str], into: str) -> None:
        """Make several families one; what was noted of them is of that one from now on."""
        with self._db.transaction() as connection:
            for part in parts(sorted(set(families) - {into})):
                connection.execute(sql.update(schema.videos).where(_c.family.in_(part)).values(family=into))
                self._rename_joined(connection, set(part), into)

    def _rename_joined(self, connection: sql.Connection, names: set[str], into: str) -> None:
        for column in (schema.joined.c.first, schema.joined.c.second):
            rows = connection.execute(sql.select(schema.joined).where(column.in_(names))).all()
            pairs = {tuple(sorted(into if name in names else name for name in row)) for row in rows}
            connection.execute(sql.delete(schema.joined).where(column.in_(names)))
            renamed = [{"first": first, "second": second} for first, second in pairs if first != second]
            self._db.insert_new(connection, schema.joined, renamed)

    def note_joined(self, families: Collection[str]) -> None:
        """Remember that families on different sides belong together."""
        first, *others = sorted(families)
        with self._db.transaction() as connection:
            self._db.insert_new(connection, schema.joined, [{"first": first, "second": other} for other in others])

    def families(self) -> dict[str, int]:
        """Names of all families -> how many videos each has."""
        query = sql.select(_c.family, sql.func.count()).group_by(_c.family)
        with self._db.transaction() as connection:
            return {name: int(count) for name, count in connection.execute(query)}

    def count(self, *, divided: bool = False) -> int:
        """How many videos are listed; or how many of them have clips on several sides."""
        query = sql.select(sql.func.count()).select_from(schema.videos)
        with self._db.transaction() as connection:
            return int(connection.execute(query.where(_c.side == "") if divided else query).scalar_one())

    def leak(self) -> Leak | None:
        """How many test and anchor clips are of videos that also have train clips; None where none is.

        Only versions that drew clips one by one left such: a list without divided videos answers at once.
        """
        if self._is_listed() and not self.count(divided=True):
            return None
        learned = self._hashes(pl.col("split") == "train").unique()
        measured = self._hashes(pl.col("split") != "train")
        clips = int(measured.is_in(learned.implode()).sum())
        return Leak(clips=clips, measured=len(measured)) if clips else None

    def _hashes(self, where: pl.Expr) -> pl.Series:
        """A number for each such clip that says whose video it is: 8 bytes a clip."""
        frames = self._records.batches("clips", columns=["content_hash"], where=where)
        return pl.concat([pl.Series(dtype=pl.UInt64), *(frame["content_hash"].hash(0) for frame in frames)])

    def list_older(self) -> None:
        """List the videos of clips that versions without this list took in. A video on several sides is marked so."""
        if self._is_listed():
            return
        columns = ["id", "content_hash", "split"]
        for frame in self._records.batches("clips", columns=columns):
            first = frame.unique("content_hash", keep="first", maintain_order=True)
            self.add([Video(content_hash=h, family=i, side=s) for i, h, s in first.iter_rows()])
            self._mark_divided(frame.select("content_hash", "split").unique())
        with self._db.transaction() as connection:
            self._db.replace(connection, schema.meta, {"key": LISTED, "value": "yes"})

    def _is_listed(self) -> bool:
        query = sql.select(schema.meta.c.value).where(schema.meta.c.key == LISTED)
        with self._db.transaction() as connection:
            return connection.execute(query).scalar() is not None

    def _mark_divided(self, sides: pl.DataFrame) -> None:
        known = self.known(sides["content_hash"].unique())
        divided = {number_of(h) for h, side in sides.iter_rows() if known[h].side != side}
        with self._db.transaction() as connection:
            for part in parts(sorted(divided)):
                connection.execute(sql.update(schema.videos).where(_c.number.in_(part)).values(side=""))

    def _crowded(self, connection: sql.Connection, bands: Collection[int]) -> set[int]:
        column, crowded = schema.looks_like.c.band, set[int]()
        for part in parts(sorted(bands)):
            query = sql.select(column).where(column.in_(part)).group_by(column)
            crowded |= set(connection.execute(query.having(sql.func.count() >= MOST_PER_BAND)).scalars())
        return crowded

    def _select(self, column: str, values: Collection[Any]) -> list[Video]:
        found: list[Video] = []
        if not values:
            return found
        with self._db.transaction() as connection:
            for part in parts(sorted(values)):
                found += [_video(row) for row in connection.execute(_rows().where(_c[column].in_(part)))]
        return found


class WaitingVideos:
    """The list of videos, with some that are decided and not yet written: they are written together."""

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._waiting: dict[str, Video] = {}
        self._by_band: dict[int, dict[str, set[int]]] = {}

    def known(self, content_hashes: Iterable[str]) -> dict[str, Video]:
        """As :meth:`Videos.known`."""
        wanted = set(content_hashes)
        waiting = {h: self._waiting[h] for h in wanted & self._waiting.keys()}
        return {**self._videos.known(wanted - waiting.keys()), **waiting}

    def sharing(self, shared: str) -> list[Video]:
        """As :meth:`Videos.sharing`."""
        waiting = [v for v in self._waiting.values() if shared and v.shared == shared]
        return waiting[:1] or self._videos.sharing(shared)

    def with_streams(self, streams: str) -> list[Video]:
        """As :meth:`Videos.with_streams`."""
        waiting = [v for v in self._waiting.values() if streams and v.streams == streams]
        return [*self._videos.with_streams(streams), *waiting]

    def showing(self, bands: Collection[int]) -> list[Video]:
        """As :meth:`Videos.showing`."""
        hits: dict[str, set[int]] = {}
        for band in bands:
            for content_hash, pictures in self._by_band.get(band, {}).items():
                hits.setdefault(content_hash, set()).update(pictures)
        waiting = [self._waiting[h] for h, pictures in hits.items() if len(pictures) >= _LEAST_PICTURES]
        return [*self._videos.showing(bands), *waiting]

    def add(self, video: Video) -> None:
        """List a video with the next :meth:`write`."""
        self._waiting[video.content_hash] = video
        for picture, bands in enumerate(video.bands):
            for band in bands:
                self._by_band.setdefault(band, {}).setdefault(video.content_hash, set()).add(picture)

    def unite(self, families: Collection[str], into: str) -> None:
        """As :meth:`Videos.unite`; what waits is written first."""
        if len({*families, into}) > 1:
            self.write()
            self._videos.unite(families, into)

    def note_joined(self, families: Collection[str]) -> None:
        """As :meth:`Videos.note_joined`."""
        self._videos.note_joined(families)

    def write(self) -> None:
        """Write what waits."""
        self._videos.add(list(self._waiting.values()))
        self._waiting, self._by_band = {}, {}


_c = schema.videos.c


def _rows() -> sql.Select[Any]:
    return sql.select(schema.videos)


def _video(row: sql.Row[Any]) -> Video:
    return Video(**{name: row._mapping[name] for name in _STORED})


_STORED = ("content_hash", "family", "side", "shared", "streams", "pictures")


def _row(video: Video) -> dict[str, Any]:
    return {name: getattr(video, name) for name in _STORED}
