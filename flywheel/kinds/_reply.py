"""Reading a model's reply: JSON parsed, held to its schema, and handed to the kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema

from flywheel.core.border import is_of_one_item
from flywheel.core.errors import first_line
from flywheel.kinds._cleaning import Cleaned, cleaned, cleaned_structure, cleaned_words, without_marks
from flywheel.kinds._cutting import Span
from flywheel.kinds._kind import Kind
from flywheel.kinds._parsing import BrokenReply, Unusable, parse_caption

#: No text of a clip is as long; to look for marks in more would take seconds.
MOST_CHARS = 1 << 16


class TooLong(Unusable):
    """A reply that is longer than any text of a clip."""

    name = "too long"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply as it is kept: its words, and its structure as canonical JSON (empty for plain text).

    ``cut`` names what was cut from the raw reply (thoughts, talk, marks, …), ``kept`` are the spans of it that stay.
    """

    text: str
    payload: str = ""
    cut: tuple[str, ...] = ()
    kept: tuple[Span, ...] = ()


def read_reply(kind: Kind, text: str, *, schema: str, duration_s: float) -> Reply:
    """Read a reply of this kind. Errors are those of :func:`flywheel.kinds.read`."""
    if not text.strip():
        raise Unusable("the model wrote nothing")
    if len(text) > MOST_CHARS:
        raise TooLong(f"the reply has {len(text)} characters, at most {MOST_CHARS} are looked at")
    try:
        value, left = _parsed(text, schema) if kind.schema_key else _plain(text)
        payload, words = kind.read(value, duration_s)
        canonical = json.dumps(payload, ensure_ascii=False, sort_keys=True) if payload else ""
        canonical.encode("utf-8")
        return Reply(text=parse_caption(words), payload=canonical, cut=left.cut, kept=left.kept)
    except Unusable:
        raise
    except BaseException as error:
        # Values of another form raise anything, and so do kinds of other packages.
        if not is_of_one_item(error):
            raise
        raise BrokenReply(f"the reply is no {kind.name} ({type(error).__name__}: {first_line(error)})") from error


def read_as_it_is(text: str) -> Reply:
    """The words of a reply whatever its faults, without marks: of a text that is measured. Raises Unusable for none."""
    text = text[:MOST_CHARS]
    try:
        left = cleaned(text)
        return Reply(text=parse_caption(left.text), cut=left.cut, kept=left.kept)
    except Unusable:
        return Reply(text=parse_caption(without_marks(text)))


def _plain(text: str) -> tuple[str, Cleaned]:
    left = cleaned(text)
    return left.text, left


def _parsed(text: str, schema: str) -> tuple[Any, Cleaned]:
    """The JSON value of a reply, with or without talk and fences around it, and what is left of the reply."""
    value, left = cleaned_structure(text)
    if schema and (problem := _schema_problem(value, schema)):
        raise BrokenReply(f"the reply breaks its schema ({problem})")
    return _clean_texts(value), left


def _clean_texts(value: Any) -> Any:
    """A JSON value with each of its texts cleaned of thoughts, marks and formatting."""
    if isinstance(value, str):
        return cleaned_words(value)
    if isinstance(value, list):
        return [_clean_texts(part) for part in value]
    if isinstance(value, dict):
        return {key: _clean_texts(part) for key, part in value.items()}
    return value


def _schema_problem(value: Any, schema: str) -> str:
    """Where and how a value breaks its schema; empty where it does not."""
    try:
        problem = jsonschema.exceptions.best_match(_validator(schema).iter_errors(value))
        where = "" if problem is None else problem.json_path.removeprefix("$").lstrip(".")
    except RecursionError:
        return "nested too deeply"
    return "" if problem is None else f"{where + ': ' if where else ''}{problem.message[:200]}"


@lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema))
