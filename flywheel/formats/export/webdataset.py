"""WebDataset's tars, ``clips-000000.tar`` and on: a clip's video, its text (``.txt``), and the rest (``.json``)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from flywheel.formats.export._files import as_json
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow

#: The most clips and the most bytes of video of a tar.
_SHARD_CLIPS, _SHARD_BYTES = 1000, 1 << 30


class _Shards:
    """Tars in a folder, one after the other. Members have fixed times, so the same parts give the same bytes."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._tar: tarfile.TarFile | None = None
        self._count = self._clips = self._bytes = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()

    def open(self) -> tarfile.TarFile:
        """The tar for the next clip, a new one where the last is full."""
        if self._tar is not None and self._clips < _SHARD_CLIPS and self._bytes < _SHARD_BYTES:
            return self._tar
        if self._tar is not None:
            self._tar.close()
        name = self._out / f"clips-{self._count:06d}.tar"
        self._tar = tarfile.open(name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  (closed by __exit__)
        self._count, self._clips, self._bytes = self._count + 1, 0, 0
        return self._tar

    def add(self, tar: tarfile.TarFile, row: ExportRow, ending: str, video: bytes) -> None:
        """Add a clip's parts to the open tar."""
        parts = {ending: video, ".txt": row.text.encode(), ".json": as_json(row.about(self._out)).encode()}
        for suffix, content in parts.items():
            member = tarfile.TarInfo(row.id + suffix)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        self._clips, self._bytes = self._clips + 1, self._bytes + len(video)


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    work = out / ".clip"
    try:
        with _Shards(out) as shards:
            for row in rows:
                tar = shards.open()
                with row.border():
                    if ending := row.video(work):
                        shards.add(tar, row, ending, work.read_bytes())
    finally:
        work.unlink(missing_ok=True)


FORMAT = ExportFormat(write=_write, loading='webdataset.WebDataset("clips-{000000..NNNNNN}.tar")')
