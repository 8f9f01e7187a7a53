"""What a reader of a retrieval benchmark's files is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.benchmark.rows import Row, rows_of


@dataclass(frozen=True, kw_only=True)
class Described:
    """A text and what it describes: a file by the names that it may have, whole or from when to when.

    ``names`` are without endings; texts of one ``key`` describe the same.
    """

    key: str
    text: str
    names: tuple[str, ...]
    span_s: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class RetrievalReader:
    """How the files of a retrieval benchmark are read.

    ``title`` is its name, ``source`` what says its fields. ``files`` are patterns of its item files in a folder;
    ``fields`` are columns that each row must have. ``described`` gives a row's texts; it may raise ValueError with what
    is wrong with a row. ``rows`` reads a file, where it is no plain table or list.
    """

    title: str
    source: str
    files: tuple[str, ...]
    fields: tuple[str, ...]
    described: Callable[[Mapping[str, Any]], Iterable[Described]]
    rows: Callable[[Path, Collection[str]], Iterator[Row]] = rows_of


def texts(value: Any) -> list[str]:
    """The texts of a field that holds one or several. Raises ValueError for anything else, and for none."""
    found = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError("has no text")
    return found
