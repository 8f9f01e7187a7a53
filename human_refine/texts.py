"""An index of all texts that people may correct: about a hundred bytes each, so that a million of them fit in memory.

It holds keys and numbers, no texts. :meth:`TextIndex.refreshed` reads the shards that were committed since, and
nothing else, unless shards it knows were rewritten (a takedown): then all are read again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.store import Workspace
from flywheel.store.arrays import is_among
from flywheel.store.parts import Shard, committed_shards, in_parts, read_columns, shards_of
from human_refine.ids import Ids, packed, ranks, unpacked
from human_refine.items import EDITABLE, EDITABLE_KINDS
from human_refine.order import Rows, order_keys
from human_refine.signals import TextBatch, Values, clip_keys, is_lasting, signal

#: Splits as numbers. Texts of other clips are never shown.
NOT_SHOWN, TRAIN, ANCHOR = 0, 1, 2
_SPLITS = {"train": TRAIN, "anchor": ANCHOR}
_COLUMNS = ["id", "round", "kind", "clip_id", "source", "mean_logprob", "purpose"]
_BATCH = 65_536


#: Columns of some entries of :class:`_AllRounds`.
_Entries = dict[str, NDArray[Any]]


def _empty(dtype: Any) -> NDArray[Any]:
    return np.empty(0, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class _AllRounds:
    """One entry per text of any round, by shard in the order of reading."""

    clip: NDArray[np.uint64] = field(default_factory=lambda: _empty(np.uint64))
    kind: NDArray[np.uint8] = field(default_factory=lambda: _empty(np.uint8))
    round: NDArray[np.int16] = field(default_factory=lambda: _empty(np.int16))
    by_model: NDArray[np.bool_] = field(default_factory=lambda: _empty(np.bool_))
    shard: Rows = field(default_factory=lambda: _empty(np.int32))
    #: Entries in the order of their clips' keys.
    by_clip: Rows = field(default_factory=lambda: _empty(np.int32))

    def extended(self, parts: list[_Entries]) -> _AllRounds:
        """With the entries of these parts, which are emptied on the way: both at once would be twice the memory."""
        if not parts:
            return self
        columns = {
            name: np.concatenate([getattr(self, name), *(part.pop(name) for part in parts)]) for name in list(parts[0])
        }
        return _AllRounds(**columns, by_clip=np.argsort(columns["clip"], kind="stable").astype(np.int32))

    def by_model_before(self, round: int, clips: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Entries of what models wrote of these clips before a round, in their order."""
        entries = np.flatnonzero(self.by_model & (self.round < round))
        return entries[is_among(self.clip[entries], clips)]

    def entries_of(self, clip: np.uint64) -> list[int]:
        """Entries of one clip."""
        first = bisect_left(self.by_clip, clip, key=lambda entry: self.clip[entry])
        return [int(e) for e in takewhile(lambda entry: self.clip[entry] == clip, self.by_clip[first:])]


@dataclass(frozen=True, kw_only=True)
class _Current:
    """One row per text that a model wrote in the newest round, in the order of their keys."""

    round: int = 0
    key: NDArray[np.uint64] = field(default_factory=lambda: _empty(np.uint64))
    ids: Ids = field(default_factory=lambda: packed([]))
    #: Where the text is in :class:`_AllRounds`.
    entry: Rows = field(default_factory=lambda: _empty(np.int32))
    mean_logprob: Values = field(default_factory=lambda: _empty(np.float64))
    #: Name of a lasting signal -> its value of each text.
    values: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Splits:
    """Split of each clip, in the order of the clips' keys."""

    clip: NDArray[np.uint64] = field(default_factory=lambda: _empty(np.uint64))
    split: NDArray[np.uint8] = field(default_factory=lambda: _empty(np.uint8))

    def extended(self, workspace: Workspace, shards: Sequence[Shard]) -> _Splits:
        clips, splits = [self.clip], [self.split]
        for part in in_parts(shards):
            frame = read_columns(workspace, "clips", [shard.name for shard in part], ["id", "split"])
            clips.append(clip_keys(frame["id"]))
            splits.append(frame["split"].replace_strict(_SPLITS, default=NOT_SHOWN, return_dtype=pl.UInt8).to_numpy())
        clip = np.concatenate(clips)
        order = np.argsort(clip, kind="stable")
        return _Splits(clip=clip[order], split=np.concatenate(splits)[order])

    def of(self, clips: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Split number of each of these clips."""
        found = np.full(len(clips), NOT_SHOWN, dtype=np.uint8)
        for start in range(0, len(clips) if len(self.clip) else 0, _BATCH):
            some = clips[start : start + _BATCH]
            place = np.minimum(np.searchsorted(self.clip, some), len(self.clip) - 1)
            found[start : start + _BATCH] = np.where(self.clip[place] == some, self.split[place], np.uint8(NOT_SHOWN))
        return found


@dataclass(frozen=True, kw_only=True)
class TextIndex:
    """The texts there are: those of the newest round as rows, those of all rounds by clip. Never changed once made."""

    workspace: Workspace
    #: Names of ``review.order``; only lasting ones have values here.
    signals: Sequence[str]
    #: Shard name -> its number in :class:`_AllRounds`.
    text_shards: Mapping[str, int] = field(default_factory=dict)
    clip_shards: frozenset[str] = frozenset()
    all_rounds: _AllRounds = field(default_factory=_AllRounds)
    current: _Current = field(default_factory=_Current)
    splits: _Splits = field(default_factory=_Splits)

    def refreshed(self) -> TextIndex:
        """The index of what is committed now; itself where nothing changed."""
        texts, clips = shards_of(self.workspace, "annotations"), shards_of(self.workspace, "clips")
        committed = {shard.name for shard in texts} | {shard.name for shard in clips}
        if not committed >= {*self.text_shards, *self.clip_shards}:
            return TextIndex(workspace=self.workspace, signals=self.signals).refreshed()
        new_texts = [shard for shard in texts if shard.name not in self.text_shards]
        new_clips = [shard for shard in clips if shard.name not in self.clip_shards]
        if not new_texts and not new_clips:
            return self
        index = self
        if new_clips:
            splits = self.splits.extended(self.workspace, new_clips)
            index = replace(index, splits=splits, clip_shards=self.clip_shards | {shard.name for shard in new_clips})
        return index._with_texts(new_texts) if new_texts else index

    def _with_texts(self, shards: Sequence[Shard]) -> TextIndex:
        numbers = dict(self.text_shards)
        entries: list[_Entries] = []
        current: list[_Current] = []
        newest, num_entries = self.current.round, len(self.all_rounds.clip)
        # The newest round first: only its texts' ids are kept.
        for part in in_parts(sorted(shards, key=lambda shard: -(shard.round or 0))):
            frame = self._entries(part, numbers)
            for round, rows in frame.filter("by_model").partition_by("round", as_dict=True).items():
                if round[0] > newest:
                    newest, current = round[0], []
                if round[0] == newest:
                    current.append(_current(newest, rows, num_entries))
            entries.append(_entries(frame))
            num_entries += frame.height
        index = replace(self, text_shards=numbers, all_rounds=self.all_rounds.extended(entries))
        parts = [self.current if newest == self.current.round else _Current(round=newest)]
        parts += [index._valued(current.pop(0)) for _ in range(len(current))]
        return replace(index, current=_merged(newest, parts))

    def _entries(self, part: Sequence[Shard], numbers: dict[str, int]) -> pl.DataFrame:
        """What the index keeps of the editable texts of these shards."""
        for shard in part:
            numbers[shard.name] = len(numbers)
        frame = read_columns(self.workspace, "annotations", [shard.name for shard in part], _COLUMNS)
        shard_numbers = np.array([numbers[shard.name] for shard in part], dtype=np.int32)
        heights = [shard.num_rows for shard in part]
        frame = frame.with_columns(shard=pl.Series(np.repeat(shard_numbers, heights))).filter(EDITABLE)
        number_of = {kind: number for number, kind in enumerate(EDITABLE_KINDS)}
        frame = frame.select(
            "id",
            "round",
            "mean_logprob",
            "shard",
            by_model=pl.col("source") == "model",
            kind_number=pl.col("kind").replace_strict(number_of, return_dtype=pl.UInt8),
            clip=pl.lit(pl.Series(clip_keys(frame["clip_id"]))),
        )
        return frame.with_row_index("entry")

    def _valued(self, current: _Current) -> _Current:
        """The rows with the values of all lasting signals."""
        alone = replace(self, current=current)
        values: dict[str, list[Values]] = {name: [] for name in self.signals if is_lasting(signal(name))}
        for start in range(0, len(current.key), _BATCH):
            batch = alone.batch(np.arange(start, min(start + _BATCH, len(current.key)), dtype=np.int32))
            for name in values:
                values[name].append(signal(name)(batch))
        return replace(current, values={name: np.concatenate(parts) for name, parts in values.items()})

    # Rows.

    def __len__(self) -> int:
        return len(self.current.key)

    def row_of(self, annotation_id: str) -> int:
        """Row of a text of the newest round; -1 where it is none."""
        return int(self.rows_of([annotation_id])[0])

    def rows_of(self, annotation_ids: Sequence[str]) -> Rows:
        """Row of each of these texts; -1 for those that are not of the newest round."""
        if not len(self):
            return np.full(len(annotation_ids), -1, dtype=np.int32)
        keys = order_keys(annotation_ids)
        rows = np.minimum(np.searchsorted(self.current.key, keys), len(self) - 1)
        return np.where(self.current.key[rows] == keys, rows, -1).astype(np.int32)

    def not_current(self, annotation_ids: Sequence[str]) -> list[str]:
        """Those of these texts that are not of the newest round."""
        rows = self.rows_of(annotation_ids).tolist()
        return [i for i, row in zip(annotation_ids, rows, strict=True) if row < 0]

    def id_of(self, row: int) -> str:
        """Annotation id of a row."""
        return self.current.ids[row].decode()  # type: ignore[no-any-return]

    @cached_property
    def id_ranks(self) -> NDArray[np.int32]:
        """The place of each row's annotation id in the order of the ids."""
        return ranks(self.current.ids)

    def clips(self) -> NDArray[np.uint64]:
        """Clip key of each row."""
        return self.all_rounds.clip[self.current.entry]

    def kinds(self) -> NDArray[np.uint8]:
        """Kind of each row, as its place in :data:`EDITABLE_KINDS`."""
        return self.all_rounds.kind[self.current.entry]

    @cached_property
    def row_splits(self) -> NDArray[np.uint8]:
        """Split number of each row's clip."""
        return self.splits.of(self.clips())

    # Texts.

    def batch(self, rows: Rows) -> TextBatch:
        """What signals are asked about these rows."""
        entries = self.current.entry[rows]
        frame = pl.DataFrame(
            {
                "id": unpacked(self.current.ids[rows]),
                "clip": self.all_rounds.clip[entries],
                "kind": pl.Series(self.all_rounds.kind[entries]).replace_strict(
                    dict(enumerate(EDITABLE_KINDS)), return_dtype=pl.String
                ),
                "round": np.full(len(rows), self.current.round),
                "mean_logprob": self.current.mean_logprob[rows],
            }
        )
        return TextBatch(
            workspace=self.workspace,
            rows=frame,
            read_texts=lambda: self._texts(frame, entries),
            read_earlier=lambda: self._earlier(frame, entries),
        )

    def _texts(self, rows: pl.DataFrame, entries: Rows) -> pl.Series:
        texts = read_columns(self.workspace, "annotations", self._names(self.all_rounds.shard[entries]), ["id", "text"])
        return rows.join(texts, on="id", how="left", maintain_order="left")["text"]

    def _earlier(self, rows: pl.DataFrame, entries: Rows) -> pl.Series:
        """For each row the text that a model wrote of its clip, in its kind, in the newest round before."""
        every, clips = self.all_rounds, self.all_rounds.clip[entries]
        before = every.by_model_before(self.current.round, clips)
        if not len(before):
            return pl.Series(values=[None] * rows.height, dtype=pl.String)
        latest = pl.DataFrame({name: getattr(every, name)[before] for name in ("clip", "kind", "round", "shard")})
        latest = latest.sort("round", maintain_order=True).unique(["clip", "kind"], keep="last")
        texts = self._model_texts(self._names(latest["shard"].unique().to_numpy()))
        number_of = {kind: number for number, kind in enumerate(EDITABLE_KINDS)}
        texts = texts.select(
            "round",
            "text",
            clip=pl.lit(pl.Series(clip_keys(texts["clip_id"]))),
            kind=pl.col("kind").replace_strict(number_of, return_dtype=pl.UInt8),
        ).unique(["clip", "kind", "round"], keep="last", maintain_order=True)
        latest = latest.cast({"round": pl.Int64}).join(texts, on=["clip", "kind", "round"], how="left")
        wanted = pl.DataFrame({"clip": clips, "kind": every.kind[entries]})
        return wanted.join(latest, on=["clip", "kind"], how="left", maintain_order="left")["text"]

    def _model_texts(self, names: Sequence[str]) -> pl.DataFrame:
        columns = ["round", "text", "clip_id", "kind"]
        where = EDITABLE & (pl.col("source") == "model")
        return read_columns(self.workspace, "annotations", names, columns, where)

    def _names(self, numbers: Iterable[int]) -> list[str]:
        names = list(self.text_shards)
        return [names[number] for number in sorted({int(n) for n in numbers})]

    def shards_holding(self, clip_ids: Sequence[str], round: int = 0) -> list[str]:
        """Names of the shards that hold texts of these clips, of a round or of the newest one of each clip."""
        every, numbers = self.all_rounds, set[int]()
        for clip in clip_keys(pl.Series(list(clip_ids), dtype=pl.String)):
            entries = [e for e in every.entries_of(clip) if every.by_model[e] and round in (0, every.round[e])]
            newest = max((every.round[e] for e in entries), default=0)
            numbers |= {int(every.shard[e]) for e in entries if every.round[e] == newest}
        # A shard that a takedown rewrote meanwhile is left out until the next refresh.
        names = self._names(numbers)
        present = set(committed_shards(self.workspace, names))
        return [name for name in names if name in present]

    def rounds(self) -> list[int]:
        """Rounds that have texts, in order."""
        return sorted({int(round) for round in np.unique(self.all_rounds.round)} - {0})

    def earlier_texts(self, clip_id: str, kind: str, before: int) -> Iterator[tuple[int, str, str]]:
        """Round, source and text of what was written of a clip in a kind before a round, newest first."""
        every, number = self.all_rounds, EDITABLE_KINDS.index(kind)
        clip = clip_keys(pl.Series([clip_id]))[0]
        entries = [e for e in every.entries_of(clip) if every.kind[e] == number and every.round[e] < before]
        # A shard that a takedown rewrote meanwhile is left out until the next refresh.
        present = set(committed_shards(self.workspace, self._names(every.shard[entries])))
        names = [name for name in self._names(every.shard[entries]) if name in present]
        where = EDITABLE & (pl.col("clip_id") == clip_id) & (pl.col("kind") == kind) & (pl.col("round") < before)
        columns = ["round", "source", "text"]
        texts = read_columns(self.workspace, "annotations", names, columns, where).sort("round", maintain_order=True)
        yield from reversed(texts.rows())


def _current(round: int, rows: pl.DataFrame, first_entry: int) -> _Current:
    key = order_keys(rows["id"].to_list())
    order = np.argsort(key, kind="stable")
    return _Current(
        round=round,
        key=key[order],
        ids=packed(rows["id"])[order],
        entry=(rows["entry"].to_numpy().astype(np.int32) + np.int32(first_entry))[order],
        mean_logprob=rows["mean_logprob"].to_numpy().astype(np.float64)[order],
    )


def _entries(frame: pl.DataFrame) -> _Entries:
    """What is kept of these entries: arrays of their own, with nothing of the file that they were read from."""
    return {
        "clip": frame["clip"].to_numpy(),
        "kind": frame["kind_number"].to_numpy(),
        "round": frame["round"].to_numpy().astype(np.int16),
        "by_model": frame["by_model"].to_numpy(),
        "shard": frame["shard"].to_numpy(),
    }


def _merged(round: int, parts: list[_Current]) -> _Current:
    """The rows of all parts, in the order of their keys; the parts are emptied on the way."""
    names = {name for part in parts for name in part.values}
    none = _empty(np.float64)
    values = {name: [part.values.get(name, none) for part in parts] for name in names}
    columns = {name: [getattr(part, name) for part in parts] for name in ("key", "ids", "entry", "mean_logprob")}
    parts.clear()
    order = np.argsort(np.concatenate(columns["key"]), kind="stable").astype(np.int32)

    def merged(some: list[NDArray[Any]]) -> NDArray[Any]:
        whole: NDArray[Any] = np.concatenate(some)
        some.clear()
        return np.take(whole, order)

    return _Current(
        round=round,
        **{name: merged(some) for name, some in columns.items()},
        values={name: merged(some) for name, some in values.items()},
    )
