"""Folders of videos: walked with their linked folders, each once; metadata, tars and tables in them are read."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.formats import timed_text
from flywheel.ingest.contents import METADATA, described, first_of, holds_videos, is_beside, list_beside, listed
from flywheel.ingest.dataset_folders import SPLITS, STATE, is_dataset
from flywheel.ingest.items import VIDEO_SUFFIXES, Item, Rules, found
from flywheel.ingest.links import is_within, refusal
from flywheel.ingest.passed import HIDDEN, NoVideosError, Passed, ending, is_hidden, why_not
from flywheel.ingest.tables import TABLES

#: Endings of what may lie beside a video and be read with it.
_BESIDE = frozenset((*timed_text.endings(), *timed_text.UNREAD, ".txt"))
#: Files of these endings are of videos where one of their first rows names one.
_MAY_BE_ANYTHING = frozenset((*TABLES, ".vtt"))
#: Endings of what may hold videos, or name them.
CONTAINERS = frozenset((".tar", *_MAY_BE_ANYTHING))
_LOOKED_AT = 10
#: What a whole dataset's folder has besides.
_OF_DATASETS = frozenset(("dataset_info.json", "dataset_infos.json", STATE, SPLITS))

#: Reads a file or a folder that is a source of its own: ``(path, folder that its names are seen from)``.
Read = Callable[[Path, Path], Iterator[Item]]


@dataclass(frozen=True)
class _Place:
    """A folder on the way: where it is, the source's folder that it belongs to, and the real folders above it."""

    path: str
    root: str
    above: frozenset[str]


class Folder:
    """A folder as a source."""

    def __init__(self, folder: Path, rules: Rules, passed: Passed, read: Read) -> None:
        self._folder, self._rules, self._passed, self._read = folder, rules, passed, read
        self._linked: set[str] = set()
        self._gave = False
        #: Tables and tars beside videos are left alone: they are of these videos, most often.
        self._reads_containers = False

    def items(self) -> Iterator[Item]:
        """The items of all that lies in it. Raises UserError where that is nothing."""
        whole = _Place(str(self._folder), str(self._folder), frozenset())
        if name := described(self._folder):
            yield from self._of_table(whole, name)
            return
        self._reads_containers = not holds_videos(self._folder)
        for item in self._walk(whole):
            self._gave = True
            yield item
        if not self._gave:
            held = ", ".join(f"{kind} ({number})" for kind, number in self._passed.counts.most_common(8))
            raise UserError(
                f"{self._folder}: holds no video files{f', but {held}' if held else ''}. "
                f"Known endings: {' '.join(sorted(VIDEO_SUFFIXES))}."
            )

    def _walk(self, first: _Place) -> Iterator[Item]:
        unreadable: list[Item] = []
        waiting = [first]
        while waiting:
            place = waiting.pop()
            try:
                folders, names = listed(place.path)
            except OSError as error:
                unreadable.append(Item(path=Path(place.path), problem=f"can't be read ({error.strerror})"))
                continue
            if place is not first and (name := first_of(METADATA, names)):
                yield from self._guarded(self._of_table(place, name), place.path)
                continue
            if (STATE in names or SPLITS in names) and is_dataset(Path(place.path)):
                yield from self._guarded(self._read(Path(place.path), Path(place.path)), place.path)
                continue
            if (name := list_beside(names, folders)) and self._reads(Path(place.path, name)):
                yield from self._guarded(self._of_table(place, name), place.path)
                continue
            yield from self._files(place, names)
            inner: list[_Place] = []
            for entry in folders:
                step = self._entered(entry, place)
                if isinstance(step, Item):
                    yield step
                elif step is not None:
                    inner.append(step)
            waiting += reversed(inner)
        yield from unreadable

    def _files(self, place: _Place, names: list[str]) -> Iterator[Item]:
        """The items of a folder's own files."""
        stems = {os.path.splitext(name)[0] for name in names if ending(name) in VIDEO_SUFFIXES}
        for name in names:
            if is_hidden(name):
                self._passed.count(HIDDEN)
            elif (kind := ending(name)) in VIDEO_SUFFIXES:
                yield found(Path(place.path, name), Path(place.root), self._rules)
            elif why := why_not(name):
                yield Item(path=Path(place.path, name), problem=why)
            elif kind in _BESIDE and is_beside(name, stems):
                continue
            elif kind in CONTAINERS and self._reads_containers and name not in _OF_DATASETS:
                path = Path(place.path, name)
                itself = found(path, Path(place.root), self._rules)
                inner = self._read(path, Path(place.path))
                yield from [itself] if itself.problem else self._guarded(inner, place.path, kind)
            else:
                self._passed.count(kind)

    def _guarded(self, items: Iterator[Item], at: str, kind: str = "") -> Iterator[Item]:
        """The items of a container within the folder; one that is no source is a row, or is counted by its kind."""
        head: list[Item] = []
        try:
            head = list(islice(items, _LOOKED_AT))
            if kind in _MAY_BE_ANYTHING and all(item.names_none for item in head):
                self._passed.count(kind)
                return
            yield from head
            yield from items
        except NoVideosError as error:
            if kind:
                self._passed.count(kind)
            else:
                yield Item(path=Path(at), problem=str(error).removesuffix("."))
        except UserError as error:
            yield Item(path=Path(at), problem=str(error).removesuffix("."))

    def _entered(self, entry: os.DirEntry[str], place: _Place) -> _Place | Item | None:
        """The folder of an entry; the reason why a link is not followed; None for what is passed over."""
        if is_hidden(entry.name):
            self._passed.count(HIDDEN)
            return None
        if not entry.is_symlink():
            return _Place(entry.path, place.root, place.above)
        real = os.path.realpath(entry.path)
        above = place.above | {os.path.realpath(place.path), os.path.realpath(place.root)}
        if real in self._linked or real in above or is_within(real, above):
            self._passed.count("links to folders that are read anyway")
            return None
        if why := refusal(entry.path, above, self._rules.links):
            return Item(path=Path(entry.path), problem=why)
        self._linked.add(real)
        self._passed.note(f"follows {entry.path} to {real}")
        return _Place(real, real, above)

    def _reads(self, file: Path) -> bool:
        """Whether a list names a video that is there."""
        try:
            item = next(self._read(file, file.parent), None)
        except UserError:
            return False
        return item is not None and not item.problem and item.path.is_file()

    def _of_table(self, place: _Place, name: str) -> Iterator[Item]:
        """The items of the table that describes a folder; videos there that it does not name are counted."""
        named = array("q")
        table = Path(place.path, name)
        itself = found(table, Path(place.root), self._rules)
        for item in [itself] if itself.problem else self._read(table, Path(place.path)):
            named.append(hash(str(item.path)))
            if item.cut is not None:
                named.append(hash(str(item.cut)))
            yield item
        self._count_unnamed(place, name, array("q", sorted(named)))

    def _count_unnamed(self, place: _Place, name: str, named: array[int]) -> None:
        """Count the videos below a described folder whose places are none of those named, sorted by their hashes."""
        for folder, folders, names in os.walk(place.path):
            folders[:] = [other for other in folders if not is_hidden(other)]
            others = sum(other in METADATA for other in names) - (folder == place.path and name in METADATA)
            self._passed.count("other metadata files", others)
            for other in names:
                if ending(other) in VIDEO_SUFFIXES and not is_hidden(other):
                    key = hash(str(found(Path(folder, other), Path(place.root), self._rules).path))
                    at = bisect_left(named, key)
                    self._passed.count(f"videos that {name} does not name", at == len(named) or named[at] != key)
