"""Corrections as files: JSONL and CSV, read strictly, row by row; what is wrong is said with its line, the rest is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError

REQUIRED = ("annotation_id", "verdict")
OPTIONAL = ("text", "refiner", "reason", "seconds", "at", "clip_id", "uri", "round", "model_text")


@dataclass(frozen=True, kw_only=True)
class CorrectionRow:
    """A row as it stands in a file. ``problem`` says what is wrong with its form; then ``values`` is empty."""

    line: int
    values: Mapping[str, Any]
    problem: str = ""


def read_corrections(path: Path) -> Iterator[CorrectionRow]:
    """Rows of a ``.jsonl`` or ``.csv`` file. Raises UserError where the file as a whole can't be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    match path.suffix.lower():
        case ".jsonl":
            yield from _jsonl(content)
        case ".csv":
            yield from _csv(path, content)
        case other:
            raise UserError(f"{path}: unknown ending '{other}'. Corrections come as .jsonl or .csv.")


def _jsonl(content: bytes) -> Iterator[CorrectionRow]:
    for number, raw in enumerate(content.split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            values = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield CorrectionRow(line=number, values={}, problem=f"not valid UTF-8 at byte {error.start}")
            continue
        except json.JSONDecodeError as error:
            yield CorrectionRow(line=number, values={}, problem=f"not JSON ({error.msg} at character {error.pos})")
            continue
        except RecursionError:
            yield CorrectionRow(line=number, values={}, problem="not JSON (nested too deeply)")
            continue
        if not isinstance(values, dict):
            yield CorrectionRow(line=number, values={}, problem=f"must be an object, got {type(values).__name__}")
            continue
        yield _checked(number, values)


def _csv(path: Path, content: bytes) -> Iterator[CorrectionRow]:
    # Undecodable bytes become lone surrogates, so that one bad cell costs one row and not the file.
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield CorrectionRow(line=reader.line_num, values={}, problem=f"not CSV ({error})")
            return
        if cells is None:
            return
        if header is None:
            header = [cell.strip() for cell in cells]
            missing = [name for name in REQUIRED if name not in header]
            if missing:
                raise UserError(
                    f"{path}: needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}; has {', '.join(header)}."
                )
            continue
        if not any(cells):
            continue
        if len(cells) != len(header):
            yield CorrectionRow(line=reader.line_num, values={}, problem=f"has {len(cells)} cells, the header has {len(header)}")
            continue
        values = dict(zip(header, cells, strict=True))
        try:
            "".join(cells).encode("utf-8")
        except UnicodeEncodeError:
            yield CorrectionRow(line=reader.line_num, values={}, problem="not valid UTF-8")
            continue
        yield _checked(reader.line_num, values)


def _checked(line: int, values: dict[str, Any]) -> CorrectionRow:
    unknown = sorted(set(values) - {*REQUIRED, *OPTIONAL})
    if unknown:
        return CorrectionRow(
            line=line, values={}, problem=f"unknown column '{unknown[0]}'. Known: {', '.join((*REQUIRED, *OPTIONAL))}"
        )
    for name in REQUIRED:
        if not isinstance(values.get(name), str) or not values[name]:
            return CorrectionRow(line=line, values={}, problem=f"needs '{name}'")
    for name in ("text", "refiner", "reason"):
        if values.get(name) is not None and not isinstance(values[name], str):
            return CorrectionRow(line=line, values={}, problem=f"'{name}' must be text, got {type(values[name]).__name__}")
        try:
            (values.get(name) or "").encode("utf-8")
        except UnicodeEncodeError:
            return CorrectionRow(line=line, values={}, problem=f"'{name}' holds a lone surrogate, which is no valid text")
    return CorrectionRow(line=line, values=values)
