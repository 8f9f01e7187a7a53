"""What a server of the review page holds, as its routes ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from jinja2 import Environment

from flywheel.store import Workspace
from human_refine.media import Proxies, Waveforms
from human_refine.people import LoginAttempts
from human_refine.service import ReviewService


@dataclass(frozen=True, kw_only=True)
class ReviewState:
    """What a server holds."""

    workspace: Workspace
    service: ReviewService
    attempts: LoginAttempts
    proxies: Proxies
    waveforms: Waveforms
    pages: Environment


def _state(request: Request) -> ReviewState:
    state: ReviewState = request.app.state.review
    return state


Review = Annotated[ReviewState, Depends(_state)]
