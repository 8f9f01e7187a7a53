"""The lead's pages and their API: who did what, everybody's texts, clips with search, rejects, invitations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse

from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION
from flywheel.store import Workspace
from flywheel.store.corrections import words_a_day, words_on_clips
from flywheel.store.flags import open_flags
from flywheel.store.gold import newest_gold
from flywheel.store.people import all_refiners
from human_refine import browsing
from human_refine.beside import recent_of
from human_refine.bodies import ClipVerdictBody, ExcludeBody, InviteBody
from human_refine.browsing import People
from human_refine.effort import effort
from human_refine.people import exclude, excluded, invite
from human_refine.sessions import Leading, LeadingActing, csrf_word
from human_refine.state import Review, ReviewState

_DAYS, _MOST_TEXTS, _MOST_LISTED = 14, 200, 50
Id = Annotated[str, InPath(min_length=1, max_length=64, pattern=r"^[\w.\-]+$")]
Name = Annotated[str, InPath(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
routes = APIRouter()


def _page(review: ReviewState, request: Request, template: str, /, **values: Any) -> HTMLResponse:
    return HTMLResponse(review.pages.get_template(template).render(csrf=csrf_word(request), **values))


# Who did what.


@routes.get("/lead", include_in_schema=False)
def lead_page(person: Leading, request: Request, review: Review) -> HTMLResponse:
    workspace = review.workspace
    return _page(
        review,
        request,
        "lead.html",
        person=person,
        effort=effort(workspace),
        progress=review.service.counts(person.name),
        standing=review.standing.lines(),
        days=_days(workspace),
        goal=workspace.config.review.daily_goal,
        has_home=review.home is not None,
        invited=dict(all_refiners(workspace)),
        excluded=excluded(workspace),
        flags=open_flags(workspace, _MOST_LISTED),
        gold=newest_gold(workspace, _MOST_LISTED),
        missing=list(review.missing.all().items())[:_MOST_LISTED],
    )


def _days(workspace: Workspace) -> dict[str, list[tuple[str, int]]]:
    """Person -> day and number of corrections of each of the last two weeks' days."""
    today = datetime.now(UTC).date()
    names = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(_DAYS))]
    by_person: dict[str, dict[str, int]] = {}
    for name, day, count in words_a_day(workspace, names[0]):
        by_person.setdefault(name, {})[day] = count
    return {name: [(day, counts.get(day, 0)) for day in names] for name, counts in by_person.items()}


@routes.get("/lead/person/{name}", include_in_schema=False)
def person_page(name: Name, _: Leading, request: Request, review: Review) -> HTMLResponse:
    texts = recent_of(review.workspace, name, _MOST_TEXTS)
    invited = dict(all_refiners(review.workspace))
    if not texts and name not in invited:
        raise HTTPException(404, "nobody of this name was invited or reviewed anything")
    values = {"role": invited.get(name, ""), "is_excluded": name in excluded(review.workspace)}
    return _page(review, request, "person.html", name=name, texts=texts, most=_MOST_TEXTS, **values)


@routes.post("/api/people")
def invite_person(body: InviteBody, _: LeadingActing, request: Request, review: Review) -> dict[str, str]:
    """A link for a refiner; an earlier one of the same name ends. Leads are invited by the command alone."""
    if dict(all_refiners(review.workspace)).get(body.name) == "lead":
        raise UserError(f"{body.name} is a lead; leads are invited with 'flywheel invite --role lead'")
    token = invite(review.workspace, body.name, "refiner")
    return {"name": body.name, "link": f"{str(request.base_url).rstrip('/')}/invite/{token}"}


@routes.post("/api/people/exclude")
def exclude_person(body: ExcludeBody, _: LeadingActing, review: Review) -> dict[str, bool]:
    """Leave a refiner's words out and close the page to that person, or take them in again; nothing is deleted."""
    if dict(all_refiners(review.workspace)).get(body.name) == "lead":
        raise UserError(f"{body.name} is a lead; leads are excluded with 'flywheel exclude'")
    # The queue sees it at its next look.
    exclude(review.workspace, body.name, body.reason, undo=body.undo)
    return {"excluded": not body.undo}


# Clips.


@routes.get("/clips", include_in_schema=False)
def clips_page(person: Leading, request: Request, review: Review) -> HTMLResponse:
    rounds = review.service.queue.index.rounds()
    indexed = review.content is not None and review.content.ready()
    return _page(review, request, "clips.html", person=person, rounds=rounds, indexed=indexed)


@routes.get("/api/clips")
def clips(
    _: Leading,
    review: Review,
    words: Annotated[str, Query(max_length=200)] = "",
    split: Annotated[str, Query(pattern="^(train|test|anchor)?$")] = "",
    people: People = "",
    round: Annotated[int, Query(ge=0, le=32_000)] = 0,
    cursor: Annotated[str, Query(max_length=100, pattern=r"^[\w:.+\-]*$")] = "",
) -> dict[str, Any]:
    """Clips with their newest caption and what people said last; ``cursor`` goes on, empty at the end."""
    query = browsing.Query(words=words, split=split, people=people, round=round, cursor=cursor)
    found = browsing.find(review.workspace, review.service.queue.index, query)
    return {"clips": found.clips, "cursor": found.cursor, "share": found.share}


@routes.get("/api/search")
async def search(
    _: Leading,
    review: Review,
    text: Annotated[str, Query(max_length=2000)] = "",
    split: Annotated[str, Query(pattern="^(train|test|anchor)?$")] = "",
    round: Annotated[int, Query(ge=0, le=32_000)] = 0,
) -> dict[str, Any]:
    """The clips that are most like a text by what is seen, heard and written in them, best first.

    Each is as in ``/api/clips``, with ``found_by``: of its ``video``, ``sound`` and ``text`` by how many standard
    deviations it is more like the text than clips are in the mean. ``round`` keeps those that have a text of it.
    """
    content = review.content
    if content is None or not content.ready():
        raise HTTPException(404, "no index of an encoder that knows texts: 'flywheel index' makes one")

    def find() -> list[dict[str, Any]]:
        by = content.find(text, split, round or None, browsing.PAGE)
        shown = browsing.shown(review.workspace, review.service.queue.index, list(by), round)
        return [{**clip, "found_by": by[clip["clip_id"]]} for clip in shown]

    return {"clips": await review.searches.do(find)}


@routes.get("/api/clips/{clip_id}")
def clip(clip_id: Id, _: Leading, review: Review) -> dict[str, Any]:
    """All that is on record of one clip: the texts of all rounds, people's words, and whether it is kept."""
    workspace = review.workspace
    found = review.service.clip(clip_id)
    if found is None:
        raise HTTPException(404, "no such clip")
    texts = workspace.records.of_clips("annotations", [clip_id]).sort("round", maintain_order=True)
    wanted = ("id", "round", "kind", "source", "purpose", "text")
    said = words_on_clips(workspace, [clip_id]).get(clip_id, [])
    words = ("annotation_id", "verdict", "text", "refiner", "reason")
    return {
        "clip_id": clip_id,
        "uri": found.uri,
        **{name: getattr(found, name) for name in ("start_s", "end_s", "split", "transcript", "sounds")},
        "texts": [{name: row[name] for name in wanted} for row in texts.iter_rows(named=True)],
        "captions": [row["id"] for row in texts.iter_rows(named=True) if row["kind"] == CAPTION],
        "words": [
            {**{name: getattr(word, name) for name in words}, "at": word.at.isoformat(timespec="minutes")}
            for word in said
        ],
        "decision": workspace.decision_on(clip_id),
        "verdicts": workspace.verdicts_on(clip_id),
    }


@routes.get("/api/clips/{clip_id}/neighbours")
def neighbours(clip_id: Id, _: Leading, review: Review) -> dict[str, str | None]:
    """The clips before and after this one in its video."""
    found = review.service.clip(clip_id)
    if found is None:
        raise HTTPException(404, "no such clip")
    return browsing.neighbours(review.workspace, found)


@routes.post("/api/clips/{clip_id}/verdict")
def keep_or_drop(clip_id: Id, body: ClipVerdictBody, person: LeadingActing, review: Review) -> dict[str, bool]:
    """Put on record that a clip is kept, or dropped, whatever policies say; from the next run of curation on.

    409 while a round or another command writes to the workspace.
    """
    if review.service.clip(clip_id) is None:
        raise HTTPException(404, "no such clip")
    try:
        # What another command left is tidied up by the next one: nobody waits for that here.
        with review.workspace.lock(tidy=False):
            review.workspace.add_clip_verdict(clip_id, kept=body.kept, reason=f"{body.reason.strip()} ({person.name})")
    except UserError as error:
        if error.code != "busy":
            raise
        raise HTTPException(409, "a round or another command is writing; say it again when it is done") from error
    return {"kept": body.kept}


@routes.get("/api/rejects")
def rejects(_: Leading, review: Review) -> dict[str, Any]:
    """What failed and is still open: how many by stage and reason, and the newest ones by file and clip."""
    return review.rejects.open(review.workspace)
