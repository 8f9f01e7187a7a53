"""Spans of time as models write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flywheel.core.types import Cue
from flywheel.kinds._parsing import BrokenReply, parse_caption

#: How far (seconds) a model's cue may end beyond the clip; it is taken to end with the clip.
_GRACE_S = 0.25
_CLOCK = re.compile(r"(?:(\d{1,3}):)?([0-5]?\d):([0-5]?\d(?:\.\d{1,9})?)", re.A)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,17})?", re.A)


def model_cue(cue: Mapping[str, Any], duration_s: float) -> Cue:
    """One ``{"start_s", "end_s", "text"}`` of a reply as a cue of a clip of this length.

    Raises BrokenReply for times that are none or lie outside the clip, Unusable for a text without words.
    """
    start_s, end_s = _seconds(cue["start_s"]), _seconds(cue["end_s"])
    if not 0 <= start_s < end_s <= duration_s + _GRACE_S:
        raise BrokenReply(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{start_s:g}, {end_s:g})")
    if start_s >= duration_s:
        raise BrokenReply(f"the cue at {start_s:g} s begins at the clip's end")
    return Cue(start_s=start_s, end_s=min(end_s, duration_s), text=parse_caption(cue["text"]))


def _seconds(value: Any) -> float:
    """A time as models write it: a number, or a clock's ``[hours:]minutes:seconds``."""
    if isinstance(value, str) and (parts := _CLOCK.fullmatch(value.strip())) is not None:
        hours, minutes, seconds = parts.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        raise BrokenReply(f"a cue's time is no number of seconds: {str(value)[:40]!r}")
    return float(value)
