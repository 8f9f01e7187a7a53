"""What is on record of each clip's sound: how often it was looked at, and whether the last word is a certain one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flywheel.store.view import View


class Looks:
    """The clips' records of sound versions, by their hashes: 17 bytes a record, nothing of clips without one."""

    def __init__(self, view: View) -> None:
        clips, ids, undone = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.bool_)]
        for frame in view.records.batches("sound_versions", columns=["id", "clip_id", "outcome"]):
            clips.append(frame["clip_id"].hash(0).to_numpy())
            ids.append(frame["id"].hash(0).to_numpy())
            undone.append((frame["outcome"] == "undone").to_numpy())
        hashes = np.concatenate(clips)
        order = np.argsort(hashes, kind="stable")
        self._clips, self._ids, self._undone = hashes[order], np.concatenate(ids)[order], np.concatenate(undone)[order]

    def numbers(self, clip_ids: Sequence[str]) -> list[int]:
        """How many records each clip has."""
        first, end = self._places(clip_ids)
        return list(map(int, end - first))

    def last_is(self, clip_ids: Sequence[str], ids: Sequence[str]) -> list[bool]:
        """Whether each clip's last record has this id."""
        wanted = pl.Series(ids, dtype=pl.String).hash(0).to_numpy()
        places = zip(*self._places(clip_ids), wanted, strict=True)
        return [bool(end > first and self._ids[end - 1] == this) for first, end, this in places]

    def undone(self, clip_ids: Sequence[str]) -> list[bool]:
        """Whether a person said each clip's last word: its original is to stand."""
        return [bool(end > first and self._undone[end - 1]) for first, end in zip(*self._places(clip_ids), strict=True)]

    def _places(self, clip_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Where the records of each clip begin and end."""
        wanted = pl.Series(clip_ids, dtype=pl.String).hash(0).to_numpy()
        return np.searchsorted(self._clips, wanted, "left"), np.searchsorted(self._clips, wanted, "right")
