"""Videos inside datasets on disk and tars: put into the workspace's ``media/`` folder under their content hash."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from flywheel.core.errors import UserError
from flywheel.core.foreign import parsed_json
from flywheel.ingest.files import MOST_TEXT_BYTES
from flywheel.ingest.items import PATH_KEYS, VIDEO_SUFFIXES, Item, Rules, row_item

_CHUNK = 1 << 20
_SIDE_SUFFIXES = (".vtt", ".srt", ".txt", ".json")


def hf_dataset(folder: Path, media_folder: Path, rules: Rules) -> Iterator[Item]:
    """The items of a dataset that 'datasets' wrote. Raises UserError where it can't be loaded or holds no videos."""
    from datasets import Dataset, DatasetDict, Video, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a dataset that 'datasets' can load ({error}).") from error
    for part in loaded.values() if isinstance(loaded, DatasetDict) else (loaded,):
        assert isinstance(part, Dataset)
        column = next((name for name in PATH_KEYS if name in part.column_names), None)
        if column is None:
            raise UserError(f"{folder}: needs a column with videos, one of {', '.join(PATH_KEYS)}.")
        if isinstance(part.features[column], Video):
            part = part.cast_column(column, Video(decode=False))
        for number, row in enumerate(part, 1):
            value, is_new, inside = row[column], False, ""
            if isinstance(value, Mapping):
                if value.get("bytes"):
                    name = Path(value.get("path") or "video.mp4")
                    path, is_new = _keep(BytesIO(value["bytes"]), name.suffix or ".mp4", media_folder)
                    value, inside = str(path), name.parent.name or folder.name
                else:
                    value = value.get("path")
            item = row_item({**row, column: value}, folder, f"row {number}", folder, rules, inside)
            yield replace(item, is_new_copy=is_new)


@dataclass(kw_only=True)
class _Sample:
    """Neighbours of a tar with one stem: the video as it was put aside, and the texts beside it."""

    key: str
    video: Path | None = None
    is_new_copy: bool = False
    texts: dict[str, bytes] = field(default_factory=dict)
    problem: str = ""

    def add(self, suffix: str, member: tarfile.TarInfo, handle: IO[bytes], media_folder: Path) -> None:
        """Takes a member in, where it is of a known kind."""
        if suffix in VIDEO_SUFFIXES and self.video is None:
            self.video, self.is_new_copy = _keep(handle, suffix, media_folder)
        elif suffix in _SIDE_SUFFIXES:
            self.texts[suffix] = handle.read(MOST_TEXT_BYTES)
            if member.size > MOST_TEXT_BYTES:
                self.problem = f"its {suffix} is larger than {MOST_TEXT_BYTES >> 20} MiB"

    def item(self, media_folder: Path, file: Path, rules: Rules) -> Item:
        """The item that it is."""
        where = f"sample {self.key.strip('/')}"
        if self.video is None:
            return Item(path=file, problem=f"{where}: {self.problem or 'holds no video'}")
        row: dict[str, Any] = {}
        try:
            loaded = parsed_json(self.texts.get(".json", b"{}"))
            row = {k: v for k, v in loaded.items() if k not in PATH_KEYS} if isinstance(loaded, dict) else {}
        except ValueError as error:
            self.problem = self.problem or f"its .json is not JSON ({error})"
        if self.problem:
            return Item(path=self.video, problem=f"{where}: {self.problem}", is_new_copy=self.is_new_copy)
        for side in (".vtt", ".srt"):
            if side in self.texts:
                self.video.with_suffix(side).write_bytes(self.texts[side])
        if ".txt" in self.texts:
            row["transcript"] = self.texts[".txt"].decode("utf-8", errors="replace")
        inside = Path(self.key).parent.name or file.stem
        item = row_item({**row, "path": str(self.video)}, media_folder, where, file, rules, inside)
        return replace(item, is_new_copy=self.is_new_copy)


def webdataset(file: Path, media_folder: Path, rules: Rules) -> Iterator[Item]:
    """The items of a tar; samples are neighbours with one stem.

    ``key.mp4`` comes with ``key.txt``, ``key.json``, ``key.vtt`` or ``key.srt``. Raises UserError for what is no tar.
    """
    try:
        # Not compressed: a small file could hold more than the disk.
        with tarfile.open(file, "r:") as tar:
            sample: _Sample | None = None
            for member in tar:
                # The list of all members is for those who seek in a tar.
                tar.members.clear()  # type: ignore[attr-defined]
                # A sparse file is mostly holes, which weigh nothing here and all there.
                if not member.isfile() or member.issparse():
                    continue
                folder, _, name = member.name.rpartition("/")
                base, _, suffix = name.partition(".")
                key = f"{folder}/{base}"
                if sample is not None and key != sample.key:
                    yield sample.item(media_folder, file, rules)
                    sample = None
                sample = sample or _Sample(key=key)
                handle = tar.extractfile(member)
                if handle is not None:
                    sample.add("." + suffix.lower(), member, handle, media_folder)
            if sample is not None:
                yield sample.item(media_folder, file, rules)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{file}: not a readable tar file without compression ({error}).") from error


def _keep(content: IO[bytes], suffix: str, media_folder: Path) -> tuple[Path, bool]:
    """Puts content into the folder under its hash; returns where it is, and whether it is new there."""
    media_folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=media_folder)
    try:
        with open(descriptor, "wb") as file:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        path = media_folder / f"{digest.hexdigest()[:32]}{suffix}"
        is_new = not path.exists()
        if is_new:
            os.chmod(name, 0o644)
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path, is_new
