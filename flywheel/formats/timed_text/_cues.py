"""From lines with their times to cues: markup taken out, rolling lines once, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flywheel.core.foreign import without_hidden
from flywheel.core.types import Cue
from flywheel.formats.timed_text._markup import plain_lines
from flywheel.formats.timed_text._rolling import unrolled


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Lines that a player shows, without markup, and when, in seconds.

    ``has_word_times``: its words come one after the other, so the lines that they stand in are new.
    """

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    has_word_times: bool = False


def timed(start_s: float, end_s: float, raw: str, *, has_word_times: bool = False) -> Timed:
    """Raw text as it stands in a file, lines apart, with its markup taken out."""
    return Timed(start_s=max(0.0, start_s), end_s=end_s, lines=plain_lines(raw), has_word_times=has_word_times)


def unmarked(start_s: float, end_s: float, text: str) -> Timed:
    """A text whose format has no markup, or had it taken out already; ``<`` and ``&`` are what they are."""
    lines = (" ".join(without_hidden(line).split()) for line in text.split("\n"))
    return Timed(start_s=max(0.0, start_s), end_s=end_s, lines=tuple(line for line in lines if line))


def cues_of(texts: Iterable[Timed], *, rolling: bool = True) -> list[Cue]:
    """The cues in the order of time; left out is what no player shows: without words, without length."""
    shown = [text for text in texts if text.lines and text.end_s > text.start_s]
    shown.sort(key=lambda text: text.start_s)
    cues = unrolled(shown) if rolling else _whole(shown)
    return [Cue(start_s=start_s, end_s=end_s, text=words) for start_s, end_s, words in cues]


def _whole(shown: Sequence[Timed]) -> list[tuple[float, float, str]]:
    return [(text.start_s, text.end_s, " ".join(text.lines)) for text in shown]
