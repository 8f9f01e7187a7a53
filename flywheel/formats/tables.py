"""Tables: what spreadsheets and people save as CSV, whatever its separator, encoding and line ends, or as a workbook.

Every cell is text. A row that can't be read is a row with its problem, and the rows after it are read.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from flywheel.core.encodings import is_whole, open_text
from flywheel.formats import workbooks

#: Endings of tables that can be read.
ENDINGS = (".csv", ".tsv", ".tab", *workbooks.ENDINGS)
#: Endings of spreadsheets' own files that can't be.
WORKBOOKS = (".xls", ".xlsb", ".ods", ".numbers")
_SEPARATORS = ",;\t|"
_SHOWN = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_SEP_LINE = re.compile(r"\s{0,9}\"?sep=(.)\"?[\r\n]*\Z", re.IGNORECASE)
_MOST_LINE = 1 << 24
_HEAD_BYTES = 1 << 16
#: A title, or an empty row, may stand above the header.
_HEADER_WITHIN = 5
#: Lines of a row that was not closed are read again, so much of what was read at most.
_AGAIN, _AGAIN_CHARS = 4, 1 << 20
_KINDS = (
    (b"\xd0\xcf\x11\xe0", "is an old workbook of Excel, or one with a password; save it as CSV or .xlsx"),
    (b"\x1f\x8b", "is compressed; unpack it first"),
    (b"version https://git-lfs", "is a pointer of Git LFS; fetch it with 'git lfs pull'"),
    (b"PAR1", "is Parquet; name it .parquet"),
)


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row by the names of its columns, those without a cell left out; or the ``problem`` for which it is none.

    ``line`` counts from 1 and is the row's last.
    """

    line: int
    values: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def column_names(header: Iterable[str], names: Iterable[str]) -> list[str]:
    """The header's names without blanks around them; the first that only means a known name is called that.

    Raises ValueError where a known name stands twice.
    """
    columns = [name.strip().strip("\ufeff\u00a0") for name in header]
    known = {_plain(name): name for name in names}
    taken = {name for name in columns if name in known.values()}
    if twice := next((name for name in taken if columns.count(name) > 1), ""):
        raise ValueError(f"has the column '{twice}' twice")
    for place, name in enumerate(columns):
        usual = known.get(_plain(name), "")
        if name not in taken and usual and usual not in taken:
            columns[place] = usual
            taken.add(usual)
    return columns


def _plain(name: str) -> str:
    """A name without regard to case, ``_``, ``-`` and blanks."""
    return re.sub(r"[\s_\-]", "", name[:200].casefold())


class Table:
    """The rows of a table, read as they are asked for; ``note`` says what was guessed to read it."""

    def __init__(self, stream: IO[bytes], names: Sequence[str], needed: Sequence[str], *, pad: bool = False) -> None:
        """``names`` are known columns, one of ``needed`` tells the header. With ``pad`` a row may be short.

        Raises ValueError with the reason for what is no table.
        """
        self._pad = pad
        head = stream.read(_HEAD_BYTES)
        stream.seek(0)
        if kind := next((what for magic, what in _KINDS if head.startswith(magic)), ""):
            raise ValueError(kind)
        if head.startswith(workbooks.MAGIC):
            # A workbook's rows end with their last filled cell.
            self.note, self._apart, self._pad = "", "cells", True
            self._rows = workbooks.sheet_rows(stream)
        else:
            text, self.note = open_text(stream, newline="")
            lines = _Lines(text)
            separator = lines.separator_line()
            separator = separator or _separator(lines.peek(_HEADER_WITHIN), names, needed)
            self._apart = _SHOWN.get(separator, separator)
            self._rows = _records(lines, separator)
        self.columns: list[str] = []
        for line, cells, problem in self._rows:
            columns = column_names(cells, names)
            if set(columns) & set(needed):
                self.columns = columns
                break
            if any(cells) and not self.columns:
                self.columns = columns
            if problem or line >= _HEADER_WITHIN:
                break

    @property
    def shown_columns(self) -> str:
        """The columns as an error names them, and by what they were told apart."""
        names = ", ".join(name[:40] for name in self.columns[:20] if name.isprintable() and name)
        return f"{names or 'nothing'} (apart by {self._apart})"

    def __iter__(self) -> Iterator[TableRow]:
        for line, cells, problem in self._rows:
            if problem:
                yield TableRow(line=line, problem=problem)
            elif any(cells):
                yield self._row(line, cells)

    def _row(self, line: int, cells: list[str]) -> TableRow:
        while len(cells) > len(self.columns) and not cells[-1].strip():
            cells.pop()
        if len(cells) > len(self.columns) or (len(cells) < len(self.columns) and not self._pad):
            return TableRow(line=line, problem=f"has {len(cells)} cells, the header has {len(self.columns)}")
        if not all(map(is_whole, cells)):
            return TableRow(line=line, problem="not valid UTF-8")
        numbered = enumerate(zip(self.columns, cells, strict=False), 1)
        return TableRow(line=line, values={name or f"column {n}": cell for n, (name, cell) in numbered if name or cell})


def _records(lines: _Lines, separator: str) -> Iterator[tuple[int, list[str], str]]:
    """(last line, cells, problem) of each record."""
    while True:
        # A new reader for each stretch: one that failed keeps what it had read.
        reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator != "\t")
        try:
            lines.begin()
            for cells in reader:
                yield lines.number, cells, ""
                lines.begin()
            return
        except csv.Error as error:
            first = lines.give_back()
            yield first, [], f"not CSV ({error})"


class _Lines:
    """The lines of a text, those of the record that is being read kept, so that they can be read again."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._ahead: deque[str] = deque()
        self._record: list[str] = []
        self.number = 0
        self._read = self._again = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._next()
        if not line:
            raise StopIteration
        self.number += 1
        self._record.append(line)
        return line

    def peek(self, count: int) -> list[str]:
        """The next lines, which stay."""
        while len(self._ahead) < count and (line := self._next()):
            self._ahead.append(line)
        return list(self._ahead)[:count]

    def separator_line(self) -> str:
        """The separator that the first line names, which is then read; empty where it names none."""
        first = next(iter(self.peek(1)), "")
        if (match := _SEP_LINE.match(first)) is None:
            return ""
        next(self)
        return match[1]

    def begin(self) -> None:
        """A record begins."""
        self._record = []

    def give_back(self) -> int:
        """All lines of the record but its first are read again; returns the first's number."""
        rest = self._record[1:]
        self._again += sum(map(len, rest))
        first = self.number - len(rest)
        if self._again <= _AGAIN * self._read + _AGAIN_CHARS:
            self._ahead.extendleft(reversed(rest))
            self.number = first
        return first

    def _next(self) -> str:
        line = self._text.readline(_MOST_LINE)
        self._read += len(line)
        return line.replace("\0", "")


def _separator(lines: Sequence[str], names: Sequence[str], needed: Sequence[str]) -> str:
    """The separator by which most known columns are found; of those, the one with most cells."""
    known, wanted = {_plain(name) for name in names}, {_plain(name) for name in needed}

    def score(separator: str) -> tuple[int, int, int]:
        best = (0, 0, 0)
        for cells in csv.reader([line[:_HEAD_BYTES] for line in lines], delimiter=separator):
            plain = {_plain(cell) for cell in cells}
            best = max(best, (len(plain & wanted), len(plain & known), len(cells)))
        return best

    try:
        return max(_SEPARATORS, key=score)
    except csv.Error:
        return ","
