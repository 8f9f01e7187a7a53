"""Writes videos: spans of files as files of their own, copies that browsers play, pictures and sound as a new video."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from numpy.typing import NDArray

from flywheel.media.border import open_media, reading, time_s, writing
from flywheel.media.choice import sound_stream, video_stream
from flywheel.media.packets import can_seek, origin_s, packets
from flywheel.media.picture import pixel_aspect
from flywheel.media.probe import MediaInfo, probe
from flywheel.media.tracks import AudioTrackWriter, MediaWriter, PictureTrackWriter

#: Endings whose files go out as they are where a clip is the whole of one.
_PLAIN = frozenset({".mp4", ".webm", ".m4v"})
#: A beginning later than this is seeked to.
_SEEK_BEYOND_S = 5.0
#: Samples of one frame of AAC.
_AAC_FRAME = 1024


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How x264 encodes: ``crf`` lower is better and larger; 0 ``threads`` are as many as it likes.

    With one thread the same pictures give the same bytes each time.
    """

    crf: int
    preset: str
    threads: int = 0

    def options(self) -> dict[str, str]:
        """As libx264 takes them."""
        threads = {"threads": str(self.threads)} if self.threads else {}
        return {"preset": self.preset, "crf": str(self.crf), **threads}


_CLIP_QUALITY = Quality(crf=20, preset="veryfast", threads=1)


def missing_encoders() -> list[str]:
    """The encoders that are needed and that this FFmpeg lacks."""
    return [name for name in ("libx264", "aac") if name not in av.codecs_available]


def write_clip(source: Path, start_s: float, end_s: float, out: Path) -> str:
    """Writes a span of a file to ``out`` as a video of its own; returns the ending that its name should have.

    A whole MP4 or WebM is copied, all else becomes H.264 and AAC. The same span gives the same bytes.
    Raises MediaError for what can't be read, BorderError where ``out`` can't be written.
    """
    info = probe(source)
    if _is_whole(source, info, start_s, end_s):
        with reading("can't be made into a clip"), writing(out):
            shutil.copyfile(source, out)
        return source.suffix.lower()
    transcode(source, out, start_s=start_s, end_s=end_s, quality=_CLIP_QUALITY)
    return ".mp4"


def _is_whole(source: Path, info: MediaInfo, start_s: float, end_s: float) -> bool:
    half_frame_s = 0.5 / info.fps
    plain = source.suffix.lower() in _PLAIN
    return plain and start_s <= half_frame_s and end_s >= info.duration_s - half_frame_s


def transcode(
    source: Path,
    out: Path,
    *,
    quality: Quality,
    start_s: float = 0.0,
    end_s: float = math.inf,
    max_side: int | None = None,
) -> None:
    """Writes a span of a video as H.264 and AAC in MP4, its longer side at most ``max_side`` pixels.

    Damaged parts are passed over. Raises MediaError where nothing can be read, BorderError where ``out`` can't be
    written.
    """
    with reading("can't be made into a clip"), open_media(source) as original:
        video, audio, info = video_stream(original), sound_stream(original), probe(source)
        length_s = end_s - start_s
        with MediaWriter(out, faststart=True) as copy:
            pictures = PictureTrackWriter(
                copy,
                rate=video.average_rate or Fraction(25),
                size=_even_size(info, max_side),
                options=quality.options(),
                aspect=pixel_aspect(video),
                length_s=length_s,
            )
            sounds = AudioTrackWriter(copy, length_s=length_s, film_s=info.duration_s - start_s) if audio else None
            origin = origin_s(original, video)
            if start_s > _SEEK_BEYOND_S and video.time_base and can_seek(original):
                original.seek(int((start_s + origin) / video.time_base), stream=video)
            for packet in packets(original, [stream for stream in (video, audio) if stream is not None]):
                for frame in _frames(packet):
                    at_s = time_s(frame) - origin - start_s
                    if isinstance(frame, av.VideoFrame):
                        pictures.add(frame, at_s)
                    elif sounds is not None:
                        sounds.add(frame, at_s)
                if pictures.ended and (sounds is None or sounds.ended):
                    break
            pictures.end()
            if sounds is not None:
                sounds.end()


def _even_size(info: MediaInfo, max_side: int | None) -> tuple[int, int]:
    """(width, height) in pixels with the longer at most ``max_side``; even, as H.264 with halved colours needs."""
    scale = min(1.0, max_side / max(info.width, info.height)) if max_side else 1.0
    width, height = (max(2, round(size * scale / 2) * 2) for size in (info.width, info.height))
    return width, height


def _frames(packet: Packet[Any]) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """The frames of a packet; a damaged one gives none."""
    with contextlib.suppress(FFmpegError):
        yield from (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame | av.AudioFrame))


def write_video(
    out: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    size: tuple[int, int],
    fps: int,
    quality: Quality,
    sound: tuple[NDArray[np.float32], int] | None,
) -> None:
    """Writes ``pictures`` ``(H, W, 3)`` RGB at ``fps`` as H.264 in MP4, ``size`` being (width, height) in pixels.

    ``sound`` is mono samples (n,) in [-1, 1] and their rate in Hz, or None for a file without an audio track.
    Raises BorderError where ``out`` can't be written.
    """
    with reading("can't be encoded"), MediaWriter(out) as file:
        video = file.container.add_stream("libx264", rate=fps)
        video.width, video.height = size
        video.pix_fmt, video.options = "yuv420p", {**quality.options()}
        audio = _mono_track(file, sound[1]) if sound is not None else None
        for picture in pictures:
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
        if audio is None or sound is None:
            return
        samples, rate_hz = sound
        for start in range(0, len(samples), _AAC_FRAME):
            part = samples[None, start : start + _AAC_FRAME]
            block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate_hz, start, Fraction(1, rate_hz)
            file.mux(audio.encode(block))
        file.mux(audio.encode(None))


def _mono_track(file: MediaWriter, rate_hz: int) -> av.AudioStream:
    track = file.container.add_stream("aac", rate=rate_hz)
    track.layout = "mono"
    return track
