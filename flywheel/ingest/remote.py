"""Sources on an object store: copied into the workspace's ``media/`` first, an object once for each content."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.store.objects import Entry, Objects

_THREADS = 8
#: What each copy was when it was fetched, beside the copies.
_FETCHED = ".fetched.json"


def fetched(url: str, media_folder: Path) -> Path:
    """The folder, or the file, with copies of what lies at a URL; what was copied before and is the same stays.

    Killed, the next call goes on. Raises UserError where nothing is there, BorderError where the store does not answer.
    """
    base, name = url, ""
    objects = Objects(base)
    there = objects.listing()
    if set(there) == {""}:
        base, name = url.rsplit("/", 1)
        objects, there = Objects(base), {name: there[""]}
    if not there:
        raise UserError(f"{url}: no such object, and none below it.")
    folder = media_folder / "objects" / hashlib.sha256(base.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _FETCHED
    known = _known(record)
    wanted = [n for n, entry in there.items() if known.get(n) != entry.version or not (folder / n).exists()]
    with ThreadPoolExecutor(_THREADS) as pool, progress("fetch", len(wanted)) as bar:

        def fetch(one: str) -> Entry:
            entry = objects.get(one, folder / one)
            bar.advance()
            return entry

        try:
            for one, entry in zip(wanted, pool.map(fetch, wanted), strict=True):
                known[one] = entry.version
        finally:
            with written_whole(record) as place:
                place.write_text(json.dumps(known))
    return folder / name if name else folder


def _known(record: Path) -> dict[str, str]:
    try:
        return {str(name): str(version) for name, version in json.loads(record.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}
