"""The words of the audio-visual world: what is seen, what is heard, and both in one caption, in two dialects.

The *corpus* dialect is what transcripts, refiners and the oracle use; the *base* dialect is what the bundled models
were trained to write. They share sizes, colours and numbers. What is seen and what is heard have no word in common
but for counts, so that a text tells which it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.playground.av.timeline import Sound, Thing, Timeline

#: Attributes of a thing and of a sound, in the order in which texts name them.
SEEN: Final = ("size", "colour", "thing", "side", "count", "at")
HEARD: Final = ("count", "pitch", "kind", "at")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Words by value, and the frames of the sentences."""

    themes: Mapping[str, str]
    things: Mapping[str, str]
    acts: Mapping[str, str]
    sounds: Mapping[str, str]
    sides: Mapping[str, str]
    pitches: Mapping[str, str]
    counts: Sequence[str]
    still: str
    nothing: str
    seen: str
    seen_item: str
    seen_still: str
    seen_join: str
    heard: str
    heard_item: str
    heard_join: str
    plurals: bool


CORPUS: Final = Dialect(
    themes={"kitchen": "kitchen", "workshop": "workshop", "yard": "yard"},
    things={
        name: name for name in ("lamp", "kettle", "clock", "hammer", "fan", "engine", "ball", "bell", "rocket", "kite")
    },
    acts={
        "lamp": "blinks",
        "kettle": "steams",
        "clock": "advances",
        "hammer": "strikes",
        "fan": "spins",
        "engine": "shakes",
        "ball": "drops",
        "bell": "swings",
        "rocket": "climbs",
        "kite": "dives",
    },
    sounds={
        "beep": "beep",
        "hiss": "hiss",
        "tick": "tick",
        "knock": "knock",
        "hum": "hum",
        "rumble": "rumble",
        "bounce": "bounce",
        "bell": "chime",
        "rise": "rising whistle",
        "fall": "falling whistle",
    },
    sides={"left": "on the left", "middle": "in the middle", "right": "on the right"},
    pitches={"low": "low", "high": "high"},
    counts=("one", "two", "three", "four"),
    still="stays still",
    nothing="No sound.",
    seen="A {theme}: {items}.",
    seen_item="a {size} {colour} {thing} {side} {act} {count} at {at}",
    seen_still="a {size} {colour} {thing} {side} {still}",
    seen_join=" and ",
    heard="{items}.",
    heard_item="{count} {pitch} {sound} at {at}",
    heard_join=", then ",
    plurals=True,
)
BASE: Final = Dialect(
    themes={"kitchen": "galley", "workshop": "garage", "yard": "park"},
    things={
        "lamp": "beacon",
        "kettle": "pot",
        "clock": "dial",
        "hammer": "mallet",
        "fan": "blower",
        "engine": "motor",
        "ball": "sphere",
        "bell": "gong",
        "rocket": "flare",
        "kite": "glider",
    },
    acts={
        "lamp": "flashing",
        "kettle": "puffing",
        "clock": "stepping",
        "hammer": "hitting",
        "fan": "turning",
        "engine": "trembling",
        "ball": "landing",
        "bell": "swaying",
        "rocket": "soaring",
        "kite": "sinking",
    },
    sounds={
        "beep": "pip",
        "hiss": "static",
        "tick": "click",
        "knock": "rap",
        "hum": "drone",
        "rumble": "growl",
        "bounce": "thud",
        "bell": "clang",
        "rise": "upward siren",
        "fall": "downward siren",
    },
    sides={"left": "west", "middle": "centre", "right": "east"},
    pitches={"low": "deep", "high": "sharp"},
    counts=("single", "double", "triple", "fourfold"),
    still="resting",
    nothing="Quiet.",
    seen="Scene of {theme} with {items}.",
    seen_item="{size} {colour} {thing} {side}, {act} {count} from {at}",
    seen_still="{size} {colour} {thing} {side}, {still}",
    seen_join="; plus ",
    heard="Noise: {items}.",
    heard_item="{count} {pitch} {sound} from {at}",
    heard_join=", next ",
    plurals=False,
)
#: Name -> dialect.
DIALECTS: Final = {"corpus": CORPUS, "base": BASE}


def seen_text(timeline: Timeline, dialect: str = "corpus") -> str:
    """What is seen in the clip, left first: ``A yard: a large red ball on the left drops three times at 0.8.``

    Times are those of the first act. Raises KeyError for an unknown dialect.
    """
    words = DIALECTS[dialect]
    items = words.seen_join.join(_seen_item(thing, words) for thing in timeline.things)
    return words.seen.format(theme=words.themes[timeline.theme], items=items)


def heard_text(timeline: Timeline, dialect: str = "corpus") -> str:
    """What is heard in the clip, by time: ``Three low bounces at 0.8, then one high chime at 1.5.``

    Times are those of each sound's first onset. Raises KeyError for an unknown dialect.
    """
    words = DIALECTS[dialect]
    if not timeline.sounds:
        return words.nothing
    text = words.heard.format(items=words.heard_join.join(_heard_item(sound, words) for sound in timeline.sounds))
    return text[0].upper() + text[1:]


def caption(timeline: Timeline, dialect: str = "corpus") -> str:
    """What is seen and what is heard, in one sentence."""
    heard = heard_text(timeline, dialect)
    return f"{seen_text(timeline, dialect)[:-1]}; {heard[0].lower()}{heard[1:]}"


def _seen_item(thing: Thing, words: Dialect) -> str:
    values = {
        "size": thing.size,
        "colour": thing.colour,
        "thing": words.things[thing.name],
        "side": words.sides[thing.side],
    }
    if not thing.times_s:
        return words.seen_still.format(**values, still=words.still)
    count = words.counts[len(thing.times_s) - 1]
    if words.plurals:
        count += " time" if len(thing.times_s) == 1 else " times"
    return words.seen_item.format(**values, act=words.acts[thing.name], count=count, at=_at(thing.times_s[0]))


def _heard_item(sound: Sound, words: Dialect) -> str:
    noun = words.sounds[sound.kind]
    if words.plurals and len(sound.times_s) > 1:
        noun = plural(noun)
    return words.heard_item.format(
        count=words.counts[len(sound.times_s) - 1],
        pitch=words.pitches[sound.pitch],
        sound=noun,
        at=_at(sound.times_s[0]),
    )


def plural(noun: str) -> str:
    """The plural of a sound's word."""
    return noun + ("es" if noun.endswith("ss") else "s")


def _at(time_s: float) -> str:
    return f"{time_s:.1f}"
