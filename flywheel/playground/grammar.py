"""The words of the playground: attribute values, the captions made of them, and the parser back into slots.

Two dialects exist. The *corpus* dialect is what transcripts, refiners and the oracle use. The *base* dialect is what
the bundled tiny model was trained to speak; it shares the words for size and colour and nothing else, so that the
shipped model starts with good eyes and the wrong words. :func:`slots` accepts the corpus dialect only, the way an
annotation guideline with a controlled vocabulary would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

SIZES: Final = ("small", "large")
COLOURS: Final = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
MOTIONS: Final = ("rises", "sinks", "drifts left", "drifts right", "spins", "blinks", "grows", "shakes")
SOUNDS: Final = ("beep", "hum", "hiss", "tick", "whistle")

#: Attributes of an object in the order in which a caption names them.
ATTRIBUTES: Final = ("size", "colour", "shape", "motion")

#: A round outline looks the same at every angle, so these two never spin.
CANNOT_SPIN: Final = frozenset({"circle", "ring"})

_SOUND_PHRASES: Final = {
    "beep": "beeps repeat",
    "hum": "humming goes on",
    "hiss": "noise hisses",
    "tick": "something ticks",
    "whistle": "whistling climbs",
}

_BASE_SHAPES: Final = {
    "circle": "disc",
    "square": "box",
    "triangle": "wedge",
    "star": "spark",
    "cross": "plus",
    "ring": "hoop",
}
_BASE_MOTIONS: Final = {
    "rises": "going up",
    "sinks": "going down",
    "drifts left": "heading west",
    "drifts right": "heading east",
    "spins": "turning around",
    "blinks": "flashing",
    "grows": "swelling",
    "shakes": "trembling",
}
_BASE_SOUNDS: Final = {"beep": "pips", "hum": "a drone", "hiss": "static", "tick": "taps", "whistle": "a siren"}

CHATTER: Final = (
    "thanks for watching and see you next time",
    "do not forget to subscribe to the channel",
    "okay so yeah that is basically it",
    "can everybody hear me now",
    "sorry about the delay we are back",
    "this video is brought to you by our friends",
    "let me know what you think in the comments",
    "alright let us get started with today",
    "hold on one second please",
    "I forgot what I wanted to say here",
    "you can find the link below",
    "good morning everyone and welcome back",
)

#: One object is a mapping attribute -> value; a half of a scene is two of them and a sound.
SlotValues = Mapping[str, str]


def caption(objects: Sequence[SlotValues], sound: str) -> str:
    """The true caption, in the corpus dialect, of one half of a scene.

    ``objects`` are named left first. Raises KeyError for a value outside the vocabulary.
    """
    first, second = (f"{o['size']} {o['colour']} {o['shape']} {o['motion']}" for o in objects)
    return f"A {first} and a {second} while {_SOUND_PHRASES[sound]}."


def base_caption(objects: Sequence[SlotValues], sound: str) -> str:
    """The same content in the base dialect, which only the bundled model's own training uses."""
    first, second = (
        f"{o['size']} {o['colour']} {_BASE_SHAPES[o['shape']]} {_BASE_MOTIONS[o['motion']]}" for o in objects
    )
    return f"There is a {first}, then a {second}; {_BASE_SOUNDS[sound]} in the background."


def _stems() -> dict[str, tuple[str, str]]:
    """Word (or two words) as it may stand in a text -> (attribute, value)."""
    table: dict[str, tuple[str, str]] = {}
    for attribute, values in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES), ("sound", SOUNDS)):
        for value in values:
            table[value] = (attribute, value)
            table[value + ("es" if value.endswith("ss") else "s")] = (attribute, value)
    inflected = {
        "rises": ("rise", "rising", "rose"),
        "sinks": ("sink", "sinking", "sank"),
        "spins": ("spin", "spinning", "spun"),
        "blinks": ("blink", "blinking", "blinked"),
        "grows": ("grow", "growing", "grew"),
        "shakes": ("shake", "shaking", "shook"),
    }
    for value, forms in inflected.items():
        for form in (value, *forms):
            table[form] = ("motion", value)
    for side in ("left", "right"):
        for verb in ("drifts", "drift", "drifting", "drifted"):
            table[f"{verb} {side}"] = ("motion", f"drifts {side}")
    for word, value in (
        ("beeping", "beep"),
        ("humming", "hum"),
        ("hisses", "hiss"),
        ("hissing", "hiss"),
        ("ticking", "tick"),
        ("whistling", "whistle"),
    ):
        table[word] = ("sound", value)
    return table


#: Words of the corpus dialect -> attribute and value.
LEXICON: Final = _stems()
_WORD: Final = re.compile(r"[a-z]+")


def slots(text: str) -> frozenset[str]:
    """The facts that a text states, as strings such as ``0.colour=red`` and ``sound=beep``.

    Any text is accepted; words outside the corpus dialect state nothing. A new object begins where an attribute does
    not come after the last one in the order size, colour, shape, motion; objects beyond the second count too, so that
    inventing a third costs precision.
    """
    words = _WORD.findall(text.lower())
    found: set[str] = set()
    index, last = 0, -1
    position = 0
    while position < len(words):
        pair = " ".join(words[position : position + 2])
        hit = LEXICON.get(pair)
        position += 2 if hit else 1
        if hit is None:
            hit = LEXICON.get(words[position - 1])
        if hit is None:
            continue
        attribute, value = hit
        if attribute == "sound":
            found.add(f"sound={value}")
            continue
        rank = ATTRIBUTES.index(attribute)
        if rank <= last:
            index += 1
        last = rank
        found.add(f"{index}.{attribute}={value}")
    return frozenset(found)


def slot_f1(text: str, truth: frozenset[str]) -> float:
    """F1 of the text's slots against the true ones, in [0, 1]; 0 where the text states none."""
    said = slots(text)
    hits = len(said & truth)
    return 2.0 * hits / (len(said) + len(truth)) if hits else 0.0
