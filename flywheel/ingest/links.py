"""Which links of a source are followed: those by which people lay out their own folders, and no other.

A folder from elsewhere could name any file of the machine by a link. Two kinds of link are people's own layout:

- a link to a *folder*, made by who runs this or by the folder's owner; only videos in it and what lies beside these are
  read, and it is named when it is followed;
- a link to a file of a *store* that names files by their content's hash (model hubs, DVC, git-annex): nobody can guess
  such a name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flywheel.ingest.passed import is_hidden

Links = Literal["folders", "refuse", "follow"]
#: A hash without an ending, or a key of git-annex, which begins with the kind of its hash and the size.
_OF_A_STORE = re.compile(r"[0-9a-f]{6,128}|[A-Z0-9_]{3,20}-s\d{1,15}(?:-[a-zA-Z0-9-]{1,40})?--[^/]{1,255}")


@dataclass(frozen=True)
class Bounds:
    """What links may lead to: what really lies below ``folder``, and files of stores where ``stores``."""

    folder: Path
    stores: bool = False

    def hold(self, real: Path) -> bool:
        """Whether a link may lead to this real path."""
        return real.is_relative_to(self.folder) or (self.stores and is_of_a_store(real))


def is_of_a_store(real: Path) -> bool:
    """Whether a file has a name that only a store of contents gives."""
    return _OF_A_STORE.fullmatch(real.name) is not None


def refusal(link: str, above: frozenset[str], links: Links) -> str:
    """Why a link to a folder is not followed; empty where it is. ``above`` are the real folders on the way to it."""
    real = os.path.realpath(link)
    if links == "refuse":
        return "is a link to a folder (corpus.links: folders takes it)"
    if real in above:
        return "is a link to a folder above it"
    if any(folder.startswith(real.rstrip(os.sep) + os.sep) for folder in above):
        return "is a link to a folder that holds its source; name that folder as a source"
    if links == "follow" or _is_own(link):
        return ""
    return "is somebody else's link to a folder that is not theirs (corpus.links: follow takes it)"


def is_within(real: str, above: frozenset[str]) -> bool:
    """Whether a folder lies in one that is read, and would be come to there."""
    for folder in above:
        rest = real[len(folder) :] if real.startswith(folder.rstrip(os.sep) + os.sep) else None
        if rest is not None and not any(is_hidden(part) for part in rest.split(os.sep) if part):
            return True
    return False


def leads_through_own_folders(named: Path, folder: Path) -> bool:
    """Whether the way from a folder down to a name below it goes through people's own linked folders alone."""
    above = named.parents[: len(named.parts) - len(folder.parts) - 1]
    linked = [place for place in above if place.is_symlink()]
    return bool(linked) and all(map(_is_own, linked))


def _is_own(link: str | Path) -> bool:
    """Whether a link was made by who runs this, or by the owner of what it leads to."""
    try:
        return os.lstat(link).st_uid in (os.geteuid(), os.stat(link).st_uid)
    except OSError:
        return False
