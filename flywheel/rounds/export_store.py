"""Datasets on an object store: written into a folder of this host first, then put there, the card last."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.store.mirror import mirror_of
from flywheel.store.objects import Objects

#: Is there while a dataset is put, and says which one: without it, and with a card, all of it is there.
MARK = ".export.part"
_CARD = ("README.md", "dataset.json")


@contextlib.contextmanager
def part_at(url: str, what: str) -> Iterator[Path]:
    """An empty folder of this host to write a dataset into; at the end its files are put at the URL, the card last.

    ``what`` says which dataset it is: the same one, cut off before, is gone on with. Raises UserError where something
    else lies there, and BorderError where the store does not answer.
    """
    objects = Objects(url)
    _refuse_other(objects, what)
    with tempfile.TemporaryDirectory(prefix="flywheel-export-") as folder:
        mark = Path(folder) / MARK
        mark.write_text(what)
        with contextlib.suppress(FileExistsError):
            objects.put(mark, MARK, new=True)
        # Of two that began at once, one is first.
        _refuse_other(objects, what)
        dataset = Path(folder) / "dataset"
        dataset.mkdir()
        yield dataset
        names = sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*") if path.is_file())
        for name in sorted(names, key=lambda name: name in _CARD):
            objects.put(dataset / name, name)
    for name in sorted(objects.listing().keys() - set(names), key=lambda name: name == MARK):
        objects.remove(name)


def remove_dataset(url: str) -> None:
    """Remove a dataset from its URL, the card first."""
    objects = Objects(url)
    for name in sorted(objects.listing(), key=lambda name: name not in _CARD):
        objects.remove(name)


def address_of(root: Path, path: str) -> str:
    """What a dataset on a store calls a file: its URL where the workspace's store has it, else its name alone."""
    mirror = mirror_of(root)
    if mirror is not None and path.startswith(f"{root}/"):
        return f"{mirror.url}/{path.removeprefix(f'{root}/')}"
    return Path(path).name


def _refuse_other(objects: Objects, what: str) -> None:
    there = objects.listing()
    if not there:
        return
    if MARK in there:
        with tempfile.TemporaryDirectory() as folder:
            objects.get(MARK, Path(folder) / MARK, is_listed=True)
            if (Path(folder) / MARK).read_text() == what:
                return
    raise UserError(f"{objects.url}: holds something already. Name a new place with --out.")
