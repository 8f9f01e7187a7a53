"""The review page and its API: who may, what comes in, what goes out.

What is done stands in :mod:`human_refine.service`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.exceptions import HTTPException as StarletteHTTPException

from flywheel.core.errors import BorderError, MediaError, UserError
from flywheel.core.types import Clip
from flywheel.formats.corrections import endings
from flywheel.store import Workspace
from human_refine import beside, compare, hear, leading, sessions
from human_refine import home as home_page
from human_refine.aside import Aside
from human_refine.bodies import LeaseBody, NextBody, SaveBody
from human_refine.comparing import Comparing
from human_refine.corrections import Sender, import_corrections
from human_refine.guidelines import read_guide
from human_refine.hearing import Hearing
from human_refine.limits import Limits
from human_refine.making import BeingMade
from human_refine.media import Missing, Proxies, Waveforms
from human_refine.people import LoginAttempts
from human_refine.rejects import Rejects
from human_refine.service import Conflict, Gone, ReviewService
from human_refine.sessions import Acting, SignedIn, csrf_word, signed_in
from human_refine.sound_pairs import NoSounds, SoundPairs
from human_refine.standing import Standing
from human_refine.state import ContentSearch, Review, ReviewState

#: Seconds that a request waits for a copy that browsers play: most clips' are there by then.
_PATIENCE_S = 0.2
#: Videos and sounds that are looked at at a time.
_VIDEOS, _SOUNDS = 8, 2
#: Searches by content at a time: each uses all that the machine has.
_SEARCHES = 1
Id = Annotated[str, InPath(min_length=1, max_length=64, pattern=r"^[\w.\-]+$")]


def create_app(
    workspace: Workspace,
    standing: Callable[[], Sequence[str]] | None = None,
    home: Callable[[], Any] | None = None,
    sounds: SoundPairs | None = None,
    content: ContentSearch | None = None,
) -> FastAPI:
    """The application over one workspace; one process serves it.

    ``standing`` gives the lines on top of the lead's page: how the last rounds went, and what comes next.
    ``home`` gives what the page ``/home`` shows (:class:`flywheel.rounds.home.Home`); there is none if left out.
    ``sounds`` are the pairs of sounds that ``/sounds`` asks about; none if left out.
    ``content`` finds clips by what is in them, for the lead's page of clips; it searches words alone if left out.
    """
    # What can be asked is told to who may ask it.
    app = FastAPI(title="Flywheel review", docs_url=None, redoc_url=None, openapi_url=None, version="1")
    most_proxies = int(workspace.config.review.proxies_gib * 2**30)
    service = ReviewService(workspace)
    app.state.review = ReviewState(
        workspace=workspace,
        service=service,
        attempts=LoginAttempts(workspace),
        proxies=Proxies(
            workspace.root / "cache" / "proxies", most_proxies, lambda clip: clip.id not in workspace.taken_down()
        ),
        waveforms=Waveforms(),
        videos=Aside(_VIDEOS),
        sounds=Aside(_SOUNDS),
        pages=Environment(loader=PackageLoader("human_refine"), autoescape=select_autoescape()),
        missing=Missing(),
        guide=read_guide(workspace.config.review.guidelines, workspace.root),
        rejects=Rejects(),
        standing=Standing(standing),
        home=home,
        comparing=Comparing(service),
        hearing=Hearing(service, sounds or NoSounds()),
        content=content,
        searches=Aside(_SEARCHES),
    )
    service.queue.watch()
    app.add_middleware(Limits, most_upload=int(workspace.config.review.upload_mib * 2**20) + 4096)
    app.include_router(sessions.routes)
    app.include_router(beside.routes)
    app.include_router(leading.routes)
    app.include_router(home_page.routes)
    app.include_router(compare.routes)
    app.include_router(hear.routes)
    app.include_router(_routes)
    app.mount("/static", StaticFiles(directory=str(resources.files("human_refine") / "static")), name="static")

    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: JSONResponse({"detail": str(error)}, status)

    app.add_exception_handler(Gone, answer(410))
    app.add_exception_handler(ValueError, answer(422))
    app.add_exception_handler(UserError, answer(422))
    app.add_exception_handler(MediaError, answer(404))
    # A full disk, a database that is away: nothing typed is lost, the page keeps it and says so.
    app.add_exception_handler(BorderError, answer(503))
    app.add_exception_handler(Conflict, _conflict)
    app.add_exception_handler(BeingMade, _being_made)
    app.add_exception_handler(StarletteHTTPException, _refused)
    return app


def _being_made(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error), "ready": False}, 202, headers={"Retry-After": "2"})


def _conflict(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Conflict)
    return JSONResponse({"detail": str(error), "other": error.other}, 409)


async def _refused(request: Request, error: Exception) -> Response:
    """A page for people where a page was asked for, JSON for scripts."""
    assert isinstance(error, StarletteHTTPException)
    if request.url.path.startswith(("/api/", "/media/", "/static/")) or "text/html" not in request.headers.get(
        "accept", ""
    ):
        return await http_exception_handler(request, error)
    review: ReviewState = request.app.state.review
    why = {403: f"This page is for others: {error.detail}.", 404: "There is no such page."}
    page = review.pages.get_template("closed.html")
    words = why.get(error.status_code, f"{str(error.detail).capitalize()}.")
    return HTMLResponse(page.render(why=words, back=error.status_code != 401), error.status_code)


_routes = APIRouter()


# Pages.


@_routes.get("/", include_in_schema=False)
def page(request: Request, review: Review) -> HTMLResponse:
    try:
        person = signed_in(request, review)
    except HTTPException as error:
        return HTMLResponse(
            review.pages.get_template("closed.html").render(why=f"To refine, {error.detail}."), error.status_code
        )
    settings = review.workspace.config.review
    page = review.pages.get_template("review.html")
    return HTMLResponse(
        page.render(
            person=person,
            csrf=csrf_word(request),
            reasons=settings.reasons,
            guide=review.guide,
            goal=settings.daily_goal,
            has_home=review.home is not None,
            compare=bool(settings.compare),
            sounds=review.hearing.is_left(person.name),
        )
    )


@_routes.get("/openapi.json", include_in_schema=False)
def schema(_: SignedIn, request: Request) -> JSONResponse:
    """The API's description, for scripts."""
    return JSONResponse(request.app.openapi())


# Clips.


@_routes.get("/media/{clip_id}")
async def media(clip_id: Id, _: SignedIn, review: Review) -> FileResponse:
    """The clip's video, in whole or by ranges, as browsers play it. 202 while a copy is being made that they can."""
    file = await review.videos.do(lambda: _playable(review, clip_id))
    return FileResponse(file, headers={"Cache-Control": "private, max-age=300"})


@_routes.get("/api/video/{clip_id}")
async def video(clip_id: Id, _: SignedIn, review: Review) -> dict[str, bool]:
    """Whether the clip's video can be shown: ``ready``, or 202 while a copy is being made that browsers play."""
    try:
        await review.videos.do(lambda: _playable(review, clip_id))
    except MediaError as error:
        review.missing.note(clip_id, str(error))
        raise
    review.missing.note(clip_id, "")
    return {"ready": True}


@_routes.get("/api/waveform/{clip_id}")
async def waveform(clip_id: Id, _: SignedIn, review: Review) -> dict[str, list[float]]:
    """Peaks in [0, 1] over the clip's span; none where it is silent."""
    return {"peaks": await review.sounds.do(lambda: review.waveforms.peaks(_clip(review, clip_id)))}


def _playable(review: ReviewState, clip_id: str) -> Path:
    """The clip's video as browsers play it. Raises BeingMade where that is a copy that is not there yet."""
    return review.proxies.file(_clip(review, clip_id), _PATIENCE_S)


def _clip(review: ReviewState, clip_id: str) -> Clip:
    """A clip whose file is the one that was taken in. Raises 404 where there is none, MediaError where it is not."""
    clip = review.service.clip(clip_id)
    if clip is None:
        raise HTTPException(404, "no such clip")
    review.workspace.originals.check(clip.uri, clip.content_hash)
    return clip


# Texts.


@_routes.post("/api/next")
def take_next(body: NextBody, person: Acting, review: Review) -> dict[str, Any]:
    """The next text for this person, leased to it; ``item`` is null where nothing is left.

    ``compare`` is true where it is the turn of a pair of texts (``/compare``), as often as ``review.compare`` says.
    """
    if review.comparing.is_turn(person.name):
        return {"item": None, "counts": review.service.counts(person.name), "compare": True}
    item = review.service.take(person.name, without=body.without, anchors_first=body.anchors_first)
    counts = review.service.counts(person.name, finished=item is None)
    return {"item": item, "counts": counts, "compare": item is None and review.comparing.is_left(person.name)}


@_routes.post("/api/lease")
def renew(body: LeaseBody, person: Acting, review: Review) -> dict[str, bool]:
    """Keep a text that is open in the page; ``yours`` is false where it was not given, or another has it now."""
    return {"yours": review.service.queue.renew(body.annotation_id, person.name)}


@_routes.post("/api/corrections")
def save(body: SaveBody, person: Acting, review: Review) -> dict[str, Any]:
    """Keep what the person says of a text. 409 where something else stands by now; ``other`` says what."""
    if body.gold and person.role != "lead":
        raise HTTPException(403, "only leads say what is gold")
    kept = review.service.save(person.name, body.request())
    return {"id": kept.id, "verdict": kept.verdict}


@_routes.post("/api/undo")
def undo(person: Acting, review: Review) -> dict[str, Any]:
    """Take back this person's last word; ``item`` is that text again, null where there is nothing to take back."""
    return {"item": review.service.undo(person.name), "counts": review.service.counts(person.name)}


@_routes.get("/api/history/{annotation_id}")
def history(annotation_id: Id, person: SignedIn, review: Review) -> dict[str, Any]:
    """Every word on a text: who, when, why, before, after; for leads, and for who has spoken on it."""
    return {"history": review.service.history(annotation_id, person.name, lead=person.role == "lead")}


@_routes.get("/api/progress")
def progress(person: SignedIn, review: Review) -> dict[str, int]:
    return review.service.counts(person.name)


@_routes.post("/api/corrections/import")
def upload(
    file: UploadFile, person: Acting, review: Review, preview: Annotated[bool, Query()] = False
) -> dict[str, Any]:
    """Corrections from a file. A refiner's are that refiner's, a lead's whose the file says they are."""
    suffix = Path(file.filename or "").suffix.lower()
    if suffix not in (allowed := endings(plain=True)):
        raise HTTPException(415, f"corrections come as {', '.join(allowed)}")
    with tempfile.TemporaryDirectory() as folder:
        # A subtitle file's name may say whose text it is; nothing else of it is used.
        path = Path(folder) / (re.sub(r"[^\w\-]", "", Path(file.filename or "").stem)[:64] + suffix)
        path.write_bytes(file.file.read())
        refiner = "" if person.role == "lead" else person.name
        sender = Sender(refiner=refiner, now=review.service.now())
        report = import_corrections(review.workspace, path, sender=sender, preview=preview)
    if not preview:
        for change in report.changes:
            review.service.queue.note(change["annotation_id"], change["verdict"], change["refiner"])
    return {
        "added": report.added,
        "choices": report.choices,
        "known": report.known,
        "blank": report.blank,
        "refused": report.refused[:500],
        "num_refused": len(report.refused),
        "changes": report.changes[:200],
        "preview": preview,
    }
