"""The tracks of a video that is being written: pictures and sound of a span, each with its times."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from flywheel.media.audio import Resampler
from flywheel.media.border import writing
from flywheel.media.picture import quarter_turns, upright

#: Fine enough that pictures of any rate keep their times.
_TICK = Fraction(1, 90_000)
#: Times nearer than these to the beginning of a span are its beginning.
_BEFORE_S, _LATE_S = 1e-4, 1e-3


class MediaWriter:
    """An MP4 file that is being written. Raises BorderError where the disk fails."""

    def __init__(self, out: Path, *, faststart: bool = False) -> None:
        self._out = out
        with writing(out):
            options = {"movflags": "faststart"} if faststart else {}
            self.container = av.open(str(out), "w", format="mp4", options=options)

    def mux(self, packets: list[Packet[Any]]) -> None:
        """Writes encoded packets."""
        with writing(self._out):
            self.container.mux(packets)

    def __enter__(self) -> MediaWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._out):
            self.container.close()


class PictureTrackWriter:
    """The pictures of a span as H.264. The one on screen when the span begins is its first, wherever it was drawn."""

    def __init__(
        self,
        out: MediaWriter,
        *,
        rate: Fraction,
        size: tuple[int, int],
        options: dict[str, str],
        aspect: float,
        length_s: float,
    ) -> None:
        self._out, self._aspect, self._length_s = out, aspect, length_s
        self._stream: Any = out.container.add_stream("libx264", rate=rate, options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _TICK
        self._before: av.VideoFrame | None = None
        #: Whether a picture came that lies behind the span.
        self.ended = False

    def add(self, frame: av.VideoFrame, at_s: float) -> None:
        """Takes the next frame; ``at_s`` is its time from the span's beginning."""
        if at_s >= self._length_s:
            self.ended = True
        elif at_s < -_BEFORE_S:
            self._before = frame
        else:
            if at_s > _LATE_S:
                self._draw_before()
            self._before = None
            self._draw(frame, at_s)

    def end(self) -> None:
        """Writes what is left."""
        self._draw_before()
        self._out.mux(self._stream.encode(None))

    def _draw_before(self) -> None:
        if self._before is not None:
            self._draw(self._before, 0.0)

    def _draw(self, frame: av.VideoFrame, at_s: float) -> None:
        if self._aspect != 1 or quarter_turns(frame):
            # What the file says of how it is to be shown does not come along: it is done.
            frame = av.VideoFrame.from_ndarray(upright(frame, self._aspect, None), format="rgb24")
        small = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuv420p")
        small.time_base, small.pts = _TICK, round(at_s / _TICK)
        self._out.mux(self._stream.encode(small))


class AudioTrackWriter:
    """The sound of a span as AAC, sample by sample: silence where it begins later, cut where it began before."""

    _RATE_HZ = 44_100

    def __init__(self, out: MediaWriter, *, length_s: float) -> None:
        self._out, self._length_s = out, length_s
        self._stream: Any = out.container.add_stream("aac", rate=self._RATE_HZ, layout="stereo")
        self._resampler = Resampler(format="fltp", layout="stereo", rate=self._RATE_HZ)
        self._left = math.inf if math.isinf(length_s) else round(length_s * self._RATE_HZ)
        self._written = 0
        #: Samples before the span that are still to be dropped; None until the first frame within it.
        self._skip: int | None = None
        #: Whether sound came that lies behind the span.
        self.ended = False

    def add(self, frame: av.AudioFrame, at_s: float) -> None:
        """Takes the next frame; ``at_s`` is its time from the span's beginning."""
        if at_s >= self._length_s:
            self.ended = True
            return
        if at_s + frame.samples / frame.sample_rate <= 0:
            return
        if self._skip is None:
            self._skip = max(0, round(-at_s * self._RATE_HZ))
            if at_s > 0:
                self._write(np.zeros((2, round(at_s * self._RATE_HZ)), dtype=np.float32))
        for part in self._resampler.resample(frame):
            self._take(part.to_ndarray())

    def end(self) -> None:
        """Writes what is left."""
        if self._skip is not None:
            for part in self._resampler.resample(None):
                self._take(part.to_ndarray())
        self._out.mux(self._stream.encode(None))

    def _take(self, samples: NDArray[Any]) -> None:
        skip = min(self._skip or 0, samples.shape[1])
        self._skip = (self._skip or 0) - skip
        self._write(samples[:, skip:])

    def _write(self, samples: NDArray[Any]) -> None:
        samples = samples[:, : int(min(self._left, samples.shape[1]))]
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = self._RATE_HZ, self._written, Fraction(1, self._RATE_HZ)
        self._written += samples.shape[1]
        self._left -= samples.shape[1]
        self._out.mux(self._stream.encode(frame))
