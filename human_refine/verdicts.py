"""Who judged which text, and which texts enough people settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set

from human_refine.order import hash_fraction

_NOBODY: frozenset[str] = frozenset()


class Verdicts:
    """Text -> who looked at it, and who settled it; grows with what people said, not with the texts."""

    def __init__(
        self, rows: Iterable[tuple[str, str, str]], *, overlap_share: float, without: Set[str] = _NOBODY
    ) -> None:
        """``rows`` are annotation id, verdict and refiner, oldest first; refiners in ``without`` are left out."""
        self._overlap_share, self._without = overlap_share, without
        self._seen: dict[str, set[str]] = {}
        self._settled: dict[str, set[str]] = {}
        self._num_seen: defaultdict[str, int] = defaultdict(int)
        #: Text -> how many people should settle it.
        self._wanted: dict[str, int] = {}
        for row in rows:
            self.take_in(*row)

    def by_same_rules(self, rows: Iterable[tuple[str, str, str]]) -> Verdicts:
        """Others by the same share and without the same people; ``rows`` as in ``__init__``."""
        return Verdicts(rows, overlap_share=self._overlap_share, without=self._without)

    def take_in(self, annotation_id: str, verdict: str, refiner: str) -> None:
        """Takes one verdict in, unless its refiner is left out."""
        if refiner not in self._without:
            self.note(annotation_id, verdict, refiner)

    def note(self, annotation_id: str, verdict: str, refiner: str) -> None:
        """Takes one verdict in; the same one twice is one."""
        seen = self._seen.setdefault(annotation_id, set())
        before = refiner in seen
        if verdict == "withdraw":
            seen.discard(refiner)
            self._settled.get(annotation_id, set()).discard(refiner)
        else:
            seen.add(refiner)
            if verdict not in ("skip", "cant_tell"):
                self._settled.setdefault(annotation_id, set()).add(refiner)
        self._num_seen[refiner] += (refiner in seen) - before

    def has_seen(self, annotation_id: str, refiner: str) -> bool:
        """Whether this person judged or skipped a text."""
        return refiner in self._seen.get(annotation_id, _NOBODY)

    def has_settled(self, annotation_id: str, refiner: str) -> bool:
        """Whether this person's verdict of a text stands."""
        return refiner in self._settled.get(annotation_id, _NOBODY)

    def is_seen(self, annotation_id: str) -> bool:
        """Whether anybody judged or skipped a text."""
        return bool(self._seen.get(annotation_id))

    def num_seen(self, refiner: str) -> int:
        """How many texts this person judged or skipped."""
        return self._num_seen.get(refiner, 0)

    def is_settled(self, annotation_id: str) -> bool:
        """Whether anybody's verdict of a text stands."""
        return bool(self._settled.get(annotation_id))

    def is_enough(self, annotation_id: str) -> bool:
        """Whether as many people settled a text as should: one, or two of a share of the texts."""
        count = len(self._settled.get(annotation_id, _NOBODY))
        if not count:
            return False
        if annotation_id not in self._wanted:
            self._wanted[annotation_id] = 1 + (hash_fraction("overlap", annotation_id) < self._overlap_share)
        return count >= self._wanted[annotation_id]

    def settled(self) -> list[str]:
        """Ids of all texts that anybody settled."""
        return [annotation_id for annotation_id, names in self._settled.items() if names]
