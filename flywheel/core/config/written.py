"""Values as people write them, before they are checked: empty sections, one text for a list, words for numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUseDefault

#: A number in quotes is a number where one goes.
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")


def as_written(value: Any, field: FieldInfo) -> Any:
    """The value to check for a field. Raises PydanticCustomError for a word that would pass for a number."""
    kinds = _kinds(field.annotation)
    if value is None and type(None) not in kinds and any(_is_section(kind) for kind in kinds):
        # Its keys are comments: a section, a list or options that are all left out.
        if field.is_required():
            return {}
        raise PydanticUseDefault
    if isinstance(value, str) and tuple in kinds and str not in kinds:
        return _one_for_many(value)
    if kinds & {int, float}:
        _check_number(value, kinds)
    if isinstance(value, Mapping) and _holds_models(field.annotation):
        return {name: {} if part is None else part for name, part in value.items()}
    if isinstance(value, Mapping) and kinds & {dict, Mapping}:
        _check_finite(value)
    return value


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The words that a field takes, and what it takes beside them; none where it takes any value of a kind."""
    if str(get_origin(annotation)) == "typing.Literal":
        return tuple(str(value) for value in get_args(annotation))
    if get_origin(annotation) not in (Union, type(int | str)):
        return ()
    words = [word for part in get_args(annotation) for word in choices_of(part)]
    return (*words, "a number") if words and int in get_args(annotation) else tuple(words)


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field takes: those of a union each, of a literal its values'."""
    if get_origin(annotation) in (Union, type(int | str)):
        return set().union(*(_kinds(part) for part in get_args(annotation)))
    if str(get_origin(annotation)) == "typing.Literal":
        return {type(part) for part in get_args(annotation)}
    return {get_origin(annotation) or annotation}


def _is_section(kind: Any) -> bool:
    return kind in (tuple, dict, Mapping) or (isinstance(kind, type) and issubclass(kind, BaseModel | Mapping))


def _holds_models(annotation: Any) -> bool:
    return any(isinstance(part, type) and issubclass(part, BaseModel) for part in get_args(annotation))


def _one_for_many(value: str) -> tuple[str, ...]:
    if "," in value and "://" not in value:
        parts = ", ".join(part.strip() for part in value.split(","))
        raise PydanticCustomError("value_error", "a list is expected: write [{parts}]", {"parts": parts})
    return (value,) if value.strip() else ()


def _check_number(value: Any, kinds: set[Any]) -> None:
    if isinstance(value, bool) and bool not in kinds:
        raise PydanticCustomError("int_type" if float not in kinds else "float_type", "a number is expected")
    if isinstance(value, str) and str not in kinds and not _NUMBER.fullmatch(value.strip()):
        raise PydanticCustomError("int_parsing" if float not in kinds else "float_parsing", "a number is expected")


def _check_finite(value: Any) -> None:
    """Raise PydanticCustomError for a number within that is none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("value_error", "{value} is no finite number", {"value": value})
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_finite(part)
