"""YAML that people and other people's packages wrote, read within bounds and by one set of rules.

YAML 1.1 and 1.2 read some plain words as different values, and neither says so. Here a plain word is a number where
both agree or people mean one (``1e-3``, ``1.5e3``, ``0o17``), a text where it is a date or a clock time, and an error
where two readers see two numbers (``010``). Keys are texts, and each stands once.
"""

from __future__ import annotations

import codecs
import copy
import re
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import yaml

_MOST_CHARS = 1 << 20
#: Values of a text, each counted as often as aliases repeat it: a few lines can stand for billions.
_MOST_VALUES = 100_000
_MOST_BRACKETS = 100
#: Texts up to this length are not read again when they come again: a program opens its workspace many times.
_KEPT_CHARS = 1 << 16
_TAG = "tag:yaml.org,2002:"
#: A number of this many digits and more is no count that somebody wrote with an exponent.
_MOST_EXPONENT = 15
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Signs in the parser's words, and ours. What it says of the place is said apart.
_PROBLEMS = (
    (r"found character '\\t'", "a tab, where YAML takes blanks alone. Put blanks in its place"),
    (r"expected a single document|but found another document", "a second document begins ('---'). Keep one to a file"),
    (r"mapping values are not allowed", "a ':' where no key can be. Indent the line like its neighbours, or quote it"),
    (r"could not find expected ':'", "a line without ': ' after its key"),
    (r"expected <block end>|expected the node content", "not indented like the lines above it, or not closed"),
    (r"found undefined alias", "a '*' that names nothing. Put a value that begins with it in quotes"),
    (r"unexpected end of stream", "a quote that is not closed"),
    (r"expected ',' or '[\]}]'", "a bracket that is not closed, or a ',' that is missing"),
    (r"cannot start any token", "a value that begins with a character such as '@', '`' or '%'. Put it in quotes"),
    (r"unknown escape|escape sequence", "a backslash in double quotes. Use single quotes"),
)


class _Loader(yaml.SafeLoader):
    """Builds plain values; keys are texts as they are written."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    twice = False

    def construct_document(self, node: yaml.Node) -> Any:
        return self.value_of(node)

    def value_of(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            self._check_keys(node)
            self.flatten_mapping(node)
            return {self._key(key): self.value_of(value) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value_of(part) for part in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return _SCALARS[node.tag](node)
        raise ValueError(f"{_line(node)}: the tag '{node.tag.removeprefix(_TAG)}' is not taken. Leave it out")

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[Hashable, yaml.Node] = {}
        for key, _ in node.value:
            name = self._key(key)
            if not self.twice and name in seen and key.tag != f"{_TAG}merge":
                raise ValueError(
                    f"{_line(key)}: '{name}' stands there twice (before in {_line(seen[name])}). Keep one of them"
                )
            seen[name] = key

    @staticmethod
    def _key(node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise ValueError(f"{_line(node)}: a key must be a text")
        return str(node.value)


def _number(node: yaml.ScalarNode) -> int | float:
    text = node.value.lower().replace("_", "")
    if text.lstrip("+-").startswith("."):
        text = text.replace(".inf", "inf").replace(".nan", "nan")
    if re.fullmatch(r"[-+]?0\d+", text):
        plain = text.lstrip("+-").lstrip("0") or "0"
        raise ValueError(
            f"{_line(node)}: {node.value} is a number with a leading zero, which some read as octal. "
            f"Write {plain}, or '{node.value}' in quotes for a text"
        )
    for prefix, base in (("0o", 8), ("0x", 16), ("0b", 2)):
        if text.lstrip("+-").startswith(prefix):
            return int(text.replace(prefix, "", 1), base)
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    whole = re.fullmatch(r"([-+]?\d+)e\+?(\d{1,2})", text)
    if whole and len(whole[1]) + int(whole[2]) <= _MOST_EXPONENT:
        return int(whole[1]) * int(10 ** int(whole[2]))
    return float(text)


_SCALARS: dict[str, Any] = {
    f"{_TAG}str": lambda node: str(node.value),
    f"{_TAG}null": lambda node: None,
    f"{_TAG}bool": lambda node: node.value.lower() in ("yes", "true", "on"),
    f"{_TAG}int": _number,
    f"{_TAG}float": _number,
}
_NUMBER = (
    r"[-+]?(?:0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"(?i:yes|no|true|false|on|off)", list("yYnNtTfFoO")),
    ("int", _NUMBER, list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"\A(?:{_pattern})\Z"), _first)


def parsed_yaml(text: str, *, twice: bool = False) -> Any:
    """The value of a YAML text; None where it is empty.

    Raises ValueError, in one line, for what is no YAML, holds a key twice (but with ``twice``, where the last one
    counts), is too long, nests too deeply, or stands for too many values.
    """
    return parsed_with_places(text, twice=twice)[0]


def parsed_with_places(text: str, *, twice: bool = False) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and its tree for :func:`place_of`. Raises ValueError as :func:`parsed_yaml` does."""
    text = text.removeprefix("\ufeff")
    value, node = _kept(text, twice) if len(text) <= _KEPT_CHARS else _parsed(text, twice)
    # Who asked may change the values.
    return copy.deepcopy(value), node


@lru_cache(maxsize=8)
def _kept(text: str, twice: bool) -> tuple[Any, yaml.Node | None]:
    return _parsed(text, twice)


def _parsed(text: str, twice: bool) -> tuple[Any, yaml.Node | None]:
    if len(text) > _MOST_CHARS:
        raise ValueError(f"longer than {_MOST_CHARS} characters")
    if _brackets(text) > _MOST_BRACKETS:
        # The scanner takes seconds to find out.
        raise ValueError("nested too deeply")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            if _count(node, {}) > _MOST_VALUES:
                raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")
            loader.twice = twice
            return loader.construct_document(node), node
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML{_explained(error)}") from error
    except RecursionError:
        raise ValueError("nested too deeply, or within itself") from None
    except (OverflowError, MemoryError) as error:
        raise ValueError(f"not valid YAML: {type(error).__name__}") from None


def place_of(node: yaml.Node | None, path: Sequence[object]) -> tuple[int, str | None, int]:
    """Where a key or an entry stands: its line (from 1; 0 for nowhere), its value as written, and how much of the path.

    The value is None where it is no scalar. What is missing is where the part of the path that is there stands.
    """
    line, depth = 0, 0
    for part in path:
        found = _child(node, part)
        if found is None:
            break
        key, node = found
        line, depth = key.start_mark.line + 1, depth + 1
    return line, str(node.value) if isinstance(node, yaml.ScalarNode) else None, depth


def decoded(raw: bytes) -> str:
    """The text of a file that people wrote, in UTF-8 or what its mark says. Raises ValueError with the place."""
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line}: not in {encoding.removesuffix('-sig').upper()}. Save the file as UTF-8"
        ) from None


def _child(node: yaml.Node | None, part: object) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in reversed(node.value) if getattr(k, "value", None) == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _explained(error: yaml.YAMLError) -> str:
    """Where and what is wrong, in words of ours where we have some."""
    said = " ".join(str(error).split())
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" in line {mark.line + 1}"
    known = next((ours for sign, ours in _PROBLEMS if re.search(sign, said)), None)
    problem = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or said
    return f"{where}: {known or problem[:300]}"


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _brackets(text: str) -> int:
    """How many brackets are open at most, wherever they stand."""
    open_now = most = 0
    for character in re.findall(r"[\[\]{}]", text):
        open_now += 1 if character in "[{" else -1
        most = max(most, open_now)
    return most


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for. Raises RecursionError for one that holds itself."""
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]
