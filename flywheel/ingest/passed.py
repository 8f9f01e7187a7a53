"""What of a source is passed over: counted by its kind, named once."""

from __future__ import annotations

from collections import Counter

from flywheel.core.errors import UserError

#: Kinds that are told apart; what comes after them is counted together.
_MOST_KINDS = 64
_MOST_NOTES = 20
_MORE = "files of other endings"

HIDDEN = "hidden files and folders"
#: What people can do about files of these endings; they may hold videos.
ARCHIVES = frozenset((".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".iso"))
HALF = frozenset((".part", ".crdownload", ".download", ".partial", ".!qb", ".ytdl", ".aria2", ".filepart"))


class NoVideosError(UserError):
    """A file that is readable and names no videos: in a folder it is passed over."""


class Passed:
    """Counts of what a run passed over, by kind, and notes on how it read its sources."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def count(self, kind: str, number: int = 1) -> None:
        """Count what is passed over under its kind: an ending, or a few words in the plural."""
        if number:
            self.counts[kind if kind in self.counts or len(self.counts) < _MOST_KINDS else _MORE] += number

    def note(self, line: str) -> None:
        """Keep a line that says how a source was read; at most so many."""
        if len(self.notes) < _MOST_NOTES and line not in self.notes:
            self.notes.append(line)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden: those of systems and programs, and macOS's ``._`` doubles."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")


def ending(name: str) -> str:
    """The ending of a file's name in lower case, or what a name without one is called."""
    stem, point, last = name.rpartition(".")
    return f".{last.lower()[:20]}" if point and stem else "without an ending"


def why_not(name: str) -> str:
    """Why a file that may hold videos is rejected; empty where it is of no such kind."""
    if ending(name) in ARCHIVES:
        return "is a compressed archive: unpack it first"
    return "is half a download" if ending(name) in HALF else ""
