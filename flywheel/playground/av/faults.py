"""Faults planted in timelines: what goes wrong between the sound and the picture of a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flywheel.playground.av.kinds import SIDES, kinds_of
from flywheel.playground.av.timeline import DURATION_S, FAULTS, Timeline
from flywheel.playground.av.worlds import draw, draw_thing

_SHIFT_S = (0.5, 1.0)
#: Shifted sounds stay so far within the clip.
_EDGE_S = 0.05


def plant(timeline: Timeline, fault: str, rng: np.random.Generator) -> Timeline:
    """The timeline with one fault; the random numbers decide its particulars.

    mismatch: the sounds of another timeline of another theme. shift: all sounds .5 to 1 s later or earlier, none lost.
    off_screen: the sounds stay; what is seen is a still thing of the same theme that does not make them.
    silent: things act, nothing sounds. no_track: not even an audio track.
    Raises ValueError for another fault, and where the timeline has one already.
    """
    if timeline.fault:
        raise ValueError(f"playground: the timeline has a fault already ({timeline.fault}).")
    match fault:
        case "mismatch":
            return replace(timeline, fault=fault, sounds=_other(timeline, rng).sounds)
        case "shift":
            return _shifted(timeline, rng)
        case "off_screen":
            absent = {sound.kind for sound in timeline.sounds}
            kind = str(rng.choice([kind for kind in kinds_of(timeline.theme) if kind not in absent]))
            still = draw_thing(rng, timeline.world, kind, str(rng.choice(SIDES)))
            return replace(timeline, fault=fault, things=(still,))
        case "silent" | "no_track":
            return replace(timeline, fault=fault, sounds=())
    raise ValueError(f"playground: unknown fault {fault!r}; there are {', '.join(FAULTS)}.")


def _other(timeline: Timeline, rng: np.random.Generator) -> Timeline:
    while True:
        other = draw(rng, timeline.world, timeline.seed)
        if other.theme != timeline.theme:
            return other


def _shifted(timeline: Timeline, rng: np.random.Generator) -> Timeline:
    first = min(sound.times_s[0] for sound in timeline.sounds)
    last = max(sound.times_s[-1] + sound.hold_s for sound in timeline.sounds)
    room = {-1: first - _EDGE_S, 1: DURATION_S - _EDGE_S - last}
    # The span of a timeline leaves at least half a second on one side.
    sign = int(rng.choice([sign for sign, most in room.items() if most >= _SHIFT_S[0]]))
    offset_s = sign * round(float(rng.uniform(_SHIFT_S[0], min(_SHIFT_S[1], room[sign]))), 3)
    sounds = tuple(replace(s, times_s=tuple(round(t + offset_s, 3) for t in s.times_s)) for s in timeline.sounds)
    return replace(timeline, fault="shift", sounds=sounds, offset_s=offset_s)
