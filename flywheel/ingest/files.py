"""Facts of files, each read once in a run: hash, probe and transcript."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from flywheel.core.errors import MediaError
from flywheel.core.types import Cue
from flywheel.formats.timed_text import cues_of, timed
from flywheel.formats.timed_text.ass import without_remarks
from flywheel.ingest.beside import Listings, words_of_side_cars
from flywheel.ingest.links import Bounds
from flywheel.ingest.notes import Note
from flywheel.media.fingerprint import Fingerprint, fingerprint
from flywheel.media.probe import MOST_PIXELS, MediaInfo, file_hash, probe

_T = TypeVar("_T")
#: The memo holds at most so many files, and so many cues of theirs.
_MOST_FILES = 4096
_MOST_CUES = 100_000


class File:
    """A file as it was when first asked about. Threads may share it: what one reads, the others wait for."""

    def __init__(
        self,
        path: Path,
        root: Bounds | None = None,
        stamp: tuple[int, int] | None = None,
        most_pixels: int = MOST_PIXELS,
        listings: Listings | None = None,
    ) -> None:
        """``stamp`` is the file's size in bytes and its time of change in ns, where it could be asked.

        What lies beside it must lie within ``root``, where there is one. Pictures of more than ``most_pixels`` are no
        video. ``listings`` are those of the run.
        """
        self.path, self.root, self._most_pixels = path, root, most_pixels
        self.stamp = stamp
        self._listings = listings or Listings()
        self._notes: list[Note] = []
        self._lock = threading.RLock()
        self._facts: dict[str, object] = {}
        #: Cues that are held, of the side-car and of the file itself.
        self.num_cues = 0

    def content_hash(self) -> str:
        """The SHA-256 of the content. Raises MediaError where the file can't be read."""
        return self._once("hash", lambda: file_hash(self.path))

    def info(self) -> MediaInfo:
        """The facts that a probe gives. Raises MediaError where the file holds no video, or too large pictures."""
        return self._once("info", self._probe)

    def looks(self) -> Fingerprint:
        """How its pictures look. Raises MediaError where the file holds no video."""
        return self._once("looks", lambda: fingerprint(self.path, self.info().duration_s))

    def transcript(self) -> tuple[list[Cue], str]:
        """(timed cues, text without times) of a side-car file, else of the subtitles inside; one of them is empty."""
        return self._once("transcript", self._read_transcript)

    def side_car(self) -> tuple[list[Cue], str] | None:
        """As :meth:`transcript`, of the side-car file alone; None where there is none."""
        return self._once("side-car", self._read_side_car)

    def _once(self, name: str, read: Callable[[], _T]) -> _T:
        with self._lock:
            if name not in self._facts:
                try:
                    self._facts[name] = read()
                except MediaError as error:
                    self._facts[name] = MediaError(str(error))
            fact = self._facts[name]
        if isinstance(fact, MediaError):
            # A new one each time: an exception keeps the frames of all its raisings.
            raise MediaError(str(fact))
        return cast("_T", fact)

    def _probe(self) -> MediaInfo:
        info = probe(self.path, most_pixels=self._most_pixels)
        self.num_cues += len(info.subtitles)
        return info

    def may_have_side_car(self) -> bool:
        """Whether there are files beside it that are called as its words would be."""
        return bool(self._listings.beside(self.path))

    def take_notes(self) -> list[Note]:
        """What there is to say of how it was read, each once."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    def _read_transcript(self) -> tuple[list[Cue], str]:
        if (side_car := self.side_car()) is not None:
            return side_car
        info = self.info()
        is_ass = any(t.kind == "subtitle" and not t.left and t.codec in ("ass", "ssa") for t in info.tracks)
        texts = [(a, b, without_remarks(raw) if is_ass else raw) for a, b, raw in info.subtitles]
        cues = cues_of(timed(start_s, end_s, raw) for start_s, end_s, raw in texts)
        self.num_cues += len(cues)
        return cues, ""

    def _read_side_car(self) -> tuple[list[Cue], str] | None:
        words = words_of_side_cars(self.path, self.root, self._listings)
        self._notes += words.notes
        self.num_cues += len(words.cues)
        return (list(words.cues), words.text) if words.is_there else None


class Files:
    """The files of a run by path, size and time of change; those not asked about for longest are forgotten."""

    def __init__(
        self,
        most_files: int = _MOST_FILES,
        most_cues: int = _MOST_CUES,
        most_pixels: int = MOST_PIXELS,
        filling: Path | None = None,
    ) -> None:
        """``filling`` is a folder into which files are put meanwhile."""
        self._most_files, self._most_cues, self._most_pixels = most_files, most_cues, most_pixels
        self._files: OrderedDict[tuple[Path, Bounds | None, int, int], File] = OrderedDict()
        self._listings = Listings(filling)

    def get(self, path: Path, root: Bounds | None = None) -> File:
        """The file at this path as it is now, of a source within ``root``."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            # Reading it says what is wrong.
            return File(path, root, listings=self._listings)
        stamp = (status.st_size, status.st_mtime_ns)
        key = (path, root, *stamp)
        file = self._files.setdefault(key, File(path, root, stamp, self._most_pixels, self._listings))
        self._files.move_to_end(key)
        return file

    def forget(self) -> None:
        """Lets go of the oldest until the memo is within its bounds."""
        num_cues = sum(file.num_cues for file in self._files.values())
        while self._files and (len(self._files) > self._most_files or num_cues > self._most_cues):
            num_cues -= self._files.popitem(last=False)[1].num_cues
