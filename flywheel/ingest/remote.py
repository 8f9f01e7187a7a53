"""Sources on an object store: copied into the workspace's ``media/`` first, an object once for each content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.ingest.folders import CONTAINERS
from flywheel.ingest.items import VIDEO_SUFFIXES
from flywheel.ingest.passed import ending, is_hidden
from flywheel.store.objects import Objects

_THREADS = 8
#: The folder of a workspace into which objects are fetched.
FETCHED = "media/objects"
#: What each copy was when it was fetched, beside the copies: a line for each, the last of a name counts.
_FETCHED = ".fetched.jsonl"


def fetched(url: str, media_folder: Path, most: int | None = None) -> Path:
    """The folder, or the file, with copies of what lies at a URL; what was copied before and is the same stays.

    Of a folder of loose videos the first ``most`` are copied, in the order in which they are taken in; of one with
    tables, tars or metadata all is. Killed, the next call goes on: each copy is on record when it is whole. Raises
    UserError where nothing is there, BorderError where the store does not answer.
    """
    base, name = url, ""
    objects = Objects(base)
    there = objects.listing()
    if set(there) == {""}:
        base, name = url.rsplit("/", 1)
        objects, there = Objects(base), {name: there[""]}
    if not there:
        raise UserError(f"{url}: no such object, and none below it.")
    folder = media_folder / Path(FETCHED).name / hashlib.sha256(base.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _FETCHED
    known = _known(record)
    chosen = there if most is None else _first(there, most)
    wanted = [n for n in chosen if known.get(n) != there[n].version or not (folder / n).exists()]
    with written_whole(record) as place:
        place.write_text("".join(_line(*row) for row in known.items()))
    lock = threading.Lock()
    with ThreadPoolExecutor(_THREADS) as pool, progress("fetch", len(wanted)) as bar, record.open("a") as file:

        def fetch(one: str) -> None:
            entry = objects.get(one, folder / one, is_listed=True)
            with lock:
                file.write(_line(one, entry.version))
                file.flush()
            bar.advance()

        for _ in pool.map(fetch, wanted):
            pass
    return folder / name if name else folder


def _first(there: Iterable[str], most: int) -> list[str]:
    """The names of the first ``most`` videos, and of what is no video; all names where videos may be in containers."""
    names = sorted(there, key=_place)
    if any(ending(name) in CONTAINERS for name in names):
        return names
    videos = [name for name in names if ending(name) in VIDEO_SUFFIXES and not any(map(is_hidden, name.split("/")))]
    left_out = set(videos[most:])
    return [name for name in names if name not in left_out]


def _place(name: str) -> tuple[tuple[bool, str], ...]:
    """Sorts names as folders are walked: the files of a folder first, then its folders."""
    *folders, file = name.split("/")
    return (*((True, folder) for folder in folders), (False, file))


def _line(name: str, version: str) -> str:
    return json.dumps([name, version]) + "\n"


def _known(record: Path) -> dict[str, str]:
    """Name -> version of what is on record; a line that a kill cut off is not."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in record.read_text().splitlines():
            with contextlib.suppress(ValueError):
                name, version = json.loads(line)
                known[str(name)] = str(version)
    return known
