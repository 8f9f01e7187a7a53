"""Which files are to be listened to: those with clips that have sound and no words, each with these clips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flywheel.core.config import Transcribe
from flywheel.core.types import Clip, content_id
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

#: Files, and clips, that are looked up at a time.
_FILES, _CLIPS = 512, 4096
#: So much before the first clip and behind the last is listened to: words at the edges are understood.
_MARGIN_S = 1.0
#: Ends differ by a rounding.
_ROUNDED_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What decides what a recogniser makes of a file: the model (``source``), the language and the track asked for."""

    source: str
    language: str
    track: str

    @classmethod
    def of(cls, source: str, options: Transcribe) -> Asked:
        """What these options ask of the model ``source``."""
        return cls(source=source, language=options.language, track=options.track)

    def file_key(self, content_hash: str, *, whole: bool) -> str:
        """Key of the recognition of a file, or of the part of it that had clips when it was first asked for."""
        return content_id("recognition", content_hash, self.source, self.language, self.track, whole)

    def clip_key(self, clip_id: str) -> str:
        """Key of a clip's part of a recognition."""
        return content_id("asr", clip_id, self.source, self.language, self.track)


@dataclass(frozen=True, kw_only=True)
class FileWork:
    """A file whose ``clips`` want words; ``row`` is its recognition, None where it must be listened to.

    ``whole``: all of it, since the part that was recognised before lacks a clip.
    """

    clips: Sequence[Clip]
    row: dict[str, Any] | None
    whole: bool

    @property
    def content_hash(self) -> str:
        return self.clips[0].content_hash

    @property
    def span_s(self) -> tuple[float, float]:
        """Begin and end in seconds of what is listened to; a whole file ends where its sound does."""
        if self.whole:
            return 0.0, math.inf
        begin_s = min(clip.start_s for clip in self.clips)
        return max(0.0, begin_s - _MARGIN_S), max(clip.end_s for clip in self.clips) + _MARGIN_S


class Wordless:
    """The files of a workspace with clips that have sound and that nobody gave words. Arrays say which."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._index = ClipIndex(workspace, asr=False)
        wordless = self._index.wordless()
        sounds = self._index.facts("has_audio")["has_audio"].to_numpy()
        hashes = self._index.hashes("content_hash")
        #: Files of which no clip has sound.
        self.without_sound = len(np.unique(hashes[wordless & ~sounds]))
        rows = np.flatnonzero(wordless & sounds)
        _, first, file = np.unique(hashes[rows], return_index=True, return_inverse=True)
        # File by file, in the order in which the files were taken in.
        order = np.argsort(first[file], kind="stable")
        self._rows = rows[order]
        self._begins = np.flatnonzero(np.diff(first[file][order], prepend=-1))
        self._index.release()

    def __len__(self) -> int:
        return len(self._begins)

    def batches(self, asked: Asked) -> Iterator[tuple[int, list[FileWork]]]:
        """Some files at a time: how many they are, and those that are not done."""
        ends = np.append(self._begins[1:], len(self._rows))
        at = 0
        while at < len(self._begins):
            # One file at least, however many clips it has.
            most = max(int(np.searchsorted(ends, self._begins[at] + _CLIPS, side="right")), at + 1)
            until = min(most, at + _FILES)
            clips = self._index.rows(self._rows[self._begins[at] : ends[until - 1]])
            self._index.release()
            yield until - at, self._undone(clips, asked)
            at = until

    def _undone(self, clips: Sequence[Clip], asked: Asked) -> list[FileWork]:
        records = self._workspace.records
        done = records.known("asr_transcripts", (asked.clip_key(clip.id) for clip in clips))
        files: dict[str, list[Clip]] = {}
        for clip in clips:
            if asked.clip_key(clip.id) not in done:
                files.setdefault(clip.content_hash, []).append(clip)
        keys = [asked.file_key(content, whole=whole) for content in files for whole in (False, True)]
        rows = {row["id"]: row for row in records.rows("recognitions", keys).iter_rows(named=True)} if keys else {}
        return [_work(content, of_file, asked, rows) for content, of_file in files.items()]


def _work(content_hash: str, clips: Sequence[Clip], asked: Asked, rows: dict[str, dict[str, Any]]) -> FileWork:
    """A file with the recognition that has all its clips, where there is one."""
    part, whole = (rows.get(asked.file_key(content_hash, whole=whole)) for whole in (False, True))
    if whole is None and part is not None and not all(_covers(part, clip) for clip in clips):
        return FileWork(clips=clips, row=None, whole=True)
    return FileWork(clips=clips, row=whole or part, whole=False)


def _covers(row: dict[str, Any], clip: Clip) -> bool:
    begin_s, end_s = float(row["start_s"]) - _ROUNDED_S, float(row["end_s"]) + _ROUNDED_S
    return begin_s <= clip.start_s and clip.end_s <= end_s


def seconds_of(work: Sequence[FileWork]) -> float:
    """Seconds of sound that these files' clips reach over, of those that must be listened to."""
    return sum(
        max(clip.end_s for clip in file.clips) - min(clip.start_s for clip in file.clips)
        for file in work
        if file.row is None
    )
