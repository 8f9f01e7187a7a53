"""Which text a run gave first of each clip: what its sources say besides is another text, and no repetition."""

from __future__ import annotations

from collections import OrderedDict

from flywheel.ingest.items import Item

#: Clips that are remembered. Sources that say much of a clip say it near by, or are of fewer clips.
_MOST = 1 << 16


class FirstTexts:
    """The first text of each clip, for those named last; a few bytes of each."""

    def __init__(self) -> None:
        self._texts: OrderedDict[int, int] = OrderedDict()

    def is_another(self, content_hash: str, item: Item, found: str | None = None) -> bool:
        """Whether an item says something else of its clip than the first that named it.

        ``found`` is what the clip that it became says: a source that gives no text lets others be found.
        """
        words = item.transcript or found
        if words is None:
            return False
        clip, text = _key(content_hash, item), hash(" ".join(words.split()))
        first = self._texts.setdefault(clip, text)
        self._texts.move_to_end(clip)
        if len(self._texts) > _MOST:
            self._texts.popitem(last=False)
        return first != text

    def forget(self, content_hash: str, item: Item) -> None:
        """Let the next text of an item's clip be the first."""
        self._texts.pop(_key(content_hash, item), None)


def _key(content_hash: str, item: Item) -> int:
    return hash((content_hash, item.start_s, item.end_s))
