"""How a video looks, in a few hundred bytes: pictures small enough to compare, and words to look them up by.

Ours. Four pictures are kept, at 1/8, 3/8, 5/8 and 7/8 of the length. A copy that was encoded anew, scaled, put into
another container or trimmed shows them too, at other times; so up to 64 pictures of a newcomer are compared with the
four of those that are known. A picture is 8 x 8 values of luma and 4 x 4 of each chroma. It is looked up by three
bands of 21 bits of a perceptual hash (signs of the lowest 8 x 8 DCT coefficients against their median).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flywheel.core.errors import MediaError
from flywheel.media.border import open_media, reading, time_s
from flywheel.media.choice import video_stream
from flywheel.media.packets import can_seek, decoded, origin_s
from flywheel.media.picture import quarter_turns

#: Pictures that are kept of a video, and pictures of a newcomer that are compared with them, at most.
NUM_KEPT, MOST_SEEN = 4, 64
#: A video up to this long is decoded in whole; of a longer one this much on either side of the pictures that are kept.
_WHOLE_S, _AROUND_S = 20.0, 2.0
_MOST_PER_S = 8.0
_SIDE, _BANDS, _BAND_BITS = 32, 3, 21
#: Pictures whose luma varies less than this (standard deviation) are of one colour, and like all others of it.
_FLAT = 4.0
#: Two pictures are alike when their values differ by no more than this on average, and anywhere (of 255).
_MEAN, _MOST = 1.5, 12.0
#: Pictures of two videos that are alike lie apart by the same time, give or take this.
_OFFSET_S = 0.3
#: Pictures that must be alike.
_LEAST_ALIKE = 2
_K = np.arange(_SIDE)
_DCT = np.cos(np.pi * (2 * _K[None] + 1) * np.arange(8)[:, None] / (2 * _SIDE))
_RECORD = np.dtype([("at_s", "<f4"), ("values", "u1", 96)])


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A small picture: its time in seconds from the first one, 96 values in [0, 255], and its bands."""

    at_s: float
    values: NDArray[np.uint8]
    bands: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """How a video looks: pictures to keep, and pictures to compare with those kept of others (they hold the kept)."""

    kept: Sequence[Picture] = ()
    seen: Sequence[Picture] = ()

    def to_bytes(self) -> bytes:
        """What is kept of the pictures, 100 bytes for each; their bands are looked up elsewhere."""
        records = np.zeros(len(self.kept), dtype=_RECORD)
        for record, picture in zip(records, self.kept, strict=True):
            record["at_s"], record["values"] = picture.at_s, picture.values
        return records.tobytes()


def fingerprint(path: Path, duration_s: float) -> Fingerprint:
    """How the pictures of a file look; empty where none can be decoded, or all are of one colour."""
    wanted = [duration_s * (2 * i + 1) / (2 * NUM_KEPT) for i in range(NUM_KEPT)]
    rate = min(_MOST_PER_S, (MOST_SEEN - NUM_KEPT) / max(min(duration_s, _WHOLE_S), 1e-3))
    windows = _windows(wanted, duration_s)
    pictures = [picture for window in windows for picture in _pictures(path, *window, rate, wanted)]
    kept = {min(range(len(pictures)), key=lambda i: abs(pictures[i].at_s - t)) for t in wanted} if pictures else set()
    return Fingerprint(kept=[pictures[i] for i in sorted(kept)], seen=pictures)


def is_alike(seen: Sequence[Picture], kept: bytes) -> bool:
    """Whether pictures of one video show at least two of those kept of another, the same time apart."""
    records = np.frombuffer(kept, dtype=_RECORD)
    if len(records) < _LEAST_ALIKE or len(seen) < _LEAST_ALIKE:
        return False
    values = np.stack([picture.values for picture in seen]).astype(np.int16)
    times = np.array([picture.at_s for picture in seen])
    differs = np.abs(values[:, None] - records["values"].astype(np.int16)[None])
    alike = (differs.mean(2) <= _MEAN) & (differs.max(2) <= _MOST)
    offsets = times[:, None] - records["at_s"][None]
    for offset in offsets[alike]:
        same_time = alike & (np.abs(offsets - offset) <= _OFFSET_S)
        if int(same_time.any(0).sum()) >= _LEAST_ALIKE:
            return True
    return False


def _windows(wanted: Sequence[float], duration_s: float) -> list[tuple[float, float]]:
    if duration_s <= _WHOLE_S:
        return [(0.0, math.inf)]
    return [(max(0.0, t - _AROUND_S), t + _AROUND_S) for t in wanted]


def _pictures(path: Path, start_s: float, end_s: float, rate: float, wanted: Sequence[float]) -> list[Picture]:
    """Pictures of a window: ``rate`` a second, and those on screen at the wanted times; none of one colour."""
    found: list[tuple[float, NDArray[np.uint8]]] = []
    with contextlib.suppress(MediaError), reading("can't be decoded"), open_media(path) as container:
        stream = video_stream(container)
        # What no other picture refers to is left out: half the work, and the others are a few hundredths apart.
        stream.codec_context.skip_frame = "NONREF"
        origin = origin_s(container, stream)
        if start_s > 0 and stream.time_base and can_seek(container):
            container.seek(int((start_s + origin) / stream.time_base), stream=stream)
        due, times, reformatter = start_s, [t for t in wanted if t >= start_s], VideoReformatter()
        for frame in decoded(container, stream):
            at_s = time_s(frame) - origin
            if at_s > end_s:
                break
            is_wanted = bool(times) and at_s >= times[0]
            if at_s < due and not is_wanted:
                continue
            if is_wanted:
                times.pop(0)
            if at_s >= due:
                due = at_s + 1 / rate
            found.append((at_s, _planes(frame, reformatter)))
    # What was decoded around a damaged part is compared as it is.
    return _described(found)


def _planes(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Luma and chroma ``(3, 32, 32)``, upright; its shape is not kept."""
    small = reformatter.reformat(frame, width=_SIDE, height=_SIDE, format="yuv444p", interpolation="AREA")
    return np.asarray(np.rot90(small.to_ndarray(), quarter_turns(frame), axes=(1, 2)), dtype=np.uint8)


def _described(found: Sequence[tuple[float, NDArray[np.uint8]]]) -> list[Picture]:
    if not found:
        return []
    planes = np.stack([picture for _, picture in found]).astype(np.float32)
    luma, chroma = planes[:, 0], planes[:, 1:]
    small = luma.reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)
    tint = chroma.reshape(-1, 2, 4, 8, 4, 8).mean((3, 5)).reshape(-1, 32)
    values = np.concatenate([small, tint], axis=1).round().astype(np.uint8)
    bands, varied = _bands(luma), luma.std((1, 2)) >= _FLAT
    return [
        Picture(at_s=at_s, values=values[i], bands=tuple(int(band) for band in bands[i]))
        for i, (at_s, _) in enumerate(found)
        if varied[i]
    ]


def _bands(luma: NDArray[np.float32]) -> NDArray[np.int64]:
    """The perceptual hashes of luma ``(n, 32, 32)`` in three numbers ``(n, 3)``, each with its place in front."""
    coefficients = (_DCT @ luma @ _DCT.T).reshape(len(luma), -1)[:, 1:]
    bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
    powers = 1 << np.arange(_BAND_BITS, dtype=np.int64)
    # Every third bit, so that each band holds low and high frequencies.
    return np.stack([bits[:, band::_BANDS] @ powers + (band << _BAND_BITS) for band in range(_BANDS)], axis=1)
