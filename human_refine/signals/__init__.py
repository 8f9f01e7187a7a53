"""Priority signals for review: a value per text, higher is shown sooner.

A signal is one file ``NAME.py`` with a function ``NAME(batch: TextBatch)``, or a function of another package under the
entry-point group ``flywheel.human_refine.signals``. It returns one float64 per row of the batch, NaN where it has
nothing to say of a text.

A signal whose value of a text never changes is marked ``@lasting``: it is asked once for each text, in batches. The
others are asked of all texts anew whenever the records or the corrections changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.registry import Registry
from flywheel.store import Workspace

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Some of the newest round's texts, and what a signal may look up about them.

    ``rows`` has the columns ``id``, ``clip`` (the clip's :func:`clip_keys`), ``kind``, ``round`` and ``mean_logprob``.
    ``read_texts`` gives each row's text, ``read_earlier`` the same clip's text of the round before, or null. Both read
    files: ask for them only where they are needed.
    """

    workspace: Workspace
    rows: pl.DataFrame
    read_texts: Callable[[], pl.Series]
    read_earlier: Callable[[], pl.Series]


Signal = Callable[[TextBatch], Values]
S = TypeVar("S", bound=Signal)
SIGNALS = Registry("human_refine.signals", what="review signal")


def signal(name: str) -> Signal:
    """The signal with this name. Raises UserError for a name that is unknown."""
    return SIGNALS.builder(name)


def lasting(function: S) -> S:
    """Marks a signal whose value of a text never changes."""
    function.lasting = True  # type: ignore[attr-defined]
    return function


def is_lasting(function: Signal) -> bool:
    """Whether a signal was marked with :func:`lasting`."""
    return bool(getattr(function, "lasting", False))


def clip_keys(clip_ids: pl.Series) -> NDArray[np.uint64]:
    """A 64-bit key per clip id: what the queue keeps instead of the id."""
    return clip_ids.cast(pl.String).hash().to_numpy().astype(np.uint64)
