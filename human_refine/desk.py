"""What refiners do with texts: take the next, say what they think, take it back. Everything is appended, nothing overwritten."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sql

from flywheel.core.types import Correction, Cue, Verdict, content_id, standing
from flywheel.store import Workspace
from flywheel.store import schema as db
from human_refine.corrections import clean_payload, clean_text
from human_refine.gold import add_gold
from human_refine.queue import Item, Queue, unit


class Gone(Exception):
    """The annotation, or its clip, is not there (any more)."""


class Conflict(Exception):
    """Somebody, or the same person in another tab, was faster. ``other`` is what stands now, None where only the lease is another's."""

    def __init__(self, message: str, other: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.other = other


class Desk:
    """One per server. Raises ValueError for what can't be a correction, Gone and Conflict."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.queue = Queue(workspace)
        self._saving = threading.Lock()
        self._last_at = datetime.min.replace(tzinfo=UTC)
        latest = workspace.corrections()["at"].max()
        if isinstance(latest, str):
            self._last_at = datetime.fromisoformat(latest)

    def take(self, refiner: str, *, without: str = "") -> dict[str, Any] | None:
        """The next text for this person, with all that the page shows; None where there is none."""
        item = self.queue.next(refiner, without=without)
        return None if item is None else self.shown(item, refiner)

    def shown(self, item: Item, refiner: str) -> dict[str, Any]:
        clip = self.queue.clip(item.clip_id)
        if clip is None:
            raise Gone("this clip is gone")
        said = self._standing(item, self._of(item.annotation_id), refiner)
        last = list(said.values())[-1] if said else None
        mine = said[refiner] if refiner in said and said[refiner].verdict == "edit" else None
        return {
            "annotation_id": item.annotation_id, "clip_id": clip.id, "round": item.round, "text": item.text,
            "media": f"/media/{clip.id}", "start_s": clip.start_s, "end_s": clip.end_s, "fps": clip.fps, "has_audio": clip.has_audio,
            "transcript": clip.transcript, "sounds": clip.sounds,
            "cues": [
                {**asdict(c), "start_s": max(0.0, c.start_s - clip.start_s), "end_s": min(clip.duration_s, c.end_s - clip.start_s)}
                for c in clip.cues
            ],
            "earlier": [
                {"round": round, "source": source, "text": text} for round, source, text in self.queue.earlier(item)
            ],
            # What this page knows to stand: who saves on top of something newer is told.
            "base": last.id if last else "",
            "blind": item.kind == "caption" and not said and self._is_blind(item),
            "mine": mine.text if mine is not None else "", "kind": item.kind,
            # What a dense caption's cues are to begin with: the person's own, else the model's.
            "written": json.loads((mine.payload if mine is not None else "") or item.payload)["cues"] if item.payload else [],
            "model_cues": json.loads(item.payload)["cues"] if item.payload else [],
            "max_chars": self.workspace.config.review.max_chars, "lease_s": self.workspace.config.review.lease_s,
        }  # fmt: skip

    def save(
        self, refiner: str, annotation_id: str, verdict: Verdict, *, text: str, reason: str, seconds: float, base: str, save_id: str,
        cues: Sequence[Cue] = (), gold: bool = False,
    ) -> Correction:  # fmt: skip
        """Keep what was said; an edit of a dense caption is its ``cues``. With ``gold`` (a lead's) the text is the clip's gold from now on. The same ``save_id`` again is the same correction: who did not hear the answer may ask again."""
        item = self.queue.item(annotation_id)
        if item is None or self.queue.clip(item.clip_id) is None:
            raise Gone("this text's clip is gone; what you wrote stays in the page until you go on")
        limit = self.workspace.config.review.max_chars
        text, reason, payload = clean_text(text, limit), clean_text(reason, limit), ""
        if verdict == "edit" and item.kind == "dense_caption":
            if not cues:
                raise ValueError("an edit of timed cues needs cues; reject the text if nothing of it is right")
            clip = self.queue.clip(item.clip_id)
            raw = json.dumps({"cues": [asdict(cue) for cue in cues]})
            payload = clean_payload(raw, item.kind, clip.duration_s if clip is not None else math.inf, limit)
            text = " ".join(cue["text"] for cue in json.loads(payload)["cues"])
            if json.loads(payload) == json.loads(item.payload):
                verdict = "accept"
        elif verdict == "edit" and not text:
            raise ValueError("an edit needs a text; this one is empty")
        if verdict == "edit" and not payload and text == " ".join(item.text.split()):
            verdict = "accept"
        if verdict == "reject" and not reason:
            raise ValueError("a reject needs its reason")
        if gold and (item.kind != "caption" or verdict not in ("accept", "edit")):
            raise ValueError("gold is the right text of a caption: accept or edit it")
        key = content_id("page", annotation_id, refiner, save_id)
        with self._saving:
            before = self._of(annotation_id)
            if found := next((c for c in before if c.id == key), None):
                return found
            holder = self.queue.holder(annotation_id)
            if holder not in ("", refiner):
                raise Conflict(f"this clip lies before {holder} now, since it was yours too long ago", None)
            said = list(self._standing(item, before, refiner).values())
            if said and said[-1].id != base:
                raise Conflict("this text was settled meanwhile", _record(said[-1]))
            correction = Correction(
                id=key, annotation_id=annotation_id, clip_id=item.clip_id, verdict=verdict, text=text if verdict == "edit" else "",
                refiner=refiner, reason=reason, seconds=seconds, at=self._now(), payload=payload if verdict == "edit" else "",
            )  # fmt: skip
            if gold:
                # First: whoever asks again, not having heard the answer, makes it whole.
                add_gold(
                    self.workspace, {item.clip_id: text if verdict == "edit" else " ".join(item.text.split())}, refiner
                )
            self.workspace.add_corrections([correction])
            self.queue.note(annotation_id, verdict, refiner)
        self.queue.release(annotation_id, refiner)
        if gold:
            self.queue.refresh(force=True)
        return correction

    def undo(self, refiner: str) -> dict[str, Any] | None:
        """Take back the last thing that this person said, and lay that text before the person again; None where there is nothing."""
        query = sql.select(db.corrections.c.annotation_id, db.corrections.c.verdict).where(
            db.corrections.c.refiner == refiner
        )
        with self.workspace.database.transaction() as connection:
            rows = connection.execute(query.order_by(db.corrections.c.at.desc(), db.corrections.c.id.desc())).all()
        seen: set[str] = set()
        for annotation_id, verdict in rows:
            if annotation_id in seen:
                continue
            seen.add(annotation_id)
            item = self.queue.item(annotation_id)
            if verdict == "withdraw" or item is None:
                continue
            with self._saving:
                taken_back = Correction(
                    id=content_id("withdraw", annotation_id, refiner, str(self._now())), annotation_id=annotation_id,
                    clip_id=item.clip_id, verdict="withdraw", text="", refiner=refiner, at=self._now(),
                )  # fmt: skip
                self.workspace.add_corrections([taken_back])
                self.queue.note(annotation_id, "withdraw", refiner)
            self.queue.lease(annotation_id, refiner)
            return self.shown(item, refiner)
        return None

    def _standing(self, item: Item, corrections: list[Correction], refiner: str) -> dict[str, Correction]:
        """What stands of a text for this person: of gold its own words alone."""
        said = standing(corrections)
        return {n: c for n, c in said.items() if n == refiner} if self.queue.is_gold(item.annotation_id) else said

    def _is_blind(self, item: Item) -> bool:
        return unit("blind", item.annotation_id) < self.workspace.config.review.blind_share

    def history(self, annotation_id: str, refiner: str, *, lead: bool) -> list[dict[str, Any]]:
        """Every word on a text, oldest first, with the text before and after it. Who has not spoken yet is not to be swayed: raises
        Conflict, but for leads."""
        item = self.queue.item(annotation_id)
        if item is None:
            raise Gone("no such text")
        if not lead and (
            self.queue.is_gold(annotation_id) or not any(c.refiner == refiner for c in self._of(annotation_id))
        ):
            raise Conflict("say what you think first", None)
        current, out = item.text, []
        for correction in sorted(self._of(annotation_id), key=lambda c: (c.at, c.id)):
            after = {"edit": correction.text, "withdraw": item.text, "reject": ""}.get(correction.verdict, current)
            out.append({**_record(correction), "before": current, "after": after})
            current = after
        return out

    def counts(self, refiner: str) -> dict[str, int]:
        """Progress of the round, and what this person said today (UTC) and in all."""
        done, of = self.queue.progress()
        today = datetime.now(UTC).date().isoformat()
        mine = db.corrections.c.refiner == refiner
        said = mine & (db.corrections.c.verdict != "withdraw")
        with self.workspace.database.transaction() as connection:
            query = sql.select(sql.func.count()).select_from(db.corrections)
            all_of_them = connection.execute(query.where(said)).scalar_one()
            of_today = connection.execute(query.where(said & (db.corrections.c.at >= today))).scalar_one()
        return {"done": done, "of": of, "today": int(of_today), "in_all": int(all_of_them)}

    def _of(self, annotation_id: str) -> list[Correction]:
        query = sql.select(db.corrections).where(db.corrections.c.annotation_id == annotation_id)
        with self.workspace.database.transaction() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [Correction(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows]

    def _now(self) -> datetime:
        """The time, later than any correction's before: a clock that is set back must not put words before their past."""
        self._last_at = max(datetime.now(UTC), self._last_at + timedelta(microseconds=1))
        return self._last_at


def _record(correction: Correction) -> dict[str, Any]:
    return {
        "id": correction.id, "verdict": correction.verdict, "text": correction.text, "refiner": correction.refiner,
        "reason": correction.reason, "payload": correction.payload, "seconds": correction.seconds, "at": correction.at.isoformat(),
    }  # fmt: skip
