"""Formats of corrections, one file each: how waiting texts are written for people, and how corrections are read.

A module ``flywheel/formats/corrections/NAME.py`` adds a format by its ``FORMAT``. Other packages add formats through
the entry-point group ``flywheel.formats.corrections``. Names have dashes where modules have underscores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.core.border import is_of_one_item, reason_of
from flywheel.core.errors import UserError
from flywheel.core.registry import Registry
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row

__all__ = [
    "CorrectionFormat",
    "CorrectionRow",
    "ReviewRow",
    "checked_row",
    "endings",
    "get",
    "names",
    "of_ending",
    "read_corrections",
]

_registry = Registry("flywheel.formats.corrections", what="corrections format", attribute="FORMAT", dashes=True)


def get(name: str) -> CorrectionFormat:
    """The format of this name. Raises UserError for an unknown, contested or broken one."""
    return _registry.fetch(name, CorrectionFormat)


def names() -> list[str]:
    """Names of all formats, other packages' included, sorted."""
    return _registry.names()


def endings(*, plain: bool = False) -> list[str]:
    """Endings of the files that can be read, sorted; with ``plain`` only those that anybody may send."""
    formats = _working()[0].values()
    return sorted({ending for form in formats if form.plain or not plain for ending in form.endings})


def read_corrections(path: Path) -> Iterator[CorrectionRow]:
    """Rows of a file in the format that its ending names; each bad row says what is wrong with it.

    Raises UserError where the file as a whole can't be read.
    """
    if not path.exists():
        raise UserError(f"{path}: can't be read (No such file or directory).")
    form = _format_of(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: can't be read (it is no regular file).")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    line = 0
    try:
        for row in form.read(content, path.stem):
            line = row.line
            yield row
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
    except BaseException as error:
        if not is_of_one_item(error):
            raise
        yield CorrectionRow(line=line + 1, problem=f"breaks off ({reason_of(error)})")


def of_ending(path: Path) -> CorrectionFormat:
    """The format that a file to be written has by its ending; that of JSON lines for a name without one.

    Raises UserError for an ending that no format has.
    """
    if not path.suffix:
        return get("jsonl")
    form = _format_of(path, to_write=True)
    if path.suffix.lower() != form.endings[0]:
        raise UserError(f"{path}: {path.suffix} is read and not written. Write {path.with_suffix(form.endings[0])}.")
    return form


def _format_of(path: Path, *, to_write: bool = False) -> CorrectionFormat:
    """The format of a file's ending. Raises UserError for one that no format has, with those that are there."""
    ending = path.suffix.lower()
    formats, broken = _working()
    claims = {name: form for name, form in formats.items() if ending in form.endings}
    if len(claims) > 1:
        raise UserError(f"{path}: {' and '.join(claims)} both read '{ending}'. Uninstall all but one of them.")
    if claims:
        return next(iter(claims.values()))
    if broken is not None:
        raise broken
    there = sorted({form.endings[0] for form in formats.values()}) if to_write else endings()
    verb = "are written" if to_write else "come"
    raise UserError(f"{path}: unknown ending '{ending}'. Corrections {verb} as {', '.join(there)}.")


def _working() -> tuple[dict[str, CorrectionFormat], UserError | None]:
    """The formats that can be imported, and what is wrong with the first that can't."""
    # A broken plug-in must not keep people from reading a format of ours.
    formats: dict[str, CorrectionFormat] = {}
    broken: UserError | None = None
    for name in names():
        try:
            formats[name] = get(name)
        except UserError as error:
            broken = broken or error
    return formats, broken
