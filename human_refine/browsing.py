"""Clips as a lead looks through them: by words, split, and what people said; a page at a time, each in bounded time.

Words are looked for in the records themselves, some thousand rows after the other and only where the index of words
says that they can be; an answer goes out when its page is full or its time is over. Where it stopped is said, and the
next question goes on from there. Nothing is held in memory but the page.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, Clip, Correction, Verdict, standing
from flywheel.store import Workspace
from flywheel.store.corrections import clips_with_word, words_on_clips
from flywheel.store.flags import open_flags
from flywheel.store.gold import newest_gold
from flywheel.store.parts import Shard, read_columns, read_rows, shards_of
from flywheel.store.word_index import SEARCHED, WordIndex, word_groups
from human_refine.texts import TextIndex

#: Clips that one answer gives at most.
PAGE = 50
#: An answer stops looking after so long; one group of rows more is always looked at.
_BUDGET_S = 0.06
#: Rows that are looked at together.
_GROUP_ROWS = 8192
_FACTS = ["id", "uri", "start_s", "end_s", "split"]
_ID = re.compile(r"[0-9a-f]{8,20}")
People = Literal["", "accept", "edit", "reject", "cant_tell", "flagged", "gold", "lead"]


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for.

    All ``words`` must be in a caption of ``round`` (0: the newest), or in the clip's name, transcript or sounds;
    ``split`` and ``people`` narrow it, empty for any. ``cursor`` is where an earlier answer stopped.
    """

    words: str = ""
    split: str = ""
    people: People = ""
    round: int = 0
    cursor: str = ""

    @property
    def parts(self) -> list[str]:
        """The words, each in small letters."""
        return self.words.lower().split()


@dataclass(kw_only=True)
class Found:
    """Clips found, and where to go on; an empty ``cursor`` is the end. ``share`` of the records is looked through."""

    clips: list[dict[str, Any]] = field(default_factory=list)
    cursor: str = ""
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Behind which commit of which kind to go on, and how many hits of the next rows were given already."""

    kind: str
    position: int = 0
    skip: int = 0

    @staticmethod
    def of(cursor: str, kinds: Sequence[str]) -> _Place:
        if not cursor:
            return _Place(kind=kinds[0])
        kind, position, skip = (*cursor.split(":"), "", "")[:3]
        if kind not in kinds or not (position.isdecimal() and skip.isdecimal()):
            raise UserError("this place in the list is unknown; search again")
        return _Place(kind=kind, position=int(position), skip=int(skip))

    def __str__(self) -> str:
        return f"{self.kind}:{self.position}:{self.skip}"


def find(workspace: Workspace, index: TextIndex, query: Query) -> Found:
    """The next clips of a query, fifty at most, each with its newest caption and what people said last of it.

    Raises UserError for a cursor that can't be.
    """
    if query.people:
        ids, cursor = _of_people(workspace, query)
        found = Found(clips=_facts(workspace, ids, query), cursor=cursor)
    elif _ID.fullmatch(query.words) and (ids := workspace.records.keys_from("clips", query.words)[:PAGE]):
        found = Found(clips=_facts(workspace, ids, query))
    else:
        found = _walk(workspace, query)
    _add_texts(workspace, index, found.clips, query.round)
    if query.people and query.parts:
        found.clips = [clip for clip in found.clips if _says(clip, query.parts)]
    return found


def shown(workspace: Workspace, index: TextIndex, clip_ids: Sequence[str], round: int = 0) -> list[dict[str, Any]]:
    """These clips as :func:`find` gives them, in their order; those that are gone are left out."""
    clips = _facts(workspace, clip_ids, Query())
    _add_texts(workspace, index, clips, round)
    return clips


def _add_texts(workspace: Workspace, index: TextIndex, clips: Sequence[dict[str, Any]], round: int) -> None:
    """Give each clip its newest caption, or that of a round, and what people said last of it."""
    ids = [clip["clip_id"] for clip in clips]
    texts, words = captions_of(workspace, index, ids, round), words_on_clips(workspace, ids)
    for clip in clips:
        clip["caption"] = texts.get(clip["clip_id"])
        clip["word"] = _last_word(words.get(clip["clip_id"], []))


def _walk(workspace: Workspace, query: Query) -> Found:
    """Goes through the records of clips, and with words through a round's captions too."""
    kinds = ("clips", "annotations") if query.parts else ("clips",)
    place, until = _Place.of(query.cursor, kinds), time.monotonic() + _BUDGET_S
    found, looked, words = Found(), False, WordIndex(workspace.records)
    for kind in kinds[kinds.index(place.kind) :]:
        if kind != place.kind:
            place = _Place(kind=kind)
        shards = _shards(workspace, kind, query.round)
        num_rows, done = sum(shard.num_rows for shard in shards), 0
        for group in word_groups(shards) if query.parts else _groups(shards):
            rest = [shard for shard in group if shard.position > place.position]
            if rest and looked and time.monotonic() > until:
                return _stopped(found, place, done, num_rows, kinds)
            done += sum(shard.num_rows for shard in group)
            if not rest:
                continue
            looked = True
            if words.can_hold(kind, group, query.parts):
                fresh, room = _hits(workspace, kind, rest, query).slice(place.skip), PAGE - len(found.clips)
                found.clips += _shown(_with_facts(workspace, fresh.head(room)), query)
                if fresh.height > room:
                    place = _Place(kind=kind, position=place.position, skip=place.skip + room)
                    return _stopped(found, place, done - sum(shard.num_rows for shard in rest), num_rows, kinds)
            place = _Place(kind=kind, position=group[-1].position)
    return found


def _stopped(found: Found, place: _Place, done: int, num_rows: int, kinds: Sequence[str]) -> Found:
    share = (kinds.index(place.kind) + done / max(1, num_rows)) / len(kinds)
    return Found(clips=found.clips, cursor=str(place), share=share)


def _shards(workspace: Workspace, kind: str, round: int) -> list[Shard]:
    shards = shards_of(workspace, kind)
    if kind == "clips":
        return shards
    newest = max((shard.round or 0 for shard in shards), default=0)
    return [shard for shard in shards if shard.round == (round or newest)]


def _groups(shards: Iterable[Shard]) -> Iterator[list[Shard]]:
    group: list[Shard] = []
    for shard in shards:
        group.append(shard)
        if sum(one.num_rows for one in group) >= _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _hits(workspace: Workspace, kind: str, group: Sequence[Shard], query: Query) -> pl.DataFrame:
    """The clips of these rows that hold all words, in their order: with their facts, of captions their ids alone."""
    names = [shard.name for shard in group]
    if kind == "clips":
        where = pl.col("split") == query.split if query.split else pl.lit(True)
        if query.parts:
            where &= _holds(SEARCHED["clips"], query.parts)
        return read_columns(workspace, kind, names, _FACTS, where)
    where = (pl.col("kind") == CAPTION) & _holds(pl.col("text"), query.parts)
    found = read_columns(workspace, kind, names, ["clip_id"], where)
    return found.unique(maintain_order=True).rename({"clip_id": "id"})


def _holds(text: pl.Expr, parts: Sequence[str]) -> pl.Expr:
    small = text.str.to_lowercase()
    return pl.all_horizontal([small.str.contains(part, literal=True) for part in parts])


def _facts(workspace: Workspace, clip_ids: Sequence[str], query: Query) -> list[dict[str, Any]]:
    """What the list shows of these clips, in their order, of the split asked for."""
    return _shown(_with_facts(workspace, pl.DataFrame({"id": clip_ids}, schema={"id": pl.String})), query)


def _with_facts(workspace: Workspace, clips: pl.DataFrame) -> pl.DataFrame:
    """The clips with their facts, where they do not have them yet; those that are gone are left out."""
    if clips.columns == _FACTS or clips.is_empty():
        return clips
    return clips.join(read_rows(workspace, "clips", clips["id"], _FACTS), on="id", maintain_order="left")


def _shown(clips: pl.DataFrame, query: Query) -> list[dict[str, Any]]:
    return [
        {
            "clip_id": row["id"],
            "name": row["uri"].rsplit("/", 1)[-1],
            **{name: row[name] for name in ("start_s", "end_s", "split")},
        }
        for row in clips.iter_rows(named=True)
        if query.split in ("", row["split"])
    ]


def captions_of(
    workspace: Workspace, index: TextIndex, clip_ids: Sequence[str], round: int = 0
) -> dict[str, dict[str, Any]]:
    """Clip id -> the newest caption of a model (of a round: that round's), of clips that people correct."""
    names = index.shards_holding(clip_ids, round)
    where = pl.col("clip_id").is_in(list(clip_ids)) & (pl.col("kind") == CAPTION) & (pl.col("source") == "model")
    columns = ["clip_id", "id", "round", "text"]
    rows = read_columns(workspace, "annotations", names, columns, where).sort("round", maintain_order=True)
    return {
        row["clip_id"]: {"annotation_id": row["id"], "round": row["round"], "text": row["text"]}
        for row in rows.iter_rows(named=True)
        if not round or row["round"] == round
    }


def neighbours(workspace: Workspace, clip: Clip) -> dict[str, str | None]:
    """Ids of the clips ``before`` and ``after`` this one in its video; None where there is none.

    All clips' hashes are looked through, which takes some tenths of a second for a million.
    """
    same = pl.col("content_hash") == clip.content_hash
    rows = workspace.records.read("clips", columns=["id", "start_s"], where=same).sort("start_s", "id")
    ids = rows["id"].to_list()
    place = ids.index(clip.id)
    return {"before": ids[place - 1] if place else None, "after": ids[place + 1] if place + 1 < len(ids) else None}


def _last_word(words: Sequence[Correction]) -> dict[str, str] | None:
    """What somebody said last of a clip, where it stands."""
    by_text: dict[str, list[Correction]] = {}
    for word in words:
        by_text.setdefault(word.annotation_id, []).append(word)
    stands = [word for said in by_text.values() for word in standing(said).values()]
    last = max(stands, key=lambda word: word.at, default=None)
    if last is None:
        return None
    return {"refiner": last.refiner, "verdict": last.verdict, "text": last.text, "reason": last.reason}


def _says(clip: dict[str, Any], parts: Sequence[str]) -> bool:
    said = [clip["name"], (clip["caption"] or {}).get("text", ""), (clip["word"] or {}).get("text", "")]
    return all(part in " ".join(said).lower() for part in parts)


def _of_people(workspace: Workspace, query: Query) -> tuple[list[str], str]:
    """Ids of the next clips of which people said so, newest first, and where to go on."""
    verdicts: dict[str, Verdict] = {"accept": "accept", "edit": "edit", "reject": "reject", "cant_tell": "cant_tell"}
    if query.people in verdicts:
        rows = clips_with_word(workspace, verdicts[query.people], query.cursor, PAGE)
        return list(dict.fromkeys(clip_id for clip_id, _ in rows)), rows[-1][1] if len(rows) == PAGE else ""
    if not re.fullmatch(r"[0-9]{1,9}", query.cursor or "0"):
        raise UserError(f"cursor {query.cursor!r}: is none of this list")
    begin = int(query.cursor or 0)
    end = begin + PAGE
    if query.people == "flagged":
        ids = [flag.clip_id for flag in open_flags(workspace, None)]
    elif query.people == "gold":
        ids = [clip_id for clip_id, _, _ in newest_gold(workspace, end + 1)]
    else:
        ids = workspace.clip_verdicts()["clip_id"].reverse().to_list()
    ids = list(dict.fromkeys(ids))
    return ids[begin:end], str(end) if len(ids) > end else ""
