"""Reading a model's reply: JSON parsed, held to its schema, and handed to the kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema

from flywheel.core.border import is_of_one_item
from flywheel.core.errors import first_line
from flywheel.core.foreign import parsed_json
from flywheel.kinds._kind import Kind
from flywheel.kinds._parsing import BrokenReply, Unusable, parse_caption

_FENCE = "```"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply as it is kept: its words, and its structure as canonical JSON (empty for plain text)."""

    text: str
    payload: str = ""


def read_reply(kind: Kind, text: str, *, schema: str, duration_s: float) -> Reply:
    """Read a reply of this kind. Errors are those of :func:`flywheel.kinds.read`."""
    if not text.strip():
        raise Unusable("the model wrote nothing")
    try:
        value = _parsed(text, schema) if kind.schema_key else text
        payload, words = kind.read(value, duration_s)
        canonical = json.dumps(payload, ensure_ascii=False, sort_keys=True) if payload else ""
        canonical.encode("utf-8")
        return Reply(text=parse_caption(words), payload=canonical)
    except Unusable:
        raise
    except BaseException as error:
        # Values of another form raise anything, and so do kinds of other packages.
        if not is_of_one_item(error):
            raise
        raise BrokenReply(f"the reply is no {kind.name} ({type(error).__name__}: {first_line(error)})") from error


def _parsed(text: str, schema: str) -> Any:
    """The JSON value of a reply, with or without a Markdown fence around it."""
    try:
        value = parsed_json(_without_fence(text.strip()))
    except ValueError as error:
        raise BrokenReply(f"the reply is not JSON ({error})") from error
    if schema and (problem := _schema_problem(value, schema)):
        raise BrokenReply(f"the reply breaks its schema ({problem})")
    return value


def _without_fence(text: str) -> str:
    """What stands between Markdown's fences, or the text itself."""
    if len(text) < 2 * len(_FENCE) or not text.startswith(_FENCE) or not text.endswith(_FENCE):
        return text
    return text[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()


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
