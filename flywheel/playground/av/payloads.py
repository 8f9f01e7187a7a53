"""Timelines as describers report them: the structures of the kinds ``seen`` and ``heard``, in a dialect's words."""

from __future__ import annotations

from typing import Any

from flywheel.playground.av.grammar import DIALECTS, Dialect, plural
from flywheel.playground.av.timeline import DURATION_S, Sound, Thing, Timeline


def heard_payload(timeline: Timeline, dialect: str = "corpus") -> dict[str, Any]:
    """What is heard, as kind ``heard`` has it; times (seconds) to a tenth. Raises KeyError for an unknown dialect."""
    words = DIALECTS[dialect]
    events = [_event(sound.times_s, sound.hold_s, _sound(sound, words)) for sound in timeline.sounds]
    return {"speech": "", "environment": "", "timbre": "", "mood": "", "events": events}


def seen_payload(timeline: Timeline, dialect: str = "corpus") -> dict[str, Any]:
    """What is seen, as kind ``seen`` has it; times (seconds) to a tenth. Raises KeyError for an unknown dialect."""
    words = DIALECTS[dialect]
    acting = sorted((thing for thing in timeline.things if thing.times_s), key=lambda thing: thing.times_s[0])
    events = [_event(thing.times_s, thing.hold_s, _act(thing, words)) for thing in acting]
    return {
        "scene": f"a {words.themes[timeline.theme]}",
        "objects": ", ".join(f"{_thing(thing, words)} {words.sides[thing.side]}" for thing in timeline.things),
        "layout": "",
        "writing": "",
        "mood": "",
        "events": events,
    }


def _event(times_s: tuple[float, ...], hold_s: float, text: str) -> dict[str, Any]:
    start_s = round(times_s[0], 1)
    return {
        "start_s": start_s,
        "end_s": min(DURATION_S, max(start_s + 0.1, round(times_s[-1] + hold_s, 1))),
        "text": text,
    }


def _sound(sound: Sound, words: Dialect) -> str:
    name, count = words.sounds[sound.kind], len(sound.times_s)
    name = plural(name) if words.plurals and count > 1 else name
    return f"{words.counts[count - 1]} {words.pitches[sound.pitch]} {name}"


def _thing(thing: Thing, words: Dialect) -> str:
    return f"a {thing.size} {thing.colour} {words.things[thing.name]}"


def _act(thing: Thing, words: Dialect) -> str:
    return f"{_thing(thing, words)} {words.acts[thing.name]} {words.counts[len(thing.times_s) - 1]}"
