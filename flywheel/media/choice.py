"""Which streams of a file are its film, its sound and its words, and which are left and why.

As players choose: what is no film (covers, thumbnails) and what nothing decodes is passed over, the default comes
before others, and what stands in for the main one (commentary, descriptions, signs alone) comes last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream

from flywheel.core.errors import MediaError
from flywheel.media.border import check_time, open_media

#: A picture within a stream may be larger than its first, as broadcasts are: by this much, and this large at least.
_PICTURE_GROWTH, _PICTURE_PIXELS = 4, 3840 * 2160
#: Pictures that belong to a file and are no film of it.
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails
_BESIDE_FILM = Disposition.still_image | Disposition.dependent | Disposition.metadata
_BESIDE_SOUND = (
    Disposition.comment
    | Disposition.lyrics
    | Disposition.karaoke
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
    | Disposition.non_diegetic
    | Disposition.descriptions
    | Disposition.dependent
)
_FOR_THE_DEAF = Disposition.hearing_impaired | Disposition.captions
#: Names by which people mark what is not the main track, where the file has no flag for it.
_NAMED_COMMENT = re.compile(r"\b(commentary|comments?|audio.?descri\w*|descriptive|visually impaired)\b", re.IGNORECASE)
_NAMED_FORCED = re.compile(r"\b(forced|signs|songs)\b", re.IGNORECASE)
_NAMED_DEAF = re.compile(r"\b(sdh|cc|hearing.impaired|hard of hearing)\b", re.IGNORECASE)
#: FFmpeg's names of subtitles whose packets hold text.
TEXTS = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
#: Where there are several, the first packets are decoded: up to so many, until each stream gave so many frames.
_TRIED_PACKETS, _SHOWN_FRAMES = 120, 2


@dataclass(frozen=True, kw_only=True)
class Track:
    """A stream as its file describes it. ``left`` is why it is not used; empty for what is."""

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""
    flags: tuple[str, ...] = ()
    left: str = ""


def codec_name(stream: av.stream.Stream) -> str:
    """FFmpeg's name of a stream's codec; empty where it has none for it."""
    return stream.codec_context.name if stream.codec_context is not None else ""


def video_stream(container: InputContainer) -> av.VideoStream:
    """The film of a file. Raises MediaError where there is none."""
    stream = film(container)
    if stream is None:
        raise MediaError(_without_film(container))
    return stream


def _without_film(container: InputContainer) -> str:
    """Why a file holds no film."""
    if any(not stream.disposition & _NO_FILM for stream in container.streams.video):
        return "no frame can be decoded"
    if container.streams.audio:
        return "holds only sound"
    return "holds only a cover picture" if container.streams.video else "holds no video stream"


def film(container: InputContainer) -> av.VideoStream | None:
    """As :func:`video_stream`; None where there is none."""
    streams = [s for s in container.streams.video if codec_name(s) and not s.disposition & _NO_FILM]
    for stream in streams:
        _limit(stream)
    shown = _shown(container, streams)
    return min(
        streams,
        # A cover without a flag is a track of one picture.
        key=lambda s: (-shown.get(s.index, 0), bool(s.disposition & _BESIDE_FILM), _not_default(s), s.index),
        default=None,
    )


def sound_stream(container: InputContainer, wanted: str = "") -> av.AudioStream | None:
    """The sound of a file; None where it has none that can be decoded.

    ``wanted`` is a language as the file writes it, or a stream's number: it comes first where the file has it.
    """
    streams = [s for s in container.streams.audio if codec_name(s)]
    shown = _shown(container, streams)
    return min(
        streams,
        key=lambda s: (
            not shown.get(s.index, 1),
            not is_wanted(s, wanted),
            _is_beside_sound(s),
            _not_default(s),
            s.index,
        ),
        default=None,
    )


def is_wanted(stream: av.AudioStream, wanted: str) -> bool:
    """Whether a stream is of the language, or has the number, that is ``wanted``."""
    return wanted.lower() in (str(stream.index), (stream.language or "").lower()) if wanted else False


def text_streams(container: InputContainer) -> list[SubtitleStream]:
    """The subtitles of a file that are text, those first that say the most of what is spoken."""
    streams = [s for s in container.streams.subtitles if codec_name(s) in TEXTS]
    return sorted(streams, key=lambda s: (_rank_of_text(s), _not_default(s), s.index))


def tracks(container: InputContainer, used: Sequence[av.stream.Stream | None]) -> tuple[Track, ...]:
    """All streams of pictures, sound and text of a file; those that are not among ``used`` with the reason."""
    chosen = {stream.index for stream in used if stream is not None}
    return tuple(
        Track(
            index=stream.index,
            kind={"video": "picture", "audio": "sound"}.get(stream.type, stream.type),
            codec=codec_name(stream),
            language="" if stream.language in (None, "und") else str(stream.language),
            title=_title(stream),
            flags=tuple(flag.name or "" for flag in Disposition if flag & stream.disposition),
            left="" if stream.index in chosen else _why_left(stream),
        )
        for stream in container.streams
        if stream.type in ("video", "audio", "subtitle")
    )


def told(found: Sequence[Track]) -> str:
    """Tracks as JSON; empty where there was nothing to choose, and no language or title is said."""
    if not any(track.left or track.language or track.title for track in found):
        return ""
    rows = [{name: value for name, value in asdict(track).items() if value not in ("", ())} for track in found]
    return json.dumps(rows, ensure_ascii=False)


def _why_left(stream: av.stream.Stream) -> str:
    if stream.type == "video" and stream.disposition & _NO_FILM:
        return "a picture that is no film"
    if not codec_name(stream):
        return "no decoder"
    if stream.type == "subtitle" and codec_name(stream) not in TEXTS:
        return "pictures of text"
    if stream.type == "subtitle" and (rank := _rank_of_text(stream)):
        return ("", "for the deaf", "commentary", "forced")[rank]
    if stream.type == "audio" and _is_beside_sound(stream):
        return "stands beside the main sound"
    return "another was chosen"


def _not_default(stream: av.stream.Stream) -> bool:
    return not stream.disposition & Disposition.default


def _title(stream: av.stream.Stream) -> str:
    return next((value for name, value in stream.metadata.items() if name.lower() == "title"), "")


def _is_beside_sound(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & _BESIDE_SOUND) or bool(_NAMED_COMMENT.search(_title(stream)))


def _rank_of_text(stream: av.stream.Stream) -> int:
    """0 for all that is spoken, 1 with what is heard beside it, 2 for what others say of it, 3 for signs alone."""
    title = _title(stream)
    if stream.disposition & Disposition.forced or _NAMED_FORCED.search(title):
        return 3
    if stream.disposition & (Disposition.comment | Disposition.descriptions) or _NAMED_COMMENT.search(title):
        return 2
    return int(bool(stream.disposition & _FOR_THE_DEAF) or bool(_NAMED_DEAF.search(title)))


def _limit(stream: av.VideoStream) -> None:
    # A few bytes can say that the next picture has a gigapixel.
    most = max(_PICTURE_PIXELS, _PICTURE_GROWTH * stream.width * stream.height)
    stream.codec_context.options = {"max_pixels": str(most)}


def _shown(container: InputContainer, streams: Sequence[av.stream.Stream]) -> dict[int, int]:
    """Stream -> frames that its beginning gives, up to two; empty where there is no choice."""
    if len(streams) < 2:
        return {}
    path = Path(container.name)
    status = path.stat()
    return _tried(path, status.st_size, status.st_mtime_ns, tuple(stream.index for stream in streams))


@lru_cache(maxsize=1024)
def _tried(path: Path, _size: int, _mtime_ns: int, indices: tuple[int, ...]) -> dict[int, int]:
    """As :func:`_shown`, of the file as it was at this time."""
    counts = dict.fromkeys(indices, 0)
    with open_media(path) as container:
        streams: list[Any] = [container.streams[index] for index in indices if index < len(container.streams)]
        for stream in streams:
            if stream.type == "video":
                _limit(stream)
        try:
            for number, packet in enumerate(container.demux(*streams)):
                check_time()
                # The empty packets at the end have no number of their own.
                counts[packet.stream.index] += _num_frames(packet)
                if number >= _TRIED_PACKETS or min(counts.values()) >= _SHOWN_FRAMES:
                    break
        except FFmpegError:
            pass
    return {index: min(count, _SHOWN_FRAMES) for index, count in counts.items()}


def _num_frames(packet: av.Packet[Any]) -> int:
    try:
        return len(packet.decode())
    except FFmpegError:
        return 0
