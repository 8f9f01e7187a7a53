"""The truth of the playground's files, and how many of its facts texts have right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from flywheel.core.types import MEASURE
from flywheel.playground import slot_f1
from flywheel.store import Workspace


class Oracle:
    """The truth of the playground's files."""

    def __init__(self, path: Path) -> None:
        frame = pl.read_parquet(path, glob=False)
        self._text = dict(zip(frame["file"], frame["text"], strict=True))
        self._slots = {file: frozenset(slots) for file, slots in zip(frame["file"], frame["slots"], strict=True)}

    def text(self, uri: str) -> str:
        """The true caption of a file."""
        return str(self._text[Path(uri).name])

    def f1(self, uri: str, said: str) -> float:
        """Slot F1, in [0, 1], of what was said of a file."""
        return slot_f1(said, self._slots[Path(uri).name])


def scores_of(workspace: Workspace, oracle: Oracle, said: Mapping[str, str]) -> list[float]:
    """Slot F1 of the text of each test clip (``said`` by clip id), in the order of clip ids; 0 where it has none."""
    clips = workspace.clips("test").sort("id")
    return [oracle.f1(uri, said.get(clip_id, "")) for clip_id, uri in clips.select("id", "uri").iter_rows()]


def test_scores(workspace: Workspace, oracle: Oracle, round: int) -> list[float]:
    """:func:`scores_of` M_round's texts."""
    said = workspace.annotations(round=round, purpose=MEASURE).select("clip_id", "text")
    return scores_of(workspace, oracle, dict(said.iter_rows()))


def transcript_scores(workspace: Workspace, oracle: Oracle) -> list[float]:
    """:func:`scores_of` the transcripts that came with the videos."""
    return scores_of(workspace, oracle, dict(workspace.clips("test").select("id", "transcript").iter_rows()))
