"""Opens files through PyAV, and turns its errors into ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from flywheel.core.errors import BorderError, MediaError, first_line

#: Failures of the place that is written to, whatever the video is.
_OF_THE_DISK = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EIO,
    )
)


@contextlib.contextmanager
def reading(failure: str) -> Iterator[None]:
    """Turns what PyAV and the system raise about a file into MediaError: ``failure`` and the reason."""
    try:
        yield
    except FFmpegError as error:
        raise MediaError(f"{failure} ({reason(error)})") from error
    except OSError as error:
        raise MediaError(f"can't be read ({reason(error)})") from error
    except (ValueError, ArithmeticError, MemoryError) as error:
        # PyAV's own words for values that it has no place for: odd names, formats that change, absurd sizes.
        raise MediaError(f"{failure} ({reason(error)})") from error


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns failures of the disk under ``out`` into BorderError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        mend = "Free space on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check the folder"
        raise BorderError(f"{out}: can't be written ({reason(error)}). {mend}.") from error


def reason(error: BaseException) -> str:
    """The system's words for an error where there are some, else the first line of the message."""
    return getattr(error, "strerror", None) or first_line(error)


def open_media(path: Path) -> InputContainer:
    """The opened file. Tags that are no UTF-8 are no reason to refuse it."""
    return av.open(str(path), metadata_errors="replace")


def video_stream(container: InputContainer) -> av.VideoStream:
    """The first video stream. Raises MediaError where there is none."""
    if not container.streams.video:
        raise MediaError("holds no video stream")
    stream = container.streams.video[0]
    if not codec_name(stream):
        raise MediaError("no frame can be decoded")
    return stream


def codec_name(stream: av.stream.Stream) -> str:
    """FFmpeg's name of a stream's codec; empty where it has none for it."""
    return stream.codec_context.name if stream.codec_context is not None else ""


def origin_s(stream: av.VideoStream) -> float:
    """The time stamp of the stream's first picture, in seconds."""
    return float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0


def time_s(frame: av.VideoFrame | av.AudioFrame) -> float:
    """A frame's time stamp in seconds; 0 where it has none."""
    return frame.time if frame.time is not None else 0.0
