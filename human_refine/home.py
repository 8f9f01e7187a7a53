"""The home page of a workspace, for leads: its rounds as a timeline, with what lies beside each report."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse

from flywheel.core.errors import FlywheelError
from human_refine.sessions import Leading
from human_refine.state import Review

#: A report is one file with its own style, pictures and videos, and without a script.
_REPORTS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; frame-ancestors 'none'"
Round = Annotated[int, InPath(ge=0, le=32_000)]
routes = APIRouter()


@routes.get("/home", include_in_schema=False)
def home(person: Leading, review: Review) -> HTMLResponse:
    """What the rounds came to and what comes next."""
    if review.home is None:
        raise HTTPException(404, "this server has no home page")
    try:
        values = review.home()
    except FlywheelError as error:
        # The rest of the page goes on; 'flywheel doctor' says what is wrong.
        closed = review.pages.get_template("closed.html")
        return HTMLResponse(closed.render(title="Home", why=str(error), back=True), 503)
    return HTMLResponse(review.pages.get_template("home.html").render(person=person, home=values))


@routes.get("/home/{round}/{name}", include_in_schema=False)
def beside_the_report(
    round: Round, name: Literal["report.html", "rounds.png"], _: Leading, request: Request, review: Review
) -> FileResponse:
    """A round's report, and the charts of all rounds up to it."""
    file = review.workspace.report_folder(round) / name
    if not file.is_file():
        raise HTTPException(404, "there is no such report (any more)")
    return FileResponse(file, headers={"Content-Security-Policy": _REPORTS, "Cache-Control": "no-cache"})
