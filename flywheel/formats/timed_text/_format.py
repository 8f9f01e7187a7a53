"""What a kind of timed text is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flywheel.formats.timed_text._cues import Timed


@dataclass(frozen=True, kw_only=True)
class TimedTextFormat:
    """A kind of files that hold texts with their times.

    ``endings``  Endings of its files, with the dot, in lower case.
    ``claims``   Whether a text that begins so is of this kind.
    ``read``     Its texts with their times. Lines end in ``\\n``.
    ``order``    Kinds of lower numbers are asked first, and their files are taken first.
    """

    endings: tuple[str, ...]
    claims: Callable[[str], bool]
    read: Callable[[str], Iterator[Timed]]
    order: int
