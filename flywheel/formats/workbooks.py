"""The first sheet of a spreadsheet's own file (.xlsx, .xlsm) as rows of text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from typing import IO, Any

from flywheel.core.border import is_of_one_item, reason_of

#: Endings of the workbooks that can be read.
ENDINGS = (".xlsx", ".xlsm")
#: How a workbook begins, as every zip does.
MAGIC = b"PK\x03\x04"
#: A file of a few kilobytes can unpack to terabytes, and name one long text in a million cells.
_MOST_BYTES, _MOST_CHARS = 1 << 28, 1 << 28
#: Spreadsheets' own limit of rows; a file that names a later one would have us count there.
_MOST_ROWS, _MOST_CELLS = 1 << 20, 1 << 26


def sheet_rows(stream: IO[bytes]) -> Iterator[tuple[int, list[str], str]]:
    """(number, cells, problem) of each row of the first sheet, counted from 1; empty cells are empty texts.

    Raises ValueError for what is no workbook, is locked by a password, or unpacks to over 256 MiB.
    """
    content = stream.read()
    _check_size(content)
    # Here, since few people have one and it takes a fifth of a second.
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        sheets = book.worksheets
    except BaseException as error:
        if not is_of_one_item(error):
            raise
        raise ValueError(f"is no workbook that can be read ({reason_of(error)}); save it as CSV") from error
    if not sheets:
        raise ValueError("is a workbook without a sheet")
    # What the file says of its extent is often wrong.
    sheets[0].reset_dimensions()
    yield from _texts(sheets[0].iter_rows(values_only=True))


def _check_size(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            # No more is unpacked of a part than it says that it is.
            size = sum(part.file_size for part in parts.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise ValueError(f"is no workbook that can be read ({reason_of(error)}); save it as CSV") from error
    if size > _MOST_BYTES:
        raise ValueError(f"is a workbook that unpacks to {size >> 20} MiB, over {_MOST_BYTES >> 20}; save it as CSV")


def _texts(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[int, list[str], str]]:
    number = count = chars = 0
    while True:
        try:
            values = next(rows, None)
            if values is None:
                return
            cells = [_text(value) for value in values]
            count, chars = count + len(cells), chars + sum(map(len, cells))
            if number >= _MOST_ROWS or count > _MOST_CELLS or chars > _MOST_CHARS:
                raise ValueError("it is larger than spreadsheets are")
        except BaseException as error:
            if not is_of_one_item(error):
                raise
            yield number + 1, [], f"the sheet breaks off here ({reason_of(error)})"
            return
        number += 1
        yield number, cells, ""


def _text(value: Any) -> str:
    """A cell as its reader sees it, as far as a format for all can show it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        # 15 digits are what a spreadsheet shows at most: .1 + .2 is .3 there.
        return f"{value:.15g}"
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}"
    return str(value)
