"""What a source names: videos with what it says of them, each where it really lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.core.foreign import without_hidden
from flywheel.core.types import Cue
from flywheel.ingest.links import Bounds, Links, is_of_a_store, leads_through_own_folders
from flywheel.ingest.notes import Note

VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
        ".gif",
        # Of camcorders, discs, broadcasts and older programs.
        ".3g2",
        ".apng",
        ".asf",
        ".divx",
        ".dv",
        ".f4v",
        ".m2t",
        ".m2v",
        ".mod",
        ".mpe",
        ".mpv",
        ".mts",
        ".mxf",
        ".nut",
        ".ogm",
        ".qt",
        ".tod",
        ".tp",
        ".trp",
        ".vob",
        ".xvid",
    )
)
#: Values of corpus.split_key that need no column.
FILE, FOLDER = "file", "folder"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How sources are read: what keeps videos together, and which links are followed."""

    split_key: str = FILE
    links: Links = "folders"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video to take in. ``problem`` is set where the source itself is at fault; then nothing else is looked at.

    What lies beside the video must lie within ``root``, where there is one. ``is_new_copy``: the file was taken out of
    a container for this item. ``shared`` is what the source says of ``corpus.split_key``: videos of which it says the
    same stay together. ``others`` counts texts that the source gives besides. ``cues`` are the transcript's, in seconds
    of the file. ``cut`` is a file of just this span, which the source names too.
    ``source`` is the table, tar, dataset or URL that names it; empty where that is the file itself.
    ``notes`` are of how its source was read. ``names_none``: the problem is that the row names no video.
    """

    path: Path
    transcript: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    shared: str = ""
    source: str = ""
    problem: str = ""
    root: Bounds | None = None
    is_new_copy: bool = False
    others: int = 0
    cues: tuple[Cue, ...] = ()
    cut: Path | None = None
    notes: tuple[Note, ...] = ()
    names_none: bool = False

    @property
    def span(self) -> tuple[float | None, float | None]:
        """Start and end in seconds that the source names, None where it does not."""
        return self.start_s, self.end_s

    @property
    def is_whole(self) -> bool:
        """Whether the source names no times."""
        return self.start_s is None and self.end_s is None


def found(named: Path, folder: Path, rules: Rules, **given: Any) -> Item:
    """The item of a file that a source names, or its problem where it can't be, or may not be taken.

    A file below the source's ``folder`` must really lie there. One elsewhere, which a table may name, must not be a
    link out of its own folder. A link into a store keeps its own name: the store's says nothing.
    """
    try:
        named = Path(os.path.abspath(named))
        path, inside = Path(os.path.realpath(named)), Path(os.path.realpath(folder))
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Item(path=named, problem="its name is no UTF-8; rename it")
    except (OSError, ValueError):
        return Item(path=folder, problem=f"{str(named)[:200]!r} can be no file's name")
    lies_below = named.is_relative_to(os.path.abspath(folder))
    by_folder = Path(os.path.realpath(named.parent))
    if rules.links == "folders" and lies_below and not by_folder.is_relative_to(inside):
        # A table names what lies in a linked folder.
        lies_below = not leads_through_own_folders(named, Path(os.path.abspath(folder)))
    bounds = Bounds(inside if lies_below else by_folder, rules.links == "folders")
    if rules.links != "follow" and not bounds.hold(path):
        return Item(path=named, problem="is a link out of its source (corpus.links: follow takes it)")
    if path.name != named.name and (is_of_a_store(path) or not path.is_relative_to(bounds.folder)):
        path = by_folder / named.name
    if "shared" not in given:
        given["shared"] = shared({}, path.parent.name, rules)
    return Item(path=path, root=bounds if rules.links != "follow" else None, **given)


def shared(row: Mapping[str, Any], folder: str, rules: Rules) -> str:
    """What videos share that must stay together; empty where that is the file alone."""
    if rules.split_key == FILE:
        return ""
    return folder if rules.split_key == FOLDER else without_hidden(str(row[rules.split_key]))
