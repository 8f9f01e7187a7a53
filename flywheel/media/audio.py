"""Sound by time, as mono samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from flywheel.media.border import check_time, open_media, origin_s, reading, time_s

#: A beginning later than this is seeked to.
_SEEK_BEYOND_S = 4.0


class Resampler:
    """Resamples frames to one format, also where the source changes its own midway, as broadcasts do."""

    def __init__(self, *, format: str, layout: str, rate: int) -> None:
        self._format, self._layout, self._rate = format, layout, rate
        self._resampler: av.AudioResampler | None = None
        self._source: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """The frame's samples in the wanted format, as far as they are ready; None flushes what is left."""
        if frame is None:
            return self._resampler.resample(None) if self._resampler is not None else []
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source == self._source and self._resampler is not None:
            return self._resampler.resample(frame)
        rest = self.resample(None)
        self._source = source
        self._resampler = av.AudioResampler(format=self._format, layout=self._layout, rate=self._rate)
        return [*rest, *self._resampler.resample(frame)]


def read_audio(path: Path, start_s: float, end_s: float, *, rate_hz: int = 16_000) -> NDArray[np.float32]:
    """Mono samples (n,) in [-1, 1] of [start_s, end_s) at ``rate_hz``.

    Silence where the sound ends early or is missing.
    Raises MediaError where the file can't be read or its sound can't be decoded.
    """
    wanted = max(0, round((end_s - start_s) * rate_hz))
    out = np.zeros(wanted, dtype=np.float32)
    with reading("the sound can't be decoded"), open_media(path) as container:
        if not container.streams.audio:
            return out
        stream = container.streams.audio[0]
        origin = origin_s(container.streams.video[0]) if container.streams.video else 0.0
        if start_s > _SEEK_BEYOND_S and stream.time_base:
            container.seek(int((start_s + origin) / stream.time_base), stream=stream, backward=True)
        resampler = Resampler(format="flt", layout="mono", rate=rate_hz)
        #: Where the next samples belong, counted from ``start_s``.
        position: int | None = None
        for frame in _frames(container.decode(stream)):
            check_time()
            if position is None:
                position = round((time_s(frame) - origin - start_s) * rate_hz)
            for part in resampler.resample(frame):
                samples = part.to_ndarray()[0]
                low, high = max(0, -position), min(len(samples), wanted - position)
                if low < high:
                    out[position + low : position + high] = samples[low:high]
                position += len(samples)
            if position >= wanted:
                break
    return out


def _frames(decoder: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """The frames up to the first that is damaged."""
    try:
        yield from decoder
    except FFmpegError:
        return
