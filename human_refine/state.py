"""What a server of the review page holds, as its routes ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

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


class ContentSearch(Protocol):
    """Finds clips by what is seen, heard and written in them."""

    def ready(self) -> bool:
        """Whether there is an index to ask."""
        ...

    def find(self, text: str, split: str, round: int | None, limit: int) -> Mapping[str, Mapping[str, float]]:
        """Clip ids, best first, with what each was found by. Raises UserError for what can't be asked."""
        ...


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
    #: What clips are like; asked aside, for it may have to be read first. None: this server knows no index.
    content: ContentSearch | None
    searches: Aside


def _state(request: Request) -> ReviewState:
    state: ReviewState = request.app.state.review
    return state


Review = Annotated[ReviewState, Depends(_state)]
