"""The border to object stores (``s3://``, ``gs://``): files in, files out, and errors that are ours.

Credentials come from the environment alone, as the store's own client reads them. What fails and may go better is tried
again, and said with its count; what won't is one line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from flywheel.core.errors import BorderError, UserError
from flywheel.core.progress import say
from flywheel.core.secrets import hide, without_secrets

T = TypeVar("T")
#: Kinds of stores; ``memory`` lies in this process. Others of fsspec have no listing, no time of change or no keys.
_SCHEMES = ("s3", "s3a", "gs", "gcs", "memory")
#: Tries of a request, and the seconds before the second one; each wait is twice the one before.
TRIES, WAIT_S = 6, 0.2
_MOST_WAIT_S = 10.0
#: So often a store that says 404 of an object that it has listed is asked again.
_DOUBTS = 2
#: Seconds until a connection stands, and without a byte of a reply.
_CONNECT_S, _READ_S = 10, 30
#: A URL as it is written, and as a path that it was taken for.
_URL = re.compile(r"([a-z][a-z0-9+\-]+):/{1,2}([^/].*)")
#: What clients say of a bucket that is not there; of an object they say its name alone.
_NO_BUCKET = "bucket does not exist"
#: Variables whose values no message may hold, should a client quote them.
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object as a listing has it: its bytes, and a word that changes with its content."""

    size: int
    version: str


def url_of(place: str | Path) -> str | None:
    """The URL of an object store that this names, without its last slash; None where it is a path.

    Raises UserError for one with a password in it.
    """
    match = _URL.fullmatch(str(place))
    if match is None or Path(place).exists():
        return None
    scheme, rest = match[1], match[2].strip("/")
    if "@" in rest.split("/")[0]:
        raise UserError(f"{scheme}://…: has a key in it. Credentials come from the environment alone.")
    return f"{scheme}://{rest}"


class Objects:
    """Files under one URL. Safe to use from many threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        scheme, _, self._base = url.partition("://")
        self._fs = _file_system(scheme, url)
        self._lock = threading.Lock()
        #: Requests that were made again, since this was opened.
        self.num_retries = 0

    def listing(self) -> dict[str, Entry]:
        """Name, below the URL -> what is there; an object that the URL itself names has none.

        Raises UserError for a name that is no file's below a folder: whoever may write there may write no other place.
        """
        found = self._asked("list", "", lambda: self._fs.find(self._base, detail=True)) or {}
        beginning = len(self._base.rstrip("/")) + 1
        names = {path: path.lstrip("/")[beginning:] for path in found}
        for name in names.values():
            if name and not name.endswith("/"):
                _check_inside(self.url, name)
        return {
            names[path]: Entry(size=int(entry["size"] or 0), version=_version(entry))
            for path, entry in found.items()
            # What consoles write for a folder ends with a slash.
            if entry["type"] == "file" and not path.endswith("/")
        }

    def has(self, name: str) -> bool:
        """Whether there is such an object."""
        return self._asked("look", name, lambda: bool(self._fs.exists(self._path(name))))

    def get(self, name: str, file: Path, *, is_listed: bool = False) -> Entry:
        """Bring an object here as a file, which appears whole or not at all; returns what it is.

        Raises FileNotFoundError where there is none; of one that ``is_listed`` only when it is said again.
        """
        with _errors_of(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")

        def fetch() -> Entry:
            entry = self._fs.info(self._path(name))
            self._fs.get_file(self._path(name), str(part))
            if part.stat().st_size != entry["size"]:
                raise _CutOff(f"{part.stat().st_size} of {entry['size']} bytes came")
            os.replace(part, file)
            return Entry(size=int(entry["size"]), version=_version(entry))

        try:
            return self._asked("read", name, fetch, here=file, doubts=_DOUBTS if is_listed else 0)
        finally:
            part.unlink(missing_ok=True)

    def put(self, file: Path, name: str, *, new: bool = False) -> Entry:
        """Write a file as an object; returns what it is then.

        With ``new`` nothing that is there is replaced: raises FileExistsError for another content's. Raises
        FileNotFoundError where the file is gone.
        """
        with _errors_of(file):
            size = file.stat().st_size

        def send() -> Entry:
            try:
                self._fs.put_file(str(file), self._path(name), mode="create" if new else "overwrite")
            except FileExistsError:
                # Of a try whose answer did not come: names of new files are used once.
                there = self._fs.info(self._path(name))["size"]
                if there != size or self._fs.cat_file(self._path(name)) != file.read_bytes():
                    raise
            entry = self._fs.info(self._path(name))
            if entry["size"] != size:
                raise _CutOff(f"{entry['size']} of {size} bytes are there")
            return Entry(size=size, version=_version(entry))

        # What was just written is there, whatever a 404 says.
        return self._asked("write", name, send, here=file, doubts=TRIES)

    def remove(self, name: str) -> None:
        """Remove an object, where there is one."""

        def gone() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

        self._asked("remove", name, gone)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _asked(self, what: str, name: str, ask: Callable[[], T], here: Path | None = None, doubts: int = 0) -> T:
        """What is asked for, by as many tries as it takes; ``here`` is the file of this host that it is about.

        So many tries do not believe that it is not there.
        """
        where = f"{self.url}/{name}" if name else self.url
        wait_s = WAIT_S
        for number in range(1, TRIES + 1):
            try:
                return ask()
            except Exception as error:
                # Clients raise what they like.
                end = self._end_of(error, what, where, here)
                if end is error and number <= doubts and _is_of_object(error, here):
                    end = None
                if end is error:
                    raise
                if end is not None:
                    raise end from error
                reason = _words_of(error)
                if number == TRIES:
                    raise BorderError(
                        f"{where}: {what} failed {TRIES} times ({reason}). Nothing written before is lost: run the "
                        "same command when the store answers.",
                        code="store",
                    ) from error
                with self._lock:
                    self.num_retries += 1
                say(f"{where}: {what} failed ({reason}), try {number + 1} of {TRIES}")
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _MOST_WAIT_S)
        raise AssertionError("the last try returns or raises")

    def _end_of(self, error: Exception, what: str, where: str, here: Path | None) -> Exception | None:
        """What a failed try ends with; None where another one may go better."""
        if here is not None and isinstance(error, OSError) and _is_of_this_host(error, here):
            return _local(error, here)
        if isinstance(error, FileNotFoundError) and _NO_BUCKET in str(error).lower():
            return UserError(f"{self.url}: there is no such bucket. Make it, or put the URL right.")
        if isinstance(error, FileNotFoundError | FileExistsError):
            return error
        if isinstance(error, PermissionError):
            return BorderError(
                f"{where}: access was refused (403) on {what}. Check the credentials in the environment, and what "
                "they may do in this bucket.",
                code="refused",
            )
        if "credentials" in (reason := _words_of(error)).lower():
            return BorderError(f"{self.url}: no credentials in the environment ({reason}).")
        return None


def _is_of_this_host(error: OSError, here: Path) -> bool:
    """Whether it is no fault of the store: a full disk, or one about the file or its folder. Stores' name no file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or str(error.filename or "").startswith(str(here.parent))


def _is_of_object(error: Exception, here: Path | None) -> bool:
    """Whether a store says that an object is not there."""
    return isinstance(error, FileNotFoundError) and (here is None or not _is_of_this_host(error, here))


def _local(error: OSError, here: Path) -> OSError | BorderError:
    """What a fault of this host's disk is to the caller; a file that is gone stays what it is."""
    if isinstance(error, FileNotFoundError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "Free space on the disk and run the same command; nothing written before is lost."
        return BorderError(f"{here}: no room for it ({error.strerror}). {mend}", code="full")
    mend = "Mend this and run the same command; nothing written before is lost."
    return BorderError(f"{error.filename or here}: {error.strerror}. {mend}", code="os")


@contextlib.contextmanager
def _errors_of(here: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (end := _local(error, here)) is error:
            raise
        raise end from error


class _CutOff(Exception):
    """An object came, or went, in part."""


def _check_inside(url: str, name: str) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise UserError(f"{url}: has an object {name!r}, which is no file's name below a folder. Rename or remove it.")


def _file_system(scheme: str, url: str) -> Any:
    import fsspec

    if scheme not in _SCHEMES:
        raise UserError(f"{url}: {scheme} is no kind of object store that is known. Those are s3:// and gs://.")
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        # Tries are counted here, and said.
        options["config_kwargs"] = {
            "retries": {"max_attempts": 0},
            "connect_timeout": _CONNECT_S,
            "read_timeout": _READ_S,
        }
    try:
        system = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        extra = " pip install 'video-dataflywheel[s3]'." if scheme in ("s3", "s3a") else " pip install gcsfs."
        raise UserError(f"{url}: {' '.join(str(error).split())}.{extra}") from error
    if hasattr(system, "retries"):
        system.retries = 1
    return system


def _version(entry: dict[str, Any]) -> str:
    names = ("ETag", "etag", "md5Hash", "mtime", "created")
    version = next((entry[name] for name in names if entry.get(name)), "")
    # fsspec's store in memory tells a time in two ways.
    return str(version.timestamp() if isinstance(version, datetime) else version).strip('"')


def _words_of(error: BaseException) -> str:
    """What a client raised, in one line and without a credential."""
    for name in _SECRETS:
        hide(os.environ.get(name, ""))
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)[:200]
