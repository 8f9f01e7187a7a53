"""Questions of a benchmark, in one form whatever file they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

FRAMES, SOUND = "frames", "sound"
BOTH = frozenset({FRAMES, SOUND})
LETTERS = "ABCDEFGHIJ"
#: Fewest and most options of a question.
FEWEST, MOST = 2, len(LETTERS)
#: Upper bounds of buckets of length (AVBench's), seconds, and their names.
_LENGTHS = ((60.0, "0-60 s"), (180.0, "60-180 s"), (900.0, "180-900 s"), (2700.0, "900-2700 s"))
_LONGEST = "over 2700 s"

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Where a question stands among those that are scored together.

    ``kind`` is ``relevance`` or ``logic``; ``steps`` are the places of a logical chain, those on one step together.
    """

    id: str
    kind: str = "relevance"
    steps: tuple[tuple[int, ...], ...] = ()
    place: int = 0


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question about a video (or about ``images`` and ``sounds``) with its options and its key.

    ``key`` is the place of the right option. An open question has no options, ``key`` -1, and its right answers as
    ``references``. ``needs`` are the media that the benchmark says it needs (``frames``, ``sound``); ``span_s`` is the
    part of the video that is asked about and shown, ``evidence_s`` where the answer is found in it (seconds of the
    file). ``duration_s`` is the video's, None where its file does not say.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    key: int = -1
    references: tuple[str, ...] = ()
    video: str = ""
    images: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    type: str = ""
    needs: frozenset[str] = frozenset({FRAMES})
    span_s: Span | None = None
    evidence_s: tuple[Span, ...] = ()
    duration_s: float | None = None
    length: str = ""
    group: Group | None = None
    licence: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the answer is written, and not chosen."""
        return not self.options

    @property
    def medium(self) -> str:
        """What the question is about: the name by which items of one video are known to belong together."""
        return self.video or " ".join((*self.images, *self.sounds))


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An item that can't be asked: ``place`` is where it stands in its file, or its id."""

    place: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The items of a benchmark in the order of its files, and those that were rejected."""

    items: Sequence[Item]
    rejected: Sequence[Rejected] = field(default_factory=tuple)

    @property
    def count(self) -> int:
        """How many there are, the rejected ones included."""
        return len(self.items) + len(self.rejected)


def length_of(duration_s: float | None) -> str:
    """The bucket of a video's length in seconds; empty where it is not known."""
    if duration_s is None:
        return ""
    return next((name for most, name in _LENGTHS if duration_s <= most), _LONGEST)
