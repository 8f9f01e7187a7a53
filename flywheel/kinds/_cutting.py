"""A reply from which parts are cut, that knows where in the raw reply each of its characters stood."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable
from re import Match, Pattern

Span = tuple[int, int]


class Cutting:
    """A reply's text while parts are cut out of it. ``names`` are those of what was cut, in order, each once."""

    def __init__(self, raw: str) -> None:
        self._shown = raw
        self.text = raw
        #: Spans of the raw reply that are left, those that are shown as a blank included.
        self._left: list[Span] = [(0, len(raw))] if raw else []
        self._blanks: set[int] = set()
        self.names: list[str] = []

    def cut(self, name: str, spans: Iterable[Span], *, gap: bool = False) -> None:
        """Cut these spans of the text, in order and apart from one another; with ``gap`` each leaves a blank."""
        found = [(start, end) for start, end in spans if start < end]
        if not found:
            return
        if name not in self.names:
            self.names.append(name)
        if gap:
            blanks = [start for start, _ in self._raw_spans((start, start + 1) for start, _ in found)]
            self._blanks.update(blanks)
            parts = [-1, *blanks, len(self._shown)]
            self._shown = " ".join(self._shown[a + 1 : b] for a, b in itertools.pairwise(parts))
            found = [(start + 1, end) for start, end in found]
        edges = [0, *(edge for span in found for edge in span), len(self.text)]
        self._left = self._raw_spans([(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b])
        self.text = "".join(self._shown[a:b] for a, b in self._left)

    @property
    def kept(self) -> tuple[Span, ...]:
        """The spans of the raw reply that are left, in order."""
        if not self._blanks:
            return tuple(self._left)
        edges = sorted(self._blanks)
        out: list[Span] = []
        for start, end in self._left:
            inside = edges[bisect_left(edges, start) : bisect_left(edges, end)]
            parts = [start - 1, *inside, end]
            out += [(a + 1, b) for a, b in itertools.pairwise(parts) if a + 1 < b]
        return tuple(out)

    def cut_all(self, name: str, pattern: Pattern[str], *, gap: bool = False) -> None:
        """Cut all matches of a pattern."""
        self.cut(name, [match.span() for match in pattern.finditer(self.text)], gap=gap)

    def keep(self, name: str, match: Match[str], group: str | int) -> None:
        """Cut all but one group of a match in the text."""
        start, end = match.span(group)
        self.cut(name, [(0, start), (end, len(self.text))])

    def _raw_spans(self, wanted: Iterable[Span]) -> list[Span]:
        """Spans of the text as spans of the raw reply; one pass over both."""
        out: list[Span] = []
        pieces, offset = iter(self._left), 0
        piece = next(pieces, None)
        for start, end in wanted:
            while piece is not None:
                first, last = piece
                a, b = max(start, offset), min(end, offset + last - first)
                if a < b:
                    out.append((first + a - offset, first + b - offset))
                if offset + last - first > end:
                    break
                offset, piece = offset + last - first, next(pieces, None)
        return out
