"""YAML that people and other people's packages wrote, read within bounds."""

from __future__ import annotations

import re
from typing import Any

import yaml

_MOST_CHARS = 1 << 20
#: Values of a text, each counted as often as aliases repeat it: a few lines can stand for billions.
_MOST_VALUES = 100_000
_MOST_BRACKETS = 100


def parsed_yaml(text: str) -> Any:
    """The value of a YAML text; None where it is empty.

    Raises ValueError, in one line, for what is no YAML, is too long, nests too deeply, or stands for too many values.
    """
    if len(text) > _MOST_CHARS:
        raise ValueError(f"longer than {_MOST_CHARS} characters")
    if _brackets(text) > _MOST_BRACKETS:
        # The scanner takes seconds to find out.
        raise ValueError("nested too deeply")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _count(node, {}) > _MOST_VALUES:
                raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:500]}") from error
    except RecursionError:
        raise ValueError("nested too deeply, or within itself") from None
    except (OverflowError, MemoryError) as error:
        raise ValueError(f"not valid YAML: {type(error).__name__}") from None


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
