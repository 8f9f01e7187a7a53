"""The media of exported items: a video, its picture alone, its sound alone, another video's sound with its picture.

A harness that is given a picture without sound is given a file without a track: what can't be heard can't leak.
"""

from __future__ import annotations

import wave
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.benchmark.items import Item
from flywheel.benchmark.videos import Videos, sampled_hash
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.files import written_whole
from flywheel.core.types import content_id
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode, write_clip, write_video
from flywheel.media.probe import probe
from flywheel.media.resounded import write_resounded

_RATE_HZ = 16_000
_QUALITY = Quality(crf=20, preset="veryfast", threads=1)
#: A black picture: width and height in pixels, pictures a second.
_BLACK_SIZE, _BLACK_FPS = (64, 64), 2
VIDEO, SOUND_FOLDER = "video", "sound"

OWN, OTHER, NONE = "own", "other", "none"


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The part of a video that is asked about; ``is_whole`` where that is all of it."""

    file: Path
    start_s: float
    end_s: float
    name: str
    has_audio: bool
    is_whole: bool


class Media:
    """Writes the media of items under ``video/`` and ``sound/`` of a folder; what is there already is kept."""

    def __init__(self, videos: Videos, items: Sequence[Item]) -> None:
        self._videos, self._items = videos, items
        self._cuts: dict[tuple[str, object], _Cut | MediaError] = {}

    def name(self, item: Item) -> str:
        """The name of the item's video, or of its part, by its content. Raises MediaError where there is none."""
        return self._cut(item).name

    def duration_s(self, item: Item) -> float:
        """The length in seconds of what is shown. Raises MediaError as :meth:`name`."""
        cut = self._cut(item)
        return cut.end_s - cut.start_s

    def video(self, out: Path, item: Item, *, picture: str = OWN, sound: str = OWN) -> str:
        """Writes a video; returns its path from ``out``.

        ``picture`` is the item's own or ``none`` (black), ``sound`` its own, ``none`` (no track) or another video's.
        Raises MediaError where it can't be made.
        """
        cut = self._cut(item)
        # Without a track of its own it is the picture alone.
        sound = NONE if sound == OWN and not cut.has_audio else sound
        other = self._other(cut) if sound == OTHER else None
        parts = [cut.name, *(["black"] if picture == NONE else []), *(["silent"] if sound == NONE else [])]
        parts += [f"with-{other.name}"] if other else []

        def write(part: Path) -> None:
            if picture == NONE:
                _write_black(cut, part, None if sound == NONE else _samples(other or cut, cut))
            elif sound == OWN:
                _write_whole(cut, part)
            elif cut.is_whole and cut.file.suffix.lower() == ".mp4":
                write_resounded(cut.file, part, ([_samples(other, cut)], _RATE_HZ) if other else None)
            else:
                whole = part.with_suffix(".whole")
                try:
                    _write_whole(cut, whole)
                    write_resounded(whole, part, ([_samples(other, cut)], _RATE_HZ) if other else None)
                finally:
                    whole.unlink(missing_ok=True)

        return _kept(out, f"{VIDEO}/{'-'.join(parts)}.mp4", write)

    def sound(self, out: Path, item: Item) -> str:
        """Writes the item's own sound as WAV (mono, 16 kHz); returns its path. Raises MediaError where it has none."""
        cut = self._cut(item)
        if not cut.has_audio:
            raise MediaError("its video has no sound")
        return _kept(out, f"{SOUND_FOLDER}/{cut.name}.wav", lambda part: _write_wav(part, _samples(cut, cut)))

    def _cut(self, item: Item) -> _Cut:
        key = (item.video, item.span_s)
        if key not in self._cuts:
            try:
                with one_item():
                    self._cuts[key] = _cut(self._videos.file(item), item)
            except MediaError as error:
                self._cuts[key] = error
        found = self._cuts[key]
        if isinstance(found, MediaError):
            raise found
        return found

    @cached_property
    def _sounding(self) -> list[_Cut]:
        """All parts that have sound, in the order of their videos."""
        for item in self._items:
            try:
                self._cut(item)
            except MediaError:
                continue
        found = {cut.name: cut for cut in self._cuts.values() if isinstance(cut, _Cut) and cut.has_audio}
        return sorted(found.values(), key=lambda cut: (cut.file, cut.start_s))

    def _other(self, cut: _Cut) -> _Cut:
        """Another video's part with sound: the one half of all away, which is no neighbour such as a twin."""
        parts = self._sounding
        # Its own parts lie side by side.
        first, last = (find(parts, cut.file, key=lambda part: part.file) for find in (bisect_left, bisect_right))
        count = len(parts) - (last - first)
        if not count:
            raise MediaError("there is no other video with sound")
        place = (first + count // 2) % count
        return parts[place if place < first else place + last - first]


def _cut(file: Path, item: Item) -> _Cut:
    info = probe(file)
    start_s, end_s = item.span_s or (0.0, info.duration_s)
    if start_s >= info.duration_s:
        raise MediaError(f"it asks about {start_s:g} to {end_s:g} s, beyond its video's {info.duration_s:g} s")
    name = content_id(sampled_hash(file), item.span_s)[:16]
    return _Cut(
        file=file,
        start_s=start_s,
        end_s=min(end_s, info.duration_s),
        name=name,
        has_audio=info.has_audio,
        is_whole=start_s == 0.0 and end_s >= info.duration_s,
    )


def _kept(out: Path, name: str, write: Callable[[Path], None]) -> str:
    place = out / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_item(), written_whole(place) as part:
            write(part)
    return name


def _write_whole(cut: _Cut, out: Path) -> None:
    if cut.file.suffix.lower() == ".mp4":
        write_clip(cut.file, cut.start_s, cut.end_s, out)
    else:
        transcode(cut.file, out, start_s=cut.start_s, end_s=cut.end_s, quality=_QUALITY)


def _samples(cut: _Cut, of: _Cut) -> NDArray[np.float32]:
    """A part's sound, as long as another part is: cut, or with silence behind it."""
    length_s = of.end_s - of.start_s
    samples = read_audio(cut.file, cut.start_s, min(cut.start_s + length_s, cut.end_s), rate_hz=_RATE_HZ)
    return np.pad(samples, (0, max(0, round(length_s * _RATE_HZ) - len(samples))))


def _write_black(cut: _Cut, out: Path, samples: NDArray[np.float32] | None) -> None:
    count = max(2, round((cut.end_s - cut.start_s) * _BLACK_FPS))
    black = np.zeros((_BLACK_SIZE[1], _BLACK_SIZE[0], 3), dtype=np.uint8)
    sound = None if samples is None else (samples, _RATE_HZ)
    pictures = (black for _ in range(count))
    write_video(out, pictures, size=_BLACK_SIZE, fps=_BLACK_FPS, quality=_QUALITY, sound=sound)


def _write_wav(out: Path, samples: NDArray[np.float32]) -> None:
    whole = np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(out), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(whole.tobytes())
