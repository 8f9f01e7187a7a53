"""Captions that roll: a line is shown, grows word by word, and is shown again above the next.

Video sites' automatic captions, and what television's became as a file. A viewer reads each line once, so it is to be
in the text once. What a speaker says twice stands in lines of its own and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

#: Lines that a caption shows at once, at most: of longer ones the last are compared.
_MOST_LINES = 8
#: Cues touch where there is no more than this between them, in seconds.
_TOUCH_S = 0.05
#: A cue this short holds a picture while its line moves up.
_HOLD_S = 0.11
#: A file rolls where so many of its touching cues show lines of the one before.
_SHARE = 0.3


class Shown(Protocol):
    """Lines and when they are shown, as :class:`~flywheel.formats.timed_text._cues.Timed` has them."""

    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def lines(self) -> tuple[str, ...]: ...
    @property
    def has_word_times(self) -> bool: ...


def unrolled(shown: Sequence[Shown]) -> list[tuple[float, float, str]]:
    """(start, end, words) of the cues, in the order of time; where the file rolls, each line once."""
    if not _rolls(shown):
        return [(cue.start_s, cue.end_s, " ".join(cue.lines)) for cue in shown]
    cues: list[tuple[float, float, str]] = []
    before: Shown | None = None
    for cue in shown:
        lines = cue.lines
        if before is not None and _touch(before, cue):
            if cues and _grown(before.lines, lines):
                # The line's words so far are on record: the whole line takes their place.
                cues[-1] = (cues[-1][0], cue.end_s, _replaced(cues[-1][2], before.lines[-1], lines))
                before = cue
                continue
            lines = _new_lines(before, cue)
        if lines:
            cues.append((cue.start_s, cue.end_s, " ".join(lines)))
        before = cue
    return cues


def _rolls(shown: Sequence[Shown]) -> bool:
    """Whether lines of one cue come again in the next so often that it is the way the file is made."""
    pairs = rolled = grown = 0
    for before, cue in pairwise(shown):
        if not _touch(before, cue) or (before.lines == cue.lines and cue.end_s - cue.start_s <= _HOLD_S):
            continue
        pairs += 1
        kept = _kept(before.lines, cue.lines)
        rolled += 0 < kept < len(cue.lines)
        grown += _grown(before.lines, cue.lines)
    return (rolled > 0 or grown > 1) and rolled + grown >= _SHARE * pairs


def _touch(before: Shown, cue: Shown) -> bool:
    return cue.start_s <= before.end_s + _TOUCH_S


def _kept(before: tuple[str, ...], lines: tuple[str, ...]) -> int:
    """How many lines at the end of a cue are the first of the next."""
    most = min(len(before), len(lines), _MOST_LINES)
    return next((count for count in range(most, 0, -1) if before[-count:] == lines[:count]), 0)


def _grown(before: tuple[str, ...], lines: tuple[str, ...]) -> bool:
    """Whether the next cue shows the same lines with more words at their end."""
    count = len(before)
    if not 0 < count <= len(lines) or before[:-1] != lines[: count - 1]:
        return False
    was, now = before[-1], lines[count - 1]
    return len(now) > len(was) and now.startswith(was) and (now[len(was)] == " " or count > 1)


def _replaced(words: str, was: str, lines: tuple[str, ...]) -> str:
    """A cue's words with its last line, as it was, grown into what is shown now."""
    place = next(i for i, line in enumerate(lines) if line.startswith(was))
    return " ".join([words.removesuffix(was).rstrip(), *lines[place:]]).strip()


def _new_lines(before: Shown, cue: Shown) -> tuple[str, ...]:
    """The lines of a cue that the one before it did not show."""
    lines = cue.lines
    kept = _kept(before.lines, lines)
    if kept < len(lines):
        return lines[kept:]
    is_again = before.lines == lines and len(lines) == 1 and cue.end_s - cue.start_s > _HOLD_S
    if cue.has_word_times or is_again:
        return lines[-1:]
    return ()
