"""What refiners do with texts: take the next, say what they think, take it back. Nothing is overwritten."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flywheel.core.types import CAPTION, Clip, Correction, content_id, standing
from flywheel.store import Workspace
from flywheel.store.corrections import add_checked, corrections_of, latest_correction_at, spoken_by, verdicts_by
from flywheel.store.flags import flag_of
from flywheel.store.writing import TakenDown
from human_refine.gold import add_gold
from human_refine.items import Item
from human_refine.order import hash_fraction
from human_refine.queue import Queue
from human_refine.saving import Checked, SaveRequest, Tries, checked

_GONE = "this text's clip is gone; what you wrote stays in the page until you go on"


class Gone(Exception):
    """The annotation, or its clip, is not there (any more)."""


class Conflict(Exception):
    """Somebody else, or the same person in another tab, was faster.

    ``other`` is what stands now, None where only the lease is another person's.
    """

    def __init__(self, message: str, other: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.other = other


class ReviewService:
    """The page's actions; one per server. Raises ValueError for what can't be a correction, Gone and Conflict.

    Several servers may have one workspace: what is kept is checked in the transaction that keeps it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.queue = Queue(workspace)
        self._saving, self._clock = threading.Lock(), threading.Lock()
        self._last_at = latest_correction_at(workspace, datetime.now(UTC)) or datetime.min.replace(tzinfo=UTC)

    def take(self, refiner: str, *, without: str = "", anchors_first: bool = False) -> dict[str, Any] | None:
        """The next text for this person, with all that the page shows; None where there is none."""
        item = self.queue.next(refiner, without=without, anchors_first=anchors_first)
        return None if item is None else self.shown(item, refiner)

    def shown(self, item: Item, refiner: str) -> dict[str, Any]:
        """All that the page shows of a text. Raises Gone where its clip was taken down."""
        clip = self.queue.clip(item.clip_id)
        if clip is None:
            raise Gone("this clip is gone")
        latest = _standing(
            corrections_of(self.workspace, item.annotation_id), refiner, is_gold=self.queue.is_gold(item.annotation_id)
        )
        last = list(latest.values())[-1] if latest else None
        edit = latest[refiner] if refiner in latest and latest[refiner].verdict == "edit" else None
        model_cues = json.loads(item.payload)["cues"] if item.payload else []
        edited = edit.payload if edit is not None else ""
        settings = self.workspace.config.review
        flag = flag_of(self.workspace, item.annotation_id, refiner)
        return {
            "annotation_id": item.annotation_id,
            **clip_fields(clip),
            "round": item.round,
            "text": item.text,
            "earlier": [
                {"round": round, "source": source, "text": text} for round, source, text in self.queue.earlier(item)
            ],
            # What this page knows to stand: who saves on top of something newer is told.
            "base": last.id if last else "",
            "blind": item.kind == CAPTION and not latest and self._is_blind(item, clip),
            "mine": edit.text if edit is not None else "",
            "kind": item.kind,
            # What a dense caption's cues are to begin with: the person's own, else the model's.
            "written": json.loads(edited)["cues"] if edited and item.payload else model_cues,
            "model_cues": model_cues,
            "max_chars": settings.max_chars,
            "lease_s": settings.lease_s,
            "flag": {"flagged": flag is not None, "note": flag.note if flag is not None else ""},
        }

    def again(self, refiner: str) -> dict[str, Any] | None:
        """The text that this person skipped longest ago and may still judge, leased; None where there is none."""
        for annotation_id in self.skipped(refiner):
            item = self.queue.item(annotation_id)
            if item is not None and self.queue.give(annotation_id, refiner):
                return self.shown(item, refiner)
        return None

    def skipped(self, refiner: str) -> list[str]:
        """Texts of this round whose skip by this person stands and that nobody settled, the oldest skip first."""
        verdicts: dict[str, str] = {}
        for annotation_id, verdict in verdicts_by(self.workspace, refiner):
            verdicts.setdefault(annotation_id, verdict)
        return [i for i, said in reversed(verdicts.items()) if said == "skip" and self.queue.is_unsettled(i)]

    def open(self, refiner: str, annotation_id: str, *, lead: bool) -> dict[str, Any]:
        """Lays one text before a person who judged it before, whom the queue could offer it to, or who is a lead.

        Raises Gone for an unknown text, Conflict where it is not this person's to judge, or lies before another.
        """
        item = self.queue.item(annotation_id)
        if item is None:
            raise Gone("this text is gone")
        spoke = any(c.refiner == refiner for c in corrections_of(self.workspace, annotation_id))
        if not (lead or spoke or self.queue.is_offered(annotation_id, refiner)):
            raise Conflict("others have reviewed this text, or it is not part of the review", None)
        if not self.queue.give(annotation_id, refiner):
            raise Conflict(f"this clip lies before {self.queue.holder(annotation_id) or 'another person'} now", None)
        return self.shown(item, refiner)

    def clip(self, clip_id: str) -> Clip | None:
        """A clip; None where there never was one. Raises Gone where it was taken down."""
        clip = self.queue.clip(clip_id)
        if clip is None and self.workspace.takedowns.among([clip_id]):
            raise Gone("this clip is gone")
        return clip

    def save(self, refiner: str, request: SaveRequest) -> Correction:
        """Keeps what a person says of a text; the same request again gives the same correction.

        Who had no answer, wrote on and saved again replaces their own first try: the later words stand. Raises Gone
        where the text or its clip is no more, ValueError for what can't be a correction, and Conflict where the text
        was settled meanwhile or lies before another person.
        """
        item = self.queue.item(request.annotation_id)
        clip = self.queue.clip(item.clip_id) if item is not None else None
        if item is None or clip is None:
            raise Gone(_GONE)
        content = checked(request, item, clip, self.workspace.config.review.max_chars)
        with self._saving:
            before = corrections_of(self.workspace, item.annotation_id)
            tries = Tries("page", item.annotation_id, refiner, request.save_id, [c.id for c in before])
            correction = self._correction(tries.next_id, item, refiner, content, request.seconds)
            earlier = next((c for c in before if c.id == tries.last_id), None)
            if earlier is not None and _says_the_same(earlier, correction):
                return earlier
            base = request.base if earlier is None else earlier.id
            # Asked before the lock of writing is had: who has the queue's lock may wait for that of writing.
            is_gold = self.queue.is_gold(item.annotation_id)
            holder = self.queue.holder(item.annotation_id)
            self._check_conflict(before, holder, refiner, base, is_gold=is_gold)
            if request.gold:
                # First: whoever asks again, not having heard the answer, makes it whole.
                right_text = content.text if content.verdict == "edit" else " ".join(item.text.split())
                add_gold(self.workspace, {item.clip_id: right_text}, refiner)

            def check(now: list[Correction], holder: str) -> None:
                # Another server may have taken something in first; the same request there is this one.
                if all(c.id != correction.id for c in now):
                    self._check_conflict(now, holder, refiner, base, is_gold=is_gold)

            self._add(correction, check)
            self.queue.note(item.annotation_id, content.verdict, refiner)
        self.queue.release(item.annotation_id, refiner)
        if request.gold:
            self.queue.refresh(force=True)
        return correction

    def _add(self, correction: Correction, check: Callable[[list[Correction], str], None] = lambda *_: None) -> None:
        try:
            add_checked(self.workspace, correction, correction.annotation_id, check)
        except TakenDown as error:
            raise Gone(_GONE) from error

    @staticmethod
    def _check_conflict(before: list[Correction], holder: str, refiner: str, base: str, *, is_gold: bool) -> None:
        """Raises Conflict where another person has the text, or where something newer than ``base`` stands."""
        if holder not in ("", refiner):
            raise Conflict(f"this clip lies before {holder} now, since it was yours too long ago", None)
        latest = list(_standing(before, refiner, is_gold=is_gold).values())
        if latest and latest[-1].id != base:
            raise Conflict("this text was reviewed meanwhile", _record(latest[-1]))

    def _correction(self, key: str, item: Item, refiner: str, content: Checked, seconds: float) -> Correction:
        is_edit = content.verdict == "edit"
        return Correction(
            id=key,
            annotation_id=item.annotation_id,
            clip_id=item.clip_id,
            verdict=content.verdict,
            text=content.text if is_edit else "",
            refiner=refiner,
            reason=content.reason,
            seconds=seconds,
            at=self.now(),
            payload=content.payload if is_edit else "",
        )

    def undo(self, refiner: str) -> dict[str, Any] | None:
        """Takes back the last thing that this person said, and lays that text before the person again.

        None where there is nothing to take back.
        """
        seen: set[str] = set()
        for annotation_id, verdict in verdicts_by(self.workspace, refiner):
            if annotation_id in seen:
                continue
            seen.add(annotation_id)
            if verdict == "withdraw" or (item := self.queue.item(annotation_id)) is None:
                continue
            self._withdraw(item, refiner)
            self.queue.give(annotation_id, refiner)
            return self.shown(item, refiner)
        return None

    def _withdraw(self, item: Item, refiner: str) -> None:
        with self._saving:
            at = self.now()
            correction = Correction(
                id=content_id("withdraw", item.annotation_id, refiner, str(at)),
                annotation_id=item.annotation_id,
                clip_id=item.clip_id,
                verdict="withdraw",
                text="",
                refiner=refiner,
                at=at,
            )
            self._add(correction)
            self.queue.note(item.annotation_id, "withdraw", refiner)

    def _is_blind(self, item: Item, clip: Clip) -> bool:
        settings = self.workspace.config.review
        share = max(settings.blind_share, settings.blind_anchors if clip.split == "anchor" else 0.0)
        return hash_fraction("blind", item.annotation_id) < share

    def history(self, annotation_id: str, refiner: str, *, lead: bool) -> list[dict[str, Any]]:
        """Every correction of a text, oldest first, with the text before and after it.

        Who has not spoken yet is not to be swayed: raises Conflict, but for leads. Raises Gone for an unknown text.
        """
        item = self.queue.item(annotation_id)
        if item is None:
            raise Gone("no such text")
        corrections = corrections_of(self.workspace, annotation_id)
        if not lead:
            if not any(c.refiner == refiner for c in corrections):
                raise Conflict("say what you think first", None)
            if self.queue.is_gold(annotation_id):
                # As of any text that one person has seen: whether it is gold can't be told.
                corrections = [c for c in corrections if c.refiner == refiner]
        current, rows = item.text, []
        for correction in sorted(corrections, key=lambda c: (c.at, c.id)):
            after = {"edit": correction.text, "withdraw": item.text, "reject": ""}.get(correction.verdict, current)
            rows.append({**_record(correction), "before": current, "after": after})
            current = after
        return rows

    def counts(self, refiner: str, *, finished: bool = False) -> dict[str, int]:
        """Progress of the round, and how many corrections this person gave today (UTC) and in all.

        Of who has ``finished`` also how many texts that one skipped and may still judge.
        """
        settled, num_texts = self.queue.progress(refiner)
        spoken = spoken_by(self.workspace, refiner, datetime.now(UTC).date().isoformat())
        counts = {"done": settled, "of": num_texts, "today": spoken.today, "in_all": spoken.in_all}
        return {**counts, "skipped": len(self.skipped(refiner))} if finished else counts

    def now(self) -> datetime:
        """The time, later than any correction's before.

        A clock that is set back must not put words before their past. What a file once dated in the future does not
        count.
        """
        with self._clock:
            self._last_at = max(datetime.now(UTC), self._last_at + timedelta(microseconds=1))
            return self._last_at


def clip_fields(clip: Clip) -> dict[str, Any]:
    """What the page shows of a clip; the cues' times are from its start."""
    return {
        "clip_id": clip.id,
        "media": f"/media/{clip.id}",
        "name": Path(clip.uri).name,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "fps": clip.fps,
        "has_audio": clip.has_audio,
        "transcript": clip.transcript,
        "sounds": clip.sounds,
        "cues": [
            {
                **asdict(cue),
                "start_s": max(0.0, cue.start_s - clip.start_s),
                "end_s": min(clip.duration_s, cue.end_s - clip.start_s),
            }
            for cue in clip.cues
        ],
    }


def _standing(corrections: list[Correction], refiner: str, *, is_gold: bool) -> dict[str, Correction]:
    """What stands of a text for this person: of gold that person's own words alone."""
    latest = standing(corrections)
    return {name: c for name, c in latest.items() if name == refiner} if is_gold else latest


def _says_the_same(one: Correction, other: Correction) -> bool:
    names = ("verdict", "text", "payload", "reason")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _record(correction: Correction) -> dict[str, Any]:
    return {
        "id": correction.id,
        "verdict": correction.verdict,
        "text": correction.text,
        "refiner": correction.refiner,
        "reason": correction.reason,
        "payload": correction.payload,
        "seconds": correction.seconds,
        "at": correction.at.isoformat(),
    }
