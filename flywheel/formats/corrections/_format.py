"""What a format of corrections is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flywheel.formats.rows import CorrectionRow, ReviewRow


@dataclass(frozen=True, kw_only=True)
class CorrectionFormat:
    """A way to hand texts to people and to take corrections back.

    ``endings``  Endings of its files, with the dot, in lower case.
    ``read``     ``(content, stem) -> rows``: reads the bytes of a file, whose name without ending is ``stem``.
                 Raises ValueError where the file as a whole can't be read.
    ``write``    ``(rows, out)``: writes waiting texts into the file (or new folder) ``out``. Rows may be a stream.
    ``texts``    It can write texts without times.
    ``cues``     It can write timed texts.
    ``plain``    A file can't hold more than it weighs, so anybody may send one.
    """

    endings: tuple[str, ...]
    read: Callable[[bytes, str], Iterator[CorrectionRow]]
    write: Callable[[Iterable[ReviewRow], Path], None]
    texts: bool = True
    cues: bool = False
    plain: bool = True
