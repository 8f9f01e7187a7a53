"""Opens files through PyAV, and turns its errors into ours.

Only regular files that are containers of their own are opened: a playlist would read other files under this one's name.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from flywheel.core.errors import BorderError, MediaError, first_line
from flywheel.media.diagnosis import diagnosis

#: FFmpeg's names of the containers that are opened. None of them refers to other files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg,gif,apng,mxf,nut,dv,ivf,h264,hevc,m4v,"
    "wav,mp3,flac,aac"
)
_ONLY = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
#: When the time for the file that this thread reads is over (:func:`time.monotonic`), and how many seconds it had.
_time: ContextVar[tuple[float, float]] = ContextVar("time", default=(math.inf, math.inf))
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
        check_time()
        _check_open_files(error)
        raise MediaError(f"{failure} ({_told(error)})") from error
    except OSError as error:
        _check_open_files(error)
        raise MediaError(f"can't be read ({reason(error)})") from error
    except (ValueError, ArithmeticError, MemoryError) as error:
        # PyAV's own words for values that it has no place for: odd names, formats that change, absurd sizes.
        raise MediaError(f"{failure} ({reason(error)})") from error


def _check_open_files(error: Exception) -> None:
    """Raises BorderError where no more files can be opened, which is no file's fault."""
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        raise BorderError("Too many files are open. Raise the limit (ulimit -n), and run the same command.") from error


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


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Lets what this thread reads meanwhile fail with MediaError when the seconds are over."""
    token = _time.set((time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _time.reset(token)


def check_time() -> None:
    """Raises MediaError where the time for this file is over; loops over a file call it."""
    until, seconds = _time.get()
    if time.monotonic() > until:
        raise MediaError(f"takes longer than {seconds:g} s to be read")


def seconds_left() -> float | None:
    """Seconds that are left for this file, a little more than none; None where there is no limit."""
    until, _ = _time.get()
    return None if math.isinf(until) else max(0.1, until - time.monotonic())


def check_regular(path: Path) -> None:
    """Raises MediaError for what is no regular file: reading a pipe or a device may never end. OSError passes."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise MediaError("can't be read (it is no regular file)")


def _told(error: FFmpegError) -> str:
    """FFmpeg's words, and what the file's bytes tell where these are as good as none."""
    why = ""
    if isinstance(error, av.error.InvalidDataError) and error.filename:
        why = diagnosis(Path(str(error.filename)))
    return f"{reason(error)}; {why}" if why else reason(error)


def open_media(path: Path) -> InputContainer:
    """The opened file. Tags that are no UTF-8 are no reason to refuse it.

    Raises MediaError for what is no regular file, or a playlist; what PyAV and the system raise passes.
    """
    check_regular(path)
    try:
        return av.open(str(path), container_options=_ONLY, metadata_errors="replace", timeout=seconds_left())
    except av.error.ArgumentError as error:
        # What FFmpeg says of a container that is not on the list, and of little else.
        raise MediaError("not a readable video (a playlist, or no container that is taken)") from error


def time_s(frame: av.VideoFrame | av.AudioFrame) -> float:
    """A frame's time stamp in seconds; 0 where it has none."""
    return frame.time if frame.time is not None else 0.0
