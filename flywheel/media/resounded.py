"""Writes a video with its picture as it is, packet by packet, and another sound or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from flywheel.media.border import open_media, reading
from flywheel.media.choice import video_stream
from flywheel.media.packets import origin_s
from flywheel.media.tracks import MediaWriter

#: Samples of one frame of AAC.
_AAC_FRAME = 1024


def write_resounded(source: Path, out: Path, sound: tuple[Iterable[NDArray[np.float32]], int] | None) -> None:
    """Writes ``source`` to ``out`` as MP4 with the same pictures, not encoded again.

    ``sound`` is mono samples in [-1, 1] from the picture's beginning on, in blocks (n,) of any lengths, and their rate
    in Hz; what is held is a block. None leaves no audio track.
    Raises MediaError where the picture can't be read, BorderError where ``out`` can't be written.
    """
    with reading("can't be given another sound"), open_media(source) as original:
        video = video_stream(original)
        with MediaWriter(out, faststart=True) as copy:
            picture = copy.container.add_stream_from_template(video)
            track: Any = copy.container.add_stream("aac", rate=sound[1], layout="mono") if sound else None
            begin = round(origin_s(original, video) / (video.time_base or Fraction(1)))
            for packet in original.demux(video):
                if packet.dts is not None:
                    copy.mux([_moved(packet, begin, picture)])
            if sound is not None:
                _write_sound(copy, track, *sound)


def _moved(packet: Packet[Any], begin: int, stream: Any) -> Packet[Any]:
    """The packet as one of this stream, whose film begins at 0."""
    packet.dts = None if packet.dts is None else packet.dts - begin
    packet.pts = None if packet.pts is None else packet.pts - begin
    packet.stream = stream
    return packet


def _write_sound(copy: MediaWriter, track: Any, blocks: Iterable[NDArray[np.float32]], rate_hz: int) -> None:
    start = 0
    for part in _frames(blocks):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        copy.mux(track.encode(frame))
        start += len(part)
    copy.mux(track.encode(None))


def _frames(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The samples as AAC has them, so many at a time; the last may be fewer."""
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        samples = np.concatenate([rest, block])
        whole = len(samples) // _AAC_FRAME * _AAC_FRAME
        for start in range(0, whole, _AAC_FRAME):
            yield samples[start : start + _AAC_FRAME]
        rest = samples[whole:].copy()
    if len(rest):
        yield rest
