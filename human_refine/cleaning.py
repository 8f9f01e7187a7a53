"""Texts and cues as they are kept: folded, in order, and refused where they hold what nobody can see."""

from __future__ import annotations

import json
import unicodedata

from flywheel import kinds
from flywheel.core.errors import UserError
from flywheel.core.foreign import hidden_character, parsed_json
from flywheel.core.types import Cue


def clean_text(text: str, max_chars: int) -> str:
    """The text with white space folded.

    Raises ValueError for one that is too long or holds what nobody can see.
    """
    if hidden := hidden_character(text):
        name = unicodedata.name(hidden, "a control character").lower()
        raise ValueError(f"the text holds what nobody can see (U+{ord(hidden):04X}, {name}); type it anew")
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
        value = parsed_json(payload)
    except ValueError as error:
        raise ValueError(f"the payload is not JSON ({error})") from error
    kept = check(value, duration_s, lambda text: clean_text(text, max_chars))
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def cues_of(payload: str) -> list[Cue]:
    """The cues of a payload; none where it is empty."""
    return [Cue(**cue) for cue in json.loads(payload)["cues"]] if payload else []
