"""The compare page and its API: one clip, two texts, which is better; nobody is told whose they are before the end."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from human_refine.bodies import ChoiceBody, PairBody
from human_refine.sessions import Acting, SignedIn, csrf_word
from human_refine.state import Review

routes = APIRouter()


@routes.get("/compare", include_in_schema=False)
def page(person: SignedIn, request: Request, review: Review) -> Response:
    """The page on which people choose."""
    template = review.pages.get_template("compare.html")
    return HTMLResponse(template.render(person=person, csrf=csrf_word(request)))


@routes.post("/api/compare/next")
def take_next(body: PairBody, person: Acting, review: Review) -> dict[str, Any]:
    """The next pair for this person, leased to it; ``pair`` is null where none is left.

    ``result`` says then which rounds' texts they were, and how often this person chose which.
    """
    pair = review.comparing.next(person.name, without=body.pair_id)
    result = review.comparing.revealed(person.name) if pair is None else None
    return {"pair": pair, "counts": review.comparing.counts(person.name), "result": result}


@routes.post("/api/compare/lease")
def renew(body: PairBody, person: Acting, review: Review) -> dict[str, bool]:
    """Keep a pair that is open in the page; ``yours`` is false where another person has it now."""
    return {"yours": review.comparing.renew(body.pair_id, person.name)}


@routes.post("/api/compare/choices")
def choose(body: ChoiceBody, person: Acting, review: Review) -> dict[str, Any]:
    """Keep what the person chose; ``texts`` is true where it is the turn of a text to correct, and not of a pair."""
    comparing, name = review.comparing, person.name
    kept = comparing.choose(name, body.pair_id, body.chosen, body.seconds, body.save_id)
    # After the last pair the page stays, and says whose texts they were.
    return {"id": kept.id, "texts": comparing.is_left(name) and not comparing.is_turn(name)}


@routes.post("/api/compare/undo")
def undo(person: Acting, review: Review) -> dict[str, Any]:
    """Take back this person's last choice; ``pair`` is that pair again, null where there is nothing to take back."""
    return {"pair": review.comparing.undo(person.name), "counts": review.comparing.counts(person.name)}


@routes.get("/api/compare/history")
def history(person: SignedIn, review: Review) -> dict[str, Any]:
    """This person's last choices that stand, newest first, by the sides on which that one saw the texts."""
    return {"history": review.comparing.history(person.name)}
