"""Facts of a file: its hash, length, size, subtitles and codecs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from flywheel.core.errors import MediaError
from flywheel.media.border import check_regular, check_time, codec_name, open_media, reading, video_stream
from flywheel.media.coded import CodedPictures
from flywheel.media.picture import pixel_aspect, upright

_HASH_CHUNK = 1 << 20
#: A declared length that differs by more from the pictures' times is not believed.
_LENGTH_TOLERANCE_S = 0.1
#: Where there are fewer pictures than one in so many seconds, the time stamps are not believed.
_MOST_S_A_PICTURE = 60.0
#: 8192 x 8192: more than any camera's video has.
MOST_PIXELS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds. ``duration_s`` of the picture, ``fps`` its mean rate, ``width`` x ``height`` as displayed.

    ``subtitles`` are (start in seconds, end in seconds, text) of the first text stream that has any. ``streams`` hashes
    the coded pictures, whatever the container.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    has_audio: bool
    subtitles: tuple[tuple[float, float, str], ...]
    streams: str = ""


@dataclass(frozen=True, kw_only=True)
class Codecs:
    """How a file is coded, in FFmpeg's names; ``sounds`` are those of all audio streams."""

    picture: str
    pixel_format: str
    sounds: frozenset[str]


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes. Raises MediaError where it can't be read."""
    digest = hashlib.sha256()
    with reading("can't be read"):
        check_regular(path)
        with open(path, "rb") as file:
            while chunk := file.read(_HASH_CHUNK):
                digest.update(chunk)
                check_time()
    return digest.hexdigest()


def codecs(path: Path) -> Codecs:
    """The codecs of a file. Raises MediaError where it holds no video."""
    with reading("not a readable video"), open_media(path) as container:
        picture = video_stream(container).codec_context
        return Codecs(
            picture=picture.name,
            pixel_format=picture.pix_fmt or "",
            sounds=frozenset(codec_name(stream) for stream in container.streams.audio),
        )


def probe(path: Path, *, most_pixels: int = MOST_PIXELS) -> MediaInfo:
    """Facts of a file, its embedded subtitles included.

    Raises MediaError with the reason where it holds no video, pictures of more than ``most_pixels``, or times that its
    pictures can't have.
    """
    with reading("not a readable video"):
        if path.stat().st_size == 0:
            raise MediaError("the file is empty (0 bytes)")
        with open_media(path) as container:
            if not container.streams.video:
                raise MediaError("holds only sound" if container.streams.audio else "holds no video stream")
            stream = video_stream(container)
            if stream.width * stream.height > most_pixels:
                raise MediaError(
                    f"its pictures have {stream.width} x {stream.height} pixels, at most {most_pixels} fit"
                )
            frame = next(container.decode(stream), None)
            if frame is None:
                raise MediaError("no frame can be decoded")
            height, width = upright(frame, pixel_aspect(stream), None).shape[:2]
            has_audio = bool(container.streams.audio)
            declared = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            rate = stream.average_rate or stream.guessed_rate
        end_s, num_frames, streams = _measure(path)
        if end_s > num_frames * _MOST_S_A_PICTURE:
            raise MediaError(f"its time stamps reach to {end_s:g} s, but it holds {num_frames} pictures")
        believed = declared and abs(float(declared) - end_s) < _LENGTH_TOLERANCE_S
        duration_s = float(declared) if declared and believed else end_s
        return MediaInfo(
            duration_s=duration_s,
            fps=float(rate) if rate else (num_frames / duration_s if duration_s else 1.0),
            width=width,
            height=height,
            has_audio=has_audio,
            subtitles=_subtitles(path),
            streams=streams,
        )


def _measure(path: Path) -> tuple[float, int, str]:
    """End in seconds of the last picture that is really in the file, the number of pictures, and their hash.

    Reads packets: a declared length can be wrong.
    """
    first: Fraction | None = None
    end, count = Fraction(0), 0
    with open_media(path) as container:
        stream = container.streams.video[0]
        base = stream.time_base or Fraction(1, 1000)
        step = 1 / Fraction(stream.average_rate or 25)
        coded = CodedPictures(stream)
        try:
            for packet in container.demux(stream):
                check_time()
                if packet.size == 0:
                    continue
                coded.add(packet)
                if packet.pts is None:
                    continue
                at = packet.pts * base
                length = packet.duration * base if packet.duration else step
                first = at if first is None else min(first, at)
                end, count = max(end, at + length), count + 1
        except FFmpegError:
            # Cut off in the middle: what came before is still a clip.
            pass
    return float(end - (first or 0)), count, coded.hexdigest()


def _subtitles(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Cues of the first text subtitle stream that has any."""
    with open_media(path) as container:
        for stream in container.streams.subtitles:
            if cues := tuple(_cues(container, stream)):
                return cues
            container.seek(0)
    return ()


def _cues(container: InputContainer, stream: av.subtitles.stream.SubtitleStream) -> Iterator[tuple[float, float, str]]:
    for packet in container.demux(stream):
        check_time()
        if packet.pts is None or packet.time_base is None or packet.size == 0:
            continue
        text = "\n".join(_cue_text(bytes(packet), codec_name(stream))).strip()
        start = float(packet.pts * packet.time_base)
        if text:
            yield start, start + float((packet.duration or 0) * packet.time_base), text


def _cue_text(payload: bytes, codec: str) -> list[str]:
    if codec == "mov_text" and len(payload) >= 2:
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
    text = payload.decode("utf-8", errors="replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", 8)[-1].replace("\\N", "\n")
    return text.splitlines()
