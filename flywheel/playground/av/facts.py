"""Texts of the audio-visual world read back into facts, and how well two sets of facts agree."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from flywheel.playground.av.grammar import DIALECTS, HEARD, SEEN, Dialect, plural
from flywheel.playground.av.kinds import COLOURS, SIZES
from flywheel.playground.av.timeline import Timeline

#: Two times that differ by no more are the same fact.
TIME_TOLERANCE_S: Final = 0.2
_TOKEN: Final = re.compile(r"\d+\.\d+|[a-z]+")


class _Word(NamedTuple):
    of: str
    attribute: str
    value: str


def facts(text: str, dialect: str = "corpus") -> frozenset[str]:
    """What a text states: ``seen.0.thing=ball``, ``seen.theme=yard``, ``heard.0.kind=bounce``, ``heard.0.at=0.8``, …

    Any text is accepted; words that are not of the dialect state nothing. Things are counted in the order of the text,
    sounds too; a new one begins where an attribute does not come after the last one. Things that stay still have a
    count of 0 and no time. Raises KeyError for an unknown dialect.
    """
    words = list(_words(text.lower(), dialect))
    found: set[str] = set()
    index, rank = {"seen": -1, "heard": -1}, {"seen": len(SEEN), "heard": len(HEARD)}
    of = ""
    for place, word in enumerate(words):
        if word.of:
            of = word.of
        elif word.attribute == "count":
            # A number belongs to the sound that follows it, or else to what was spoken of before.
            of = "heard" if place + 1 < len(words) and words[place + 1].of == "heard" else of
        if word.attribute == "theme":
            found.add(f"seen.theme={word.value}")
        elif of:
            order = (SEEN if of == "seen" else HEARD).index(word.attribute)
            index[of] += order <= rank[of]
            rank[of] = order
            found.add(f"{of}.{index[of]}.{word.attribute}={word.value}")
    return frozenset(found)


def seen_facts(text: str, dialect: str = "corpus") -> frozenset[str]:
    """What a text states of the picture, as :func:`facts` without ``seen.``: ``0.thing=ball``, ``theme=yard``, …"""
    return _part(facts(text, dialect), "seen.")


def heard_facts(text: str, dialect: str = "corpus") -> frozenset[str]:
    """What a text states of the sound, as :func:`facts` without ``heard.``: ``0.kind=bounce``, ``0.count=3``, …"""
    return _part(facts(text, dialect), "heard.")


def true_facts(timeline: Timeline) -> frozenset[str]:
    """The facts of a timeline, as :func:`facts` has them of its caption."""
    found = {f"seen.theme={timeline.theme}"}
    for index, thing in enumerate(timeline.things):
        values = {"size": thing.size, "colour": thing.colour, "thing": thing.name, "side": thing.side}
        found |= {f"seen.{index}.{name}={value}" for name, value in values.items()}
        found |= _acts(f"seen.{index}", thing.times_s)
    for index, sound in enumerate(timeline.sounds):
        found |= {f"heard.{index}.kind={sound.kind}", f"heard.{index}.pitch={sound.pitch}"}
        found |= _acts(f"heard.{index}", sound.times_s)
    return frozenset(found)


def facts_f1(stated: frozenset[str], truth: frozenset[str]) -> float:
    """F1 of stated facts against true ones, in [0, 1]; times count as right within ``TIME_TOLERANCE_S``.

    1 where both are empty, as for a clip without a sound and a text that names none.
    """
    if not stated and not truth:
        return 1.0
    times = {name: float(value) for name, _, value in (fact.rpartition("=") for fact in truth) if name.endswith("at")}
    hits = 0
    for fact in stated:
        name, _, value = fact.rpartition("=")
        if name in times:
            hits += abs(float(value) - times[name]) <= TIME_TOLERANCE_S + 1e-9
        else:
            hits += fact in truth
    return 2.0 * hits / (len(stated) + len(truth))


def _acts(prefix: str, times_s: tuple[float, ...]) -> set[str]:
    return {f"{prefix}.count={len(times_s)}"} | ({f"{prefix}.at={times_s[0]:.1f}"} if times_s else set())


def _part(found: frozenset[str], prefix: str) -> frozenset[str]:
    return frozenset(fact.removeprefix(prefix) for fact in found if fact.startswith(prefix))


def _words(text: str, dialect: str) -> list[_Word]:
    """The words of a text that state something, in its order."""
    lexicon, longest = _lexicon(dialect)
    tokens = _TOKEN.findall(text)
    words: list[_Word] = []
    place = 0
    while place < len(tokens):
        if tokens[place][0].isdigit():
            words.append(_Word("", "at", f"{float(tokens[place]):.1f}"))
            place += 1
            continue
        for length in range(longest, 0, -1):
            word = lexicon.get(" ".join(tokens[place : place + length]))
            if word is not None:
                words.append(word)
                place += length
                break
        else:
            place += 1
    return words


@lru_cache
def _lexicon(name: str) -> tuple[dict[str, _Word], int]:
    """Words of a dialect as they may stand in a text -> what they state; and the most words that belong together."""
    words: Dialect = DIALECTS[name]
    table: dict[str, _Word] = {}
    for of, attribute, values in (
        ("seen", "theme", words.themes),
        ("seen", "size", {size: size for size in SIZES}),
        ("seen", "colour", {colour: colour for colour in COLOURS}),
        ("seen", "thing", words.things),
        ("seen", "side", words.sides),
        ("heard", "pitch", words.pitches),
        ("heard", "kind", words.sounds),
    ):
        for value, phrase in values.items():
            table[phrase] = _Word(of, attribute, value)
            if attribute == "kind":
                table[plural(phrase)] = _Word(of, attribute, value)
    for count, phrase in enumerate(words.counts, start=1):
        table[phrase] = _Word("", "count", str(count))
    table[words.still] = _Word("seen", "count", "0")
    return table, max(len(phrase.split()) for phrase in table)
