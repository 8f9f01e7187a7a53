"""Where videos come from: folders, files, tables, dataset folders and tar shards, all as one stream of items.

An item names a file and what its source says of it. Videos inside containers (tar members, bytes in a dataset) are put
into the workspace's ``media/`` folder under their content hash first.

A source that came from elsewhere is not trusted: its links lead to nothing outside it, and what it holds is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.foreign import parsed_json
from flywheel.ingest.containers import hf_dataset, webdataset
from flywheel.ingest.items import FILE, FOLDER, PATH_KEYS, VIDEO_SUFFIXES, Item, Rules, found, row_item

#: Rows of a Parquet or CSV table that are held at a time.
_TABLE_ROWS = 10_000
#: The longest line of JSON, in characters.
_MOST_LINE = 1 << 24
_AS_THEY_ARE = Rules()


def items(source: str, media_folder: Path, rules: Rules = _AS_THEY_ARE) -> Iterator[Item]:
    """The items of a source. Raises UserError where it does not exist, is of no known kind, or has no ``split_key``."""
    path = Path(source)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder.")
    if path.is_dir():
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            yield from hf_dataset(path, media_folder, rules)
            return
        for name in ("metadata.jsonl", "metadata.parquet", "metadata.csv"):
            if (path / name).exists():
                yield from _table(path / name, path, rules)
                return
        _check_has_no_column(rules.split_key, path)
        yield from _folder(path, rules)
        return
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".parquet", ".csv"):
        yield from _table(path, path.parent, rules)
    elif suffix == ".tar":
        yield from webdataset(path, media_folder, rules)
    else:
        _check_has_no_column(rules.split_key, path)
        # Whoever names a link on the command line means what it leads to.
        real = Path(os.path.realpath(path))
        yield found(real, real.parent, rules)


def _check_has_no_column(split_key: str, source: Path) -> None:
    """Raise UserError where the split needs a column: files alone have none."""
    if split_key not in (FILE, FOLDER):
        raise UserError(
            f"{source}: files have no column '{split_key}' (corpus.split_key). Name a table of videos that has it, "
            f"or set corpus.split_key to {FILE} or {FOLDER}."
        )


def _folder(folder: Path, rules: Rules) -> Iterator[Item]:
    def unreadable(error: OSError) -> None:
        problems.append(Item(path=Path(error.filename or folder), problem=f"can't be read ({error.strerror})"))

    problems: list[Item] = []
    any_video = False
    for directory, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                any_video = True
                yield found(Path(directory, name), folder, rules)
    yield from problems
    if not any_video and not problems:
        raise UserError(f"{folder}: holds no video files. Known endings: {' '.join(sorted(VIDEO_SUFFIXES))}.")


def _table(file: Path, folder: Path, rules: Rules) -> Iterator[Item]:
    if file.suffix.lower() == ".jsonl":
        yield from _json_lines(file, folder, rules)
        return
    try:
        table = (
            pl.scan_parquet(file, hive_partitioning=False)
            if file.suffix.lower() == ".parquet"
            else pl.scan_csv(file, infer_schema_length=None)
        )
        columns = table.collect_schema().names()
        if not set(columns) & set(PATH_KEYS):
            raise UserError(
                f"{file}: needs a column with the videos' paths, one of {', '.join(PATH_KEYS)}; "
                f"has {', '.join(columns)}."
            )
        # In parts: a table may be longer than memory holds.
        parts = table.collect_batches(chunk_size=_TABLE_ROWS, maintain_order=True)
        rows = (row for part in parts for row in part.iter_rows(named=True))
        for number, row in enumerate(rows, 1):
            yield row_item(row, folder, f"row {number}", file, rules)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: can't be read as a table ({error}).") from error


def _json_lines(file: Path, folder: Path, rules: Rules) -> Iterator[Item]:
    with open(file, encoding="utf-8", errors="replace") as lines:
        number = 0
        while line := lines.readline(_MOST_LINE):
            number += 1
            if not line.endswith("\n") and len(line) == _MOST_LINE:
                while rest := lines.readline(_MOST_LINE):
                    if rest.endswith("\n"):
                        break
                yield Item(path=file, problem=f"line {number}: is longer than {_MOST_LINE} characters")
                continue
            if not line.strip():
                continue
            try:
                row = parsed_json(line)
            except ValueError as error:
                what = str(error).partition(" at character ")[0]
                yield Item(path=file, problem=f"line {number}: not JSON ({what})")
                continue
            yield row_item(row, folder, f"line {number}", file, rules)
