"""Paths as other machines and programs write them, found where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{1,30}):(//|/(?!/))")
_DRIVE = re.compile(r"([A-Za-z]):[\\/]")
_MOST_SHOWN = 300
#: Words that tables have where there is nothing.
_NOTHING = frozenset(("nan", "none", "null", "nil", "n/a", "#n/a", "<na>", "#ref!", "#value!", "#name?"))


def is_nothing(text: str) -> bool:
    """Whether a cell in which a path or a number is meant says that there is none."""
    return text.strip().lower() in ("", *_NOTHING)


def is_address(name: str) -> bool:
    """Whether a name is an address on a network, or the video itself as one."""
    scheme = _SCHEME.match(name)
    return name.startswith("data:") if scheme is None else scheme[1].lower() != "file"


def place_of(name: str, folder: Path) -> Path:
    """The path that a table in ``folder`` means by a name.

    Raises ValueError with the reason for an address, and for a path of Windows that is not here.
    """
    if is_address(name):
        raise ValueError(f"{address_as_written(name)} is an address, and those are not fetched; download it first")
    if (scheme := _SCHEME.match(name)) is not None:
        return _place_of_url(name, scheme.end())
    literal = folder / name
    if name.isascii() and not set(name) & set("\\%~\"' ") and not _DRIVE.match(name):
        return literal
    if os.path.lexists(_no_nul(literal)):
        return literal
    for other in _readings(name):
        if os.path.lexists(_no_nul(folder / other)):
            return folder / other
    if _DRIVE.match(name) or name.startswith("\\\\"):
        raise ValueError(f"{name[:_MOST_SHOWN]} is a path of Windows; name the file as seen from the table's folder")
    return literal


def _readings(name: str) -> Iterator[str]:
    """What a name that is no file's may mean, the likeliest first."""
    bare = name.strip().strip("\"'")
    yield bare
    # With the separators of Windows.
    slashed = bare.replace("\\", "/")
    yield slashed
    if (drive := _DRIVE.match(bare)) is not None:
        # As Windows' own Linux has its drives.
        yield f"/mnt/{drive[1].lower()}/{slashed[3:]}"
    if bare.startswith("~/"):
        yield os.path.expanduser(bare)
    if "%" in slashed:
        yield unquote(slashed)


def _place_of_url(name: str, end: int) -> Path:
    rest = name[end:]
    host, slash, path = rest.partition("/") if name[:end].endswith("//") else ("", "/", rest)
    if host.lower() not in ("", "localhost", "127.0.0.1") or not slash:
        raise ValueError(f"{address_as_written(name)} is a file of another machine; name it as seen from this one")
    path = unquote(path)
    if _DRIVE.match(path):
        raise ValueError(
            f"{address_as_written(name)} is a path of Windows; name the file as seen from the table's folder"
        )
    return Path("/", path)


def address_as_written(address: str) -> str:
    """An address as written, without what may be secret: a password before its host, a signature behind it."""
    if address.startswith("data:"):
        return "data:…"
    address = re.sub(r"://[^/@\s]{1,200}@", "://…@", address[: 2 * _MOST_SHOWN])
    return re.sub(r"[?#].*", "?…", address, flags=re.DOTALL)[:_MOST_SHOWN]


def _no_nul(path: Path) -> str:
    return str(path).replace("\0", "\ufffd")
