"""Items of a table's rows, with their videos found where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.ingest.items import FILE, FOLDER, VIDEO_SUFFIXES, Item, Rules, found, shared
from flywheel.ingest.kept import keep
from flywheel.ingest.places import place_of
from flywheel.ingest.rows import Reading, Video, readings

#: Folders, seen from a table's, in which a video lies that the table names without its folder.
_FOLDERS = (
    *(".", "..", "videos", "video", "clips", "data", "raw_videos", "all_videos", "videos/all", "train", "val", "test"),
    *("TrainValVideo", "TestVideo", "media", "../videos", "../video", "../clips", "../videos/all", "../raw_videos"),
)
_ENDINGS = ("", ".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".gif")
#: No name of a video is longer.
_MOST_NAME_CHARS = 255
#: Rows for which the place of a video is looked up once: a batch of an ingest.
_NEIGHBOURS = 128


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of videos: its paths are relative to ``folder``, ``file`` names it where a row is at fault."""

    folder: Path
    file: Path
    media_folder: Path
    rules: Rules
    _places: dict[str, Item] = field(default_factory=dict, init=False, repr=False, compare=False)
    _looks: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)

    def items(self, rows: Iterable[Any], what: str = "row") -> Iterator[Item]:
        """The items of rows, which are counted from 1."""
        for number, row in enumerate(rows, 1):
            yield from self.of_row(row, f"{what} {number}")

    def of_row(self, row: Any, where: str, inside: str = "") -> list[Item]:
        """The items of a row, one at least; ``where`` names it.

        ``inside`` is the folder that a container has its videos in. Whatever a row holds, it is items or their problem.
        """
        try:
            with one_item():
                return self._of_row(row, where, inside)
        except MediaError as error:
            return [Item(path=self.file, problem=f"{where}: {error}")]

    def _of_row(self, row: Any, where: str, inside: str) -> list[Item]:
        if not isinstance(row, Mapping):
            problem = f"{where}: must be an object, got {type(row).__name__}"
            return [Item(path=self.file, problem=problem, names_none=True)]
        return [self._item(reading, row, where, inside) for reading in readings(row)]

    def _item(self, reading: Reading, row: Mapping[str, Any], where: str, inside: str) -> Item:
        if not reading.video.path:
            return Item(path=self.file, problem=f"{where}: {reading.problem}", names_none=True)
        item = self._found(reading.video, where)
        if item.problem:
            return item
        split_key = self.rules.split_key
        if split_key not in (FILE, FOLDER) and row.get(split_key) in (None, ""):
            return replace(item, problem=f"{where}: says no '{split_key}' (corpus.split_key)")
        if reading.problem:
            return replace(item, problem=f"{where}: {reading.problem}")
        is_cut = reading.video.cut != "" and item.path.name == PurePosixPath(reading.video.cut).name
        return replace(
            item,
            transcript=reading.text,
            start_s=None if is_cut else reading.start_s,
            end_s=None if is_cut else reading.end_s,
            others=reading.others,
            cues=reading.cues,
            cut=Path(os.path.realpath(self.folder / reading.video.cut)) if reading.video.cut else None,
            shared=shared(row, inside or self._inside(reading.video) or item.path.parent.name, self.rules),
        )

    def _inside(self, video: Video) -> str:
        """The folder that a video whose content the row holds was in."""
        return "" if video.content is None else PurePosixPath(video.path).parent.name or self.folder.name

    def _found(self, video: Video, where: str) -> Item:
        if video.content is not None:
            suffix = os.path.splitext(video.path)[1].lower()
            name = suffix if suffix in VIDEO_SUFFIXES else ".mp4"
            path, is_new = keep(BytesIO(video.content), name, self.media_folder)
            return replace(found(path, self.media_folder, self.rules, shared=""), is_new_copy=is_new)
        try:
            place = self.folder / video.path if video.is_name else place_of(video.path, self.folder)
        except ValueError as error:
            return Item(path=self.file, problem=f"{where}: {error}")
        item = self._place(place)
        if not video.is_name and (item.problem or os.path.lexists(item.path)):
            return item
        for name in (video.cut, video.path):
            if name and (sought := _sought(self.folder, name)) is not None:
                return found(sought, self.folder, self.rules, shared="")
        if not video.is_name:
            return item
        problem = f"{where}: names no video: no file, and none called {video.path[:80]!r} lies near it"
        return Item(path=self.file, problem=problem, names_none=True)

    def _place(self, place: Path) -> Item:
        """What a place is, looked up once for some neighbouring rows: a table may name a video for each of its spans.

        No longer: what is a link by then must be seen.
        """
        if not next(self._looks) % _NEIGHBOURS:
            self._places.clear()
        names = str(place)
        item = self._places.get(names)
        if item is None:
            item = self._places[names] = found(place, self.folder, self.rules, shared="")
        return item


def _sought(folder: Path, name: str) -> Path | None:
    """The file that a name without its folder or ending means; None where there is none."""
    if not name or len(name) > _MOST_NAME_CHARS or "\0" in name or name[:1] in "/." or ".." in name.split("/"):
        return None
    endings = _ENDINGS if os.path.splitext(name)[1].lower() not in VIDEO_SUFFIXES else ("",)
    places = [(place, name + ending) for place in _places(folder) for ending in endings]
    return next((place / file for place, file in places if os.path.isfile(place / file)), None)


@lru_cache(maxsize=64)
def _places(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in _FOLDERS if os.path.isdir(folder / name))
