"""The difference of two texts in words, whatever the script, for pages without a script of their own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

#: Characters of scripts without blanks stand alone; else a word, a blank, or a sign.
_PIECES = re.compile(r"[\u0E00-\u0EFF\u3000-\u9FFF\uAC00-\uD7AF]|\s+|\w+|[^\w\s]")
#: Longer texts are shown as they are, one after the other.
_MOST_PIECES = 2000

#: ``same``, ``added`` or ``gone``, and the text.
Part = tuple[str, str]


def parts(before: str, after: str) -> Sequence[Part]:
    """The parts of both texts in order: what is the same, what is gone, what was added."""
    a, b = _PIECES.findall(before), _PIECES.findall(after)
    if max(len(a), len(b)) > _MOST_PIECES:
        return [("gone", before), ("added", after)]
    return _merged(_steps(a, b))


def _merged(steps: Iterable[tuple[str, str, str]]) -> list[Part]:
    """The steps as parts. A blank between two changes belongs to them: whole phrases read better than single words."""
    found: list[Part] = []
    gone = added = blank = ""

    def ended(same: str) -> None:
        found.extend((kind, text) for kind, text in (("gone", gone), ("added", added), ("same", same)) if text)

    for same, less, more in steps:
        if same.isspace() and (gone or added):
            blank = same
        elif same:
            ended(blank + same)
            gone = added = blank = ""
        else:
            gone, added, blank = gone + blank + less, added + blank + more, ""
    ended(blank)
    return found


def _steps(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """What is the same, or what goes and what comes instead, in order."""
    for what, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        before, after = "".join(a[a0:a1]), "".join(b[b0:b1])
        yield (before, "", "") if what == "equal" else ("", before, after)
