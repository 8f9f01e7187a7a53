"""What lies before whom: the order in which texts are shown, and the leases that keep one text with one person.

The order spends people where they help, and stays honest: of training clips a share comes at random, the others in turns by the model's doubt (mean
log-prob), by how much the text changed since the last round, by the noise that training suspected, by how new the clip is
(:mod:`human_refine.signals`); anchor clips come at random alone, spread evenly among them, since the gate stands on them.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import sqlalchemy as sql

from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.progress import say
from flywheel.core.types import Clip, Correction, content_id, standing
from flywheel.store import Workspace
from flywheel.store import schema as db
from flywheel.store.view import clip_of
from human_refine.gold import gold_texts
from human_refine.people import excluded
from human_refine.signals import signal

#: The kinds of text that the page shows.
KINDS = ("caption", "dense_caption")
#: Seconds between looks at whether a round wrote new texts.
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Item:
    """One text to be looked at. ``why`` says what brought it to its place: ``random``, ``anchor``, or a name of ``review.order``."""

    annotation_id: str
    clip_id: str
    round: int
    text: str
    why: str
    kind: str = "caption"
    payload: str = ""


def in_order(
    captions: pl.DataFrame,
    splits: Mapping[str, str],
    random_share: float,
    signals: Sequence[tuple[str, Mapping[str, float]]] = (),
) -> list[Item]:
    """All captions of train and anchor clips, in the order in which people should see them.

    ``signals`` are pairs of a name and a value per annotation id; the highest of each come forward in turns, what has no value does not.
    """

    # By a hash of the id: random, and the same for everybody who asks.
    rows = sorted(captions.to_dicts(), key=lambda row: content_id("queue", row["id"]))
    train = {row["id"]: row for row in rows if splits.get(row["clip_id"]) == "train"}
    anchors = [_item(row, "anchor") for row in rows if splits.get(row["clip_id"]) == "anchor"]
    drawn = iter(train)
    ranked = [
        (name, iter(sorted((i for i in values if i in train), key=lambda i: (-values[i], i))))
        for name, values in signals
    ]
    seen: set[str] = set()
    mixed: list[Item] = []
    owed, turn = 0.0, 0
    while len(mixed) < len(train):
        owed += random_share
        why, found = "random", None
        if owed < 1:
            for _ in range(len(ranked)):
                name, ids = ranked[turn % len(ranked)]
                turn += 1
                if (found := next((i for i in ids if i not in seen), None)) is not None:
                    why = name
                    break
        else:
            owed -= 1
        if found is None:
            found = next(i for i in drawn if i not in seen)
        seen.add(found)
        mixed.append(_item(train[found], why))
    return list(_spread(anchors, mixed))


def _item(row: Mapping[str, Any], why: str) -> Item:
    return Item(
        annotation_id=row["id"], clip_id=row["clip_id"], round=row["round"], text=row["text"], why=why,
        kind=row.get("kind", "caption"), payload=row.get("payload", ""),
    )  # fmt: skip


def _spread(few: list[Item], many: list[Item]) -> Iterator[Item]:
    """Both in their order, the first spread evenly over the whole."""
    share = len(few) / max(1, len(few) + len(many))
    taken = given = 0
    while taken < len(few) or given < len(many):
        if taken < len(few) and (given == len(many) or taken < share * (taken + given + 1)):
            yield few[taken]
            taken += 1
        else:
            yield many[given]
            given += 1


#: Texts of earlier rounds have no reason to be shown, and count as little.
_NO_ITEM = Item(annotation_id="", clip_id="", round=0, text="", why="")


@dataclass(kw_only=True)
class _View:
    """The records as they were when last looked at, and who said what since."""

    items: list[Item] = field(default_factory=list)
    by_id: dict[str, Item] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)
    #: Gold, which everybody sees alone: never settled, never another's.
    gold: dict[str, Item] = field(default_factory=dict)
    earlier: dict[tuple[str, str], list[tuple[int, str, str]]] = field(default_factory=dict)
    #: Who said anything of a text, and who settled it.
    seen: dict[str, set[str]] = field(default_factory=dict)
    said: dict[str, set[str]] = field(default_factory=dict)
    #: Refiner -> how many texts that one judged.
    num_seen: dict[str, int] = field(default_factory=dict)
    #: Which of the items are settled: counted on every request.
    settled: set[str] = field(default_factory=set)

    def note(self, annotation_id: str, verdict: str, refiner: str) -> None:
        seen, said = self.seen.setdefault(annotation_id, set()), self.said.setdefault(annotation_id, set())
        before = refiner in seen
        if verdict == "withdraw":
            seen.discard(refiner)
            said.discard(refiner)
        else:
            seen.add(refiner)
            if verdict not in ("skip", "cant_tell"):
                said.add(refiner)
        self.num_seen[refiner] = self.num_seen.get(refiner, 0) + (refiner in seen) - before
        if said and annotation_id not in self.gold and self.by_id.get(annotation_id, _NO_ITEM).why:
            self.settled.add(annotation_id)
        else:
            self.settled.discard(annotation_id)


class Queue:
    """The queue of the newest round that has texts. Safe to use from many threads; leases live in the database, so they outlast the
    process and are the same for all."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock, self._looking = threading.RLock(), threading.Lock()
        self._view = _View()
        #: Rows when last looked at: of corrections, and of what else decides on the queue.
        self._num_said, self._num_others = -1, [-1]
        #: No text before this one is open to anybody.
        self._first = 0
        self._noted: list[tuple[str, str, str]] = []
        self.refresh(force=True)

    def refresh(self, *, force: bool = False) -> None:
        """Take in what a round wrote, and what came from files, where there is nothing to show; else :meth:`watch` does."""
        if force or not self._view.items:
            self._look(force=force)

    def watch(self) -> None:
        """Look every five seconds from a thread of its own, for as long as the queue is in use: nobody waits for the reading."""
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()

    def _look(self, *, force: bool = False) -> None:
        with self._looking:
            with self._workspace.database.transaction() as connection:
                counts = [
                    connection.execute(sql.select(sql.func.count()).select_from(t)).scalar_one()
                    for t in (db.corrections, db.shards, db.exclusions, db.gold, db.takedowns)
                ]
            with self._lock:
                if not force and counts == [self._num_said, *self._num_others]:
                    return
                self._noted = []
            view, num_said = self._read()
            with self._lock:
                # What was said while the records were read is in the view already, or is added now; twice is once.
                self._view, self._num_others, self._first = view, counts[1:], 0
                late, self._noted = self._noted, []
                for row in late:
                    self._add(*row)
                self._num_said = max(num_said, int(counts[0]) + len(late))

    def _read(self) -> tuple[_View, int]:
        clips = {row["id"]: clip_of(row) for row in self._workspace.clips().iter_rows(named=True)}
        captions = self._workspace.annotations().filter(pl.col("kind").is_in(KINDS))
        written = captions.filter(pl.col("source") == "model")
        newest = written["round"].max()
        current = written.filter(pl.col("round") == newest) if newest is not None else written
        # What people said of a clip in an earlier round stands: they are not asked again.
        said, out = self._workspace.correction_records(), excluded(self._workspace)
        corrections = [c for c in said if c.refiner not in out]
        by_text: dict[str, list[Correction]] = {}
        for correction in corrections:
            by_text.setdefault(correction.annotation_id, []).append(correction)
        ours, kind_of = set(current["id"]), dict(captions.select("id", "kind").iter_rows())
        settled = {
            (c[0].clip_id, kind_of.get(annotation_id))
            for annotation_id, c in by_text.items()
            if annotation_id not in ours and standing(c)
        }
        keep = [pair not in settled for pair in current.select("clip_id", "kind").iter_rows()]
        apart = gold_texts(self._workspace)
        gold = [
            _item(row, "gold")
            for row in current.iter_rows(named=True)
            if row["clip_id"] in apart and row["kind"] == "caption"
        ]
        current = current.filter(pl.Series(keep, dtype=pl.Boolean)).filter(~pl.col("clip_id").is_in(list(apart)))
        splits: dict[str, str] = {c.id: c.split for c in clips.values()}
        settings = self._workspace.config.review
        signals = [(name, signal(name, self._workspace, current, captions)) for name in settings.order]
        items = in_order(current, splits, settings.random_share, signals)
        # Earlier rounds' texts can still be looked up, for those who have them open.
        by_id = {row["id"]: _item(row, "") for row in captions.iter_rows(named=True)}
        by_id |= {item.annotation_id: item for item in [*items, *gold]}
        earlier: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
        for clip_id, kind, *entry in (
            captions.select("clip_id", "kind", "round", "source", "text").sort("round").iter_rows()
        ):
            earlier.setdefault((clip_id, kind), []).append((entry[0], entry[1], entry[2]))
        view = _View(
            items=items, by_id=by_id, clips=clips, earlier=earlier, gold={item.annotation_id: item for item in gold}
        )
        for correction in corrections:
            view.note(correction.annotation_id, correction.verdict, correction.refiner)
        return view, len(said)

    def note(self, annotation_id: str, verdict: str, refiner: str) -> None:
        """What was said and is in the database now: who said it need not see it again, and nobody else where enough people settled it."""
        with self._lock:
            self._noted.append((annotation_id, verdict, refiner))
            self._num_said += 1
            self._add(annotation_id, verdict, refiner)

    def _add(self, annotation_id: str, verdict: str, refiner: str) -> None:
        self._view.note(annotation_id, verdict, refiner)
        if verdict == "withdraw":
            self._first = 0

    def is_gold(self, annotation_id: str) -> bool:
        with self._lock:
            return annotation_id in self._view.gold

    def _enough(self, annotation_id: str) -> bool:
        if annotation_id in self._view.gold:
            return False
        wanted = 1 + (unit("overlap", annotation_id) < self._workspace.config.review.overlap_share)
        return len(self._view.said.get(annotation_id, ())) >= wanted

    def item(self, annotation_id: str) -> Item | None:
        with self._lock:
            return self._view.by_id.get(annotation_id)

    def clip(self, clip_id: str) -> Clip | None:
        with self._lock:
            return self._view.clips.get(clip_id)

    def earlier(self, item: Item) -> list[tuple[int, str, str]]:
        """Round, source and text of what was written of an item's clip in its kind before its round, newest first."""
        with self._lock:
            entries = self._view.earlier.get((item.clip_id, item.kind), [])
            return [entry for entry in reversed(entries) if entry[0] < item.round]

    def progress(self) -> tuple[int, int]:
        """How many texts of the round are settled, and how many there are."""
        with self._lock:
            return len(self._view.settled), len(self._view.items)

    def next(self, refiner: str, *, without: str = "") -> Item | None:
        """The first open text that nobody else has, leased to this person; what the person has already comes first."""
        self.refresh()
        with self._lock:
            held = self._held_by_others(refiner)
            mine = [i for i in self._leased_to(refiner) if self._open(i, refiner) and i.annotation_id != without]
            if (
                not mine
                and (item := self._gold_for(refiner, without)) is not None
                and self.lease(item.annotation_id, refiner)
            ):
                return item
            passed = True
            for index, item in (
                ((-1, i) for i in mine) if mine else enumerate(self._view.items[self._first :], self._first)
            ):
                settled = self._enough(item.annotation_id)
                # What is settled for all at the front is not looked at again.
                passed = passed and settled and index >= 0
                if passed:
                    self._first = index + 1
                if (
                    settled
                    or item.annotation_id in held
                    or item.annotation_id == without
                    or not self._open(item, refiner)
                ):
                    continue
                if self.lease(item.annotation_id, refiner):
                    return item
        return None

    def _gold_for(self, refiner: str, without: str) -> Item | None:
        """A gold item that this person has not judged, as often as ``review.gold_share`` says; by hashes, so that nobody can tell when."""
        num_said = self._view.num_seen.get(refiner, 0)
        if unit("gold", refiner, num_said) >= self._workspace.config.review.gold_share:
            return None
        unseen = [
            item for item in self._view.gold.values() if item.annotation_id != without and self._open(item, refiner)
        ]
        return min(unseen, key=lambda item: content_id("gold", refiner, item.annotation_id), default=None)

    def _open(self, item: Item, refiner: str) -> bool:
        return refiner not in self._view.seen.get(item.annotation_id, ()) and not self._enough(item.annotation_id)

    def _held_by_others(self, refiner: str) -> set[str]:
        query = sql.select(db.leases.c.annotation_id).where(
            db.leases.c.refiner != refiner, db.leases.c.until > time.time()
        )
        with self._workspace.database.transaction() as connection:
            return set(connection.execute(query).scalars())

    def _leased_to(self, refiner: str) -> Iterable[Item]:
        query = sql.select(db.leases.c.annotation_id).where(
            db.leases.c.refiner == refiner, db.leases.c.until > time.time()
        )
        with self._workspace.database.transaction() as connection:
            ids = {key.split("@")[0] for key in connection.execute(query).scalars()}
        return [self._view.by_id[i] for i in sorted(ids) if i in self._view.by_id]

    def lease(self, annotation_id: str, refiner: str) -> bool:
        """Take or renew a lease; whether it is this person's now. One statement decides, whichever process asks."""
        now = time.time()
        values = {"refiner": refiner, "until": now + self._workspace.config.review.lease_s}
        key = self._key(annotation_id, refiner)
        with self._workspace.database.transaction() as connection:
            free = (db.leases.c.annotation_id == key) & ((db.leases.c.until <= now) | (db.leases.c.refiner == refiner))
            if connection.execute(sql.update(db.leases).where(free).values(**values)).rowcount:
                return True
            return bool(self._workspace.database.insert_new(connection, db.leases, [{"annotation_id": key, **values}]))

    def _key(self, annotation_id: str, refiner: str) -> str:
        """What a lease is of: gold lies before each person by itself."""
        return f"{annotation_id}@{refiner}" if self.is_gold(annotation_id) else annotation_id

    def holder(self, annotation_id: str) -> str:
        """Who has it now; empty where nobody has."""
        query = sql.select(db.leases.c.refiner).where(
            db.leases.c.annotation_id == annotation_id, db.leases.c.until > time.time()
        )
        with self._workspace.database.transaction() as connection:
            return str(connection.execute(query).scalar() or "")

    def release(self, annotation_id: str, refiner: str) -> None:
        with self._workspace.database.transaction() as connection:
            mine = (db.leases.c.annotation_id == self._key(annotation_id, refiner)) & (db.leases.c.refiner == refiner)
            connection.execute(sql.delete(db.leases).where(mine))


def unit(*parts: object) -> float:
    """A number in [0, 1) by a hash: random, and the same whenever it is asked for."""
    return int(content_id(*parts)[:8], 16) / 16**8


def _watch(reference: weakref.ref[Queue]) -> None:
    while True:
        time.sleep(_LOOK_EVERY_S)
        queue = reference()
        if queue is None:
            return
        try:
            queue._look()
        except FlywheelError as error:
            # A full disk or a database that is away concerns who saves; the next look may do.
            say(f"review: {error}")
        del queue


def waiting(workspace: Workspace) -> list[Item]:
    """Open texts of the newest round, in order, for a file. Raises UserError where there are none."""
    queue = Queue(workspace)
    with queue._lock:
        if not queue._view.items:
            raise UserError("corrections export: no round has texts yet. Run 'flywheel annotate' first.")
        items = [
            item
            for item in queue._view.items
            if item.kind == "caption" and not queue._view.seen.get(item.annotation_id)
        ]
        if not items:
            raise UserError(
                f"corrections export: round {queue._view.items[0].round} has no text left to correct. Run 'flywheel annotate' first."
            )
        return items
