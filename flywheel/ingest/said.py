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

    def is_another(self, content_hash: str, item: Item) -> bool:
        """Whether an item says something else of its clip than the first that named it with a text."""
        if not item.transcript:
            return False
        clip, text = hash((content_hash, item.start_s, item.end_s)), hash(" ".join(item.transcript.split()))
        first = self._texts.setdefault(clip, text)
        self._texts.move_to_end(clip)
        if len(self._texts) > _MOST:
            self._texts.popitem(last=False)
        return first != text
