"""Datasets on an object store: written into a folder of this host first, then put there, the card last."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.store.mirror import mirror_of
from flywheel.store.objects import Objects

#: Is there while a dataset is put, and says which one: without it, and with a card, all of it is there.
MARK = ".export.part"
_CARD = ("README.md", "dataset.json")


@contextlib.contextmanager
def part_at(url: str, what: str, stands: Callable[[], bool] = lambda: True) -> Iterator[Path]:
    """An empty folder of this host to write a dataset into; at the end its files are put at the URL, the card last.

    ``what`` says which dataset it is: the same one, cut off before, is gone on with. ``stands`` is asked when all is
    put: where it says no, since a clip was taken down meanwhile, all goes again. Raises UserError then and where
    something else lies there, and BorderError where the store does not answer.
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
        try:
            yield dataset
        except BaseException:
            if set(objects.listing()) == {MARK}:
                # Nothing of it is there yet: the place is free for another.
                objects.remove(MARK)
            raise
        names = sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*") if path.is_file())
        for name in sorted(names, key=lambda name: name in _CARD):
            objects.put(dataset / name, name)
        if not stands():
            remove_dataset(url)
            raise UserError(f"{url}: a clip of this dataset was taken down meanwhile. Run the same command again.")
    for name in sorted(_own(objects) - set(names), key=lambda name: name == MARK):
        objects.remove(name)


def remove_dataset(url: str) -> None:
    """Remove a dataset from its URL, the card first."""
    objects = Objects(url)
    for name in sorted(_own(objects), key=lambda name: name not in _CARD):
        objects.remove(name)


def _own(objects: Objects) -> set[str]:
    """Names of a dataset's objects. Raises UserError where another dataset or a workspace came below its URL since."""
    names = set(objects.listing())
    nested = sorted(name for name in names if "/" in name and name.rsplit("/", 1)[1] in (*_CARD, MARK, "flywheel.yaml"))
    if nested:
        raise UserError(f"{objects.url}: {nested[0]} is of something else, which came below it. Move that first.")
    return names


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
