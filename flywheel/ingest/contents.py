"""What lies in a folder: its folders and files, what describes them, and whether loose videos are among them."""

from __future__ import annotations

import os
from pathlib import Path

from flywheel.ingest.items import VIDEO_SUFFIXES
from flywheel.ingest.passed import ending, is_hidden

#: What describes the videos of its folder, and of the folders below; the first that is there is read.
METADATA = ("metadata.jsonl", "metadata.parquet", "metadata.csv")
#: Lists beside a folder of the videos that they name, as datasets of conversations have them.
_LISTS = ("data.json", "train.jsonl", "train.json", "data.jsonl", "annotations.json", "tasks.json")
_OF_LISTS = ("videos", "video", "clips")


def listed(folder: str) -> tuple[list[os.DirEntry[str]], list[str]]:
    """The folders in a folder, and the names of all else, sorted."""
    folders: list[os.DirEntry[str]] = []
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_folder(entry):
                folders.append(entry)
            else:
                names.append(entry.name)
    return sorted(folders, key=lambda entry: entry.name), sorted(names)


def described(folder: Path) -> str:
    """The name of what describes a folder; empty where nothing does."""
    return next((name for name in METADATA if (folder / name).exists()), "")


def first_of(wanted: tuple[str, ...], names: list[str]) -> str:
    """The first wanted name that is there; empty where none is."""
    return next((name for name in wanted if name in names), "")


def list_beside(names: list[str], folders: list[os.DirEntry[str]]) -> str:
    """The name of a list beside a folder of its videos; empty where there is none, or videos lie here too."""
    if not any(entry.name in _OF_LISTS for entry in folders) or any(ending(name) in VIDEO_SUFFIXES for name in names):
        return ""
    return first_of(_LISTS, names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_beside(name: str, stems: set[str]) -> bool:
    """Whether a file of words lies beside a video: ``a.txt``, ``a.mp4.txt`` or ``a.en.srt`` beside ``a.mp4``."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in stems:
            return True
    return False


def holds_videos(folder: Path) -> bool:
    """Whether a video lies in the folder, or below it or its linked folders."""
    seen = {os.path.realpath(folder)}

    def is_new(path: str) -> bool:
        real = os.path.realpath(path) if os.path.islink(path) else ""
        if real in seen:
            return False
        seen.update([real] if real else [])
        return True

    for place, folders, names in os.walk(folder, followlinks=True):
        if any(ending(name) in VIDEO_SUFFIXES and not is_hidden(name) for name in names):
            return True
        folders[:] = [name for name in folders if not is_hidden(name) and is_new(os.path.join(place, name))]
    return False
