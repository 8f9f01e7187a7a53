"""Noise planted in the transcripts of the audio-visual world: an uploader's mistakes in five kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from flywheel.playground.av.grammar import caption, heard_text, seen_text
from flywheel.playground.av.kinds import COLOURS, KINDS, MAX_COUNT, PITCHES, SIDES, SIZES
from flywheel.playground.av.timeline import Timeline
from flywheel.playground.grammar import CHATTER

NOISE_KINDS: Final = ("other clip", "wrong facts", "chatter", "empty", "half")
_VALUES: Final = {
    "size": SIZES,
    "colour": COLOURS,
    "side": SIDES,
    "pitch": PITCHES,
    "kind": tuple(KINDS),
    "count": tuple(range(1, MAX_COUNT + 1)),
}


def noisy_transcript(
    timeline: Timeline, other: Timeline, kind: str, rng: np.random.Generator, dialect: str = "corpus"
) -> str:
    """The transcript of a timeline with noise of this kind; ``other`` lends its text to ``other clip``.

    ``clean`` is its caption, ``half`` says what is seen or what is heard and not the other.
    """
    match kind:
        case "clean":
            return caption(timeline, dialect)
        case "other clip":
            return caption(other, dialect)
        case "wrong facts":
            return caption(_with_wrong_facts(timeline, int(rng.integers(1, 3)), rng), dialect)
        case "chatter":
            return str(rng.choice(CHATTER))
        case "empty":
            return ""
        case "half":
            return (seen_text if rng.random() < 0.5 else heard_text)(timeline, dialect)
    raise ValueError(f"playground: unknown noise kind {kind!r}; kinds are {', '.join(NOISE_KINDS)}")


def _with_wrong_facts(timeline: Timeline, count: int, rng: np.random.Generator) -> Timeline:
    """The timeline with so many attributes of its things and sounds changed; its theme stays."""
    places = [("things", i, name) for i in range(len(timeline.things)) for name in ("kind", "size", "colour", "side")]
    places += [("things", i, "count") for i, thing in enumerate(timeline.things) if thing.times_s]
    places += [("sounds", i, name) for i in range(len(timeline.sounds)) for name in ("kind", "pitch", "count")]
    for place in rng.choice(len(places), size=count, replace=False):
        among, index, attribute = places[place]
        items = list(getattr(timeline, among))
        items[index] = _changed(items[index], attribute, rng)
        changed: dict[str, Any] = {among: tuple(items)}
        timeline = replace(timeline, **changed)
    return timeline


def _changed(item: Any, attribute: str, rng: np.random.Generator) -> Any:
    now = len(item.times_s) if attribute == "count" else getattr(item, attribute)
    others = [value for value in _VALUES[attribute] if value != now]
    value = others[int(rng.integers(len(others)))]
    if attribute == "count":
        # Texts tell the first time and how many there are.
        return replace(item, times_s=item.times_s[:1] * int(value))
    return replace(item, **{attribute: value})
