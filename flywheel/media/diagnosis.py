"""What is wrong with a file that FFmpeg calls invalid: it says so little that nobody knows what to do."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_START = 4096
#: Boxes of MP4 that are walked over at most.
_MOST_BOXES = 1000
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")
#: How a file begins that stands for one that Git LFS has not fetched.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PARTIAL = frozenset({".part", ".crdownload", ".tmp", ".download"})


def diagnosis(path: Path) -> str:
    """Why a file is no readable video, and what to do, as far as its bytes tell; empty where they do not."""
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
            size = path.stat().st_size
            if not start.strip(b"\0"):
                return "it begins with zeros alone: the copy failed, copy it again"
            if start.lstrip().lower().startswith(_PAGES):
                return "it is a web page and no video: download it again"
            if start.startswith(LFS_POINTER):
                return "it is a pointer of Git LFS and no video: fetch it with 'git lfs pull'"
            if path.suffix.lower() in _PARTIAL:
                return "its download is not finished"
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip"):
                return _of_mp4(file, size)
    except OSError:
        pass
    return ""


def _of_mp4(file: BinaryIO, size: int) -> str:
    """Which box of an MP4 or MOV is cut off or missing."""
    at, names = 0, set[bytes]()
    for _ in range(_MOST_BOXES):
        if at + 8 > size:
            break
        file.seek(at)
        header = file.read(16)
        length, name = int.from_bytes(header[:4]), header[4:8]
        length = int.from_bytes(header[8:16]) if length == 1 else length or size - at
        names.add(name)
        if length < 8 or at + length > size:
            return f"it is cut off after {size} bytes: copy it again"
        at += length
    if b"moov" not in names:
        return "it has no index (moov): the recording was cut off, or the copy; copy it again, or recover it"
    return ""
