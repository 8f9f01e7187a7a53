"""All pictures of a span, small and grey, each with its time: for what happens when."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flywheel.core.errors import MediaError
from flywheel.media.border import open_media, reading
from flywheel.media.choice import video_stream
from flywheel.media.frames import Cursor

#: Pictures nearer to the one before are passed over: files of 60 pictures a second tell no more than those of 30.
_LEAST_APART_S = 1 / 35
#: Where rates vary, still scenes have few pictures: one that is drawn so much after the one before came with a change.
_STANDS_S = 0.15
#: Distances of pictures that differ by no more than this share are even.
_EVEN = 0.1


def read_grey(
    path: Path, start_s: float, end_s: float, *, side: int = 64
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Times (T,) from ``start_s``, in seconds, and pictures (T, H, W) of [start_s, end_s), each when it was drawn.

    The longer side has ``side`` pixels. The first is the one on screen at the start, so its time is 0 or before.
    Rotation is left as stored.
    Raises MediaError where no picture can be decoded.
    """
    times: list[float] = []
    pictures: list[NDArray[np.uint8]] = []
    with reading("can't be decoded"):
        if not path.exists():
            raise MediaError("the file is gone")
        with open_media(path) as container:
            stream = video_stream(container)
            stream.thread_type = "SLICE"
            cursor, reformatter = Cursor(container, stream), VideoReformatter()
            shape: tuple[int, int] | None = None
            for at_s, frame in cursor.span(start_s, end_s):
                if times and at_s - start_s - times[-1] < _LEAST_APART_S:
                    continue
                shape = shape or _small(frame, side)
                grey = reformatter.reformat(frame, width=shape[0], height=shape[1], format="gray")
                pictures.append(np.asarray(grey.to_ndarray(), dtype=np.uint8))
                times.append(at_s - start_s)
    return _with_standing(np.array(times, dtype=np.float64), np.stack(pictures))


def _with_standing(
    times_s: NDArray[np.float64], grey: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Where the rate varies, pictures that stand long as often as a film would show them: a change is at the next."""
    gaps = np.diff(times_s)
    if not len(gaps) or gaps.max() <= _STANDS_S or gaps.std() <= _EVEN * gaps.mean():
        return times_s, grey
    more = [
        np.arange(at_s + _LEAST_APART_S, at_s + gap, _LEAST_APART_S) if gap > _STANDS_S else np.zeros(0)
        for at_s, gap in zip(times_s, gaps)
    ]
    places = np.repeat(np.arange(len(times_s)), [1 + len(stood) for stood in more] + [1])
    filled = [np.append(at_s, stood) for at_s, stood in zip(times_s, [*more, np.zeros(0)])]
    return np.concatenate(filled), grey[places]


def _small(frame: av.VideoFrame, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(frame.width, frame.height))
    return max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
