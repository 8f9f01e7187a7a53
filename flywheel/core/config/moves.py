"""Keys that have moved: the old ones are understood for one release, with a line that names the new ones."""

from __future__ import annotations

from typing import Any

#: Old key -> new key.
MOVED: dict[str, str] = {
    "corpus.model": "models.main.folder",
    "pretrain.precision": "models.main.precision",
    **{
        f"annotate.{key}": f"models.main.{key}"
        for key in (
            "engine",
            "options",
            "servers",
            "concurrency",
            "timeout_s",
            "patience_s",
            "serve",
            "tolerance",
            "price_per_hour",
            "price_per_million_in",
            "price_per_million_out",
        )
    },
}


def new_key(key: str) -> str:
    """The key's place today, also for a part of an old one (``annotate.options.seed``)."""
    for old, new in MOVED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def move(raw: dict[str, Any]) -> dict[str, str]:
    """Move old keys of a parsed file to their new places; returns what to say of each.

    A new key wins over an old one, which is then said to be ignored.
    """
    moved = {}
    for old, new in MOVED.items():
        section, _, key = old.partition(".")
        values = raw.get(section)
        if not isinstance(values, dict) or key not in values:
            continue
        value = values.pop(key)
        moved[old] = new
        if (target := _section(raw, new.split(".")[:-1])) is not None:
            there = target.setdefault(new.rpartition(".")[2], value)
            if there != value:
                moved[old] = f"{new} (which is there too: {old} is ignored)"
    return moved


def _section(raw: dict[str, Any], path: list[str]) -> dict[str, Any] | None:
    """The mapping at this path, made where it is missing; None where something else stands in its way."""
    target = raw
    for part in path:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            return None
    return target
