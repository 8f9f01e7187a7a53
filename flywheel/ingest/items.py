"""What a source names: videos with what it says of them, each where it really lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from flywheel.core.foreign import without_hidden

VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
        ".gif",
    )
)
PATH_KEYS = ("video", "uri", "path", "file_name", "file", "video_path")
_TEXT_KEYS = ("transcript", "text", "caption", "subtitles")
_START_KEYS, _END_KEYS = ("start_s", "start"), ("end_s", "end")
#: Values of corpus.split_key that need no column.
FILE, FOLDER = "file", "folder"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How sources are read: what keeps videos together, and whether links out of a source are refused or followed."""

    split_key: str = FILE
    links: Literal["refuse", "follow"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video to take in. ``problem`` is set where the source itself is at fault; then nothing else is looked at.

    What lies beside the video must lie below ``root``, where there is one. ``is_new_copy``: the file was taken out of a
    container for this item. ``shared`` is what the source says of ``corpus.split_key``: videos of which it says the
    same stay together.
    """

    path: Path
    transcript: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    shared: str = ""
    problem: str = ""
    root: Path | None = None
    is_new_copy: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the source names no times."""
        return self.start_s is None and self.end_s is None


def found(named: Path, folder: Path, rules: Rules, **given: Any) -> Item:
    """The item of a file that a source names, or its problem where it can't be, or may not be taken.

    A file below the source's ``folder`` must really lie there. One elsewhere, which a table may name, must not be a
    link out of its own folder.
    """
    try:
        named = Path(os.path.abspath(named))
        path, inside = Path(os.path.realpath(named)), Path(os.path.realpath(folder))
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Item(path=named, problem="its name is no UTF-8; rename it")
    except (OSError, ValueError):
        return Item(path=folder, problem=f"{str(named)[:200]!r} can be no file's name")
    lies_below = named.is_relative_to(os.path.abspath(folder))
    root = inside if lies_below else Path(os.path.realpath(named.parent))
    if rules.links == "refuse" and not path.is_relative_to(root):
        return Item(path=named, problem="is a link out of its source (corpus.links: follow takes it)")
    if "shared" not in given:
        given["shared"] = shared({}, path.parent.name, rules)
    return Item(path=path, root=root if rules.links == "refuse" else None, **given)


def shared(row: Mapping[str, Any], folder: str, rules: Rules) -> str:
    """What videos share that must stay together; empty where that is the file alone."""
    if rules.split_key == FILE:
        return ""
    return folder if rules.split_key == FOLDER else without_hidden(str(row[rules.split_key]))


def row_item(row: Any, folder: Path, where: str, file: Path, rules: Rules, inside: str = "") -> Item:
    """The item of a table's row; its paths are relative to ``folder``, ``where`` and ``file`` name the row.

    ``inside`` is the folder that a container has the video in.
    """
    if not isinstance(row, Mapping):
        return Item(path=file, problem=f"{where}: must be an object, got {type(row).__name__}")
    name = _first(row, PATH_KEYS)
    if not isinstance(name, str) or not name:
        return Item(path=file, problem=f"{where}: names no video (one of {', '.join(PATH_KEYS)})")
    item = found(folder / name, folder, rules, shared="")
    if item.problem:
        return item
    if rules.split_key not in (FILE, FOLDER) and row.get(rules.split_key) in (None, ""):
        return replace(item, problem=f"{where}: says no '{rules.split_key}' (corpus.split_key)")
    text = _first(row, _TEXT_KEYS)
    try:
        start, end = (None if v is None else float(v) for v in (_first(row, _START_KEYS), _first(row, _END_KEYS)))
    except (TypeError, ValueError, OverflowError):
        return replace(item, problem=f"{where}: start and end must be seconds")
    return replace(
        item,
        transcript=text if isinstance(text, str) else None,
        start_s=start,
        end_s=end,
        shared=shared(row, inside or item.path.parent.name, rules),
    )


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
