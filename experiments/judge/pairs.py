"""Pairs of texts of the base world, and the judgement that is to be written of each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from flywheel import kinds
from flywheel.models.prompt import HINTS, Evidence, Hint, Prompt
from flywheel.playground import av
from flywheel.playground.av.grammar import DIALECTS
from flywheel.playground.av.kinds import KINDS, PITCH_OF
from flywheel.playground.av.payloads import heard_payload, seen_payload
from flywheel.playground.av.timeline import Sound, Thing, Timeline

#: Fault -> share of the pairs that have it; the rest has none.
FAULTS = {"mismatch": 0.22, "off_screen": 0.14, "silent": 0.08, "shift": 0.1}
#: Describers are off by a tenth of a second now and then: times that differ by no more are one.
SAME_S = 0.2
_WORDS = DIALECTS["base"]


def timeline_of(seed: int, world: av.World = av.BASE) -> Timeline:
    """A timeline of the world as describers tell it, with a fault as :data:`FAULTS` has them."""
    rng = np.random.default_rng([seed, 23])
    timeline, chance = av.sample(seed, world), float(rng.random())
    for fault, share in FAULTS.items():
        if chance < share:
            timeline = av.plant(timeline, fault, rng)
            break
        chance -= share
    return _as_told(timeline, rng)


def _as_told(timeline: Timeline, rng: np.random.Generator) -> Timeline:
    """Sounds a tenth of a second early or late, or not."""
    moved = ((sound, round(float(rng.choice([-0.1, 0.0, 0.0, 0.1])), 1)) for sound in timeline.sounds)
    sounds = [replace(s, times_s=tuple(max(0.0, time_s + by_s) for time_s in s.times_s)) for s, by_s in moved]
    return replace(timeline, sounds=tuple(sorted(sounds, key=lambda sound: sound.times_s[0])))


def question(timeline: Timeline, prompt: Prompt, *, swapped: bool = False) -> str:
    """The prompt's text about a timeline's two texts, as the product renders it."""
    payloads = {"seen": seen_payload(timeline, "base"), "heard": heard_payload(timeline, "base")}
    shown = {kind: kinds.get(kind).hint(payload) for kind, payload in payloads.items()}
    order: tuple[Hint, ...] = ("heard", "seen") if swapped else HINTS
    return prompt.render(Evidence(**shown), order)


def answer(timeline: Timeline) -> str:
    """The judgement as compact JSON: each reason copies what its score follows from."""
    judged = [_of_sound(timeline, sound) for sound in timeline.sounds]
    out: dict[str, Any] = {}
    for name in ("temporal", "spatial", "contextual", "causal", "visibility"):
        reasons = [one[name][0] for one in judged] or ["nothing is heard"]
        score = sum(one[name][1] for one in judged) / max(1, len(judged))
        out[name] = {"reason": ", ".join(reasons), "score": int(score + 0.5)}
    heard = {sound.kind for sound in timeline.sounds}
    seen = {thing.kind for thing in timeline.things}
    name = {kind: _WORDS.things[KINDS[kind].thing] for kind in KINDS}
    out["seen_and_heard"] = [name[thing.kind] for thing in timeline.things if thing.kind in heard and thing.times_s]
    out["heard_unseen"] = [_WORDS.sounds[sound.kind] for sound in timeline.sounds if sound.kind not in seen]
    out["seen_silent"] = [name[thing.kind] for thing in timeline.things if thing.kind not in heard]
    return json.dumps(out, separators=(",", ":"))


def _of_sound(timeline: Timeline, sound: Sound) -> dict[str, tuple[str, int]]:
    noise, source = _WORDS.sounds[sound.kind], _WORDS.things[KINDS[sound.kind].thing]
    thing = next((thing for thing in timeline.things if thing.kind == sound.kind), None)
    acting = thing is not None and bool(thing.times_s)
    place, home = _WORDS.themes[timeline.theme], _WORDS.themes[KINDS[sound.kind].theme]
    return {
        "temporal": _times(noise, sound, thing) if thing is not None and acting else (f"{noise} never seen", 0),
        "spatial": _sizes(noise, sound, source, thing),
        "contextual": (f"{noise} of {home} in {place}", 10 if home == place else 0),
        "causal": (f"{source} makes {noise}", 10) if acting else (f"nothing makes {noise}", 0),
        "visibility": (f"{source} is seen", 10) if thing is not None else (f"{source} is not seen", 0),
    }


def _times(noise: str, sound: Sound, thing: Thing) -> tuple[str, int]:
    heard_s, seen_s = (round(times_s[0], 1) for times_s in (sound.times_s, thing.times_s))
    near = abs(heard_s - seen_s) <= SAME_S + 1e-6
    return f"{noise} heard {heard_s:.1f} seen {seen_s:.1f}", 10 if near else 4


def _sizes(noise: str, sound: Sound, source: str, thing: Thing | None) -> tuple[str, int]:
    pitch = _WORDS.pitches[sound.pitch]
    if thing is None:
        return f"{pitch} {noise} of no {source}", 0
    return f"{pitch} {noise} of {thing.size} {source}", 10 if PITCH_OF[thing.size] == sound.pitch else 3
