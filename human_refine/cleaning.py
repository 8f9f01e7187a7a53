"""Texts and cues as they are kept: folded, in order, and refused where they hold what nobody can see."""

from __future__ import annotations

import json

from flywheel import kinds
from flywheel.core.errors import UserError
from flywheel.core.types import Cue

#: Overrides and isolates of writing direction: with them a text can look other than it is.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: str, max_chars: int) -> str:
    """The text with white space folded.

    Raises ValueError for one that is too long or holds what nobody can see.
    """
    if "\x00" in text:
        raise ValueError("the text holds a NUL byte")
    if hidden := next((c for c in text if c in _DIRECTION), ""):
        raise ValueError(f"the text holds an invisible mark that turns the direction of writing (U+{ord(hidden):04X})")
    text = " ".join(text.split())
    if len(text) > max_chars:
        raise ValueError(f"the text has {len(text)} characters, at most {max_chars} are allowed (review.max_chars)")
    return text


def clean_payload(payload: str, kind: str, duration_s: float, max_chars: int) -> str:
    """The payload of an edit as it is kept. Raises ValueError where it does not fit the kind."""
    try:
        check = kinds.get(kind).check
    except UserError as error:
        # A kind whose plug-in is gone costs its rows and not the file.
        raise ValueError(str(error).rstrip(".")) from error
    if check is None:
        raise ValueError(f"a {kind} has no cues: give its text instead")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the payload is not JSON ({type(error).__name__})") from error
    kept = check(value, duration_s, lambda text: clean_text(text, max_chars))
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def cues_of(payload: str) -> list[Cue]:
    """The cues of a payload; none where it is empty."""
    return [Cue(**cue) for cue in json.loads(payload)["cues"]] if payload else []
