"""What was guessed or left while files were read: said once of each kind, with the first file and a count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Kinds that are told apart.
_MOST_KINDS = 50


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something to say: ``what`` is its kind, the same for all files; ``of`` names the file and what is its own."""

    of: str
    what: str


class Notes:
    """The notes of a run, whatever its number of files."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, notes: Iterable[Note]) -> None:
        """Count notes by their kind."""
        for note in notes:
            if note.what in self._counts or len(self._counts) < _MOST_KINDS:
                self._first.setdefault(note.what, note.of)
                self._counts[note.what] = self._counts.get(note.what, 0) + 1

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [
            f"{of}: {what}" + (f" (and {count - 1} more files)" if (count := self._counts[what]) > 1 else "")
            for what, of in self._first.items()
        ]
