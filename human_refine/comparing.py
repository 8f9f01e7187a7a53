"""Blind choices between two texts: who sees which pair next, on which side, and what was chosen. All is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Literal

from flywheel.core.types import Choice, Preference, content_id
from flywheel.store import Workspace, leases
from flywheel.store.parts import changes
from flywheel.store.preferences import add_checked, all_choices, choices_of, choices_on
from flywheel.store.writing import TakenDown
from human_refine.order import hash_fraction
from human_refine.pairs import (
    Pair,
    compared_rounds,
    gold_pairs,
    mixed,
    pairs_between,
    pairs_to_learn,
    rounds_to_learn,
    texts_of,
)
from human_refine.people import excluded
from human_refine.saving import Tries
from human_refine.service import Conflict, Gone, ReviewService, clip_fields
from human_refine.sound_pairs import is_of_sounds
from human_refine.verdicts import Verdicts

Side = Literal["first", "second"]
#: What a person says, by where the texts were shown.
Said = Literal["left", "right", "equal", "both_bad", "skip"]
#: Seconds between looks at whether there are other pairs.
_LOOK_EVERY_S = 5.0
#: A person's newest choices that undo looks through, and that are shown as history.
MOST_BACK, _MOST_SHOWN = 200, 20
_GONE = "this clip, or one of its texts, is gone"


@dataclass(kw_only=True)
class _Pairs:
    """The pairs as of the last look. ``stamp`` changes with whatever they depend on."""

    stamp: object = None
    open: dict[str, Pair] = field(default_factory=dict)
    gold: dict[str, Pair] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=lambda: Verdicts([], overlap_share=0))


class Comparing:
    """The compare page's actions; one per server, several on a workspace. Raises Gone and Conflict as
    :class:`ReviewService` does."""

    def __init__(self, service: ReviewService) -> None:
        self.workspace: Workspace = service.workspace
        self._service = service
        self._lock, self._saving = threading.RLock(), threading.Lock()
        self._pairs, self._looked_at = _Pairs(), float("-inf")

    # Which pairs there are.

    def _look(self) -> _Pairs:
        """The pairs, read anew where something changed, at most every few seconds."""
        with self._lock:
            if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
                return self._pairs
            stamp, pairs = self._stamp(), self._pairs
            if stamp != pairs.stamp:
                found, gold = self._found()
                pairs = _Pairs(
                    stamp=stamp,
                    open={pair.pair_id: pair for pair in found},
                    gold={pair.pair_id: pair for pair in gold},
                )
            overlap_share = self.workspace.config.review.overlap_share
            rows = ((i, _verdict_of(chosen), who) for i, chosen, who in all_choices(self.workspace))
            pairs.verdicts = Verdicts(rows, overlap_share=overlap_share, without=excluded(self.workspace))
            self._pairs, self._looked_at = pairs, time.monotonic()
            return pairs

    def _stamp(self) -> object:
        """Changes with whatever the pairs depend on."""
        now = changes(self.workspace, ("clips",))
        rounds = compared_rounds(self.workspace)
        learned = rounds_to_learn(self.workspace) if self._train_share() else []
        # Of these rounds alone: while another one is written there is nothing to read anew.
        written = [
            len(self.workspace.records.shards("annotations", round=round)) for round in (*(rounds or ()), *learned)
        ]
        return rounds, learned, written, now.shards, now.takedowns, now.gold

    def _found(self) -> tuple[list[Pair], list[Pair]]:
        """The pairs that there are, and those that check people."""
        rounds = compared_rounds(self.workspace)
        found = pairs_between(self.workspace, *rounds) if rounds else []
        if share := self._train_share():
            found = mixed(found, pairs_to_learn(self.workspace), share)
        return found, gold_pairs(self.workspace) if found else []

    def _train_share(self) -> float:
        """Share of the pairs that are of train clips, which nothing is tested by."""
        return self.workspace.config.review.compare_train

    def _is_mine(self, preference: Preference) -> bool:
        """Whether a choice is one of those that this page asks for."""
        return not is_of_sounds(preference.first_id)

    def _is_offered(self) -> bool:
        """Whether people are asked at all."""
        return bool(self.workspace.config.review.compare)

    def refresh(self) -> None:
        """Looks at the records with the next question."""
        self._looked_at = float("-inf")

    # Who gets what.

    def is_turn(self, refiner: str) -> bool:
        """Whether this person should see a pair next: by a hash, as often as ``review.compare`` says."""
        share = self.workspace.config.review.compare
        if not share or leases.keys_of(self.workspace, refiner):
            return False
        seen = self._service.queue.num_seen(refiner) + self._look().verdicts.num_seen(refiner)
        return hash_fraction("compare", refiner, seen) < share and self.is_left(refiner)

    def is_left(self, refiner: str) -> bool:
        """Whether there are pairs for this person beside the texts that lie before nobody else; never where
        ``review.compare`` is 0."""
        if not self._is_offered():
            return False
        pairs, held = self._look(), leases.keys_of_others(self.workspace, refiner, pairs=True)
        return any(self._key(pairs, i, refiner) not in held for i in self._open_to(pairs, refiner))

    def next(self, refiner: str, *, without: str = "") -> dict[str, Any] | None:
        """The next pair for this person, leased to it, with all that the page shows; None where there is none."""
        pairs = self._look()
        held = leases.keys_of_others(self.workspace, refiner, pairs=True)
        mine = sorted(leases.keys_of(self.workspace, refiner, pairs=True))
        kept = [i for key in mine if self._is_open(pairs, i := _pair_of(key), refiner)]
        drawn = [] if kept else self._gold_for(pairs, refiner, without)
        for i in chain(kept, drawn, self._open_to(pairs, refiner)):
            if i == without or self._key(pairs, i, refiner) in held or not self._claim(pairs, i, refiner):
                continue
            try:
                return self.shown(i, refiner)
            except Gone:
                # Taken down since the last look.
                self._release(pairs, i, refiner)
                pairs.open.pop(i, None)
                pairs.gold.pop(i, None)
        return None

    def _open_to(self, pairs: _Pairs, refiner: str) -> Iterator[str]:
        return (i for i in list(pairs.open) if self._is_open(pairs, i, refiner))

    @staticmethod
    def _is_open(pairs: _Pairs, i: str, refiner: str) -> bool:
        if (i not in pairs.open and i not in pairs.gold) or pairs.verdicts.has_seen(i, refiner):
            return False
        return i in pairs.gold or not pairs.verdicts.is_enough(i)

    def _gold_for(self, pairs: _Pairs, refiner: str, without: str) -> list[str]:
        """A hidden pair that this person has not seen, as often as ``review.gold_share`` says."""
        share = self.workspace.config.review.gold_share
        if hash_fraction("gold pair", refiner, pairs.verdicts.num_seen(refiner)) >= share:
            return []
        unseen = [i for i in pairs.gold if i != without and self._is_open(pairs, i, refiner)]
        return sorted(unseen, key=lambda i: content_id("gold pair", refiner, i))[:1]

    def shown(self, i: str, refiner: str) -> dict[str, Any]:
        """All that the page shows of a pair; whose the texts are is not told. Raises Gone where one is gone."""
        pair = self._pair(i)
        clip = self._service.queue.clip(pair.clip_id)
        texts = texts_of(self.workspace, pair)
        if clip is None or texts is None:
            raise Gone(_GONE)
        left, right = texts if self.left_of(i, refiner) == "first" else texts[::-1]
        return {
            "pair_id": i,
            **{
                name: value for name, value in clip_fields(clip).items() if name not in ("transcript", "sounds", "cues")
            },
            "left": left,
            "right": right,
            "lease_s": self.workspace.config.review.lease_s,
        }

    @staticmethod
    def left_of(i: str, refiner: str) -> Side:
        """Which text this person sees on the left: by a hash, so that it is the same whenever the pair is shown."""
        return "first" if hash_fraction("left", i, refiner) < 0.5 else "second"

    def renew(self, i: str, refiner: str) -> bool:
        """Keeps a pair that was this person's last; returns whether it is so now."""
        pairs = self._look()
        return leases.was_last_of(self.workspace, self._key(pairs, i, refiner), refiner) and self._lease(
            pairs, i, refiner
        )

    def _pair(self, i: str) -> Pair:
        """A pair that is offered, or that somebody chose of. Raises Gone where there is none."""
        pairs = self._look()
        if (pair := pairs.open.get(i) or pairs.gold.get(i)) is not None:
            return pair
        for said in choices_on(self.workspace, i)[:1]:
            return Pair(clip_id=said.clip_id, first_id=said.first_id, second_id=said.second_id)
        raise Gone(_GONE)

    def _lease(self, pairs: _Pairs, i: str, refiner: str) -> bool:
        key = self._key(pairs, i, refiner)
        return leases.take_lease(self.workspace, key, refiner, self.workspace.config.review.lease_s)

    def _claim(self, pairs: _Pairs, i: str, refiner: str) -> bool:
        """Leases a pair that is open by what is on record now: first the lease, as :meth:`Queue.claim` does."""
        if not self._lease(pairs, i, refiner):
            return False
        self._take_in(pairs, choices_on(self.workspace, i))
        if self._is_open(pairs, i, refiner):
            return True
        self._release(pairs, i, refiner)
        return False

    def _take_in(self, pairs: _Pairs, choices: list[Preference]) -> None:
        with self._lock:
            for p in choices:
                pairs.verdicts.take_in(p.pair_id, _verdict_of(p.chosen), p.refiner)

    def _release(self, pairs: _Pairs, i: str, refiner: str) -> None:
        leases.release_lease(self.workspace, self._key(pairs, i, refiner), refiner)

    @staticmethod
    def _key(pairs: _Pairs, i: str, refiner: str) -> str:
        """The key of a lease. A hidden pair has one for each person: it lies before many at once."""
        return f"{leases.PAIR}{i}@{refiner}" if i in pairs.gold else leases.PAIR + i

    # What is chosen.

    def choose(self, refiner: str, i: str, said: Said, seconds: float, save_id: str) -> Preference:
        """Keeps what a person chose; the same request again gives the same choice.

        Another choice under the same ``save_id`` (no answer had come) replaces the first. Raises Gone where the pair is
        no more, Conflict where it lies before another person, or enough people chose.
        """
        pairs, pair = self._look(), self._pair(i)
        if self._service.queue.clip(pair.clip_id) is None:
            raise Gone(_GONE)
        left = self.left_of(i, refiner)
        with self._saving:
            before = choices_on(self.workspace, i)
            tries = Tries("compare", i, refiner, save_id, [p.id for p in before])
            kept = self._preference(tries.next_id, pair, _chosen(said, left), refiner, left, seconds)
            earlier = next((p for p in before if p.id == tries.last_id), None)
            if earlier is not None and earlier.chosen == kept.chosen:
                return earlier
            check = partial(self._check_first, kept.id, pairs, pair, refiner)
            self._add(kept, self._key(pairs, i, refiner), check)
        self._release(pairs, i, refiner)
        return kept

    @staticmethod
    def _check_first(key: str, pairs: _Pairs, pair: Pair, refiner: str, choices: list[Preference], holder: str) -> None:
        """Raises Conflict where another person has the pair, or enough people chose by what is on record.

        The caller has the lock of writing, so this waits for no other.
        """
        if any(p.id == key for p in choices):
            return
        i = pair.pair_id
        if holder not in ("", refiner):
            raise Conflict(f"this pair lies before {holder} now, since it was yours too long ago", None)
        now = pairs.verdicts.by_same_rules((i, _verdict_of(p.chosen), p.refiner) for p in choices)
        if not pair.is_gold and not now.has_seen(i, refiner) and now.is_enough(i):
            raise Conflict("others have chosen between these two meanwhile", None)

    def undo(self, refiner: str) -> dict[str, Any] | None:
        """Takes back this person's last choice and lays that pair before the person again; None without any."""
        seen: set[str] = set()
        for last in choices_of(self.workspace, refiner, MOST_BACK):
            if last.pair_id in seen or not self._is_mine(last):
                continue
            seen.add(last.pair_id)
            if last.chosen == "withdraw":
                continue
            pair = Pair(clip_id=last.clip_id, first_id=last.first_id, second_id=last.second_id)
            at = self._service.now()
            with self._saving:
                key = content_id("withdraw pair", last.pair_id, refiner, str(at))
                self._add(self._preference(key, pair, "withdraw", refiner, self.left_of(last.pair_id, refiner), 0.0))
            shown = self.shown(last.pair_id, refiner)
            self._lease(self._look(), last.pair_id, refiner)
            return shown
        return None

    def _preference(self, key: str, pair: Pair, chosen: Choice, refiner: str, left: Side, seconds: float) -> Preference:
        return Preference(
            id=key,
            clip_id=pair.clip_id,
            first_id=pair.first_id,
            second_id=pair.second_id,
            chosen=chosen,
            refiner=refiner,
            left=left,
            seconds=seconds,
            at=self._service.now(),
        )

    def _add(
        self, preference: Preference, lease: str = "", check: Callable[[list[Preference], str], None] = lambda *_: None
    ) -> None:
        try:
            add_checked(self.workspace, preference, lease, check)
        except TakenDown as error:
            raise Gone(_GONE) from error
        with self._lock:
            self._pairs.verdicts.note(preference.pair_id, _verdict_of(preference.chosen), preference.refiner)

    # What was chosen.

    def history(self, refiner: str) -> list[dict[str, Any]]:
        """This person's last choices that stand, newest first, each by where the texts were shown to that one."""
        latest: dict[str, Preference] = {}
        for p in choices_of(self.workspace, refiner, MOST_BACK):
            if self._is_mine(p):
                latest.setdefault(p.pair_id, p)
        standing = [p for p in latest.values() if p.chosen != "withdraw"][:_MOST_SHOWN]
        return [
            {"pair_id": p.pair_id, "clip_id": p.clip_id, "chosen": _said(p), "at": p.at.isoformat(timespec="minutes")}
            for p in standing
        ]

    def counts(self, refiner: str) -> dict[str, int]:
        """How many pairs enough people chose of, how many there are, and how many this person chose of.

        Hidden pairs count like the others that only this person sees.
        """
        pairs = self._look()
        done = sum(pairs.verdicts.is_enough(i) for i in pairs.open)
        hidden = [pairs.verdicts.has_seen(i, refiner) for i in pairs.gold]
        mine = sum(pairs.verdicts.has_settled(i, refiner) for i in chain(pairs.open, pairs.gold))
        return {"done": done + sum(hidden), "of": len(pairs.open) + len(hidden), "mine": mine}

    def revealed(self, refiner: str) -> dict[str, Any] | None:
        """Of who has seen all pairs: the rounds, and how often that one chose which; None before the end."""
        rounds, pairs = compared_rounds(self.workspace), self._look()
        if rounds is None or next(self._open_to(pairs, refiner), None) is not None:
            return None
        mine = {p.pair_id: p for p in reversed(choices_of(self.workspace, refiner, len(pairs.open) * 2 + MOST_BACK))}
        # Of anchors alone: texts of train clips are of other rounds.
        tested = {pair.pair_id for pair in pairs_between(self.workspace, *rounds)}
        chosen = [p.chosen for i, p in mine.items() if i in tested]
        return {
            "rounds": list(rounds),
            "chosen": [chosen.count("first"), chosen.count("second")],
            "equal": chosen.count("equal"),
            "both_bad": chosen.count("both_bad"),
        }


def _pair_of(key: str) -> str:
    return key.removeprefix(leases.PAIR).split("@")[0]


def _verdict_of(chosen: str) -> str:
    """A choice as :class:`Verdicts` counts it."""
    return chosen if chosen in ("skip", "withdraw") else "accept"


def _chosen(said: Said, left: Side) -> Choice:
    """What was said by sides, by texts."""
    other: Choice = "second" if left == "first" else "first"
    if said == "left":
        return left
    return other if said == "right" else said


def _said(preference: Preference) -> str:
    """What was chosen by texts, by sides."""
    if preference.chosen not in ("first", "second"):
        return preference.chosen
    return "left" if preference.chosen == preference.left else "right"
