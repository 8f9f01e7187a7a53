"""Files that several formats write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flywheel.formats.rows import ExportRow

#: What a model is asked in conversations.
QUESTION = "Describe the video."
#: The folder of clips, within the dataset's.
VIDEOS = "videos"
#: What loaders count media by, and what a template ends turns with.
_MARK = re.compile(r"<(image|video|audio)>")
_TURN_MARK = re.compile(r"<(\|[^<>|\s]{1,40}\|)>")
#: One for all rows: json.dumps would make one for each.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


def write_video(row: ExportRow, out: Path) -> str:
    """Write the row's clip under ``out``; returns its path from there, empty where the clip can't be written."""
    folder = out / VIDEOS
    folder.mkdir(exist_ok=True)
    work = folder / ".clip"
    ending = row.video(work)
    if not ending:
        work.unlink(missing_ok=True)
        return ""
    work.replace(folder / f"{row.id}{ending}")
    return f"{VIDEOS}/{row.id}{ending}"


def turns_of(row: ExportRow) -> tuple[tuple[str, str], ...]:
    """The questions of a row's conversation with their answers: its own, or one question whose answer is its text."""
    return row.turns or ((QUESTION, row.text),)


def plain(text: str) -> str:
    """The text without marks of loaders and templates: ``<video>`` in a caption is a word and no video."""
    return _TURN_MARK.sub(r"< \1>", _MARK.sub(r"(\1)", text))


def write_list(items: Iterable[str], file: Path) -> None:
    """Write a JSON list of items that are JSON already, one a line, without holding it."""
    with open(file, "w", encoding="utf-8") as out:
        out.write("[")
        for number, item in enumerate(items):
            out.write(("," if number else "") + "\n" + item)
        out.write("\n]\n")


def as_json(values: Any) -> str:
    """JSON in one line, keys sorted. Raises UnicodeEncodeError for what can't be written as UTF-8."""
    text = _ENCODER.encode(values)
    text.encode("utf-8")
    return text
