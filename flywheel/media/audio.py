"""Sound by time, as mono samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from flywheel.core.errors import NO_MEDIUM, MediaError
from flywheel.media.border import open_media, reading, time_s
from flywheel.media.choice import Track, film, is_wanted, sound_stream, tracks
from flywheel.media.packets import Skip, can_seek, decoded, origin_s

#: A beginning later than this is seeked to.
_SEEK_BEYOND_S = 4.0
#: A seek that came out behind its time is tried once more from so much before.
_FARTHER_BACK_S = 10.0
#: Time stamps that differ by less from where the sound before ends are rounded, or jitter: it goes on.
_JITTER_S = 0.05


class Resampler:
    """Resamples frames to one format, also where the source changes its own midway, as broadcasts do."""

    def __init__(self, *, format: str, layout: str, rate: int) -> None:
        self._format, self._layout, self._rate = format, layout, rate
        self._resampler: av.AudioResampler | None = None
        self._source: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """The frame's samples in the wanted format, as far as they are ready; None gives what is left, and ends."""
        if frame is None:
            rest = self._resampler.resample(None) if self._resampler is not None else []
            self._resampler = None
            return rest
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source == self._source and self._resampler is not None:
            return self._resampler.resample(frame)
        rest = self.resample(None)
        self._source = source
        self._resampler = av.AudioResampler(format=self._format, layout=self._layout, rate=self._rate)
        return [*rest, *self._resampler.resample(frame)]


class Run:
    """Sound without a break, as its time stamps tell."""

    def __init__(self) -> None:
        self._due_s: float | None = None

    def breaks(self, frame: av.AudioFrame, at_s: float) -> bool:
        """Whether a frame at this time is the first of all, comes after a gap, or lies over what was before it."""
        if self._due_s is not None and (frame.pts is None or abs(at_s - self._due_s) <= _JITTER_S):
            self._due_s += frame.samples / frame.sample_rate
            return False
        self._due_s = at_s + frame.samples / frame.sample_rate
        return True


def read_audio(path: Path, start_s: float, end_s: float, *, rate_hz: int = 16_000) -> NDArray[np.float32]:
    """Mono samples (n,) in [-1, 1] of [start_s, end_s) at ``rate_hz``, each at its time.

    Silence where the sound begins late, has a gap, ends early or is missing; damaged packets are gaps.
    Raises MediaError where the file can't be read.
    """
    wanted = max(0, round((end_s - start_s) * rate_hz))
    out = np.zeros(wanted, dtype=np.float32)
    with reading("the sound can't be decoded"), open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            return out
        for position, samples in _placed(container, stream, start_s, wanted, rate_hz):
            low, high = max(0, -position), min(len(samples), wanted - position)
            if low < high:
                out[position + low : position + high] = samples[low:high]
    return out


def read_blocks(
    path: Path, start_s: float, end_s: float, *, track: str = "", rate_hz: int = 16_000, block_s: float = 30.0
) -> Iterator[NDArray[np.float32]]:
    """The samples that :func:`read_audio` gives, in blocks (n,) one after the other, up to where the sound ends.

    What is held is a block, whatever the file's length. ``track`` is a language or a stream's number, as
    :func:`~flywheel.media.choice.sound_stream` takes it. Raises MediaError where the file can't be read, and where it
    has no sound, or none that can be decoded.
    """
    wanted, size = max(0, round((end_s - start_s) * rate_hz)), round(block_s * rate_hz)
    block, begin, filled, any_came = np.zeros(size, dtype=np.float32), 0, 0, False
    with reading("the sound can't be decoded"), open_media(path) as container:
        stream = sound_stream(container, track)
        if stream is None:
            raise MediaError("has no sound that can be decoded")
        for position, samples in _placed(container, stream, start_s, wanted, rate_hz):
            any_came = True
            end = min(position + len(samples), wanted)
            # What lies before this block is given away already.
            position, samples = max(position, begin), samples[max(0, begin - position) :]
            while end > begin + size:
                _copy(block, begin, position, samples)
                yield block
                block, begin, filled = np.zeros(size, dtype=np.float32), begin + size, 0
                position, samples = max(position, begin), samples[max(0, begin - position) :]
            _copy(block, begin, position, samples)
            filled = max(filled, end - begin)
    if not any_came and start_s <= 0:
        raise MediaError("no sound can be decoded")
    if filled > 0:
        yield block[:filled]


@dataclass(frozen=True, kw_only=True)
class SoundForm:
    """How a file has its sound: samples a second, and channels with FFmpeg's name for their layout."""

    rate_hz: int
    channels: int
    layout: str


def sound_form(path: Path) -> SoundForm:
    """The form of the sound that :func:`read_audio` reads. Raises MediaError where none can be decoded."""
    with reading("the sound can't be decoded"), open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError("has no sound that can be decoded", code=NO_MEDIUM)
        return SoundForm(rate_hz=stream.rate, channels=stream.channels, layout=stream.layout.name)


def read_channels(path: Path, start_s: float, out: NDArray[np.float32], form: SoundForm) -> None:
    """Fill ``out`` (n, channels), which may be a mapped file, with samples in [-1, 1] from ``start_s`` on.

    Silence and errors as :func:`read_audio` has them. What is held beside ``out`` does not depend on its length.
    """
    out[:] = 0
    with reading("the sound can't be decoded"), open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError("has no sound that can be decoded", code=NO_MEDIUM)
        placed = _placed(container, stream, start_s, len(out), form.rate_hz, form.layout)
        for position, flat in placed:
            samples = flat.reshape(-1, form.channels)
            low, high = max(0, -position), min(len(samples), len(out) - position)
            if low < high:
                out[position + low : position + high] = samples[low:high]


@dataclass(frozen=True, kw_only=True)
class SoundChoice:
    """The sound of a file that is read, and how many others there are; whether it is the one that was ``wanted``."""

    track: Track
    others: int
    is_wanted: bool


def sound_choice(path: Path, wanted: str = "") -> SoundChoice:
    """Which sound :func:`read_blocks` reads. Raises MediaError where there is none that can be decoded."""
    with reading("the sound can't be decoded"), open_media(path) as container:
        stream = sound_stream(container, wanted)
        if stream is None:
            raise MediaError("has no sound that can be decoded")
        [track] = [track for track in tracks(container, [stream]) if track.index == stream.index]
        others = len(container.streams.audio) - 1
        return SoundChoice(track=track, others=others, is_wanted=is_wanted(stream, wanted))


def _copy(block: NDArray[np.float32], begin: int, position: int, samples: NDArray[np.float32]) -> None:
    """Writes samples into a block that begins at ``begin``, as far as they lie in it."""
    part = samples[: max(0, begin + len(block) - position)]
    block[position - begin : position - begin + len(part)] = part


def _placed(
    container: InputContainer,
    stream: av.AudioStream,
    start_s: float,
    wanted: int,
    rate_hz: int,
    layout: str = "mono",
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Samples (n * channels,) with the place of the first, counted from ``start_s``, up to ``wanted``.

    Some before and behind come too, and of what lies one over the other the later is meant.
    """
    origin = origin_s(container, film(container))
    resampler, run = Resampler(format="flt", layout=layout, rate=rate_hz), Run()
    position = 0
    for frame in _frames_from(container, stream, start_s, origin):
        at_s = time_s(frame) - origin - start_s
        if run.breaks(frame, at_s):
            for part in resampler.resample(None):
                yield position, part.to_ndarray()[0]
                position += part.samples
            position = round(at_s * rate_hz)
        for part in resampler.resample(frame):
            yield position, part.to_ndarray()[0]
            position += part.samples
        if position >= wanted:
            return


def _frames_from(
    container: InputContainer, stream: av.AudioStream, start_s: float, origin: float
) -> Iterator[av.AudioFrame]:
    """The frames from the one at a time on, or from before it."""
    if start_s <= _SEEK_BEYOND_S or not stream.time_base:
        yield from decoded(container, stream)
        return
    if not can_seek(container):
        yield from decoded(container, stream, Skip(start_s + origin - _SEEK_BEYOND_S))
        return
    container.seek(int((start_s + origin) / stream.time_base), stream=stream, backward=True)
    frames = decoded(container, stream)
    first = next(frames, None)
    if first is None or time_s(first) > start_s + origin:
        # There is a gap, or the seek went too far.
        before = max(0.0, start_s - _FARTHER_BACK_S) + origin
        container.seek(int(before / stream.time_base), stream=stream, backward=True)
        yield from decoded(container, stream)
        return
    yield first
    yield from frames
