"""A dense caption: ``{"cues": [{"start_s", "end_s", "text"}]}``, in seconds from the clip's start."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flywheel.core.types import Cue
from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._timed import model_cue

#: How far (seconds) a person's cue may end beyond the clip: players round.
_ROUNDING_S = 0.05


def _cues(payload: Payload) -> tuple[Cue, ...]:
    return tuple(Cue(start_s=c["start_s"], end_s=c["end_s"], text=c["text"]) for c in payload["cues"])


def _words(payload: Payload) -> str:
    return " ".join(cue["text"] for cue in payload["cues"])


def _read(value: Mapping[str, Any], duration_s: float) -> tuple[Payload, str]:
    payload = _payload([model_cue(cue, duration_s) for cue in value["cues"]])
    return payload, _words(payload)


def _check(payload: Any, duration_s: float, clean: Clean) -> Payload:
    try:
        raw = [(float(c["start_s"]), float(c["end_s"]), c["text"]) for c in payload["cues"]]
        cues = [Cue(start_s=start_s, end_s=end_s, text=clean(text)) for start_s, end_s, text in raw]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the payload holds no cues ({type(error).__name__})") from error
    kept = _payload(cues)
    check_cues(_cues(kept), duration_s)
    return kept


def _payload(cues: Sequence[Cue]) -> Payload:
    """Cues in the order of time."""
    return {"cues": [asdict(cue) for cue in sorted(cues, key=lambda c: (c.start_s, c.end_s))]}


def check_cues(cues: Sequence[Cue], duration_s: float) -> None:
    """Raises ValueError for a cue outside the clip, without words, or overlapping the next. Times in seconds."""
    for cue in cues:
        if not 0 <= cue.start_s < cue.end_s <= duration_s + _ROUNDING_S:
            raise ValueError(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{cue.start_s:g}, {cue.end_s:g})")
        if not cue.text.strip():
            raise ValueError(f"the cue at {cue.start_s:g} s says nothing")
    for before, after in itertools.pairwise(cues):
        if after.start_s < before.end_s - 1e-6:
            raise ValueError(f"the cues at {before.start_s:g} s and {after.start_s:g} s overlap")


KIND = Kind(name="dense_caption", schema_key="cues", read=_read, words=_words, check=_check, editable=True, cues=_cues)
