"""Who asks: a browser by its session, which an invite link opens, or a script by its token; and how a session ends.

A session is not the token: who reads a cookie has no link, and a browser can be signed out without a new link for all.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Header, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from human_refine.people import SESSION_S, Person, csrf_of, person_in, person_of, sign_in, sign_out
from human_refine.state import Review

COOKIE = "flywheel_refiner"
#: The page that a link opens: the home page, or the one for review.
To = Literal["", "home"]
routes = APIRouter()


def _bearer(request: Request) -> str:
    """The token that a script sends itself; empty where the header is another's, as a proxy's, or there is none."""
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" else ""


def _session(request: Request) -> str:
    return request.cookies.get(COOKIE, "")


def csrf_word(request: Request) -> str:
    """The word that a page served to this browser sends with each change."""
    return csrf_of(_session(request))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def signed_in(request: Request, review: Review) -> Person:
    """The person whose session or token came with the request. Raises HTTPException where there is none."""
    bearer, session = _bearer(request), _session(request)
    person = person_of(review.workspace, bearer) if bearer else person_in(review.workspace, session)
    if person is not None:
        return person
    if review.attempts.too_many(_address(request)):
        raise HTTPException(429, "too many wrong links from this address; wait a minute")
    if bearer or session:
        review.attempts.note(_address(request))
    raise HTTPException(401, "open the invite link that you were given")


SignedIn = Annotated[Person, Depends(signed_in)]


def acting(request: Request, person: SignedIn, x_csrf_token: Annotated[str, Header()] = "") -> Person:
    """The person, where the change comes from a page of ours or from a script that brings its token itself."""
    if not _bearer(request) and not _is_ours(request, x_csrf_token):
        raise HTTPException(403, "this page is old or foreign; load it again")
    return person


def _is_ours(request: Request, word: str) -> bool:
    return hmac.compare_digest(word.encode(), csrf_word(request).encode())


def leading(person: SignedIn) -> Person:
    """The person, who must be a lead."""
    if person.role != "lead":
        raise HTTPException(403, "only leads may see this")
    return person


def leading_acting(person: Annotated[Person, Depends(acting)]) -> Person:
    """The person who changes something from a page of ours or by a script, and must be a lead."""
    return leading(person)


Acting = Annotated[Person, Depends(acting)]
LeadingActing = Annotated[Person, Depends(leading_acting)]
Leading = Annotated[Person, Depends(leading)]


@routes.get("/invite/{token}", include_in_schema=False)
def invited(token: str, request: Request, review: Review, to: To = "") -> Response:
    """Opens a session; asks where another person's is open, whose name would else be changed without a word."""
    invitee = person_of(review.workspace, token)
    if invitee is None:
        closed, address = review.pages.get_template("closed.html"), _address(request)
        if review.attempts.too_many(address):
            return HTMLResponse(closed.render(why="Too many wrong links. Wait a minute."), 429)
        review.attempts.note(address)
        return HTMLResponse(closed.render(why="This link is not valid (any more). Ask for a new one."), 401)
    present = person_in(review.workspace, _session(request))
    if present is not None and present.name != invitee.name:
        page = review.pages.get_template("switch.html")
        return HTMLResponse(page.render(present=present, invitee=invitee, csrf=csrf_word(request)))
    return _opened(token, request, review, to)


@routes.post("/invite/{token}", include_in_schema=False)
def switched(token: str, request: Request, review: Review, word: Annotated[str, Form()] = "", to: To = "") -> Response:
    """Goes on as the link's person, which the person who is signed in has agreed to."""
    if person_in(review.workspace, _session(request)) is None or not _is_ours(request, word):
        raise HTTPException(403, "open the invite link itself")
    return _opened(token, request, review, to)


def _opened(token: str, request: Request, review: Review, to: To) -> Response:
    session = sign_in(review.workspace, token)
    if session is None:
        raise HTTPException(401, "this link is not valid (any more)")
    sign_out(review.workspace, _session(request))
    answer = RedirectResponse(f"/{to}", 303)
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, session, max_age=SESSION_S, httponly=True, samesite="lax", secure=is_secure, path="/")
    return answer


@routes.post("/api/sign-out")
def end(request: Request, _: Acting, review: Review, response: Response) -> dict[str, bool]:
    """End this browser's session; a token goes on until its person is invited anew."""
    ended = sign_out(review.workspace, _session(request))
    response.delete_cookie(COOKIE, path="/")
    return {"signed_out": ended}
