"""Where videos come from: folders, files, tables, dataset folders and tar shards, all as one stream of items.

An item names a file and what its source says of it. Videos inside containers (tar members, bytes in a dataset) are put
into the workspace's ``media/`` folder under their content hash first; what lies on an object store is copied there too.

A source that came from elsewhere is not trusted: its links lead to nothing outside it but what :mod:`links` says, and
what it holds is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.formats.tables import WORKBOOKS
from flywheel.ingest.captions import captions
from flywheel.ingest.containers import webdataset
from flywheel.ingest.contents import METADATA
from flywheel.ingest.dataset_folders import hf_dataset, is_dataset
from flywheel.ingest.folders import CONTAINERS, Folder
from flywheel.ingest.items import FILE, FOLDER, Item, Rules, found
from flywheel.ingest.links import is_of_a_store
from flywheel.ingest.passed import Passed, why_not
from flywheel.ingest.remote import fetched
from flywheel.ingest.tables import table
from flywheel.store.objects import url_of

_AS_THEY_ARE = Rules()


def items(
    source: str,
    media_folder: Path,
    rules: Rules = _AS_THEY_ARE,
    passed: Passed | None = None,
    most: int | None = None,
) -> Iterator[Item]:
    """The items of a source; ``passed`` counts what is passed over.

    Who takes the first ``most`` alone says so: no more loose videos are fetched from an object store then. Raises
    UserError where it does not exist, is of no known kind, or has no ``split_key``.
    """
    url = url_of(source)
    path = Path(source) if url is None else fetched(url, media_folder, most)
    passed = passed or Passed()
    if not path.exists():
        raise UserError(f"{source}: no such file or folder.")

    def read(inner: Path, folder: Path) -> Iterator[Item]:
        return _container(inner, folder, media_folder, rules, passed)

    if not path.is_dir():
        yield from read(path, path.parent)
    elif is_dataset(path):
        yield from read(path, path)
    else:
        if not any((path / name).exists() for name in METADATA):
            _check_has_no_column(rules.split_key, path)
        yield from Folder(path, rules, passed, read).items()


def _container(path: Path, folder: Path, media_folder: Path, rules: Rules, passed: Passed) -> Iterator[Item]:
    """The items of a file, or of a dataset's folder; names in a table are seen from ``folder``."""
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in CONTAINERS:
        # As it can be named on the command line.
        source = os.path.abspath(path)
        for item in _inside(path, folder, media_folder, rules, passed):
            yield replace(item, source=source)
    elif suffix in WORKBOOKS:
        raise UserError(f"{path}: is a spreadsheet's own file, and no video. Save it as CSV or .xlsx and name that.")
    else:
        _check_has_no_column(rules.split_key, path)
        # Whoever names a link on the command line means what it leads to.
        real = Path(os.path.realpath(path))
        if why := why_not(path.name):
            yield Item(path=path, problem=why)
        else:
            named = path if is_of_a_store(real) else real
            yield found(named, named.parent, rules)


def _inside(path: Path, folder: Path, media_folder: Path, rules: Rules, passed: Passed) -> Iterator[Item]:
    """The items of what holds videos, or names them."""
    if path.is_dir():
        return hf_dataset(path, media_folder, rules)
    if (suffix := path.suffix.lower()) == ".tar":
        return webdataset(path, media_folder, rules, passed)
    return captions(path, rules) if suffix == ".vtt" else table(path, folder, media_folder, rules)


def _check_has_no_column(split_key: str, source: Path) -> None:
    """Raise UserError where the split needs a column: files alone have none."""
    if split_key not in (FILE, FOLDER):
        raise UserError(
            f"{source}: files have no column '{split_key}' (corpus.split_key). Name a table of videos that has it, "
            f"or set corpus.split_key to {FILE} or {FOLDER}."
        )
