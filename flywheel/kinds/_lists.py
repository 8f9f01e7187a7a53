"""Texts that are a list of parts, each with words of its own: what a shot's account and its checks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import parse_caption


def list_kind(
    name: str,
    *,
    of: str,
    cleaned: Callable[[Mapping[str, Any], Clean], Payload],
    words: Callable[[Payload], str],
    hints: tuple[str, ...],
) -> Kind:
    """The kind ``{OF: [{...}]}``, made of the texts ``hints`` alone.

    ``cleaned`` gives the payload with all words cleaned. It raises BrokenReply or Unusable for parts that can't be, and
    what it raises for a payload of another form (KeyError and its like) becomes a ValueError.
    """

    def read(value: Mapping[str, Any], _: float) -> tuple[Payload, str]:
        payload = cleaned(value, parse_caption)
        return payload, words(payload)

    def check(payload: Any, _: float, clean: Clean) -> Payload:
        try:
            return cleaned(payload, clean)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the payload holds no {of} ({type(error).__name__})") from error

    return Kind(name=name, schema_key=of, read=read, words=words, check=check, inputs=(), hints=hints)
