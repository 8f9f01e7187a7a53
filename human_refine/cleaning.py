"""Texts and cues as they are kept: folded, in order, and refused where they hold what nobody can see."""

from __future__ import annotations

import json
from dataclasses import asdict

from flywheel.core.types import Cue
from flywheel.formats.subtitles import check_cues

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
    """The payload of an edit as JSON with its cues in order. Raises ValueError where it does not fit the kind."""
    if kind != "dense_caption":
        raise ValueError(f"a {kind} has no cues: give its text instead")
    try:
        cues = [
            Cue(start_s=float(c["start_s"]), end_s=float(c["end_s"]), text=clean_text(c["text"], max_chars))
            for c in json.loads(payload)["cues"]
        ]
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"the payload holds no cues ({type(error).__name__})") from error
    cues.sort(key=lambda c: (c.start_s, c.end_s))
    check_cues(cues, duration_s)
    return json.dumps({"cues": [asdict(c) for c in cues]}, ensure_ascii=False, sort_keys=True)


def cues_of(payload: str) -> list[Cue]:
    """The cues of a payload; none where it is empty."""
    return [Cue(**cue) for cue in json.loads(payload)["cues"]] if payload else []
