"""Which sound of a clip is read: the edited one that stands, or its original."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import say
from flywheel.core.types import Clip
from flywheel.curation.repair.plan import parse
from flywheel.curation.repair.rendering import render
from flywheel.store.view import View


@dataclass(frozen=True, kw_only=True)
class SoundSource:
    """Where a clip's sound is read: a span of a file of this content. ``version`` is empty for the original."""

    path: Path
    content_hash: str
    start_s: float
    end_s: float
    version: str = ""


class StandingSounds:
    """The edited sounds that stand now, for any number of threads: about 100 bytes for each of them."""

    def __init__(self, view: View) -> None:
        self._view, self._lost = view, set[str]()
        self._locks = [threading.Lock() for _ in range(16)]
        rows = view.standing_sounds() if view.count("sound_versions") else pl.DataFrame({"clip_id": []})
        hashes = rows["clip_id"].cast(pl.String).hash(0).to_numpy()
        order = np.argsort(hashes, kind="stable")
        self._hashes: NDArray[np.uint64] = hashes[order]
        self._rows = rows[order] if len(order) else rows

    def __len__(self) -> int:
        return len(self._hashes)

    def version(self, clip: Clip) -> str:
        """The id of the edited sound that is read for a clip; empty for its original. As :meth:`of` finds it."""
        return self.of(clip).version

    def on_record(self, clip_id: str) -> str:
        """The id of the edited sound that stands on record; empty for the original. Files are not looked at."""
        row = self._row(clip_id)
        return "" if row is None else str(row["version"])

    def of(self, clip: Clip) -> SoundSource:
        """Where the sound of a clip is read.

        A file that is gone or changed is made again; where that can't be, it is said once, and the original is read.
        """
        original = SoundSource(
            path=Path(clip.uri), content_hash=clip.content_hash, start_s=clip.start_s, end_s=clip.end_s
        )
        row = self._row(clip.id)
        if row is None:
            return original
        version, content_hash, files = row["version"], row["content_hash"], self._view.sound_files
        if not files.has(content_hash, row["num_bytes"]):
            # One at a time: others who want the same file wait for it.
            with self._locks[hash(version) % len(self._locks)]:
                if version in self._lost or not (files.has(content_hash, row["num_bytes"]) or self._made(clip, row)):
                    self._say_lost(clip, version)
                    return original
        return SoundSource(
            path=files.place(content_hash),
            content_hash=content_hash,
            start_s=0.0,
            end_s=clip.duration_s,
            version=version,
        )

    def _row(self, clip_id: str) -> dict[str, Any] | None:
        if not len(self._hashes):
            return None
        wanted = np.uint64(pl.Series([clip_id]).hash(0)[0])
        place = int(np.searchsorted(self._hashes, wanted))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            return None
        row = self._rows.row(place, named=True)
        return row if row["clip_id"] == clip_id else None

    def _made(self, clip: Clip, row: dict[str, Any]) -> bool:
        """Make the file of an edited sound again; whether it is what it was."""
        view = self._view
        plans = view.records.rows("sound_versions", [str(row["id"])], ["plan"])["plan"].to_list()
        check = partial(view.originals.check, clip.uri, clip.content_hash)
        try:
            with one_item():
                made = render(clip, parse(plans[0]), view.sound_files, check) if plans else None
        except (MediaError, UserError, OSError):
            # The original or its plan, the package of an action, or the disk.
            return False
        return made == (row["content_hash"], row["num_bytes"])

    def _say_lost(self, clip: Clip, version: str) -> None:
        if version not in self._lost:
            self._lost.add(version)
            say(
                f"clip {clip.id}: the file of its edited sound {version} is gone or changed and can't be made again; "
                f"its original sound is used. Look at it again: flywheel repair --clips {clip.id}"
            )
