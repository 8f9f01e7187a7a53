"""The clips of a dataset in the order of their ids: rows lie in a mapped file, four bytes a clip are in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import polars as pl

from flywheel.core.errors import UserError
from flywheel.store import View
from flywheel.store.columns import SCHEMAS
from flywheel.store.mapped import MappedRows

if TYPE_CHECKING:
    from flywheel.rounds.export_rows import ExportCounts

#: What is looked at of a clip.
_COLUMNS = ("id", "uri", "start_s", "end_s", "fps", "split", "content_hash")


class ExportClips:
    """Clips of some splits that a round's dataset may hold; those that are left out as a whole are counted."""

    def __init__(
        self, view: View, round: int, splits: Collection[str], removed: Collection[str], counts: ExportCounts
    ) -> None:
        """``removed`` are contents of videos that the round does not use.

        Raises UserError where there are no clips.
        """
        if not view.count("clips"):
            raise UserError(f"{view.root}: no clips yet. Add videos with 'flywheel ingest FOLDER'.")
        self._splits = pl.col("split").is_in(sorted(splits))
        self._removed = pl.col("content_hash").is_in(sorted(removed))
        self._dropped = (pl.col("split") == "train") & pl.col("id").is_in(_dropped(view, round).implode())
        self._left_out: Counter[str] = Counter()
        empty = pl.DataFrame(schema={name: SCHEMAS["clips"][name] for name in _COLUMNS})
        self._rows = MappedRows(view.root / "cache", lambda: self._frames(view), empty)
        self._order = self._rows.order("id")
        counts.left_out.update(self._left_out)

    def slices(self, rows: int) -> Iterator[pl.DataFrame]:
        """The clips in the order of their ids, in frames of at most ``rows``."""
        for start in range(0, len(self._order), rows):
            yield self._rows.scattered(self._order[start : start + rows])

    def _frames(self, view: View) -> Iterator[pl.DataFrame]:
        # Called again where the workspace's disk was full.
        self._left_out.clear()
        for frame in view.clip_batches(_COLUMNS):
            kept = self._without(self._removed, "of a source that was removed", frame.filter(self._splits))
            kept = self._without(self._dropped, "that curation dropped", kept)
            if kept.height:
                yield kept

    def _without(self, which: pl.Expr, reason: str, clips: pl.DataFrame) -> pl.DataFrame:
        kept = clips.filter(~which)
        if kept.height < clips.height:
            self._left_out[reason] += clips.height - kept.height
        return kept


def _dropped(view: View, round: int) -> pl.Series:
    """Ids of the clips that the round's curation dropped."""
    run = view.curated(round)
    if run is None:
        return pl.Series(dtype=pl.String)
    where = (pl.col("run") == run) & ~pl.col("kept")
    return view.records.read("decisions", columns=["clip_id"], where=where)["clip_id"]
