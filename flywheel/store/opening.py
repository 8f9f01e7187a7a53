"""Workspaces at the URL of an object store: where this host has its copies of one, and how a new one begins."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.store.mirror import URL_FILE
from flywheel.store.objects import Objects, url_of


def place_of(url: str) -> Path:
    """The folder of this host for the workspace at a URL: below ``$FLYWHEEL_CACHE``, else the user's cache."""
    base = os.environ.get("FLYWHEEL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "flywheel"
    name = f"{url.rsplit('/', 1)[-1]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    return Path(base).expanduser() / "workspaces" / name


def opened(place: str | Path) -> Path:
    """The path to open: of a URL this host's folder, with the workspace's ``flywheel.yaml`` in it; else the same path.

    Raises UserError where there is no workspace at the URL.
    """
    url = url_of(place)
    if url is None:
        return Path(place)
    name = url.removesuffix("/flywheel.yaml")
    folder = place_of(name)
    if not (folder / "flywheel.yaml").exists():
        try:
            Objects(name).get("flywheel.yaml", folder / "flywheel.yaml")
        except FileNotFoundError as error:
            raise UserError(f"{name}: no flywheel.yaml is there. Make one: flywheel init {name}") from error
    # Only where it differs, and whole: others read it meanwhile.
    if not (folder / URL_FILE).exists() or (folder / URL_FILE).read_text() != name:
        with written_whole(folder / URL_FILE) as file:
            file.write_text(name)
    return folder


def created(url: str, name: str, text: str) -> str:
    """Writes the config of a new workspace at a URL; returns its URL. Raises UserError where there is one."""
    place = place_of(url) / f".new-{name}-{uuid.uuid4().hex[:8]}.part"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.write_text(text)
        store = Objects(url)
        if store.has(name):
            raise FileExistsError(name)
        store.put(place, name, new=True)
    except FileExistsError as error:
        raise UserError(f"{url}/{name}: exists already. Edit it, or name another place.") from error
    finally:
        place.unlink(missing_ok=True)
    return f"{url}/{name}"
