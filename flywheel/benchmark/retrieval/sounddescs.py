"""SoundDescs: BBC sound effects with what the archive says of each (Koepke et al. 2022); its test part.

Its descriptions are a pickle of ids and texts. Only plain values are read of it: a pickle that names anything to be
called is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.benchmark.retrieval._reader import Described, RetrievalReader, texts
from flywheel.benchmark.rows import Row, rows_of
from flywheel.core.errors import UserError, first_line

_TEST = "test_list.txt"


class _Plain(pickle.Unpickler):
    """Texts, numbers, lists and mappings of them, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses: raises UnpicklingError."""
        raise pickle.UnpicklingError(f"names {module}.{name}")


def _rows(file: Path, fields: Collection[str]) -> Iterator[Row]:
    """A row for each sound of the test part, of all sounds where no list of it lies beside the file."""
    listed = file.with_name(_TEST)
    test = set(listed.read_text("utf-8").split()) if listed.is_file() else None
    for row in _pickled(file) if file.suffix.lower() == ".pkl" else rows_of(file, fields):
        if test is None or row.problem or str(row.values.get("id")) in test:
            yield row


def _pickled(file: Path) -> Iterator[Row]:
    try:
        with open(file, "rb") as stream:
            value = _Plain(stream).load()
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror or error}).") from error
    # Torn bytes end in nearly any error.
    except Exception as error:
        raise UserError(f"{file}: is no pickle of plain texts ({first_line(error)}).") from error
    if not isinstance(value, Mapping):
        raise UserError(f"{file}: holds no mapping of ids to texts.")
    for name, text in value.items():
        yield Row(place=f"{file.name}:{name}", file=file, values={"id": name, "description": text})


def _described(row: Mapping[str, Any]) -> Iterator[Described]:
    name, value = str(row["id"]).removesuffix(".wav"), row["description"]
    if isinstance(value, list | tuple) and value and all(isinstance(part, list | tuple) for part in value):
        # Texts as lists of words.
        value = [" ".join(map(str, part)) for part in value]
    elif isinstance(value, list | tuple) and value and not any(" " in str(part) for part in value):
        value = " ".join(map(str, value))
    for text in texts(value):
        yield Described(key=name, text=text, names=(name, name.lower(), name.upper()))


READER = RetrievalReader(
    title="SoundDescs",
    source="descriptions.pkl or raw-captions.pkl (id: text), test_list.txt; or a table with id, description",
    files=("descriptions.pkl", "raw-captions.pkl", "*.csv", "*.json", "*.jsonl"),
    fields=("id", "description"),
    described=_described,
    rows=_rows,
)
