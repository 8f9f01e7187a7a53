"""Words that come after their video: a side-car that was put there, or changed, since the video was taken in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.types import Clip, Cue
from flywheel.formats.subtitles import cues_by_span
from flywheel.ingest.files import File
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex


@dataclass(frozen=True, kw_only=True)
class LaterWords:
    """What a clip is said to say from now on; ``cues`` in seconds of the file, where the words have times.

    ``is_shown``: prompts show them with the clip, too. Words of a span's later row are a text to learn and no more.
    """

    clip_id: str
    transcript: str
    cues: Sequence[Cue] = ()
    is_shown: bool = True


class TakenIn:
    """The clips of contents as they were when the run began. All are looked at once, when it is first asked."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def _index(self) -> ClipIndex:
        # What a recogniser heard gives way to whatever people and their files say.
        return ClipIndex(self._workspace, asr=False)

    @cached_property
    def _order(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of the contents of all clips, sorted, and the clips' rows in that order."""
        hashes = self._index.hashes("content_hash")
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def clips_of(self, contents: Collection[str]) -> dict[str, list[Clip]]:
        """The clips of these contents by their content; many are looked up at a time."""
        if not contents:
            return {}
        hashes, order = self._order
        wanted = pl.Series(list(contents), dtype=pl.String).hash(0).to_numpy()
        begins, ends = (np.searchsorted(hashes, wanted, side=side) for side in ("left", "right"))
        rows = np.concatenate([order[begin:end] for begin, end in zip(begins, ends, strict=True)])
        clips: dict[str, list[Clip]] = {content: [] for content in contents}
        for clip in self._index.rows(np.sort(rows)):
            if clip.content_hash in clips:
                clips[clip.content_hash].append(clip)
        self._index.release()
        return clips


def later_words(file: File, clips: Sequence[Clip]) -> list[LaterWords]:
    """The words of the file's side-car that its clips do not have yet.

    What a table said of a clip stays: a side-car takes the place of nothing, of timed words, and where it is plain text
    of the words of a clip that is the whole file.
    """
    side_car = file.side_car()
    if side_car is None:
        return []
    cues, text = side_car
    found = []
    spans = [(clip.start_s, clip.end_s) for clip in clips]
    for clip, within in zip(clips, cues_by_span(cues, spans), strict=True):
        words = " ".join(cue.text for cue in within) if cues else text
        gives_way = not clip.transcript or bool(clip.cues) or (not cues and len(clips) == 1 and clip.start_s == 0)
        if words and gives_way and (words != clip.transcript or tuple(within) != clip.cues):
            found.append(LaterWords(clip_id=clip.id, transcript=words, cues=within))
    return found


def given_words(words: str, cues: Sequence[Cue], clips: Sequence[Clip]) -> tuple[list[LaterWords], bool]:
    """The words that a source gives a whole file, for its clip where that has none; and whether it has others.

    They take the place of nothing: two sources that differ would change it at each run.
    """
    if len(clips) != 1 or not words:
        return [], False
    if not clips[0].transcript:
        return [LaterWords(clip_id=clips[0].id, transcript=words, cues=cues)], False
    return [], clips[0].transcript != words
