"""What a question about a rendered video asks, as steps that truth answers: find a shot, go on, say what is there.

A step needs a medium: finding a thing needs the picture, finding a sound needs the sound, and so does saying either.
So what a question needs is known, and what can be said without one of the two is known too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.benchmark.items import FRAMES, SOUND

Track = Sequence[str] | None
_MEDIUM = {"seen": FRAMES, "heard": SOUND}


@dataclass(frozen=True, kw_only=True)
class Program:
    """Steps to an answer.

    The ``nth`` shot (from 0) among shots [``first``, ``end``) in which ``kind`` is ``seen`` or ``heard`` (``by``) is
    found; where ``again``, the next in which the same thing is seen. ``say`` is what is told of that shot: what is
    ``seen`` or ``heard`` in it, or ``when`` it is.
    """

    by: str
    kind: str
    nth: int
    first: int
    end: int
    say: str
    again: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The media without which it can't be answered."""
        steps = [self.by, *(["seen"] if self.again else []), *([self.say] if self.say != "when" else [])]
        return frozenset(_MEDIUM[step] for step in steps)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What an answer rests on: in a ``shot`` (from 0), by a ``medium``, a ``kind`` is perceived."""

    medium: str
    shot: int
    kind: str


def traced(program: Program, seen: Track, heard: Track) -> list[Fact] | None:
    """The facts that lead to an answer, the last of the shot that is told of; None where a step can't be taken.

    The tracks are the kinds of a video's shots; one of None is not perceived.
    """
    tracks = {"seen": seen, "heard": heard}
    track = tracks[program.by]
    places = [] if track is None else _found(track, program.kind, program.first, program.end)
    if len(places) <= program.nth:
        return None
    facts = [Fact(medium=_MEDIUM[program.by], shot=places[program.nth], kind=program.kind)]
    if program.again:
        place = facts[-1].shot
        later = [] if seen is None else _found(seen, seen[place], place + 1, len(seen))
        if seen is None or not later:
            return None
        facts += [Fact(medium=FRAMES, shot=n, kind=seen[place]) for n in (place, later[0])]
    if program.say != "when":
        said, place = tracks[program.say], facts[-1].shot
        # Another video's sound may end before this one's picture.
        if said is None or place >= len(said):
            return None
        facts.append(Fact(medium=_MEDIUM[program.say], shot=place, kind=said[place]))
    return facts


def _found(track: Sequence[str], kind: str, first: int, end: int) -> list[int]:
    return [n for n in range(first, min(end, len(track))) if track[n] == kind]


def answer(program: Program, seen: Track, heard: Track) -> Any:
    """What a program says, a kind or the number of a shot (``when``); None where a step can't be taken."""
    facts = traced(program, seen, heard)
    if facts is None:
        return None
    return facts[-1].shot if program.say == "when" else facts[-1].kind
