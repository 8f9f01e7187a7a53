"""What the review page's search box asks: clips by what is seen, heard and written in them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from flywheel.core.errors import UserError
from flywheel.search.in_use import encoder_folder
from flywheel.search.searching import NoVectorOfText, Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.shards import Shard


class PageSearch:
    """A workspace's index as a server asks it: read at the first question, and anew where it changed since.

    Threads may share it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._lock = workspace, threading.Lock()
        self._read_as: tuple[str, tuple[Shard, ...]] | None = None
        self._searcher: Searcher | None = None

    def find(self, text: str, split: str, round: int | None, limit: int) -> dict[str, Mapping[str, float]]:
        """Clip ids, best first, each with what it was found by and by how many standard deviations.

        Raises UserError as :class:`Searcher` does.
        """
        query = SearchQuery(text=text, split=split, round=round, limit=limit)
        try:
            return {found.clip_id: found.by for found in self._current().search(query)}
        except NoVectorOfText as error:
            # A page has no options to name.
            raise UserError(f"search: {error.problem}. Say in words what is seen or heard.") from error

    def _current(self) -> Searcher:
        with self._lock:
            # By their files: as many vectors may be others.
            now = (str(encoder_folder(self._workspace)), tuple(self._workspace.records.shards("vectors")))
            if self._searcher is None or now != self._read_as:
                self._searcher, self._read_as = Searcher(self._workspace), now
            return self._searcher
