"""What a format of datasets is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from flywheel.formats.rows import ExportRow


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A way to write datasets.

    ``write``    ``(rows, out)``: writes rows into the empty folder ``out``. It streams them, each within its
                 ``row.border()``, leaves out rows whose video can't be written, and writes nothing of the day's time:
                 same rows, same bytes.
    ``loading``  What the dataset's card says of how to load it; one line.
    ``cues``     Rows come with the cues of their clip's newest timed text.
    ``turns``    It writes all turns of a row's conversation, not its text alone.

    Raises ValueError for an empty ``loading``.
    """

    write: Callable[[Iterable[ExportRow], Path], None]
    loading: str
    cues: bool = False
    turns: bool = False

    def __post_init__(self) -> None:
        if not self.loading.strip() or "\n" in self.loading:
            raise ValueError("loading must say in one line how the dataset is loaded")
