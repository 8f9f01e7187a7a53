"""Folders that ``datasets`` wrote: their Arrow files, read without it, which would decode what nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.core.errors import UserError, first_line
from flywheel.core.foreign import parsed_json
from flywheel.ingest.items import Item, Rules
from flywheel.ingest.tables import table

#: Files of a folder that ``datasets`` wrote.
STATE, SPLITS = "state.json", "dataset_dict.json"


def hf_dataset(folder: Path, media_folder: Path, rules: Rules) -> Iterator[Item]:
    """The items of a dataset that 'datasets' wrote; a file of it that can't be read is one rejected item.

    Raises UserError where none can be read, or it holds no videos.
    """
    broken: list[tuple[Path, UserError]] = []
    any_item = False
    for file in _arrow_files(folder):
        try:
            for item in table(file, folder, media_folder, rules):
                any_item = True
                yield item
        except UserError as error:
            broken.append((file, error))
    if broken and not any_item:
        raise broken[0][1]
    for file, problem in broken:
        yield Item(path=file, problem=str(problem).removesuffix("."))


def _arrow_files(folder: Path) -> list[Path]:
    """The files of a dataset's rows, in their order."""
    try:
        if (folder / SPLITS).exists():
            splits = parsed_json((folder / SPLITS).read_bytes())["splits"]
            return [file for split in splits for file in _of_state(folder / Path(split).name)]
        return _of_state(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a dataset that 'datasets' can load ({first_line(error)}).") from error


def is_dataset(folder: Path) -> bool:
    """Whether 'datasets' wrote a folder; others have a ``state.json`` too."""
    if not (folder / STATE).exists() and not (folder / SPLITS).exists():
        return False
    try:
        return bool(_arrow_files(folder))
    except UserError:
        return False


def _of_state(folder: Path) -> list[Path]:
    state = parsed_json((folder / STATE).read_bytes())
    return [folder / Path(file["filename"]).name for file in state["_data_files"]]
