"""Moves keys in a YAML file as text, so that comments, order and line ends stay.

Each key is moved by itself and the result is parsed: it must hold the values of before, under the new key. A key for
which that can't be done (anchors, aliases, a key that stands twice) is left where it is, and a note says so.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flywheel.core.errors import UserError, first_line
from flywheel.core.yaml_text import parsed_yaml

#: LibYAML, where PyYAML was built with it, reads ten times as fast; both count places in characters.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A rewritten file: what was done to which key, the difference, and the copy of the file as it was.

    ``backup`` is None where nothing was written.
    """

    file: Path
    notes: list[str]
    diff: str
    backup: Path | None


def migrate_file(file: Path, moves: Mapping[str, str], *, dry_run: bool = False) -> Migration:
    """Move keys in a config file, leaving a copy of it as it was beside it; ``dry_run`` writes nothing.

    Raises UserError where the file can't be read, holds no YAML sections, or can't be written.
    """
    file = file.resolve()
    try:
        before = file.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file. Make one with 'flywheel init'.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: can't be read ({first_line(error)}). Check that it is a text file in UTF-8."
        ) from error
    try:
        after, notes = moved(before, moves)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), file.name, f"{file.name} (migrated)"
    )
    diff = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    backup = None if dry_run or after == before else _replace(file, after)
    return Migration(file=file, notes=notes, diff=diff, backup=backup)


def _replace(file: Path, text: str) -> Path:
    """Write the file whole or not at all; returns the copy of it as it was."""
    backup = next(path for path in _backups(file) if not path.exists())
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        shutil.copy2(file, backup)
        temporary.write_bytes(text.encode("utf-8"))
        shutil.copymode(file, temporary)
        os.replace(temporary, file)
    except OSError as error:
        for unfinished in (temporary, backup):
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        raise UserError(f"{file}: can't be written ({error.strerror}). Check the folder and its disk.") from error
    return backup


def _backups(file: Path) -> Iterator[Path]:
    yield file.with_name(f"{file.name}.bak")
    number = 2
    while True:
        yield file.with_name(f"{file.name}.bak{number}")
        number += 1


def moved(text: str, moves: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with its keys at their new places, and a line for each key that stood at an old one.

    ``moves`` maps dotted keys. A key goes with its value, the comment behind it and the comment lines right above it.
    Where the new place is taken, that value stays and the old key goes. Raises UserError for a tab in an indentation
    and for text that is no YAML mapping.
    """
    _check_indentation(text)
    values = _parsed(text)
    notes: list[str] = []
    for source, target in moves.items():
        if _get(values, source) is _MISSING:
            continue
        taken = _get(values, target) is not _MISSING
        wanted = _with_moved(values, source, target)
        try:
            candidate = _attempt(text, source, None if taken else target, wanted)
        except _CannotMove as error:
            notes.append(f"{source}: left where it is ({error}). Move it to {target} by hand.")
            continue
        text, values = candidate, wanted
        notes.append(f"{source}: dropped, {target} is there already." if taken else f"{source}: is {target} now.")
    return text, notes


class _CannotMove(Exception):
    """A key that can't be moved as text; the message says why."""


_MISSING = object()


def _check_indentation(text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        indentation = line[: len(line) - len(line.lstrip())]
        if "\t" in indentation and line.strip():
            raise UserError(f"line {number}: a tab in the indentation. Write spaces.")


def _parsed(text: str) -> dict[str, Any]:
    try:
        values = parsed_yaml(text, twice=True)
    except ValueError as error:
        raise UserError(f"{error}. Fix it first.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"must hold sections such as 'corpus:', got {type(values).__name__}.")
    return values


def _get(values: Mapping[str, Any], path: str) -> Any:
    node: Any = values
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return _MISSING
        node = node[key]
    return node


def _with_moved(values: dict[str, Any], source: str, target: str) -> dict[str, Any]:
    """A copy of the values with the source's under the target, unless the target is there."""
    # Through text: what an anchor shares is one object, and only one of its places may change.
    wanted: dict[str, Any] = _unshared(values)
    *sections, key = source.split(".")
    node = wanted
    for section in sections:
        node = node[section]
    value = node.pop(key)
    *sections, key = target.split(".")
    node = wanted
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            # A value where a section should be: no text can be right.
            return wanted
    node.setdefault(key, value)
    return wanted


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return copy.copy(value)


def _attempt(text: str, source: str, target: str | None, wanted: dict[str, Any]) -> str:
    try:
        candidate = _move(text, source, target)
    except yaml.YAMLError:
        candidate = ""
    if not _means(candidate, wanted):
        raise _CannotMove("the file would not mean the same")
    return candidate


def _means(text: str, wanted: dict[str, Any]) -> bool:
    try:
        values = _parsed(text)
    except UserError:
        return False
    # nan is not equal to itself.
    return values == wanted or repr(values) == repr(wanted)


# Text. Nodes know where in the text they begin and end; a text is composed anew for every step.


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A key of a mapping with its value: nodes in a text."""

    section: yaml.MappingNode
    index: int

    @property
    def key(self) -> yaml.Node:
        node: yaml.Node = self.section.value[self.index][0]
        return node

    @property
    def value(self) -> yaml.Node:
        node: yaml.Node = self.section.value[self.index][1]
        return node


def _move(text: str, source: str, target: str | None) -> str:
    """The text with one key moved, or without it where there is no target. Raises _CannotMove."""
    entry, name = _find(text, source), _key_of(target or source)
    if _has_anchor(text, entry):
        raise _CannotMove("it has an anchor or an alias")
    if entry.section.flow_style:
        without, column = _cut_from_braces(text, entry), 0
        moving = [f"{name}: {_flow(entry.value)}{_newline(text)}"]
    else:
        first, last = _lines_of(text, entry)
        without, column = _cut_lines(text, entry, first, last), _column(entry.key)
        moving = _renamed(_lines(text)[first : last + 1], _line_at(text, _start(entry.key)) - first, entry.key, name)
        moving[-1] = moving[-1].rstrip("\r\n") + _newline(text)
    if target is None:
        return without
    return _insert(without, target, moving, column, _flow(entry.value), source.split(".")[0])


def _key_of(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _newline(text: str) -> str:
    """The line end that most lines have."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


@functools.lru_cache(maxsize=2)
def _events(text: str) -> tuple[yaml.Event, ...]:
    return tuple(yaml.parse(text, Loader=_LOADER))


@functools.lru_cache(maxsize=2)
def _root(text: str) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    return node


def _find(text: str, path: str) -> _Entry:
    node = _root(text)
    for key in path.split("."):
        if not isinstance(node, yaml.MappingNode):
            raise _CannotMove("its section is no mapping")
        places = [i for i, (k, _) in enumerate(node.value) if k.value == key]
        if len(places) != 1:
            raise _CannotMove("it stands twice" if places else "it comes from an anchor")
        entry = _Entry(section=node, index=places[0])
        node = entry.value
    return entry


def _has_anchor(text: str, entry: _Entry) -> bool:
    if _start(entry.value) < _start(entry.key):
        # An alias is its anchor's node.
        return True
    start, end = _start(entry.key), _end(text, entry.value)
    return any(getattr(event, "anchor", None) and start <= _start(event) < end for event in _events(text))


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends: blocks claim the comments and blank lines behind them."""
    kinds = (yaml.ScalarEvent, yaml.AliasEvent, yaml.SequenceEndEvent, yaml.MappingEndEvent)
    ends = [
        _stop(event)
        for event in _events(text)
        if isinstance(event, kinds) and _start(event) < _stop(event) and _start(node) <= _start(event) < _stop(node)
    ]
    return len(text[: max(ends)].rstrip()) if ends else _stop(node)


def _lines(text: str) -> list[str]:
    """The lines with their ends; of the characters that end a line in Unicode only the line feed counts."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _start(node: Any) -> int:
    """Where a node or event begins: the characters before it."""
    return int(node.start_mark.index)


def _stop(node: Any) -> int:
    """Where a node or event ends by its mark: the characters up to there."""
    return int(node.end_mark.index)


def _column(node: Any) -> int:
    return int(node.start_mark.column)


def _line_at(text: str, index: int) -> int:
    return text.count("\n", 0, index)


def _lines_of(text: str, entry: _Entry) -> tuple[int, int]:
    """First and last line of a key in a block: its comment lines above, its value, the comment behind it."""
    lines = _lines(text)
    first = key_line = _line_at(text, _start(entry.key))
    column = _column(entry.key)
    if lines[key_line][:column].strip():
        raise _CannotMove("it does not begin its line")
    last = _line_at(text, max(_end(text, entry.value), _stop(entry.key)))
    while first > 0 and lines[first - 1].startswith(" " * column + "#"):
        first -= 1
    return first, last


def _cut_lines(text: str, entry: _Entry, first: int, last: int) -> str:
    lines = _lines(text)
    if len(entry.section.value) == 1:
        # Nothing under a key would be null, which no section may be.
        header = next(key for key, value in _pairs(_root(text)) if _is_at(value, entry.section))
        number = _line_at(text, _start(header))
        colon = lines[number].index(":", _column(header) + _stop(header) - _start(header)) + 1
        lines[number] = f"{lines[number][:colon]} {{}}{lines[number][colon:]}"
    return "".join(lines[:first] + lines[last + 1 :])


def _is_at(node: yaml.Node, other: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and _start(node) == _start(other)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """All keys and values below a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, value
            yield from _pairs(value)


def _cut_from_braces(text: str, entry: _Entry) -> str:
    pairs = entry.section.value
    start, end = _start(entry.key), _end(text, entry.value)
    if entry.index + 1 < len(pairs):
        cut = start, _start(pairs[entry.index + 1][0])
    elif entry.index:
        cut = _end(text, pairs[entry.index - 1][1]), end
    else:
        cut = _start(entry.section) + 1, _stop(entry.section) - 1
    if "#" in text[cut[0] : start] + text[end : cut[1]]:
        raise _CannotMove("there are comments inside its braces")
    return text[: cut[0]] + text[cut[1] :]


def _flow(node: yaml.Node) -> str:
    """The value on one line, as it may stand between braces."""
    value = yaml.SafeLoader("").construct_document(node)
    dumped: str = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return dumped.strip()[1:-1]


def _renamed(lines: list[str], number: int, key: yaml.Node, name: str) -> list[str]:
    """The lines of a key, which stands on the line of this number, under another name."""
    line = lines[number]
    lines[number] = line[: _column(key)] + name + line[_column(key) + _stop(key) - _start(key) :]
    return lines


def _indented(lines: list[str], by: int) -> list[str]:
    if by >= 0:
        return [" " * by + line if line.strip() else line for line in lines]
    return [line[min(-by, len(line) - len(line.lstrip(" "))) :] for line in lines]


def _insert(text: str, target: str, lines: list[str], column: int, flow: str, after: str) -> str:
    """The text with a key's lines at its new place, in braces (``flow``) where that place has them."""
    *sections, name = target.split(".")
    node, depth, key = _root(text), 0, None
    while depth < len(sections) and isinstance(node, yaml.MappingNode):
        entry = next(((k, v) for k, v in node.value if k.value == sections[depth]), None)
        if entry is None:
            break
        (key, node), depth = entry, depth + 1
    missing = sections[depth:]
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        return _into_braces(text, node, [*missing, name], flow)
    if isinstance(node, yaml.MappingNode):
        indentation, line = _column(node), _line_at(text, _end(text, node))
        if depth == 0:
            line = _section_end(text, node, after)
    elif key is not None and isinstance(node, yaml.ScalarNode) and node.value == "":
        indentation, line = _column(key) + 2, _line_at(text, _stop(key))
    elif node is None:
        indentation, line = 0, -1
    else:
        raise _CannotMove("its new section is a value")
    headers = [f"{' ' * (indentation + 2 * i)}{section}:{_newline(text)}" for i, section in enumerate(missing)]
    block = headers + _indented(lines, indentation + 2 * len(missing) - column)
    old = _lines(text)
    if depth == 0 and line + 1 < len(old) and not old[line + 1].strip():
        # Sections are set apart by blank lines.
        block.insert(0, _newline(text))
    if old and line >= 0 and not old[line].endswith("\n"):
        old[line] += _newline(text)
    return "".join([*old[: line + 1], *block, *old[line + 1 :]])


def _section_end(text: str, root: yaml.MappingNode, name: str) -> int:
    """The last line of a section's text; of the last one where there is none of that name."""
    value = next((value for key, value in root.value if key.value == name), root)
    return _line_at(text, _end(text, value))


def _into_braces(text: str, node: yaml.MappingNode, names: list[str], flow: str) -> str:
    *sections, name = names
    added = "".join(f"{section}: {{" for section in sections) + f"{name}: {flow}" + "}" * len(sections)
    brace = _start(node) + 1
    return text[:brace] + added + (", " if node.value else "") + text[brace:]
