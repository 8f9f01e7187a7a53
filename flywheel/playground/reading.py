"""Reads the facts that a text states, in whatever wording the playground has for them.

:func:`flywheel.playground.slots` reads the corpus' one wording; this reads that and its paraphrases. A text's things
are told apart by their articles, by the order of what is said of them, and by what is said to be left and right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from flywheel.playground.grammar import ATTRIBUTES, COLOURS, LEXICON, SHAPES, SIZES
from flywheel.playground.paraphrase import HEARD, NAMES, VERBS

_WORD: Final = re.compile(r"[a-z]+")
#: Things of a scene: what more is told of is invented.
_THINGS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A fact such as ``0.colour=red`` or ``sound=beep``, and the words of the text that state it."""

    fact: str
    quote: str


def read_facts(text: str) -> list[Stated]:
    """The facts that a text states, each once, in the order of the text.

    Thing 0 is the left one: the one named first where no side is named. Things beyond the second count too, so that
    inventing one costs precision; the same thing told again does not.
    """
    reader = _Reader(text)
    for match in _tokens(text):
        reader.take(*match)
    return reader.stated()


def facts_of(text: str) -> frozenset[str]:
    """The facts that a text states."""
    return frozenset(stated.fact for stated in read_facts(text))


def fact_scores(text: str, truth: frozenset[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the text's facts against the true ones, in [0, 1]; 0 where the text states none."""
    said = facts_of(text)
    hits = len(said & truth)
    if not hits:
        return 0.0, 0.0, 0.0
    return hits / len(said), hits / len(truth), 2.0 * hits / (len(said) + len(truth))


def _lexicon() -> dict[str, tuple[str, str]]:
    """Words as they may stand in a text -> what they say, and the value."""
    table = dict(LEXICON)
    attributes = {value: name for name, of in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES)) for value in of}
    for value, names in NAMES.items():
        table |= dict.fromkeys(names, (attributes[value], value))
    for value, verbs in VERBS.items():
        table |= dict.fromkeys((verb.removeprefix("is ") for verb in verbs), ("motion", value))
    for value, clauses in HEARD.items():
        table |= dict.fromkeys(_sound_words(clauses), ("sound", value))
    table |= dict.fromkeys(("a", "an", "another"), ("new", "")) | {"the": ("known", "")}
    table |= {"that is": ("also", ""), "which is": ("also", "")}
    table |= {f"{name} one": ("place", str(place)) for place, name in enumerate(("first", "second"))}
    table |= {f"on the {side}": ("side", str(place)) for place, side in enumerate(("left", "right"))}
    table |= {f"{side} one": ("at", str(place)) for place, side in enumerate(("left", "right"))}
    return table


def _sound_words(clauses: tuple[str, ...]) -> list[str]:
    """The words of clauses that name the sound itself."""
    others = {"a", "one", "hears", "is", "heard", "repeat", "goes", "on", "noise", "something", "climbs"}
    return [word for clause in clauses for word in clause.split() if word not in others]


_LEXICON: Final = _lexicon()
_LONGEST: Final = max(len(words.split()) for words in _LEXICON)


def _tokens(text: str) -> list[tuple[str, str, int, int]]:
    """What the words of a text say: kind, value, and where they stand; the longest words that mean something first."""
    words = [(match[0], match.start(), match.end()) for match in _WORD.finditer(text.lower())]
    found, place = [], 0
    while place < len(words):
        for size in range(min(_LONGEST, len(words) - place), 0, -1):
            part = words[place : place + size]
            hit = _LEXICON.get(" ".join(word for word, _, _ in part))
            if hit is not None:
                found.append((*hit, part[0][1], part[-1][2]))
                break
        else:
            size = 1
        place += size
    return found


@dataclass
class _Thing:
    #: Attribute -> values with where they stand. Several are said only of a thing that is named again.
    said: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    side: int | None = None

    def fits(self, named: _Thing) -> bool:
        return all(set(values) <= set(self.said.get(name, ())) for name, values in named.said.items())


class _Reader:
    """Takes what words say, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._things: list[_Thing] = []
        self._sounds: dict[str, tuple[int, int]] = {}
        self._now: _Thing | None = None
        #: A thing that is named once more by what is known of it, not found yet.
        self._named: _Thing | None = None
        self._begins: Literal["", "new", "known"] = ""
        self._side: int | None = None
        self._last, self._also = -1, False

    def take(self, kind: str, value: str, start: int, end: int) -> None:
        match kind:
            case "new" | "known":
                self._found()
                self._begins = "new" if kind == "new" else "known"
            case "also":
                self._also = True
            case "side":
                self._found()
                self._side, self._begins = int(value), "new"
            case "place" | "at":
                self._now, self._begins = self._thing_at(int(value), by_side=kind == "at"), ""
                self._last = ATTRIBUTES.index("shape")
            case "sound":
                self._begins = ""
                self._sounds.setdefault(value, (start, end))
            case _:
                self._attribute(kind, value, (start, end))

    def _thing_at(self, place: int, *, by_side: bool) -> _Thing:
        sided = [thing for thing in self._things if thing.side == place] if by_side else []
        if sided:
            return sided[0]
        return self._things[place] if place < len(self._things) else self._new()

    def _new(self) -> _Thing:
        thing = _Thing(side=self._side)
        self._side = None
        self._things.append(thing)
        return thing

    def _attribute(self, name: str, value: str, where: tuple[int, int]) -> None:
        rank = ATTRIBUTES.index(name)
        if self._begins == "known" and name != "motion":
            self._named, self._begins = _Thing(), ""
        if self._named is not None:
            if name != "motion":
                self._named.said.setdefault(name, {})[value] = where
                return
            self._found()
        elif self._begins == "new" or self._now is None or (rank <= self._last and not self._also):
            self._now, self._begins = self._new(), ""
        self._last = max(self._last, rank) if self._also else rank
        self._also = False
        assert self._now is not None
        self._now.said.setdefault(name, {}).setdefault(value, where)

    def _found(self) -> None:
        """Find the thing that was named again; where there is none such, it is another."""
        if self._named is None:
            return
        named, self._named = self._named, None
        self._now = next((thing for thing in self._things if thing.fits(named)), None)
        if self._now is None:
            self._now = self._new()
            self._now.said = named.said
        self._last = ATTRIBUTES.index("shape")

    def stated(self) -> list[Stated]:
        self._found()
        found = [(where, f"sound={value}") for value, where in self._sounds.items()]
        for place, thing in enumerate(self._in_order()):
            for name, values in thing.said.items():
                found += [(where, f"{place}.{name}={value}") for value, where in values.items()]
        return [Stated(fact=fact, quote=self._text[start:end]) for (start, end), fact in sorted(found)]

    def _in_order(self) -> list[_Thing]:
        """The things, the left one first; without those that are told again."""
        things = self._things[:_THINGS]
        if len(things) == _THINGS and (things[0].side == 1 or things[1].side == 0):
            things = things[::-1]
        return things + [more for more in self._things[_THINGS:] if not any(thing.fits(more) for thing in things)]
