"""Facts of a file: its hash, length, size, subtitles and codecs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from flywheel.core.errors import MediaError
from flywheel.media.border import check_regular, check_time, open_media, reading
from flywheel.media.choice import Track, codec_name, film, sound_stream, text_streams, tracks, video_stream
from flywheel.media.coded import CodedPictures
from flywheel.media.packets import decoded, origin_s, packets
from flywheel.media.picture import pixel_aspect, upright
from flywheel.media.subtitles import TimedText

_HASH_CHUNK = 1 << 20
#: A declared length that differs by more from the pictures' times is not believed.
_LENGTH_TOLERANCE_S = 0.1
#: Where there are fewer pictures than one in so many seconds, the time stamps are not believed.
_MOST_S_A_PICTURE = 60.0
#: A picture that comes so much later than the file begins is late.
_LATE_S = 0.1
#: 8192 x 8192: more than any camera's video has.
MOST_PIXELS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds. ``duration_s`` of the picture, ``fps`` its mean rate, ``width`` x ``height`` as displayed.

    ``subtitles`` are (start in seconds, end in seconds, text) of the text stream that says the most; ``has_audio`` is
    said of sound that can be decoded. ``streams`` hashes the coded pictures, whatever the container. ``tracks`` are all
    streams, with what was left and why.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    has_audio: bool
    subtitles: tuple[tuple[float, float, str], ...]
    streams: str = ""
    tracks: tuple[Track, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Codecs:
    """How a file is coded, in FFmpeg's names; ``sounds`` are those of all audio streams.

    ``is_plain``: a player that knows nothing of what we choose shows the same streams, from the same beginning.
    """

    picture: str
    pixel_format: str
    sounds: frozenset[str]
    is_plain: bool = True


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
        stream, sound = video_stream(container), sound_stream(container)
        picture = stream.codec_context
        firsts = [next((s for s in container.streams.video if codec_name(s)), stream), *container.streams.audio[:1]]
        begins_s = (container.start_time or 0) / av.time_base
        return Codecs(
            picture=picture.name,
            pixel_format=picture.pix_fmt or "",
            sounds=frozenset(codec_name(stream) for stream in container.streams.audio),
            is_plain=firsts == [s for s in (stream, sound) if s]
            and abs(origin_s(container, stream) - begins_s) < _LATE_S,
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
            stream = video_stream(container)
            if stream.width * stream.height > most_pixels:
                raise MediaError(
                    f"its pictures have {stream.width} x {stream.height} pixels, at most {most_pixels} fit"
                )
            frame = next(decoded(container, stream), None)
            if frame is None:
                raise MediaError("no frame can be decoded")
            height, width = upright(frame, pixel_aspect(stream), None).shape[:2]
            has_audio = sound_stream(container) is not None
            declared = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            rate = stream.average_rate or stream.guessed_rate
        measured = _measure(path)
        end_s, num_frames = measured.end_s, measured.num_frames
        if end_s > num_frames * _MOST_S_A_PICTURE:
            raise MediaError(f"its time stamps reach to {end_s:g} s, but it holds {num_frames} pictures")
        duration_s = float(declared) if declared and measured.allows(float(declared)) else end_s
        return MediaInfo(
            duration_s=duration_s,
            fps=float(rate) if rate else (num_frames / duration_s if duration_s else 1.0),
            width=width,
            height=height,
            has_audio=has_audio,
            subtitles=measured.subtitles,
            streams=measured.streams,
            tracks=measured.tracks,
        )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a file's packets tell: begin and end in seconds of the last picture, the pictures' number, hash, texts."""

    last_s: float
    end_s: float
    num_frames: int
    streams: str
    subtitles: tuple[tuple[float, float, str], ...]
    tracks: tuple[Track, ...]

    def allows(self, length_s: float) -> bool:
        """Whether the pictures can have this length. How long the last one is shown packets tell badly."""
        return abs(length_s - self.end_s) < _LENGTH_TOLERANCE_S or self.last_s < length_s < self.end_s


def _measure(path: Path) -> _Measured:
    """Reads all packets of pictures and texts: a declared length can be wrong."""
    with open_media(path) as container:
        stream = video_stream(container)
        spans, coded = _Spans(stream), CodedPictures(stream)
        texts = [TimedText(text, origin_s(container, stream)) for text in text_streams(container)]
        by_index = {text.index: text for text in texts}
        # Cut off in the middle: what came before is still a clip.
        for packet in packets(container, [stream, *(text.stream for text in texts)]):
            if packet.size == 0:
                continue
            if packet.stream_index == stream.index:
                coded.add(packet)
                spans.add(packet)
            else:
                by_index[packet.stream_index].add(packet)
        last_s, end_s, num_frames = spans.shown()
        chosen = next((text for text in texts if text.has_any), None)
        used = [film(container), sound_stream(container), chosen.stream if chosen else None]
        return _Measured(
            last_s=last_s,
            end_s=end_s,
            num_frames=num_frames,
            streams=coded.hexdigest(),
            subtitles=chosen.cues(end_s) if chosen else (),
            tracks=tracks(container, used),
        )


#: First, last and end in the stream's time base, and a number.
_Span = tuple[int, int, Fraction | int, int]


class _Spans:
    """How far the pictures reach, and how many there are; those that an edit list hides do not count."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._base = stream.time_base or Fraction(1, 1000)
        self._step = 1 / Fraction(stream.average_rate or 25) / self._base
        #: Of what is shown, and of what is hidden.
        self._shown: _Span | None = None
        self._hidden: _Span | None = None

    def add(self, packet: av.Packet[Any]) -> None:
        at = packet.pts
        if at is None:
            return
        end = at + (packet.duration or self._step)
        if packet.is_discard:
            self._hidden = _widened(self._hidden, at, end)
        else:
            self._shown = _widened(self._shown, at, end)

    def shown(self) -> tuple[float, float, int]:
        """Seconds from the first picture to the last and to the end of it, and their number."""
        first, last, end, count = self._shown or self._hidden or (0, 0, 0, 0)
        return float((last - first) * self._base), float((end - first) * self._base), count


def _widened(span: _Span | None, at: int, end: Fraction | int) -> _Span:
    if span is None:
        return at, at, end, 1
    return min(span[0], at), max(span[1], at), max(span[2], end), span[3] + 1
