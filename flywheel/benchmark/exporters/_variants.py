"""Variants of a benchmark that show what a score rests on: the same questions with something left out or exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flywheel.benchmark.exporters._media import NONE, OTHER, OWN
from flywheel.benchmark.items import Item, Rejected
from flywheel.core.errors import MediaError

#: What stands in place of the right option where it is taken away: it is the right one then.
NONE_OF_THE_OTHERS = "None of the other options"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is shown of an item's ``picture`` and ``sound``, and whether its right option is taken away."""

    name: str
    picture: str = OWN
    sound: str = OWN
    right_is_none: bool = False

    def named(self, name: str) -> str:
        """The variant's name of a benchmark of this name."""
        return f"{name}_{self.name}" if self.name else name

    def item(self, item: Item) -> Item:
        """The item as this variant asks it. Raises MediaError where it can't."""
        if not self.right_is_none:
            return item
        if item.is_open:
            raise MediaError("has no options of which one could be taken away")
        if NONE_OF_THE_OTHERS in item.options:
            raise MediaError(f"has the option '{NONE_OF_THE_OTHERS}' already")
        options = tuple(NONE_OF_THE_OTHERS if n == item.key else text for n, text in enumerate(item.options))
        return replace(item, options=options)


#: The first is the benchmark itself.
VARIANTS = (
    Variant(name=""),
    Variant(name="no_visual", picture=NONE),
    Variant(name="no_audio", sound=NONE),
    Variant(name="text_only", picture=NONE, sound=NONE),
    Variant(name="swapped_audio", sound=OTHER),
    Variant(name="gt_none", right_is_none=True),
)


class Kept:
    """Rows of a variant one by one, and the rejects of all variants."""

    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self._whole: set[str] = set()

    def rows(self, items: Iterable[Item], variant: Variant, row_of: Callable[[Item, Variant], Any]) -> Iterator[Any]:
        """Yield each item's row; what can't be written is rejected, of the first variant once for all."""
        for item in items:
            if item.id in self._whole:
                continue
            try:
                yield row_of(variant.item(item), variant)
            except MediaError as error:
                if not variant.name:
                    self._whole.add(item.id)
                place = f"{item.id} ({variant.name})" if variant.name else item.id
                self.rejected.append(Rejected(place=place, reason=str(error)))
