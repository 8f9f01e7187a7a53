"""A benchmark's files, read into items; what can't be asked is rejected with its reason, and the rest is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.benchmark.drafts import Draft, item_of
from flywheel.benchmark.items import Item, Questions, Rejected
from flywheel.benchmark.readers import Beside, Reader, get
from flywheel.benchmark.rows import Row, rows_of
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError


def read(source: Path, format: str) -> Questions:
    """The questions of a benchmark's file, or of the files of its kind in a folder.

    Raises UserError where there is no such file or format, and for files without one row of this format.
    """
    reader = get(format)
    files = _files(source, reader)
    found = _Found(reader, Beside(files[0].parent))
    for file in files:
        try:
            for row in rows_of(file, reader.fields):
                found.take(row)
        except UserError as error:
            # One broken file of several is one reject.
            if len(files) == 1:
                raise
            found.reject(file.name, str(error).removeprefix(f"{file}: "))
    if not found.rejected and not found.items:
        raise UserError(f"{source}: holds no items.")
    if not found.rows:
        reason = found.rejected[0].reason
        raise UserError(f"{files[0]}: is no file of {reader.title} ({reason}). Check --format.")
    return Questions(items=found.items, rejected=found.rejected)


def _files(source: Path, reader: Reader) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder.")
    for pattern in reader.files:
        if found := sorted(path for path in source.glob(pattern) if path.is_file()):
            return found
    raise UserError(f"{source}: holds no item file of {reader.title} ({' or '.join(reader.files)}). Name the file.")


class _Found:
    """What was read so far: items, rejects, and how many rows had the format's columns."""

    def __init__(self, reader: Reader, beside: Beside) -> None:
        self.items, self.rejected, self.rows = list[Item](), list[Rejected](), 0
        self._reader, self._beside, self._ids = reader, beside, set[str]()

    def take(self, row: Row) -> None:
        """Take a row's items, each whole or with the reason why it is none."""
        missing = [name for name in self._reader.fields if name not in row.values]
        if row.problem or missing:
            self.reject(row.place, row.problem or f"has no column {', '.join(missing)}")
            return
        self.rows += 1
        try:
            with one_item("is not of this format"):
                drafts = list(_drafts(row, self._reader, self._beside))
        except MediaError as error:
            self.reject(row.place, str(error))
            return
        for number, draft in enumerate(drafts, 1):
            self._take(draft, row.place if len(drafts) == 1 else f"{row.place}.{number}")

    def reject(self, place: str, reason: str) -> None:
        """Reject what stands there."""
        self.rejected.append(Rejected(place=place, reason=reason))

    def _take(self, draft: Draft, place: str) -> None:
        try:
            item = item_of(draft)
        except ValueError as error:
            self.reject(place, str(error))
            return
        if item.id in self._ids:
            self.reject(place, f"another item has the id '{item.id}' too")
            return
        self._ids.add(item.id)
        self.items.append(item)


def _drafts(row: Row, reader: Reader, beside: Beside) -> Iterator[Draft]:
    try:
        yield from reader.drafts(row.values, row.file, beside)
    except ValueError as error:
        # The reader's own words.
        raise MediaError(str(error)) from error
