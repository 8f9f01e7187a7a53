"""What a server of the review page holds, as its routes ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from jinja2 import Environment

from flywheel.store import Workspace
from human_refine.aside import Aside
from human_refine.comparing import Comparing
from human_refine.guidelines import Guide
from human_refine.hearing import Hearing
from human_refine.media import Missing, Proxies, Waveforms
from human_refine.people import LoginAttempts
from human_refine.rejects import Rejects
from human_refine.service import ReviewService
from human_refine.standing import Standing


@dataclass(frozen=True, kw_only=True)
class ReviewState:
    """What a server holds. Videos and sounds are read aside: files of any length, on disks of any speed."""

    workspace: Workspace
    service: ReviewService
    attempts: LoginAttempts
    proxies: Proxies
    waveforms: Waveforms
    videos: Aside
    sounds: Aside
    pages: Environment
    missing: Missing
    guide: Guide | None
    rejects: Rejects
    standing: Standing
    home: Callable[[], Any] | None
    comparing: Comparing
    hearing: Hearing


def _state(request: Request) -> ReviewState:
    state: ReviewState = request.app.state.review
    return state


Review = Annotated[ReviewState, Depends(_state)]
