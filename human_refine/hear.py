"""The page of sounds and its API: one clip, two sounds, which is better; nobody is told which one was edited."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, Response

from human_refine.bodies import ChoiceBody, PairBody
from human_refine.sessions import Acting, SignedIn, csrf_word
from human_refine.state import Review

routes = APIRouter()
_Id = Annotated[str, InPath(min_length=1, max_length=64, pattern=r"^[\w.\-]+$")]


@routes.get("/sounds", include_in_schema=False)
def page(person: SignedIn, request: Request, review: Review) -> Response:
    """The page on which people choose."""
    template = review.pages.get_template("hear.html")
    return HTMLResponse(template.render(person=person, csrf=csrf_word(request)))


@routes.get("/media/sounds/{pair_id}/{side}")
async def film(pair_id: _Id, side: Literal["left", "right"], person: SignedIn, review: Review) -> FileResponse:
    """The clip with the sound that this person hears on that side. 202 while it is being made."""
    file = await review.videos.do(partial(review.hearing.film, pair_id, side, person.name))
    return FileResponse(file, media_type="video/mp4", headers={"Cache-Control": "no-store"})


@routes.get("/api/sounds/video/{pair_id}")
async def video(pair_id: _Id, person: SignedIn, review: Review) -> dict[str, bool]:
    """Has the clip made with both sounds: ``ready`` when they can be played, 202 while they are being made."""
    for side in ("left", "right"):
        await review.videos.do(partial(review.hearing.film, pair_id, side, person.name))
    return {"ready": True}


@routes.post("/api/sounds/next")
def take_next(body: PairBody, person: Acting, review: Review) -> dict[str, Any]:
    """The next pair of sounds for this person, leased to it; ``pair`` is null where none is left.

    ``result`` says then how often this person chose the original, and the edited sound.
    """
    pair = review.hearing.next(person.name, without=body.pair_id)
    result = review.hearing.revealed(person.name) if pair is None else None
    return {"pair": pair, "counts": review.hearing.counts(person.name), "result": result}


@routes.post("/api/sounds/lease")
def renew(body: PairBody, person: Acting, review: Review) -> dict[str, bool]:
    """Keep a pair that is open in the page; ``yours`` is false where another person has it now."""
    return {"yours": review.hearing.renew(body.pair_id, person.name)}


@routes.post("/api/sounds/choices")
def choose(body: ChoiceBody, person: Acting, review: Review) -> dict[str, Any]:
    """Keep what the person chose."""
    kept = review.hearing.choose(person.name, body.pair_id, body.chosen, body.seconds, body.save_id)
    return {"id": kept.id, "texts": False}


@routes.post("/api/sounds/undo")
def undo(person: Acting, review: Review) -> dict[str, Any]:
    """Take back this person's last choice between sounds; ``pair`` is that pair again, null where there is none."""
    return {"pair": review.hearing.undo(person.name), "counts": review.hearing.counts(person.name)}


@routes.get("/api/sounds/history")
def history(person: SignedIn, review: Review) -> dict[str, Any]:
    """This person's last choices that stand, newest first, by the sides on which that one heard the sounds."""
    return {"history": review.hearing.history(person.name)}
