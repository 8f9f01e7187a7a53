"""What a key of the configuration means: its values, its default, and what stands in a file."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flywheel.core.config.load import section_of
from flywheel.core.config.moves import new_key
from flywheel.core.config.sections import Config
from flywheel.core.config.written import choices_of
from flywheel.core.errors import UserError

#: The bounds of a number, by their names in its description.
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A key with its meaning, the values that it takes, its default, and its value here (None: no file)."""

    key: str
    meaning: str
    takes: str
    default: Any
    here: Any = None
    moved_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.key}: {self.meaning or 'see docs/config.md'}"]
        lines += [f"  {self.moved_from} is its name of before"] if self.moved_from else []
        lines += [f"  takes    {self.takes}"] if self.takes else []
        lines.append(f"  default  {_shown(self.default)}")
        lines += [f"  here     {_shown(self.here)}"] if self.here is not None else []
        return "\n".join(lines)


def explain(key: str, config: Config | None = None) -> list[Explained]:
    """What a key means; of a section all of its keys. ``config`` has the values of a file.

    Raises UserError for an unknown key, with the nearest name.
    """
    now = new_key(key)
    parts = now.split(".")
    fields, default, value, seen = Config.model_fields, Config(), config, list[str]()
    field: FieldInfo | None = None
    while parts and fields:
        name = parts.pop(0)
        if name not in fields:
            raise _unknown(key, name, seen, fields)
        seen.append(name)
        field = fields[name]
        default, value = getattr(default, name), None if value is None else getattr(value, name)
        section = section_of(field.annotation)
        fields = section.model_fields if section is not None else {}
        if name == "models":
            # A role, or the keys that each role has.
            role = parts.pop(0) if parts and parts[0] not in fields else "main"
            seen.append(role)
            default, value = default["main"], None if value is None else value.get(role)
    if parts or field is None:
        raise _unknown(key, ".".join(parts) or key, seen, {})
    if not fields:
        return [_explained(".".join(seen), field, default, value, key if now != key else "")]
    return [
        _explained(".".join([*seen, name]), each, getattr(default, name), _of(value, name))
        for name, each in fields.items()
    ]


def keys() -> list[str]:
    """Every key that there is, as ``section.key``; those of models as ``models.main.key``."""
    out: list[str] = []
    for name, field in Config.model_fields.items():
        section = section_of(field.annotation)
        place = "models.main" if name == "models" else name
        out += [f"{place}.{key}" for key in section.model_fields] if section is not None else []
    return out


def _explained(key: str, field: FieldInfo, default: Any, value: Any, before: str = "") -> Explained:
    plain = {"default": _plain(default), "here": _plain(value)}
    return Explained(key=key, meaning=field.description or "", takes=_takes(field), moved_from=before, **plain)


def _of(section: Any, name: str) -> Any:
    return getattr(section, name) if isinstance(section, BaseModel) else None


def _takes(field: FieldInfo) -> str:
    """The values that a field takes, in words; empty for any text."""
    if choices := choices_of(field.annotation):
        return ", ".join(choices)
    kinds: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true, false"}
    name = kinds.get(field.annotation, "")
    bounds = [f"{words} {bound:g}" for sign, words in _BOUNDS.items() if (bound := _bound(field, sign)) is not None]
    return f"{name} {' and '.join(bounds)}".strip() if name else ""


def _bound(field: FieldInfo, sign: str) -> float | None:
    values = (getattr(constraint, sign, None) for constraint in field.metadata)
    return next((float(value) for value in values if isinstance(value, int | float)), None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()


def _unknown(key: str, name: str, section: list[str], fields: Any) -> UserError:
    """The error for a key that there is not, with keys that were meant: near ones, or such whose last part it is."""
    near = [full for full in keys() if full.rpartition(".")[2] == name]
    near = near or [".".join([*section, n]) for n in difflib.get_close_matches(name, list(fields), n=1, cutoff=0.5)]
    near = near or difflib.get_close_matches(key, keys(), n=1, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near[:3])}?" if near else f"The sections are {', '.join(Config.model_fields)}."
    return UserError(f"config explain {key}: there is no such key. {hint}")
