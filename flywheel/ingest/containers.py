"""Videos inside tars: put into the workspace's ``media/`` folder under their content hash."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.encodings import decoded
from flywheel.core.errors import MediaError
from flywheel.core.foreign import parsed_json
from flywheel.formats import timed_text
from flywheel.ingest.beside import MOST_TEXT_BYTES
from flywheel.ingest.items import VIDEO_SUFFIXES, Item, Rules
from flywheel.ingest.kept import keep
from flywheel.ingest.notes import Note
from flywheel.ingest.passed import HIDDEN, Passed, ending, is_hidden
from flywheel.ingest.rows.names import PATHS, plain
from flywheel.ingest.table import Table
from flywheel.ingest.tars import Break, members

_SIDE_SUFFIXES = (*timed_text.endings(), ".txt", ".json")
#: Endings under which tools put a text, which mean ``.txt``.
_TEXT_SUFFIXES = (".text", ".caption", ".cap")
#: Videos of one sample that are waited with, and files of other stems within it; of more the first goes in before its
#: neighbours are read.
_MOST_VIDEOS, _MOST_CAMERAS = 16, 64
#: Files of a sample that are named where it holds no video.
_NAMED = 8
_PATH_NAMES = frozenset(map(plain, PATHS))


@dataclass(kw_only=True)
class _Camera:
    """A video of a sample as it was put aside, and what lies beside it alone."""

    suffix: str
    video: Path | None = None
    is_new_copy: bool = False
    texts: dict[str, bytes] = field(default_factory=dict)
    #: Further files of an ending that is there already.
    more: int = 0


@dataclass(kw_only=True)
class _Sample:
    """Neighbours of a tar with one stem: their videos, by what stands between stem and ending, and what lies beside."""

    key: str
    cameras: dict[str, _Camera] = field(default_factory=dict)
    problem: str = ""
    others: set[str] = field(default_factory=set)
    is_given: bool = False

    def add(self, middle: str, suffix: str, tar: tarfile.TarFile, member: tarfile.TarInfo, media_folder: Path) -> None:
        """Takes a member in, where it is of a known kind; one that can't be read is the sample's problem."""
        camera = self.cameras.setdefault(middle, _Camera(suffix=suffix))
        try:
            with one_item(f"its {middle}{suffix} can't be read"):
                handle = tar.extractfile(member)
                if handle is None or (suffix in VIDEO_SUFFIXES and camera.video is not None):
                    self.name(middle + suffix)
                elif suffix in VIDEO_SUFFIXES:
                    camera.video, camera.is_new_copy = keep(handle, suffix, media_folder)
                    camera.suffix = suffix
                elif suffix in camera.texts:
                    camera.more += 1
                else:
                    camera.texts[suffix] = handle.read(MOST_TEXT_BYTES)
                    if member.size > MOST_TEXT_BYTES:
                        self.problem = f"its {suffix} is larger than {MOST_TEXT_BYTES >> 20} MiB"
        except MediaError as error:
            self.problem = str(error)

    def name(self, rest: str) -> None:
        """Keep the name of a member that is not read, for those who look for a video in vain."""
        if len(self.others) < _NAMED:
            self.others.add(rest[:40])

    def is_full(self) -> bool:
        """Whether it has so many videos that the first should go in."""
        videos = sum(camera.video is not None for camera in self.cameras.values())
        return videos > _MOST_VIDEOS or len(self.cameras) > _MOST_CAMERAS

    def first(self, of_rows: Table) -> list[Item]:
        """The items of its first video, which leaves it; of its first files where it has none."""
        self.is_given = True
        # What has no name of its own is everybody's.
        named = {name: camera for name, camera in self.cameras.items() if name}
        name = next((name for name, camera in named.items() if camera.video is not None), next(iter(named)))
        camera = self.cameras.pop(name)
        if camera.video is None:
            return [Item(path=of_rows.file, problem=f"{self.where}: {name}{camera.suffix} belongs to no video")]
        return self._items_of(name, camera, of_rows)

    def items(self, of_rows: Table) -> list[Item]:
        """The items that it is: one for each of its videos and spans."""
        with_video = {name: camera for name, camera in self.cameras.items() if camera.video is not None}
        if not with_video:
            if self.is_given:
                return []
            held = sorted({camera.suffix for camera in self.cameras.values()} | self.others)
            what = self.problem or f"holds no video, but {', '.join(held[:_NAMED])}"
            return [Item(path=of_rows.file, problem=f"{self.where}: {what}")]
        return [item for name, camera in with_video.items() for item in self._items_of(name, camera, of_rows)]

    @property
    def where(self) -> str:
        return f"sample {self.key.strip('/')}"

    def _items_of(self, name: str, camera: _Camera, of_rows: Table) -> list[Item]:
        assert camera.video is not None
        try:
            with one_item():
                return self._read(name, camera, camera.video, of_rows)
        except MediaError as error:
            return [Item(path=camera.video, problem=f"{self.where}: {error}", is_new_copy=camera.is_new_copy)]

    def _read(self, name: str, camera: _Camera, video: Path, of_rows: Table) -> list[Item]:
        shared, more = self._shared()
        named = camera.more if name else 0
        texts = {**shared, **camera.texts}
        row: dict[str, Any] = {}
        try:
            row = _facts(parsed_json(decoded(texts.get(".json", b"{}")).text))
        except ValueError as error:
            self.problem = self.problem or f"its .json is not JSON ({error})"
        if self.problem:
            return [Item(path=video, problem=f"{self.where}: {self.problem}", is_new_copy=camera.is_new_copy)]
        for side in timed_text.endings():
            if side in texts:
                video.with_suffix(side).write_bytes(texts[side])
        notes: tuple[Note, ...] = ()
        if ".txt" in texts:
            row["transcript"], notes = _words(texts[".txt"], f"{of_rows.file.name}: {self.where}")
        where = f"{self.where}{f' ({name}{camera.suffix})' if name else ''}"
        inside = Path(self.key).parent.name or of_rows.file.stem
        items = of_rows.of_row({**row, "video": str(video)}, where, inside)
        others = more + named
        return [
            replace(item, is_new_copy=camera.is_new_copy, others=item.others + others, notes=(*item.notes, *notes))
            for item in items
        ]

    def _shared(self) -> tuple[dict[str, bytes], int]:
        """What lies beside all videos of the sample, by its ending; and how many texts there are besides."""
        shared: dict[str, bytes] = {}
        more = 0
        # ``key.txt`` before ``key.caption.txt``.
        for _, camera in sorted(self.cameras.items(), key=lambda pair: pair[0] != ""):
            if camera.video is None or camera is self.cameras.get(""):
                more += camera.more + (".txt" in camera.texts and ".txt" in shared)
                shared = {**camera.texts, **shared}
        return shared, more


def _facts(loaded: Any) -> dict[str, Any]:
    """What a sample's JSON says of its video."""
    if not isinstance(loaded, Mapping):
        return {}
    row = {key: value for key, value in loaded.items() if plain(str(key)) not in _PATH_NAMES}
    if {"uri", "round", "split"} <= loaded.keys():
        # Our own datasets: the span is of the video that the clip was cut from.
        return {key: value for key, value in row.items() if key not in ("start_s", "end_s")}
    return row


def webdataset(file: Path, media_folder: Path, rules: Rules, passed: Passed) -> Iterator[Item]:
    """The items of a tar; samples are neighbours with one stem, which ends at the first dot of a name.

    ``key.mp4`` comes with ``key.txt``, ``key.json``, ``key.vtt`` or ``key.srt``. Of several videos, such as
    ``key.left.mp4`` and ``key.right.mp4``, each is an item: it has the texts of its own (``key.left.txt``), else the
    sample's. A break is one rejected item. Raises UserError for what is no tar.
    """
    of_rows = Table(folder=media_folder, file=file, media_folder=media_folder, rules=rules)
    sample: _Sample | None = None
    for found in members(file):
        if isinstance(found, Break):
            if sample is not None:
                yield from sample.items(of_rows)
                sample = None
            yield Item(path=file, problem=str(found))
            continue
        tar, member = found
        folder, _, name = member.name.rpartition("/")
        base, _, rest = name.partition(".")
        suffix = ".txt" if ending(name) in _TEXT_SUFFIXES else ending(name)
        if _is_passed_over(member, passed):
            continue
        key = f"{folder}/{base}"
        if sample is not None and key != sample.key:
            yield from sample.items(of_rows)
            sample = None
        sample = sample or _Sample(key=key)
        middle = rest[: max(0, len(rest) - len(ending(name)))]
        if suffix not in VIDEO_SUFFIXES and suffix not in _SIDE_SUFFIXES:
            sample.name(f".{rest}" if rest else "a name without an ending")
            passed.count(suffix)
            continue
        sample.add(middle, suffix, tar, member, media_folder)
        while sample.is_full():
            yield from sample.first(of_rows)
    if sample is not None:
        yield from sample.items(of_rows)


def _is_passed_over(member: tarfile.TarInfo, passed: Passed) -> bool:
    """Whether a member is no file to look at; those that people may miss are counted."""
    if any(is_hidden(part) for part in member.name.split("/") if part != "."):
        passed.count(HIDDEN)
        return True
    if member.issym() or member.islnk():
        passed.count("links in tars")
        return True
    # A sparse file is mostly holes, which weigh nothing here and all there.
    if member.issparse():
        passed.count("sparse files in tars")
        return True
    return not member.isfile()


def _words(content: bytes, where: str) -> tuple[str, tuple[Note, ...]]:
    """The text of a member, none where its encoding can't be told; and what there is to say of it."""
    try:
        text = decoded(content)
    except ValueError as error:
        return "", (Note(of=where, what=f"{error}; its text is not taken"),)
    return text.text, (Note(of=where, what=text.note),) if text.note else ()
