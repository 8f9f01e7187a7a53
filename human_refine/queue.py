"""The queue: which text each refiner sees next, and the leases that reserve it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.progress import say
from flywheel.core.types import Clip, content_id
from flywheel.store import Workspace, leases
from flywheel.store.corrections import all_verdicts, corrections_of
from flywheel.store.parts import Changes, changes, clips_with_ids, newest_round, read_rows
from human_refine.gold import gold_texts
from human_refine.items import EDITABLE, EDITABLE_KINDS, Item, items_with_ids
from human_refine.order import hash_fraction
from human_refine.people import excluded
from human_refine.signals import clip_keys
from human_refine.texts import TextIndex
from human_refine.verdicts import Verdicts
from human_refine.view import Pair, QueueView

#: Seconds between looks at whether a round wrote new texts.
_LOOK_EVERY_S = 5.0
#: Texts that lie before one person at a time.
_MOST_LEASES = 3
#: Records that the queue stands on.
_KINDS = ("annotations", "clips", "noise_signals", "embeddings")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A text's place in the order. ``why`` is ``random``, ``anchor``, or a name of ``review.order``."""

    annotation_id: str
    why: str


class Queue:
    """The queue of the newest round that has texts. Safe to use from many threads.

    In memory are the order and who judged what; texts are looked up when they are shown. Leases are in the database,
    so they outlast the process and are the same for all. Other servers of the workspace judge too: what is in memory
    proposes a text, and the database says, once it is leased, whether it is open still.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock, self._looking = threading.RLock(), threading.Lock()
        self._changes: Changes | None = None
        index = TextIndex(workspace=workspace, signals=workspace.config.review.order)
        verdicts = Verdicts([], overlap_share=workspace.config.review.overlap_share)
        self._view = QueueView(index=index, verdicts=verdicts)
        #: Judgements since a look began: a view that was read meanwhile may lack them.
        self._noted: list[tuple[str, str, str]] = []
        self.refresh(force=True)

    # Looks at the records.

    def refresh(self, *, force: bool = False) -> None:
        """Takes in what was committed, where there is nothing to show or it is forced; else :meth:`watch` does."""
        if force or not self._view.num_texts:
            self._look(force=force)

    def watch(self) -> None:
        """Looks every five seconds from a thread of its own, for as long as the queue is in use."""
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()

    def _look(self, *, force: bool = False) -> None:
        with self._looking:
            now = changes(self._workspace, _KINDS)
            with self._lock:
                before = self._changes
                if not force and now == before:
                    return
                self._noted = []
            view = self._read(before, now)
            with self._lock:
                # What was judged while the records were read is in them already, or is added now; twice is once.
                late, self._noted = self._noted, []
                view.adopt(late)
                self._view = view
                self._changes = replace(now, corrections=now.corrections + len(late))

    def _see_new_round(self, refiner: str) -> None:
        """Looks at once for who has no text, where a newer round wrote since: an old one would stay theirs."""
        if leases.keys_of(self._workspace, refiner):
            return
        if newest_round(self._workspace, "annotations") > self._view.index.current.round:
            self._look()

    def _read(self, before: Changes | None, now: Changes) -> QueueView:
        """A new view; what did not change since the last look is taken over from it."""
        last, workspace = self._view, self._workspace
        records_changed = before is None or (before.shards, before.takedowns) != (now.shards, now.takedowns)
        index = last.index.refreshed() if records_changed else last.index
        verdicts = last.verdicts
        if before is None or (before.corrections, before.exclusions) != (now.corrections, now.exclusions):
            overlap_share = workspace.config.review.overlap_share
            without = excluded(workspace)
            verdicts = Verdicts(all_verdicts(workspace), overlap_share=overlap_share, without=without)
        with self._lock:
            settled = verdicts.settled()
        pairs = dict(last.pairs) | self._pairs([i for i in index.not_current(settled) if i not in last.pairs])
        return QueueView(
            index=index,
            verdicts=verdicts,
            gold=gold_texts(workspace),
            settled=settled,
            pairs=pairs,
            rankings=last.rankings_of(index),
        )

    def _pairs(self, annotation_ids: list[str]) -> dict[str, Pair]:
        """Clip key and kind of each of these texts."""
        rows = read_rows(self._workspace, "annotations", annotation_ids, ["id", "clip_id", "kind"], EDITABLE)
        kinds = [EDITABLE_KINDS.index(kind) for kind in rows["kind"]]
        return dict(zip(rows["id"], zip(clip_keys(rows["clip_id"]).tolist(), kinds, strict=True), strict=True))

    # What is known of a text.

    def note(self, annotation_id: str, verdict: str, refiner: str) -> None:
        """Takes in a judgement that is in the database now: its text need not be shown again to that person, and to
        nobody where enough people settled it."""
        with self._lock:
            self._noted.append((annotation_id, verdict, refiner))
            if self._changes is not None:
                self._changes = replace(self._changes, corrections=self._changes.corrections + 1)
            self._view.note(annotation_id, verdict, refiner)

    def is_gold(self, annotation_id: str) -> bool:
        """Whether a text is of a gold clip: everybody sees it alone, and it is never settled."""
        with self._lock:
            return annotation_id in self._view.gold_ids

    @property
    def index(self) -> TextIndex:
        """The texts as of the last look at the records."""
        return self._view.index

    def is_unsettled(self, annotation_id: str) -> bool:
        """Whether the newest round's queue has a text that not enough people settled."""
        with self._lock:
            return self._view.is_unsettled(annotation_id)

    def is_offered(self, annotation_id: str, refiner: str) -> bool:
        """Whether the queue could show a text to this person, by what is on record now."""
        with self._lock:
            return self._is_open_now(annotation_id, refiner) and self._view.is_unsettled(annotation_id)

    def _is_open_now(self, annotation_id: str, refiner: str) -> bool:
        """Whether this person may be shown a text, by what is on record of it now."""
        said = sorted(corrections_of(self._workspace, annotation_id), key=lambda c: (c.at, c.id))
        self._view.take_in(annotation_id, [(c.verdict, c.refiner) for c in said])
        return self._view.is_open(annotation_id, refiner)

    def item(self, annotation_id: str) -> Item | None:
        """A text of any round; None where there is none, or where people can't edit its kind."""
        return items_with_ids(self._workspace, [annotation_id]).get(annotation_id)

    def clip(self, clip_id: str) -> Clip | None:
        """A clip by its id; None where there is none (any more), also while it is being taken down."""
        if self._workspace.takedowns.among([clip_id]):
            return None
        return clips_with_ids(self._workspace, [clip_id]).get(clip_id)

    def earlier(self, item: Item) -> list[tuple[int, str, str]]:
        """Round, source and text of what was written of an item's clip in its kind before its round, newest first."""
        return list(self._view.index.earlier_texts(item.clip_id, item.kind, item.round))

    def num_seen(self, refiner: str) -> int:
        """How many texts this person judged or skipped."""
        with self._lock:
            return self._view.verdicts.num_seen(refiner)

    def progress(self, refiner: str = "") -> tuple[int, int]:
        """How many texts of the round are settled, and how many there are.

        With a ``refiner`` gold counts like any other text that only this person sees: the numbers don't give it away.
        """
        with self._lock:
            settled, num_texts = self._view.num_settled, self._view.num_texts
            if refiner:
                gold = self._view.gold_ids
                settled += sum(self._view.verdicts.has_settled(i, refiner) for i in gold)
                num_texts += len(gold)
            return settled, num_texts

    def places(self) -> Iterator[Place]:
        """The whole order, whoever has seen what; made as far as the caller goes."""
        view, place = self._view, 0
        while True:
            with self._lock:
                if place >= view.make(place + 1):
                    return
                row, why = view.place(place)
            yield Place(annotation_id=view.index.id_of(row), why=why)
            place += 1

    # Who gets what.

    def next(self, refiner: str, *, without: str = "", anchors_first: bool = False) -> Item | None:
        """The first open text that nobody else has, leased to this person; what the person has already comes first.

        ``anchors_first`` brings the anchors before all others, in the order that they have among themselves.
        """
        self.refresh()
        self._see_new_round(refiner)
        while (annotation_id := self._choose(refiner, without, anchors_first)) is not None:
            item = self.item(annotation_id)
            if item is not None:
                return item
            # Taken down since the last look.
            self.release(annotation_id, refiner)
            with self._lock:
                self._view.close(annotation_id)
        return None

    def _choose(self, refiner: str, without: str, anchors_first: bool) -> str | None:
        """A text that is open to this person, and leased to it now; None where there is none.

        A lease waits for who writes, and who writes may wait for the queue's lock: so it is had between leases alone.
        """
        held = leases.keys_of_others(self._workspace, refiner)
        mine = {key.split("@")[0] for key in leases.keys_of(self._workspace, refiner)}
        with self._lock:
            leased = sorted(i for i in mine if i != without and self._view.is_open(i, refiner))
            gold = None if leased else self._gold_for(refiner, without)
            anchors = self._view.open_anchor_ids() if anchors_first else ()
            proposed = chain(() if gold is None else [gold], leased, anchors, self._view.open_ids())
        while (annotation_id := self._next_of(proposed, refiner, {*held, without})) is not None:
            if self.claim(annotation_id, refiner):
                return annotation_id
        return None

    def _next_of(self, proposed: Iterator[str], refiner: str, passed: set[str]) -> str | None:
        """The next of these texts that is open to this person by what is in memory, and not ``passed`` over."""
        with self._lock:
            return next((i for i in proposed if i not in passed and self._view.is_open(i, refiner)), None)

    def claim(self, annotation_id: str, refiner: str) -> bool:
        """Leases a text that is open to this person; returns whether it is theirs now.

        First the lease: whoever had it let go after what they said was on record, so what is read then has that in it.
        """
        if not self.lease(annotation_id, refiner):
            return False
        with self._lock:
            if self._is_open_now(annotation_id, refiner):
                return True
        self.release(annotation_id, refiner)
        return False

    def _gold_for(self, refiner: str, without: str) -> str | None:
        """A gold text that this person has not judged, as often as ``review.gold_share`` says.

        By hashes, so that nobody can tell when.
        """
        num_seen = self._view.verdicts.num_seen(refiner)
        if hash_fraction("gold", refiner, num_seen) >= self._workspace.config.review.gold_share:
            return None
        unseen = [i for i in self._view.gold_ids if i != without and self._view.is_open(i, refiner)]
        return min(unseen, key=lambda i: content_id("gold", refiner, i), default=None)

    def renew(self, annotation_id: str, refiner: str) -> bool:
        """Keeps a lease that was this person's last; returns whether it is so now. What was not given is not leased."""
        if not leases.was_last_of(self._workspace, self._lease_key(annotation_id, refiner), refiner):
            return False
        return self.lease(annotation_id, refiner)

    def give(self, annotation_id: str, refiner: str) -> bool:
        """Lays a text before a person again, who holds a few at a time: the others go back.

        Returns whether it is this person's: another one's stays theirs.
        """
        if not self.lease(annotation_id, refiner):
            return False
        key = self._lease_key(annotation_id, refiner)
        others = sorted(leases.keys_of(self._workspace, refiner) - {key})
        for other in others[_MOST_LEASES - 1 :]:
            leases.release_lease(self._workspace, other, refiner)
        return True

    def lease(self, annotation_id: str, refiner: str) -> bool:
        """Takes or renews a lease; returns whether it is this person's now."""
        key, seconds = self._lease_key(annotation_id, refiner), self._workspace.config.review.lease_s
        return leases.take_lease(self._workspace, key, refiner, seconds)

    def holder(self, annotation_id: str) -> str:
        """Name of the person who has a text now; empty where nobody has."""
        return leases.holder_of(self._workspace, annotation_id)

    def release(self, annotation_id: str, refiner: str) -> None:
        """Ends a person's lease of a text."""
        leases.release_lease(self._workspace, self._lease_key(annotation_id, refiner), refiner)

    def _lease_key(self, annotation_id: str, refiner: str) -> str:
        """The key of a lease. Gold has one for each person: it lies before many at once."""
        return f"{annotation_id}@{refiner}" if self.is_gold(annotation_id) else annotation_id


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


def waiting_captions(workspace: Workspace, limit: int | None = None, *, anchors_first: bool = False) -> list[str]:
    """Annotation ids of the newest round's captions that nobody judged, in the queue's order, ``limit`` at most.

    ``anchors_first`` is as in :meth:`Queue.next`. Raises UserError where there are none.
    """
    queue = Queue(workspace)
    if not queue._view.num_texts:
        raise UserError("corrections export: no round has texts yet. Run 'flywheel annotate' first.")
    captions = queue._view.unseen_captions(limit, anchors_first=anchors_first)
    if not captions:
        round = queue._view.index.current.round
        raise UserError(
            f"corrections export: round {round} has no text left to correct. Run 'flywheel annotate' first."
        )
    return captions
