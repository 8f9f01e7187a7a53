"""The API beside a refiner's work: one's last decisions, a text by its link, what was skipped, flags for the lead."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from flywheel.store import Workspace
from flywheel.store.corrections import last_words
from flywheel.store.flags import put_flag
from human_refine.bodies import FlagBody, OpenBody
from human_refine.cleaning import clean_text
from human_refine.items import items_with_ids
from human_refine.service import Gone
from human_refine.sessions import Acting, SignedIn
from human_refine.state import Review

_MOST_RECENT, _SHOWN_CHARS = 20, 160
_MOST_NOTE_CHARS = 1000
routes = APIRouter()


@routes.get("/api/recent")
def recent(person: SignedIn, review: Review) -> dict[str, Any]:
    """This person's last decisions that stand, newest first: the text, the verdict, and the beginning of its words."""
    return {"recent": recent_of(review.workspace, person.name)}


def recent_of(workspace: Workspace, refiner: str, limit: int = _MOST_RECENT) -> list[dict[str, Any]]:
    """A person's last decisions that stand, newest first; those of texts that are gone are left out."""
    said = last_words(workspace, refiner, limit)
    items = items_with_ids(workspace, [c.annotation_id for c in said])
    return [
        {
            "annotation_id": c.annotation_id,
            "clip_id": c.clip_id,
            "verdict": c.verdict,
            "reason": c.reason,
            "before": item.text,
            "after": c.text if c.verdict == "edit" else item.text,
            "text": (c.text or item.text)[:_SHOWN_CHARS],
            "at": c.at.isoformat(timespec="minutes"),
        }
        for c in said
        if (item := items.get(c.annotation_id)) is not None
    ]


@routes.post("/api/open")
def open_text(body: OpenBody, person: Acting, review: Review) -> dict[str, Any]:
    """One text by its id: what this person judged before, or what the queue could offer; leads open any of them."""
    item = review.service.open(person.name, body.annotation_id, lead=person.role == "lead")
    return {"item": item, "counts": review.service.counts(person.name)}


@routes.post("/api/again")
def again(person: Acting, review: Review) -> dict[str, Any]:
    """The text that this person skipped longest ago and that is still open; ``item`` is null where there is none."""
    item = review.service.again(person.name)
    return {"item": item, "counts": review.service.counts(person.name, finished=item is None)}


@routes.post("/api/flags")
def flag(body: FlagBody, person: Acting, review: Review) -> dict[str, bool]:
    """Flag a text for the leads, with a note, or take one's flag away."""
    item = review.service.queue.item(body.annotation_id)
    if item is None:
        raise Gone("this text is gone")
    note = clean_text(body.note, _MOST_NOTE_CHARS) if body.flagged else ""
    put_flag(review.workspace, item.annotation_id, item.clip_id, person.name, flagged=body.flagged, note=note)
    return {"flagged": body.flagged}
