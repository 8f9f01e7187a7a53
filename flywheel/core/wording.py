"""What is wrong with a checked value, in the words of whoever wrote it: what is expected, and what stands there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_MOST_SHOWN = 100
#: Parts of an error's path that name an alternative of ours and no key of the user's.
_ALTERNATIVES = frozenset({"int", "float", "str", "bool", "dict", "list", "constrained-int", "constrained-float"})
_A_LIST = "a list such as [a, b]"
_EXPECTED: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "number_expected"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "a text"),
    **dict.fromkeys(("tuple_type", "list_type", "iterable_type", "set_type"), _A_LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a section of keys"),
    "finite_number": "a finite number",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def keys_of(error: Mapping[str, Any]) -> list[object]:
    """The path of a pydantic error as keys and numbers of entries."""
    out = list(error["loc"])
    while out and isinstance(out[-1], str) and (out[-1] in _ALTERNATIVES or "[" in out[-1]):
        out.pop()
    return out


def wrong(
    error: ValidationError, written: Callable[[Sequence[object]], str | None] = lambda _: None
) -> tuple[list[object], str]:
    """The path of the first thing that is wrong, and what: what is expected there, and what was met.

    ``written`` gives the value at a path as it was written, or None where that is not known.
    """
    errors = error.errors(include_url=False)
    path = keys_of(errors[0])
    there = [e for e in errors if keys_of(e) == path]
    if errors[0]["type"] in ("value_error", "assertion_error", "extra_forbidden"):
        message = errors[0]["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return path, message
    expected = list(dict.fromkeys(text for e in there if (text := _expected(e))))
    if not expected:
        message = errors[0]["msg"]
        return path, f"{message[:1].lower()}{message[1:]}, got {_shown(errors[0]['input'])}"
    if errors[0]["type"] == "missing":
        return path, "is missing"
    return path, f"{' or '.join(expected)} is expected, got {_met(errors[0]['input'], written(path), expected)}"


def _expected(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return (
            f"a number {word} {context[key]:g}" if isinstance(context[key], int | float) else f"{word} {context[key]}"
        )
    if kind == "literal_error":
        return f"one of {context['expected']}" if " or " in context["expected"] else str(context["expected"])
    if kind == "enum":
        return f"one of {context['expected']}"
    if kind in ("too_short", "too_long"):
        count = context.get("min_length", context.get("max_length"))
        return f"a list with {'at least' if kind == 'too_short' else 'at most'} {count} in it"
    if kind == "string_too_short":
        return f"a text of at least {context['min_length']} characters"
    if kind == "string_too_long":
        return f"a text of at most {context['max_length']} characters"
    return "something" if kind == "missing" else ""


def _met(value: Any, written: str | None, expected: Sequence[str]) -> str:
    if value is None:
        return "nothing. Write one, or leave the line out"
    shown = _shown(value) if written is None else repr(written) if isinstance(value, str) else written[:_MOST_SHOWN]
    if expected == ["a text"] and isinstance(value, bool | int | float):
        return (
            f"{shown}, which is {'true or false' if isinstance(value, bool) else 'a number'} to YAML. Put it in quotes"
        )
    if isinstance(value, str) and "number" in expected[0] and ":" in value:
        return f"{shown}. A clock time is written in seconds"
    if isinstance(value, str) and "number" in expected[0] and "," in value:
        return f"{shown}. Decimals have a point"
    return shown


def _shown(value: Any) -> str:
    """A value that was given, at most 100 characters of it."""
    shown = repr(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
