"""Corrections as files, read strictly, row by row; what is wrong is said with its line, the rest is kept."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.formats.subtitles import parse_subtitles

REQUIRED = ("annotation_id", "verdict")
OPTIONAL = ("text", "payload", "refiner", "reason", "seconds", "at", "clip_id", "uri", "round", "model_text")
#: Endings that are read; of them those that can't hold more than they weigh, and so may come from anybody.
ENDINGS = (".jsonl", ".csv", ".parquet", ".json", ".vtt", ".srt")
PLAIN_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".parquet")


@dataclass(frozen=True, kw_only=True)
class CorrectionRow:
    """A row as it stands in a file. ``problem`` says what is wrong with its form; then ``values`` is empty."""

    line: int
    values: Mapping[str, Any]
    problem: str = ""


def read_corrections(path: Path) -> Iterator[CorrectionRow]:
    """Rows of a file: JSONL, CSV, Parquet, Label Studio's JSON, or WebVTT and SRT (one annotation, named by the file or by a NOTE).
    Raises UserError where the file as a whole can't be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    match path.suffix.lower():
        case ".jsonl":
            yield from _jsonl(content)
        case ".csv":
            yield from _csv(path, content)
        case ".parquet":
            yield from _parquet(path, content)
        case ".json":
            from flywheel.formats.label_studio import read_tasks

            try:
                rows = list(read_tasks(content))
            except ValueError as error:
                raise UserError(f"{path}: {error}.") from error
            for row in rows:
                yield row if row.problem else _checked(row.line, dict(row.values))
        case ".vtt" | ".srt":
            yield _subtitles(path, content)
        case other:
            raise UserError(f"{path}: unknown ending '{other}'. Corrections come as {', '.join(ENDINGS)}.")


def _parquet(path: Path, content: bytes) -> Iterator[CorrectionRow]:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: can't be read as Parquet ({str(error).splitlines()[0]}).") from error
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        yield _checked(number, {name: value for name, value in row.items() if value is not None})


def _subtitles(path: Path, content: bytes) -> CorrectionRow:
    text = content.decode("utf-8", errors="replace")
    cues = parse_subtitles(text)
    if not cues:
        return CorrectionRow(line=1, values={}, problem="holds no cue")
    named = re.search(r"^NOTE annotation (\S+)", text, re.M)
    payload = json.dumps({"cues": [asdict(cue) for cue in cues]}, ensure_ascii=False, sort_keys=True)
    values = {
        "annotation_id": named[1] if named else path.stem,
        "verdict": "edit",
        "text": " ".join(c.text for c in cues),
    }
    return _checked(1, {**values, "payload": payload})


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
            yield CorrectionRow(
                line=reader.line_num, values={}, problem=f"has {len(cells)} cells, the header has {len(header)}"
            )
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
    for name in ("text", "payload", "refiner", "reason"):
        if values.get(name) is not None and not isinstance(values[name], str):
            return CorrectionRow(
                line=line, values={}, problem=f"'{name}' must be text, got {type(values[name]).__name__}"
            )
        try:
            (values.get(name) or "").encode("utf-8")
        except UnicodeEncodeError:
            return CorrectionRow(
                line=line, values={}, problem=f"'{name}' holds a lone surrogate, which is no valid text"
            )
    return CorrectionRow(line=line, values=values)
