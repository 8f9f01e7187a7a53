"""Frames by time, uint8 RGB.

A frame is the one on screen at the asked time (the last whose presentation time is not after it), which is right for
variable frame rates too. Pixels are square and upright: sample aspect ratio and rotation are applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flywheel.core.errors import MediaError
from flywheel.media.border import open_media, reading, time_s
from flywheel.media.choice import video_stream
from flywheel.media.packets import Skip, can_seek, decoded, origin_s
from flywheel.media.picture import fitted, pixel_aspect, upright

#: Without an index of key frames a seek is cheaper than decoding on where the next wanted time is farther than this.
_SEEK_BEYOND_S = 4.0
#: A key frame nearer than this is decoded on to: a seek empties the decoder's threads.
_SEEK_LEAST_S = 0.5
#: From this size on pictures are worth more than one thread each.
_LARGE_PIXELS = 1280 * 720
#: In files that can't be sought in, decoding begins with a key frame that lies no more before the wanted time.
_LEAD_S = 12.0
#: A seek that came out behind its time is tried again from so much before.
_FARTHER_BACK_S = (1.0, 5.0, 60.0)
#: Times of frames are multiples of a time base: this much later is still the same moment.
_SAME_MOMENT_S = 1e-6


def read_frames(path: Path, times_s: Sequence[float], *, max_side: int | None = None) -> NDArray[np.uint8]:
    """Frames ``(T, H, W, 3)``, uint8 RGB, on screen at these times (ascending, seconds).

    Scaled down so that the longer side is at most ``max_side``; where the size changes within the file, all have the
    first one's, with borders where the shape differs. Raises MediaError where no frame can be decoded.
    """
    return np.stack(list(iter_frames(path, times_s, max_side=max_side)))


def iter_frames(path: Path, times_s: Iterable[float], *, max_side: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """As :func:`read_frames`, one by one: ``(H, W, 3)`` for each time, for more of them than memory holds."""
    with reading("can't be decoded"):
        if not path.exists():
            raise MediaError("the file is gone")
        with open_media(path) as container:
            stream = video_stream(container)
            # Small pictures are decoded sooner than handed to other threads; clips are decoded side by side anyway.
            stream.thread_type = "AUTO" if stream.width * stream.height >= _LARGE_PIXELS else "SLICE"
            aspect, cursor = pixel_aspect(stream), Cursor(container, stream)
            # One for the whole file: setting one up takes several times as long as using it.
            reformatter = VideoReformatter()
            current: av.VideoFrame | None = None
            shape: tuple[int, ...] = ()
            for time in times_s:
                frame = cursor.at(time)
                if frame is not current:
                    current, picture = frame, upright(frame, aspect, max_side, reformatter)
                    shape = shape or picture.shape
                    picture = picture if picture.shape == shape else fitted(picture, shape[0], shape[1])
                yield picture


class Cursor:
    """The frame on screen at ascending times; decodes no further than needed, and seeks where that is cheaper."""

    def __init__(self, container: InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        self._origin_s = origin_s(container, stream)
        self._skip = Skip()
        self._decoder = decoded(container, stream, self._skip)
        self._current: av.VideoFrame | None = None
        #: Decoded already, and later than the last asked time.
        self._ahead: av.VideoFrame | None = None

    def at(self, asked_s: float) -> av.VideoFrame:
        """The frame at this time in seconds. Raises MediaError where there is none at all."""
        reached_s = time_s(self._current) if self._current is not None else 0.0
        frame = self._current
        target = _worth_a_seek(self._stream, reached_s, asked_s + self._origin_s)
        if target is not None and can_seek(self._container):
            frame = None if self._seek(target, asked_s) else frame
        elif target is not None and asked_s - _LEAD_S > reached_s:
            self._skip.until_s = asked_s + self._origin_s - _LEAD_S
        while (ahead := self._peek()) is not None:
            if frame is not None and time_s(ahead) - self._origin_s > asked_s + _SAME_MOMENT_S:
                break
            frame, self._ahead = ahead, None
        if frame is None and self._current is None:
            frame = self._from_the_beginning(asked_s)
        # Nothing after a seek: the frame before it stays on screen.
        frame = frame or self._current
        if frame is None:
            raise MediaError("no frame can be decoded")
        self._current = frame
        return frame

    def span(self, start_s: float, end_s: float) -> Iterator[tuple[float, av.VideoFrame]]:
        """Time and frame of each from the one on screen at ``start_s`` to before ``end_s``, as they were drawn."""
        frame = self.at(start_s)
        yield time_s(frame) - self._origin_s, frame
        while (ahead := self._peek()) is not None and time_s(ahead) - self._origin_s < end_s - _SAME_MOMENT_S:
            self._current, self._ahead = ahead, None
            yield time_s(ahead) - self._origin_s, ahead

    def _seek(self, target: int, asked_s: float) -> bool:
        """Goes on from the key frame before the asked time, or from one before that where it can't be decoded.

        Returns whether the file lets itself be sought in.
        """
        base = self._stream.time_base
        assert base is not None
        for back_s in (0.0, *_FARTHER_BACK_S):
            # Containers refuse times before their beginning.
            before = target if not back_s else max(int(self._origin_s / base), target - int(back_s / base))
            try:
                self._container.seek(before, stream=self._stream, backward=True)
            except FFmpegError:
                return back_s > 0
            self._decoder, self._ahead = decoded(self._container, self._stream), None
            ahead = self._peek()
            is_before = ahead is not None and time_s(ahead) - self._origin_s <= asked_s + _SAME_MOMENT_S
            if is_before or asked_s - back_s < 0:
                break
        return True

    def _from_the_beginning(self, asked_s: float) -> av.VideoFrame | None:
        """The frame at a time of a file whose last key frame before it was passed over."""
        frame: av.VideoFrame | None = None
        with open_media(Path(self._container.name)) as again:
            for ahead in decoded(again, again.streams[self._stream.index]):
                if frame is not None and time_s(ahead) - self._origin_s > asked_s + _SAME_MOMENT_S:
                    break
                frame = ahead
        return frame

    def _peek(self) -> av.VideoFrame | None:
        """The next frame, which stays the next; None at the end."""
        if self._ahead is None:
            self._ahead = next(self._decoder, None)
        return self._ahead


def _worth_a_seek(stream: av.VideoStream, reached_s: float, wanted_s: float) -> int | None:
    """Where to seek to, in the stream's time base: the last key frame before the wanted time, if it is not decoded yet.

    None where decoding on is cheaper. Files without an index of key frames are seeked in where the way is long.
    """
    base = stream.time_base
    if not base:
        return None
    target = int(wanted_s / base)
    index = stream.index_entries
    entry = index.search_timestamp(target) if len(index) else -1
    if entry >= 0:
        # An index holds decoding times, which lie a few frames before the pictures': what is near is decoded on to.
        ahead_s = float(index[entry].timestamp * base) - reached_s
        return target if ahead_s > _SEEK_LEAST_S else None
    return target if wanted_s - reached_s > _SEEK_BEYOND_S else None


def thumbnail(frames: NDArray[np.uint8], height: int = 72) -> NDArray[np.uint8]:
    """One strip ``(height, W, 3)`` of the first, the middle and the last of ``frames`` ``(T, H, W, 3)``."""
    chosen = frames[[0, len(frames) // 2, -1]]
    scale = height / chosen.shape[1]
    width = max(1, round(chosen.shape[2] * scale))
    rows = (np.arange(height) / scale).astype(int).clip(0, chosen.shape[1] - 1)
    columns = (np.arange(width) / scale).astype(int).clip(0, chosen.shape[2] - 1)
    small = chosen[:, rows][:, :, columns]
    return np.concatenate(list(small), axis=1)
