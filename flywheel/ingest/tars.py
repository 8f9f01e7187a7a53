"""Members of a tar one by one, also of one that is damaged or cut short: what can be read is given."""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

from flywheel.core.errors import UserError, first_line

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
#: Zeros that may follow an end before another tar begins: tools pad to 10 kB, or to a tape's block.
_PADDING = 1 << 20
_MAGIC, _MAGIC_AT = b"ustar", 257


class Break(str):
    """What broke, in the place of a member."""


def members(file: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo] | Break]:
    """(tar, member) of each, or what broke between them. Raises UserError for what is no tar without compression."""
    with open(file, "rb") as content:
        at: int | None = 0
        while at is not None:
            content.seek(at)
            ended, problem, tar = at, "", _opened(content)
            if tar is None and at == 0 and _next_header(content, _BLOCK) is None:
                raise UserError(f"{file}: not a readable tar file without compression.")
            if tar is not None:
                problem = yield from _of(tar)
                ended = tar.offset
            at, problem = _after(content, ended, problem)
            if problem:
                yield Break(problem)


def _opened(content: IO[bytes]) -> tarfile.TarFile | None:
    try:
        # Not compressed: a small file could hold more than the disk.
        return tarfile.open(fileobj=content, mode="r:")
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        return None


def _of(tar: tarfile.TarFile) -> Generator[tuple[tarfile.TarFile, tarfile.TarInfo], None, str]:
    """(tar, member) of each; returns what is wrong where it ends in error."""
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            return first_line(error)
        if member is None:
            return ""
        # The list of all members is for those who seek in a tar.
        tar.members.clear()  # type: ignore[attr-defined]
        yield tar, member


def _after(content: IO[bytes], ended: int, problem: str) -> tuple[int | None, str]:
    """Where the next member begins after an end, None where there is none; and what is wrong there."""
    size = content.seek(0, 2)
    content.seek(min(ended, size))
    block = content.read(_BLOCK)
    if len(block) == _BLOCK and not any(block) and not problem:
        # Tars that were put one behind the other.
        return _next_header(content, ended + _BLOCK, most=_PADDING), ""
    at = _next_header(content, min(ended, size) + _BLOCK) if ended < size else None
    if at is not None:
        return at, f"is damaged between bytes {ended} and {at}; what lies around is taken in"
    if ended < size and len(block) == _BLOCK:
        return None, f"is damaged from byte {ended} on; what came before is taken in"
    return None, f"is cut short at byte {size}: copy it again; what came before is taken in"


def _next_header(content: IO[bytes], start: int, most: int | None = None) -> int | None:
    """Where the first header at or after a byte is; blocks are counted from it."""
    content.seek(start)
    at, ended = start, start + most if most is not None else None
    while chunk := content.read(_CHUNK):
        found = chunk.find(_MAGIC)
        while found >= 0:
            begin = found - _MAGIC_AT
            if begin >= 0 and begin % _BLOCK == 0 and _is_header(chunk[begin : begin + _BLOCK]):
                return at + begin
            found = chunk.find(_MAGIC, found + 1)
        at += len(chunk)
        if len(chunk) < _CHUNK or (ended is not None and at >= ended):
            return None
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError):
        return False
    return True
