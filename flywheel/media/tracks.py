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

from flywheel.media.audio import Resampler, Run
from flywheel.media.border import writing
from flywheel.media.picture import fitted, quarter_turns, upright

#: Fine enough that pictures of any rate keep their times.
_TICK = Fraction(1, 90_000)
#: Times nearer than these to the beginning of a span are its beginning.
_BEFORE_S, _LATE_S = 1e-4, 1e-3
#: Sizes are even: a picture may be so many pixels off.
_ROUNDED_PIXELS = 4.0
#: Samples of silence that are written at once.
_SILENCE = 1 << 20
#: Sound that begins anew so long after the film's end is left.
_MOST_BEHIND_S = 60.0


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
        #: Time of the last picture that was written, in ticks.
        self._drawn = -1
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
                # Of a video without a picture at its beginning players show the first one until then.
                self._before = self._before or (frame if self._drawn < 0 else None)
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

    def _has_another_shape(self, frame: av.VideoFrame) -> bool:
        """Whether the picture would be stretched by more than a rounding."""
        size = (frame.width * self._aspect, float(frame.height))
        width, height = size if quarter_turns(frame) % 2 == 0 else size[::-1]
        scale = min(self._stream.width / width, self._stream.height / height)
        return bool(max(self._stream.width - width * scale, self._stream.height - height * scale) > _ROUNDED_PIXELS)

    def _draw(self, frame: av.VideoFrame, at_s: float) -> None:
        is_odd = self._has_another_shape(frame)
        if self._aspect != 1 or quarter_turns(frame) or is_odd:
            # What the file says of how it is to be shown does not come along: it is done.
            picture = upright(frame, self._aspect, None)
            picture = fitted(picture, self._stream.height, self._stream.width) if is_odd else picture
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        small = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuv420p")
        small.time_base, small.pts = _TICK, round(at_s / _TICK)
        if small.pts <= self._drawn:
            # Damaged files have times that go back, or stand still.
            return
        self._drawn = small.pts
        self._out.mux(self._stream.encode(small))


class AudioTrackWriter:
    """The sound of a span as AAC, sample by sample at its time.

    Silence where it begins late or has a gap, cut where it began before the span or lies over what was before it.
    """

    _RATE_HZ = 44_100

    def __init__(self, out: MediaWriter, *, length_s: float, film_s: float = math.inf) -> None:
        """``film_s`` is where the film ends: no sound is waited for behind it."""
        self._out, self._length_s, self._film_s = out, length_s, film_s
        self._stream: Any = out.container.add_stream("aac", rate=self._RATE_HZ, layout="stereo")
        self._resampler, self._run = Resampler(format="fltp", layout="stereo", rate=self._RATE_HZ), Run()
        self._left = math.inf if math.isinf(length_s) else round(length_s * self._RATE_HZ)
        self._written = 0
        #: Samples that are still to be dropped.
        self._skip = 0
        #: Whether sound came that lies behind the span.
        self.ended = False

    def add(self, frame: av.AudioFrame, at_s: float) -> None:
        """Takes the next frame; ``at_s`` is its time from the span's beginning."""
        if at_s >= self._length_s:
            self.ended = True
            return
        if at_s + frame.samples / frame.sample_rate <= 0:
            return
        if self._run.breaks(frame, at_s):
            self._begin(at_s)
        for part in self._resampler.resample(frame):
            self._take(part.to_ndarray())

    def end(self) -> None:
        """Writes what is left."""
        self._flush()
        self._out.mux(self._stream.encode(None))

    def _begin(self, at_s: float) -> None:
        """Goes to a time: silence up to it, or what comes is dropped until then."""
        self._flush()
        behind = round(at_s * self._RATE_HZ) - self._written
        self._skip = max(0, -behind)
        if self._written / self._RATE_HZ + behind / self._RATE_HZ > self._film_s + _MOST_BEHIND_S:
            # Nothing is to be seen there, and silence may reach to the end of the world.
            self.ended = True
            behind = 0
        for start in range(0, behind, _SILENCE):
            self._write(np.zeros((2, min(_SILENCE, behind - start)), dtype=np.float32))

    def _flush(self) -> None:
        for part in self._resampler.resample(None):
            self._take(part.to_ndarray())

    def _take(self, samples: NDArray[Any]) -> None:
        skip = min(self._skip, samples.shape[1])
        self._skip -= skip
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
