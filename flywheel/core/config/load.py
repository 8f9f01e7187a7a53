"""From a file and overrides to a checked configuration; what is wrong with it becomes one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flywheel.core.config.moves import move, new_key
from flywheel.core.config.sections import Config, Rounds
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.yaml_text import parsed_yaml

FILE_NAME = "flywheel.yaml"
_MOST_SHOWN = 100
#: Files, and keys after --set, whose old names were said already: once a process is enough.
_named: set[str] = set()


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a config file and apply ``section.key=value`` overrides.

    Raises UserError with where, what and a mend.
    """
    raw = read_raw(path)
    moved = move(raw)
    for override in overrides or []:
        _apply(raw, override)
    config = parse_config(raw, path.name)
    _name_old_keys(path, moved, overrides or [])
    return config


def _name_old_keys(path: Path, moved: Mapping[str, str], overrides: Iterable[str]) -> None:
    if moved and str(path) not in _named:
        names = ", ".join(f"{old} is {new}" for old, new in moved.items())
        say(f"{path.name}: old keys: {names} now. 'flywheel config migrate' rewrites the file.")
        _named.add(str(path))
    given = [override.partition("=")[0] for override in overrides]
    old = {key: new_key(key) for key in given if new_key(key) != key}
    if old.keys() - _named:
        say(f"--set: old keys: {', '.join(f'{key} is {new}' for key, new in old.items())} now.")
        _named.update(old)


def read_raw(path: Path) -> dict[str, Any]:
    """A config file's plain values. Raises UserError for one that can't be read or is no mapping."""
    try:
        raw = parsed_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Make one with 'flywheel init'.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}).") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must hold sections such as 'corpus:', got {type(raw).__name__}.")
    return raw


def parse_config(raw: dict[str, Any], where: str = FILE_NAME) -> Config:
    """Check plain values. Raises UserError for the first that is wrong."""
    raw = _with_plugins(raw)
    move(raw)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error)}") from error


def _with_plugins(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the sections of other packages' stages set apart: those that ``rounds.stages`` names."""
    rounds = raw.get("rounds")
    named = rounds.get("stages") if isinstance(rounds, Mapping) else None
    stages = {name for name in named if isinstance(name, str)} if isinstance(named, list | tuple) else set()
    foreign = {name for name in stages if name not in Config.model_fields and name not in Rounds().stages}
    copied = {name: dict(v) if isinstance(v, Mapping) else v for name, v in raw.items() if name not in foreign}
    plugins = dict(copied.get("plugins") or {}) if isinstance(copied.get("plugins"), Mapping | None) else {}
    plugins |= {name: raw[name] for name in foreign if name in raw}
    return {**copied, "plugins": plugins} if plugins else copied


def _apply(raw: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = new_key(path).split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise UserError(f"--set {override}: must look like section.key=value, for instance loss.name=mle.")
    target = raw
    for key in keys[:-1]:
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise UserError(f"--set {override}: {key} is a value, not a section.")
    try:
        target[keys[-1]] = parsed_yaml(value)
    except ValueError as error:
        raise UserError(f"--set {override}: the value is not valid YAML.") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    keys = [str(key) for key in first["loc"]]
    path = ".".join(keys)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _fields(keys[:-1]), n=1, cutoff=0.5)
        if near:
            return f"{path}: unknown key. Did you mean '{near[0]}'?"
        return f"{path}: unknown key. 'flywheel config template' lists all."
    message = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] == "value_error" else f", got {_shown(first['input'])}"
    return f"{path}: {message[:1].lower() + message[1:]}{got}."


def _shown(value: Any) -> str:
    """A value that was given, at most 100 characters of it."""
    shown = repr(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"


def _fields(path: list[str]) -> list[str]:
    """The keys that a section has; none where the path is no section."""
    model: type[BaseModel] | None = Config
    for key in path:
        field = model.model_fields.get(key) if model is not None else None
        if field is None:
            # A role below `models`: its keys are those of the mapping's values.
            continue
        model = section_of(field.annotation)
    return list(model.model_fields) if model is not None else []


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, itself or as the values of a mapping; None for a plain value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
