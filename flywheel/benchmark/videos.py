"""The videos of a benchmark: found in a folder by the names that items have for them, and shown to a model."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from flywheel.benchmark.items import FRAMES, SOUND, Item, Span
from flywheel.core.border import one_item
from flywheel.core.config.sections import Corpus
from flywheel.core.errors import MediaError, UserError
from flywheel.core.timing import fps_times, uniform_times
from flywheel.core.types import content_id
from flywheel.media.probe import probe
from flywheel.models.inputs import ClipInput
from flywheel.store.cache import FrameCache

#: How names of videos end, in small letters.
ENDINGS = frozenset((".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".wmv", ".mpg", ".mpeg", ".ts", ".3gp"))
#: What some benchmarks put behind an id.
_SUFFIXES = ("", "_video")
#: Bytes at a file's begin and end that tell it from others of its size.
_SAMPLED = 1 << 20
#: A time may lie so much beyond the video: item files round.
_ROUNDED_S = 1.0
#: Files whose facts are kept.
_KEPT = 4096


class Videos:
    """Files in a folder, found by path or by name."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there is no such folder."""
        if not folder.is_dir():
            raise UserError(f"--videos {folder}: there is no such folder.")
        self._folder = folder

    def file(self, item: Item) -> Path:
        """The file of an item's video. Raises MediaError where there is none, or several have its name."""
        if not item.video:
            raise MediaError("is asked about pictures and sounds in files of their own, which are not shown yet")
        place = PurePosixPath(item.video.replace("\\", "/"))
        if not place.is_absolute() and ".." not in place.parts and (self._folder / place).is_file():
            return self._folder / place
        stem = place.stem if place.suffix.lower() in ENDINGS else place.name
        found = [path for suffix in _SUFFIXES for path in self._by_stem.get(stem + suffix, ())]
        # Of several the one whose folders are named.
        named = [path for path in found if path.with_suffix("").as_posix().endswith(f"/{place.with_suffix('')}")]
        if len(named or found) > 1:
            raise MediaError(f"its video '{item.video}' is several files, such as {found[0]} and {found[1]}")
        if not found:
            raise MediaError(f"its video '{item.video}' is not in {self._folder}")
        return (named or found)[0]

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        stems = defaultdict[str, list[Path]](list)
        for path in sorted(self._folder.rglob("*")):
            if path.suffix.lower() in ENDINGS and path.is_file():
                stems[path.stem].append(path)
        return dict(stems)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How videos are shown: which ``inputs`` (``frames``, ``sound``), and frames as the configuration says."""

    inputs: frozenset[str]
    corpus: Corpus
    cache: FrameCache

    def spec(self) -> dict[str, Any]:
        """What decides which frames and sound a model gets of a span; part of an answer's key."""
        corpus = self.corpus
        frames = {"frames": corpus.frames, "sampling": corpus.sampling, "fps": corpus.fps, "max_side": corpus.max_side}
        return {**(frames if FRAMES in self.inputs else {}), SOUND: SOUND in self.inputs}

    def input(self, file: Path, item: Item) -> ClipInput:
        """The item's video, or its span, as a model takes it; silence where it has no sound and needs none.

        Raises MediaError where it can't be decoded, where its times lie beyond the video, and where it needs sound that
        the file has not.
        """
        with one_item():
            content, (duration_s, fps, has_audio) = sampled_hash(file), _facts(file, file.stat().st_mtime_ns)
            start_s, end_s = _span(item.span_s, duration_s)
            if SOUND in self.inputs and SOUND in item.needs and not has_audio:
                raise MediaError("it needs sound, and its video has no sound track")
            frames, times = None, list[float]()
            if FRAMES in self.inputs:
                times = self._times(start_s, end_s)
                frames = self.cache.frames(file, content, times, self.corpus.max_side)
            sound = self.cache.sound(file, content, start_s, end_s) if SOUND in self.inputs else None
            return ClipInput(
                key=content_id(content, start_s, end_s, sorted(self.inputs), len(times)),
                duration_s=end_s - start_s,
                fps=fps,
                frames_THWC=frames,
                times_s=tuple(time - start_s for time in times),
                sound=sound,
            )

    def _times(self, start_s: float, end_s: float) -> list[float]:
        # Models want pairs of frames.
        most = max(2, self.corpus.frames)
        if self.corpus.sampling == "fps":
            times = fps_times(start_s, end_s, self.corpus.fps, most)
            return times if len(times) > 1 else uniform_times(start_s, end_s, 2)
        return uniform_times(start_s, end_s, most)


def sampled_hash(file: Path) -> str:
    """A hash of a file's size, begin and end: what tells a long video from others without reading all of it."""
    with open(file, "rb") as stream:
        size = file.stat().st_size
        begin = stream.read(_SAMPLED)
        stream.seek(max(len(begin), size - _SAMPLED))
        return hashlib.sha256(size.to_bytes(8) + begin + stream.read(_SAMPLED)).hexdigest()


@lru_cache(maxsize=_KEPT)
def _facts(file: Path, _mtime_ns: int) -> tuple[float, float, bool]:
    """Duration in seconds, frames a second, and whether there is sound."""
    info = probe(file)
    return info.duration_s, info.fps, info.has_audio


def _span(span_s: Span | None, duration_s: float) -> Span:
    if span_s is None:
        return 0.0, duration_s
    if span_s[0] >= duration_s or span_s[1] > duration_s + _ROUNDED_S:
        raise MediaError(f"it asks about {span_s[0]:g} to {span_s[1]:g} s, beyond its video's {duration_s:g} s")
    return span_s[0], min(span_s[1], duration_s)


def wanted_inputs(items: Collection[Item], named: str) -> frozenset[str]:
    """The inputs that are shown: those ``named`` (apart by commas), else all that an item needs.

    Raises UserError for other names.
    """
    inputs = frozenset(part.strip() for part in named.split(",") if part.strip())
    if unknown := sorted(inputs - {FRAMES, SOUND}):
        raise UserError(f"--inputs {unknown[0]}: need frames, sound, or both as frames,sound.")
    return inputs or frozenset().union(*(item.needs for item in items))
