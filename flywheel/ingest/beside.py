"""What lies beside a video and says its words: ``talk.srt``, ``talk.mp4.vtt``, ``talk.en-US.forced.ass``, ``talk.txt``.

Of several one is taken: timed before plain text, without a language before with one, then the first in the order of
kinds and of names. What is taken, left or not understood is noted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.encodings import decoded
from flywheel.core.errors import MediaError
from flywheel.core.foreign import without_hidden
from flywheel.core.types import Cue
from flywheel.formats import timed_text
from flywheel.ingest.languages import is_language, rank_of_flag
from flywheel.ingest.links import Bounds
from flywheel.ingest.notes import Note
from flywheel.media.diagnosis import LFS_POINTER

#: The largest file of words beside a video: styled subtitles of a long film have half of it.
MOST_TEXT_BYTES = 1 << 24
#: Folders and names of theirs that are remembered.
_MOST_FOLDERS, _MOST_NAMES = 1024, 300_000
#: A folder of more files is listed again when so many times as long went by as it took.
_FEW_FILES, _REST = 2000, 50
_TXT = ".txt"
#: Files of words alone are shown to no player: times in them make them timed texts all the same.
_TIMES = re.compile(r"-->|\[\d{1,3}:\d{2}|^WEBVTT|^Dialogue:", re.M)


@dataclass(frozen=True, kw_only=True)
class Words:
    """What files beside a video say: timed cues, or text without times; one of them is empty.

    ``is_there`` is whether there is such a file; ``notes`` are of how it was read, and of others.
    """

    is_there: bool = False
    cues: Sequence[Cue] = ()
    text: str = ""
    notes: Sequence[Note] = ()


@dataclass(frozen=True, kw_only=True, order=True)
class _Candidate:
    """A file beside a video; the least is taken."""

    is_plain: bool
    flags: int
    has_language: bool
    place: int
    name: str
    is_forced: bool = False


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """Names of files of words in a folder, sorted; how many files it has, its time of change (ns), when it was listed,
    and the seconds that it took.
    """

    names: list[str]
    num_files: int
    changed_ns: int
    at_s: float
    took_s: float

    def is_old(self, folder: str) -> bool:
        """Whether it is time to look again: what grows all the while is not looked into for every file."""
        is_rested = self.num_files < _FEW_FILES or time.monotonic() - self.at_s >= _REST * self.took_s
        return is_rested and _changed_ns(folder) != self.changed_ns


class Listings:
    """Names of files of words by their folder, each folder listed once and again where it changed.

    Into ``filling`` files are put while it is looked into: it is asked for names.
    """

    def __init__(self, filling: Path | None = None) -> None:
        self._filling = filling
        self._folders: OrderedDict[str, _Listing] = OrderedDict()
        self._num_names = 0
        self._lock = threading.Lock()

    def beside(self, path: Path) -> list[str]:
        """Names of files of words that begin as a video's name does, sorted."""
        if path.parent == self._filling:
            return sorted(path.stem + ending for ending in timed_text.endings())
        names = self._of(str(path.parent))
        start = bisect_left(names, path.stem + ".")
        found: list[str] = []
        for name in names[start:]:
            if not name.startswith(path.stem + "."):
                break
            found.append(name)
        return found

    def _of(self, folder: str) -> list[str]:
        with self._lock:
            listing = self._folders.get(folder)
            if listing is None or listing.is_old(folder):
                self._num_names -= len(listing.names) if listing is not None else 0
                listing = self._folders[folder] = _listed(folder)
                self._num_names += len(listing.names)
            self._folders.move_to_end(folder)
            while len(self._folders) > 1 and (len(self._folders) > _MOST_FOLDERS or self._num_names > _MOST_NAMES):
                self._num_names -= len(self._folders.popitem(last=False)[1].names)
            return listing.names


def _listed(folder: str) -> _Listing:
    endings = (*timed_text.endings(), _TXT, *timed_text.UNREAD)
    # Before it is listed: what comes meanwhile is seen the next time.
    began_s, changed_ns = time.monotonic(), _changed_ns(folder)
    names: list[str] = []
    num_files = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            num_files += 1
            if entry.name.lower().endswith(endings):
                names.append(entry.name)
    at_s = time.monotonic()
    return _Listing(names=sorted(names), num_files=num_files, changed_ns=changed_ns, at_s=at_s, took_s=at_s - began_s)


def _changed_ns(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def words_of_side_cars(path: Path, root: Bounds | None, listings: Listings) -> Words:
    """What the file of words beside a video says that is taken.

    Raises MediaError for a link out of ``root``, for what is no regular file, and for one that is too large.
    """
    notes: list[Note] = []
    candidates = sorted(_candidates(path, listings.beside(path), notes))
    whole = [candidate for candidate in candidates if not candidate.is_forced]
    is_read = False
    for number, candidate in enumerate(whole):
        content = small_file(path.with_name(candidate.name), root)
        if content is None:
            continue
        is_read = True
        words = _words(candidate, content, notes)
        if words is not None:
            _note_left(candidate, whole[number + 1 :], notes)
            return Words(is_there=True, cues=words[0], text=words[1], notes=notes)
    for candidate in candidates if not is_read else ():
        notes.append(Note(of=candidate.name, what="forced subtitles alone, which are not taken for all that is said"))
    return Words(is_there=is_read, notes=notes)


def _candidates(path: Path, names: Sequence[str], notes: list[Note]) -> Iterator[_Candidate]:
    endings = (*timed_text.endings(), _TXT)
    for name in names:
        stem, ending = os.path.splitext(name)
        ending = ending.lower()
        is_whole_name = stem == path.name or stem.startswith(path.name + ".")
        tokens = stem[len(path.name if is_whole_name else path.stem) :].split(".")[1:]
        if not _say_language(tokens) or (tokens and os.path.lexists(path.with_name(stem + path.suffix))):
            continue
        if ending not in endings:
            notes.append(Note(of=name, what=f"{ending} subtitles, which are not read; save them as .srt or .vtt"))
            continue
        flags = max((rank_of_flag(token) for token in tokens), default=0)
        yield _Candidate(
            is_plain=ending == _TXT,
            flags=flags,
            has_language=bool(tokens),
            place=2 * endings.index(ending) + is_whole_name,
            name=name,
            is_forced=flags >= rank_of_flag("forced"),
        )


def _say_language(tokens: Sequence[str]) -> bool:
    """Whether what stands between a video's name and the ending says a language, or whom the text is for."""
    return len(tokens) <= 3 and all(is_language(token) or rank_of_flag(token) for token in tokens)


def _note_left(taken: _Candidate, left: Sequence[_Candidate], notes: list[Note]) -> None:
    others = [candidate.name for candidate in left if candidate.has_language and not candidate.is_plain]
    if taken.has_language and others:
        what = "the one taken of subtitles in several languages, as the first in the order of their names"
        notes.append(Note(of=taken.name, what=what))


def _words(candidate: _Candidate, content: bytes, notes: list[Note]) -> tuple[list[Cue], str] | None:
    """(cues, text) of a file; None where it gives none, which is noted."""
    try:
        text = decoded(content)
    except ValueError as error:
        notes.append(Note(of=candidate.name, what=f"{error}; its text is not taken"))
        return None
    if text.note:
        notes.append(Note(of=candidate.name, what=text.note))
    if candidate.is_plain:
        cues = timed_text.read_cues(text.text) if _TIMES.search(text.text[:1000]) else []
        return (cues, "") if cues else ([], " ".join(without_hidden(text.text).split()))
    cues = timed_text.read_cues(text.text)
    if cues:
        return cues, ""
    if len(text.text.split()) > 2:
        notes.append(Note(of=candidate.name, what="holds no subtitles that can be read"))
    return None


def small_file(path: Path, root: Bounds | None) -> bytes | None:
    """The content of a file beside a video; None where there is none.

    Raises MediaError for a link out of ``root``, for what is no regular file, and for one that is too large.
    """
    try:
        # Not to wait for a pipe's other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENXIO):
            return None
        raise MediaError(f"{path.name} beside it can't be read ({error.strerror})") from error
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            return None
        if root is not None and not root.hold(Path(os.path.realpath(path))):
            raise MediaError(f"{path.name} beside it is a link out of its source (corpus.links: follow takes it)")
        if not stat.S_ISREG(mode):
            raise MediaError(f"{path.name} beside it is no regular file")
        content = file.read(MOST_TEXT_BYTES + 1)
    if len(content) > MOST_TEXT_BYTES:
        raise MediaError(f"{path.name} beside it is larger than {MOST_TEXT_BYTES >> 20} MiB")
    if content.startswith(LFS_POINTER):
        raise MediaError(f"{path.name} beside it is a pointer of Git LFS and no text: fetch it with 'git lfs pull'")
    return content
