"""The playground's facts in many wordings: order, synonyms, active and passive, one sentence or several.

Word overlap of two such texts says little of whether they state the same. None of the words is the bundled model's own
(:func:`flywheel.playground.grammar.base_caption`), which it would then know without having learned anything.
:mod:`flywheel.playground.reading` reads the texts back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from flywheel.playground.grammar import SlotValues

if TYPE_CHECKING:
    import numpy as np

#: Attribute value -> its names; the first is the corpus' own.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
    "circle": ("circle", "dot"),
    "square": ("square", "quadrate"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star", "pentagram"),
    "cross": ("cross", "crucifix"),
    "ring": ("ring", "annulus"),
}
#: Motion -> verbs that follow a thing, in the active and in the passive.
VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "rises": ("rises", "ascends", "is lifted", "moves upward"),
    "sinks": ("sinks", "descends", "is lowered", "moves downward"),
    "drifts left": ("drifts left", "glides leftward", "is pushed leftward"),
    "drifts right": ("drifts right", "glides rightward", "is pushed rightward"),
    "spins": ("spins", "rotates", "is rotated", "whirls"),
    "blinks": ("blinks", "flickers", "is switched on and off"),
    "grows": ("grows", "expands", "is enlarged"),
    "shakes": ("shakes", "wobbles", "is shaken"),
}
#: Sound -> clauses that say that it is heard.
HEARD: Final[Mapping[str, tuple[str, ...]]] = {
    "beep": ("beeps repeat", "beeping is heard", "one hears bleeps"),
    "hum": ("humming goes on", "a hum is heard", "one hears a buzz"),
    "hiss": ("noise hisses", "hissing is heard", "one hears a fizzle"),
    "tick": ("something ticks", "ticking is heard", "one hears clicks"),
    "whistle": ("whistling climbs", "a whistle is heard", "one hears piping"),
}


def paraphrase(objects: Sequence[SlotValues], sound: str, rng: np.random.Generator) -> str:
    """A true text of one half of a scene, in one of the wordings, drawn by ``rng``.

    ``objects`` are named left first. Raises KeyError for a value outside the vocabulary.
    """
    write = _FORMS[int(rng.integers(len(_FORMS)))]
    seen, heard = write(objects, rng), _one_of(HEARD[sound], rng)
    match int(rng.integers(3)):
        case 0:
            return f"{_sentence(seen)} {_sentence(heard)}"
        case 1:
            return f"{_sentence(heard)} {_sentence(seen)}"
    first, *others = seen.split(". ")
    return " ".join(_sentence(part) for part in (f"{first} while {heard}", *others))


def _one_of(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun(thing: SlotValues, rng: np.random.Generator) -> str:
    size, colour, shape = (_one_of(NAMES[thing[part]], rng) for part in ("size", "colour", "shape"))
    if rng.integers(2):
        return _a(f"{size} {colour} {shape}")
    return f"{_a(f'{colour} {shape}')}, which is {size},"


def _plain_noun(thing: SlotValues, rng: np.random.Generator) -> str:
    return _a(" ".join(_one_of(NAMES[thing[part]], rng) for part in ("size", "colour", "shape")))


def _in_a_row(objects: Sequence[SlotValues], rng: np.random.Generator) -> str:
    first, second = (f"{_noun(o, rng)} {_one_of(VERBS[o['motion']], rng)}" for o in objects)
    return f"{first} and {second}"


def _one_by_one(objects: Sequence[SlotValues], rng: np.random.Generator) -> str:
    first, second = (f"{_noun(o, rng)} {_one_of(VERBS[o['motion']], rng)}" for o in objects)
    return f"{first}. {_capital(second)}"


def _by_side(objects: Sequence[SlotValues], rng: np.random.Generator) -> str:
    """The right one first."""
    left, right = (f"{_noun(o, rng)} {_one_of(VERBS[o['motion']], rng)}" for o in objects)
    return f"on the right {right}. On the left {left}"


def _shown_then_moved(objects: Sequence[SlotValues], rng: np.random.Generator) -> str:
    """What there is, and then what it does."""
    shown = " and ".join(_plain_noun(o, rng) for o in objects)
    moved = [f"the {place} one {_one_of(VERBS[o['motion']], rng)}" for place, o in zip(_PLACES, objects, strict=True)]
    moved = moved[::-1] if rng.integers(2) else moved
    return f"{shown} are seen. {_capital(moved[0])}, {moved[1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


#: What names a thing once more.
_PLACES: Final = ("first", "second")
_FORMS: Final[tuple[Callable[[Sequence[SlotValues], np.random.Generator], str], ...]] = (
    _in_a_row,
    _one_by_one,
    _by_side,
    _shown_then_moved,
)
