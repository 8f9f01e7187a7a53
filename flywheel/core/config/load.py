"""From a file and overrides to a checked configuration; what is wrong with it becomes one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from flywheel.core.config.moves import MOVED, move, new_key
from flywheel.core.config.sections import Config, Rounds
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.wording import wrong
from flywheel.core.yaml_text import decoded, parsed_with_places, parsed_yaml, place_of

FILE_NAME = "flywheel.yaml"
#: What a file holds instead of sections, in words.
_KINDS: Mapping[type, str] = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}
#: Files, and keys after --set, whose old names were said already: once a process is enough.
_named: set[str] = set()


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a config file and apply ``section.key=value`` overrides.

    Raises UserError with where, what and a mend.
    """
    raw, tree = _read(path)
    moved = move(raw)
    for override in overrides or []:
        _apply(raw, override)
    given = [new_key(override.partition("=")[0]) for override in overrides or []]
    config = parse_config(raw, path.name, _Places(tree, given))
    _name_old_keys(path, moved, overrides or [])
    return config


class _Places:
    """Where values of a configuration were written: in a line of its file, or after ``--set``."""

    def __init__(self, tree: yaml.Node | None = None, given: Sequence[str] = ()) -> None:
        self._tree, self._given = tree, given

    def written(self, path: Sequence[object]) -> str | None:
        """The value as it stands in the file; None where that is not known."""
        return None if self._after_set(path) else self._found(path)[1]

    def where(self, path: Sequence[object]) -> str:
        """The place, in brackets behind a blank; empty where it is not known."""
        if self._after_set(path):
            return " (given with --set)"
        line, _, depth, name = self._found(path)
        if not line or not depth:
            return ""
        return f" (line {line})" if name == _dotted(path) else f" (line {line}, as {name})"

    def _after_set(self, path: Sequence[object]) -> bool:
        return any(f"{_dotted(path)}.".startswith(f"{key}.") for key in self._given)

    def _found(self, path: Sequence[object]) -> tuple[int, str | None, int, str]:
        """The deepest place that is there, of the key by its name of today or of old."""
        name = _dotted(path)
        old_names = (old + name.removeprefix(new) for old, new in MOVED.items() if f"{name}.".startswith(f"{new}."))
        found = []
        for each in (name, *old_names):
            parts = [int(part) if part.isdigit() else part for part in each.split(".")]
            line, raw, depth = place_of(self._tree, parts)
            found.append((depth == len(parts), depth, line, raw, each))
        whole, depth, line, raw, each = max(found, key=lambda f: f[:2])
        return line, raw if whole else None, depth, each


def _dotted(path: Sequence[object]) -> str:
    return ".".join(map(str, path))


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
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        raw, tree = parsed_with_places(decoded(path.read_bytes()))
    except (FileNotFoundError, IsADirectoryError) as error:
        if folder := next((place for place in (path, path.parent) if place.name == FILE_NAME and place.is_dir()), None):
            raise UserError(f"{folder}: is a folder, and no configuration. Remove or rename it.") from error
        raise UserError(f"{path}: no such file. Make one with 'flywheel init'.") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error}).") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
    if raw is not None and not isinstance(raw, dict):
        raise UserError(f"{path}: must hold sections such as 'corpus:', got {_KINDS.get(type(raw), 'something else')}.")
    return raw or {}, tree


def parse_config(raw: dict[str, Any], where: str = FILE_NAME, places: _Places | None = None) -> Config:
    """Check plain values. Raises UserError for the first that is wrong."""
    raw = _with_plugins(raw)
    move(raw)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error, places or _Places())}") from error


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
    target[keys[-1]] = _value_of(override, value)


def _value_of(override: str, value: str) -> Any:
    """The value after ``--set key=``, by the rules of the file; a text that YAML would cut or misread is that text."""
    plain = value.strip()
    if not plain:
        return ""
    try:
        parsed = parsed_yaml(value)
    except ValueError as error:
        if plain[0] in "*@%`|>-?,#":
            return plain
        raise UserError(f"--set {override}: {error}.") from error
    if (parsed is None and plain.startswith("#")) or (isinstance(parsed, str) and plain[0] not in "'\""):
        # A '#' is no comment here.
        return plain
    return parsed


def _explain(error: ValidationError, places: _Places) -> str:
    path, message = wrong(error, places.written)
    where, keys = places.where(path), [str(key) for key in path]
    dotted = ".".join(keys)
    if error.errors()[0]["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _fields(keys[:-1]), n=1, cutoff=0.5)
        if near:
            return f"{dotted}: unknown key. Did you mean '{near[0]}'?{where}"
        way = f"config explain {keys[0]}" if keys[0] in Config.model_fields else "config template"
        return f"{dotted}: unknown key. 'flywheel {way}' lists all.{where}"
    return f"{dotted}: {message[:1].lower() + message[1:]}{where}."


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
