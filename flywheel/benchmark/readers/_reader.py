"""What a reader of a benchmark's files is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.benchmark.drafts import Draft
from flywheel.core.errors import UserError
from flywheel.core.foreign import parsed_json

Values = Mapping[str, Any]


class Beside:
    """What a row stands beside: the other files of its folder, each read once, and the rows before it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Values] = {}
        self._met = Counter[str]()

    def nth(self, group: str) -> int:
        """How many rows of this group came before, in the order of the files."""
        self._met[group] += 1
        return self._met[group] - 1

    def json(self, name: str) -> Values:
        """The JSON object of a file; empty where there is no such file. Raises UserError for one that is none."""
        if name not in self._read:
            file = self._folder / name
            try:
                value = parsed_json(file.read_bytes()) if file.is_file() else {}
            except ValueError as error:
                raise UserError(f"{file}: {error}.") from error
            if not isinstance(value, Mapping):
                raise UserError(f"{file}: holds no JSON object.")
            self._read[name] = value
        return self._read[name]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the files of a benchmark are read.

    ``title`` is its name, ``source`` what says its fields. ``files`` are patterns of its item files in a folder;
    ``fields`` are columns that each row must have. ``drafts`` makes a row's items; ``file`` is where the row stands.
    It may raise ValueError with what is wrong with a row.
    """

    title: str
    source: str
    files: tuple[str, ...]
    fields: tuple[str, ...]
    drafts: Callable[[Values, Path, Beside], Iterable[Draft]]
