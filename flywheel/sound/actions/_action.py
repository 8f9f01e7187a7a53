"""What an action is, and what it makes of a sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.sound.actions._limit import limited
from flywheel.sound.actions._source import Samples, Source

#: Filters take noise away; the others bring sound and picture together.
Family = Literal["filter", "coordination"]
#: More channels than a file of sound has: then it is the samples' axis.
_MOST_CHANNELS = 64


@dataclass(frozen=True)
class Range:
    """Values that a parameter may have, both ends included; ``default`` is what it is if left out.

    Where ``default`` is an int only whole numbers are taken.
    """

    low: float
    high: float
    default: float
    unit: str = ""

    def checked(self, where: str, value: object) -> float:
        """The value. Raises UserError for one that is no number or out of range."""
        whole = isinstance(self.default, int)
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        if isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high:
            return int(value) if whole else float(value)
        what = "a whole number" if whole else "a number"
        unit = f" {self.unit}" if self.unit else ""
        raise UserError(f"{where}: need {what} from {self.low:g} to {self.high:g}{unit}, got {value!r:.60}.")


@dataclass(frozen=True, kw_only=True)
class Action:
    """A way to edit sound, as a file of this package registers it under the name ``ACTION``.

    ``edit(source, **values)`` gives the edited sound in blocks (n, channels), together as long as the source; it may
    pass full scale, which is then taken care of. ``does`` says in a line what it is for. ``ours``: it is none of the
    eight of AVAgent (Mo and Song 2024, arXiv 2410.23230). ``by_picture``: whether the picture tells if the edit
    helps, and not the sound's measured quality. Left out, it does for all but filters.
    """

    family: Family
    does: str
    parameters: Mapping[str, Range]
    edit: Callable[..., Iterator[Samples]]
    ours: bool = False
    by_picture: bool | None = None

    @property
    def judged_by_picture(self) -> bool:
        """Whether the picture tells if the edit helps."""
        return self.family != "filter" if self.by_picture is None else self.by_picture


@dataclass(eq=False)
class Edit:
    """An action with its values: a pure function of samples and their rate. ``built_from`` is (name, values)."""

    action: Action
    built_from: tuple[str, dict[str, Any]]

    def __call__(self, samples: NDArray[np.floating], rate_hz: int) -> NDArray[np.float32]:
        """The edited sound, of the same shape, in [-1, 1].

        Samples are (n,), (n, channels) or (channels, n): the shorter axis has the channels, and where both are as long
        the last. What is no number is silence. Raises ValueError for another shape, for integers, and for a rate
        below 1.
        """
        name, array = self.built_from[0], np.asanyarray(samples)
        if array.dtype.kind != "f" or array.ndim not in (1, 2):
            raise ValueError(
                f"{name}: need samples (n,) or (n, channels) as floats in [-1, 1], got {array.dtype} {array.shape}"
            )
        across = array.ndim == 2 and array.shape[0] < array.shape[1]
        rows = array[:, None] if array.ndim == 1 else array.T if across else array
        if not array.size:
            return np.zeros(array.shape, dtype=np.float32)
        if rows.shape[1] > _MOST_CHANNELS:
            raise ValueError(f"{name}: need at most {_MOST_CHANNELS} channels, got {array.shape}")
        out = np.empty(array.shape, dtype=np.float32)
        into = out[:, None] if array.ndim == 1 else out.T if across else out
        done = 0
        for block in self.blocks(lambda start, stop: rows[start:stop], len(rows), rate_hz):
            into[done : done + len(block)] = block
            done += len(block)
        return out

    def blocks(
        self, read: Callable[[int, int], NDArray[np.floating]], length: int, rate_hz: int
    ) -> Iterator[NDArray[np.float32]]:
        """The edited sound in blocks (n, channels), of a sound that is read by spans: memory is bounded.

        ``read(start, stop)`` gives samples (stop - start, channels), and is asked for [0, length) alone, mostly but
        not always forwards. Raises ValueError for a rate below 1.
        """
        name, values = self.built_from
        if rate_hz < 1:
            raise ValueError(f"{name}: need rate_hz >= 1, got {rate_hz}")
        if length > 0:
            yield from limited(self.action.edit(Source(read, length, int(rate_hz)), **values), int(rate_hz))
