"""Presets: a data file each, with a model's configuration and what the memory plan makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flywheel.core.errors import UserError
from flywheel.core.yaml_text import parsed_yaml

#: Where the files are.
FOLDER = Path(__file__).parent


def preset_file(name: str) -> Path:
    """The file of a preset. Raises UserError with the names that there are."""
    if name not in list(PRESETS):
        raise UserError(f"--preset {name}: unknown. There are {', '.join(PRESETS)}.")
    return FOLDER / f"{name}.yaml"


@lru_cache
def preset(name: str) -> Mapping[str, Any]:
    """All of a preset's file: ``config``, and for real models ``model``, ``shape``, ``clip`` and ``expected``.

    Raises UserError for an unknown one.
    """
    return dict(parsed_yaml(preset_file(name).read_text(encoding="utf-8")))


class _Presets(Mapping[str, Mapping[str, Any]]):
    """Name -> the configuration's values; a file is read when it is asked for."""

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in list(self):
            raise KeyError(name)
        return dict(preset(name)["config"])

    def __iter__(self) -> Iterator[str]:
        # The offline one first: it is the default.
        return iter(sorted((f.stem for f in FOLDER.glob("*.yaml")), key=lambda name: (name != "playground", name)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


PRESETS: Mapping[str, Mapping[str, Any]] = _Presets()
