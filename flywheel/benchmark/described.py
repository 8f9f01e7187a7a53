"""The texts of a retrieval benchmark's files; what can't be read is rejected with its reason, and the rest is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flywheel.benchmark.items import Rejected
from flywheel.benchmark.retrieval import Described, RetrievalReader, get
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """What was read of a benchmark's files."""

    title: str
    described: tuple[Described, ...]
    rejected: tuple[Rejected, ...]


def read(source: Path, format: str) -> Descriptions:
    """The texts of a retrieval benchmark's file, or of the first of its kind in a folder.

    Raises UserError where there is no such file or format, and for a file without one text of this format.
    """
    reader = get(format)
    file = _file(source, reader)
    described, rejected = list[Described](), list[Rejected]()
    for row in reader.rows(file, reader.fields):
        missing = [name for name in reader.fields if name not in row.values]
        if row.problem or missing:
            problem = row.problem or f"has no column {', '.join(missing)}"
            rejected.append(Rejected(place=row.place, reason=problem))
            continue
        try:
            with one_item("is not of this format"):
                described += list(reader.described(row.values))
        except MediaError as error:
            rejected.append(Rejected(place=row.place, reason=str(error)))
    if not described:
        reason = f" ({rejected[0].place}: {rejected[0].reason})" if rejected else ""
        raise UserError(f"{file}: holds no text of {reader.title}{reason}. Check --format.")
    return Descriptions(title=reader.title, described=tuple(described), rejected=tuple(rejected))


def _file(source: Path, reader: RetrievalReader) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder.")
    for pattern in reader.files:
        if found := sorted(path for path in source.glob(pattern) if path.is_file()):
            return found[0]
    raise UserError(f"{source}: holds no item file of {reader.title} ({' or '.join(reader.files)}). Name the file.")
