"""Where videos come from: folders, files, tables, dataset folders and tar shards, all as one stream of items.

An item names a file and what its source says of it. Videos inside containers (tar members, bytes in a dataset) are put
into the workspace's ``media/`` folder under their content hash first.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError

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
#: Values of corpus.split_key that need no column.
FILE, FOLDER = "file", "folder"
_PATH_KEYS = ("video", "uri", "path", "file_name", "file", "video_path")
_TEXT_KEYS = ("transcript", "text", "caption", "subtitles")
#: Rows of a Parquet or CSV table that are held at a time.
_TABLE_ROWS = 10_000
_START_KEYS, _END_KEYS = ("start_s", "start"), ("end_s", "end")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video to take in. ``problem`` is set where the source itself is at fault; then nothing else is looked at.

    ``shared`` is what the source says of ``corpus.split_key``: videos of which it says the same stay together.
    """

    path: Path
    transcript: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    shared: str = ""
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the source names no times."""
        return self.start_s is None and self.end_s is None


def items(source: str, media_folder: Path, split_key: str = FILE) -> Iterator[Item]:
    """The items of a source. Raises UserError where it does not exist, is of no known kind, or has no ``split_key``."""
    path = Path(source)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder.")
    if path.is_dir():
        if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
            yield from _hf_dataset(path, media_folder, split_key)
            return
        for name in ("metadata.jsonl", "metadata.parquet", "metadata.csv"):
            if (path / name).exists():
                yield from _table(path / name, path, split_key)
                return
        _check_has_no_column(split_key, path)
        yield from _folder(path, split_key)
        return
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".parquet", ".csv"):
        yield from _table(path, path.parent, split_key)
    elif suffix == ".tar":
        yield from _webdataset(path, media_folder, split_key)
    else:
        _check_has_no_column(split_key, path)
        yield Item(path=path.resolve(), shared=_shared({}, path.resolve().parent.name, split_key))


def _check_has_no_column(split_key: str, source: Path) -> None:
    """Raise UserError where the split needs a column: files alone have none."""
    if split_key not in (FILE, FOLDER):
        raise UserError(
            f"{source}: files have no column '{split_key}' (corpus.split_key). Name a table of videos that has it, "
            f"or set corpus.split_key to {FILE} or {FOLDER}."
        )


def _shared(row: Mapping[str, Any], folder: str, split_key: str) -> str:
    """What videos share that must stay together; empty where that is the file alone."""
    if split_key == FILE:
        return ""
    return folder if split_key == FOLDER else str(row[split_key])


def _folder(folder: Path, split_key: str) -> Iterator[Item]:
    def unreadable(error: OSError) -> None:
        problems.append(Item(path=Path(error.filename or folder), problem=f"can't be read ({error.strerror})"))

    problems: list[Item] = []
    any_video = False
    for directory, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                any_video = True
                path = Path(directory, name).resolve()
                yield Item(path=path, shared=_shared({}, path.parent.name, split_key))
    yield from problems
    if not any_video and not problems:
        raise UserError(f"{folder}: holds no video files. Known endings: {' '.join(sorted(VIDEO_SUFFIXES))}.")


def _table(file: Path, folder: Path, split_key: str) -> Iterator[Item]:
    if file.suffix.lower() == ".jsonl":
        yield from _json_lines(file, folder, split_key)
        return
    try:
        table = (
            pl.scan_parquet(file, hive_partitioning=False)
            if file.suffix.lower() == ".parquet"
            else pl.scan_csv(file, infer_schema_length=None)
        )
        columns = table.collect_schema().names()
        if not set(columns) & set(_PATH_KEYS):
            raise UserError(
                f"{file}: needs a column with the videos' paths, one of {', '.join(_PATH_KEYS)}; "
                f"has {', '.join(columns)}."
            )
        # In parts: a table may be longer than memory holds.
        parts = table.collect_batches(chunk_size=_TABLE_ROWS, maintain_order=True)
        rows = (row for part in parts for row in part.iter_rows(named=True))
        for number, row in enumerate(rows, 1):
            yield _row_item(row, folder, f"row {number}", file, split_key)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: can't be read as a table ({error}).") from error


def _json_lines(file: Path, folder: Path, split_key: str) -> Iterator[Item]:
    with open(file, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield Item(path=file, problem=f"line {number}: not JSON ({error.msg})")
                continue
            yield _row_item(row, folder, f"line {number}", file, split_key)


def _row_item(row: Any, folder: Path, where: str, file: Path, split_key: str, inside: str = "") -> Item:
    """The item of a row; ``inside`` is the folder that a container has the video in."""
    if not isinstance(row, Mapping):
        return Item(path=file, problem=f"{where}: must be an object, got {type(row).__name__}")
    name = _first(row, _PATH_KEYS)
    if not isinstance(name, str) or not name:
        return Item(path=file, problem=f"{where}: names no video (one of {', '.join(_PATH_KEYS)})")
    path = (folder / name).resolve()
    if split_key not in (FILE, FOLDER) and row.get(split_key) in (None, ""):
        return Item(path=path, problem=f"{where}: says no '{split_key}' (corpus.split_key)")
    text = _first(row, _TEXT_KEYS)
    try:
        start, end = (None if v is None else float(v) for v in (_first(row, _START_KEYS), _first(row, _END_KEYS)))
    except (TypeError, ValueError):
        return Item(path=path, problem=f"{where}: start and end must be seconds")
    return Item(
        path=path,
        transcript=text if isinstance(text, str) else None,
        start_s=start,
        end_s=end,
        shared=_shared(row, inside or path.parent.name, split_key),
    )


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _hf_dataset(folder: Path, media_folder: Path, split_key: str) -> Iterator[Item]:
    from datasets import Dataset, DatasetDict, Video, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a dataset that 'datasets' can load ({error}).") from error
    for part in loaded.values() if isinstance(loaded, DatasetDict) else (loaded,):
        assert isinstance(part, Dataset)
        column = next((name for name in _PATH_KEYS if name in part.column_names), None)
        if column is None:
            raise UserError(f"{folder}: needs a column with videos, one of {', '.join(_PATH_KEYS)}.")
        if isinstance(part.features[column], Video):
            part = part.cast_column(column, Video(decode=False))
        for number, row in enumerate(part, 1):
            value, inside = row[column], ""
            if isinstance(value, Mapping):
                if value.get("bytes"):
                    name = value.get("path") or "video.mp4"
                    value = str(_keep(value["bytes"], Path(name).suffix or ".mp4", media_folder))
                    inside = Path(name).parent.name or folder.name
                else:
                    value = value.get("path")
            yield _row_item({**row, column: value}, folder, f"row {number}", folder, split_key, inside)


def _webdataset(file: Path, media_folder: Path, split_key: str) -> Iterator[Item]:
    """Samples are neighbours with one stem: ``key.mp4`` with ``key.txt``, ``key.json``, ``key.vtt`` or ``key.srt``."""
    try:
        with tarfile.open(file) as tar:
            stem, parts = "", dict[str, bytes]()
            for member in tar:
                # The list of all members is for those who seek in a tar.
                tar.members.clear()  # type: ignore[attr-defined]
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                base, _, suffix = name.partition(".")
                key = f"{folder}/{base}"
                if key != stem and parts:
                    yield _sample(parts, media_folder, file, stem, split_key)
                    parts = {}
                stem = key
                handle = tar.extractfile(member)
                parts["." + suffix.lower()] = handle.read() if handle else b""
            if parts:
                yield _sample(parts, media_folder, file, stem, split_key)
    except tarfile.TarError as error:
        raise UserError(f"{file}: not a readable tar file ({error}).") from error


def _sample(parts: dict[str, bytes], media_folder: Path, file: Path, key: str, split_key: str) -> Item:
    suffix = next((s for s in parts if s in VIDEO_SUFFIXES), None)
    if suffix is None:
        return Item(path=file, problem=f"sample {key.strip('/')}: holds no video")
    path = _keep(parts[suffix], suffix, media_folder)
    row: dict[str, Any] = {"path": str(path)}
    for side in (".vtt", ".srt"):
        if side in parts:
            path.with_suffix(side).write_bytes(parts[side])
    if ".json" in parts:
        try:
            loaded = json.loads(parts[".json"])
            row.update({k: v for k, v in loaded.items() if k not in _PATH_KEYS} if isinstance(loaded, dict) else {})
        except (json.JSONDecodeError, UnicodeDecodeError):
            return Item(path=path, problem=f"sample {key.strip('/')}: its .json is not JSON")
    if ".txt" in parts:
        row["transcript"] = parts[".txt"].decode("utf-8", errors="replace")
    inside = Path(key).parent.name or file.stem
    return _row_item(row, media_folder, f"sample {key.strip('/')}", file, split_key, inside)


def _keep(content: bytes, suffix: str, media_folder: Path) -> Path:
    media_folder.mkdir(parents=True, exist_ok=True)
    path = media_folder / f"{hashlib.sha256(content).hexdigest()[:32]}{suffix}"
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
    return path
