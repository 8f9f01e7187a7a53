"""How often one text is chosen over another: evidence that may be looked at after every choice, and a plan."""

from __future__ import annotations

import bisect
import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from flywheel.core.types import Estimate

#: Shares of its capital that a bet puts on a win, equally likely: quantiles of Beta(1, 3), so that small and large
#: advantages are both found (of eight priors that were tried the one with the fewest choices for win rates of .55
#: to .75). Whatever they are, what follows is valid.
_SHARES: Float[np.ndarray, " shares"] = 1 - (1 - (np.arange(64) + 0.5) / 64) ** (1 / 3)
#: A plan goes no further: who needs more choices than this looks for an advantage that nobody will notice.
_MOST_CHOICES = 10_000
#: Bisections of an interval's bound: to 2 ** -40.
_HALVINGS = 40


class WinRate:
    """The win rate of one text over another, from choices that come one at a time.

    A choice is a number in [0, 1]: 1 where the first text was preferred, 0 where the second was, 1/2 where neither was.
    Against "it wins at most m of its choices on the mean" one bets at fair odds: a share u of the capital on a win,
    which pays x/m, so that after choices x_1 ... x_n

        E_n(m) = mean over u of  prod_i (1 - u + u x_i / m)

    is the capital of who began with 1. Where every choice's mean, given all before it, is at most m, its mean stays at
    most 1, however long one goes on and whenever one stops (Ville 1939): it exceeds 1/alpha at any time with
    probability at most alpha. So one may look after every choice, and go on or stop for any reason
    (Shafer, Testing by betting, 2021; Waudby-Smith and Ramdas, Estimating means of bounded random variables by
    betting, 2024).

    Only the number of each outcome is kept. The choices must not tell of each other: one for each video.
    """

    def __init__(self, outcomes: Iterable[float] = ()) -> None:
        self._counts: Counter[float] = Counter()
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: float) -> None:
        """Take in a choice. Raises ValueError where it is no number from 0 to 1."""
        if not 0 <= outcome <= 1:
            raise ValueError(f"WinRate.add: a choice is a number from 0 (lost) to 1 (won), got {outcome}")
        self._counts[float(outcome)] += 1

    @property
    def count(self) -> int:
        """Number of choices so far."""
        return self._counts.total()

    @property
    def value(self) -> float:
        """The mean of all choices; nan without any."""
        total = sum(outcome * n for outcome, n in self._counts.items())
        return total / self.count if self.count else math.nan

    @property
    def e_value(self) -> float:
        """Evidence that the first text wins more than half: E_n(1/2). At 20 and more the level .05 is reached."""
        return _exp(self._log_capital(0.5, won=True))

    @property
    def e_value_worse(self) -> float:
        """Evidence that the first text wins less than half."""
        return _exp(self._log_capital(0.5, won=False))

    def interval(self, alpha: float = 0.05) -> Estimate:
        """The win rate with its interval, which covers the truth at all times at once with chance 1 - ``alpha``.

        It holds each m against which neither side's capital reached 2 / alpha. Raises ValueError unless 0 < alpha < 1.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"WinRate.interval: alpha lies between 0 and 1, got {alpha}")
        if not self.count:
            return Estimate(value=math.nan, low=0.0, high=1.0, n=0)
        low, high = self._bound(alpha, won=True), 1 - self._bound(alpha, won=False)
        return Estimate(value=self.value, low=low, high=high, n=self.count)

    def _bound(self, alpha: float, *, won: bool) -> float:
        """The least m that the capital has not ruled out; of ``won=False`` as seen from the other side."""
        enough = math.log(2 / alpha)
        below, above = 0.0, 1.0
        for _ in range(_HALVINGS):
            # Capital falls with m: the higher the mean that is granted, the less a win pays.
            middle = (below + above) / 2
            if self._log_capital(middle, won=won) >= enough:
                below = middle
            else:
                above = middle
        return below

    def _log_capital(self, m: float, *, won: bool) -> float:
        """log E_n(m); with ``won=False`` of bets on the other text."""
        log = np.zeros_like(_SHARES)
        for outcome, n in self._counts.items():
            x = outcome if won else 1 - outcome
            log += n * np.log1p(_SHARES * (x / m - 1))
        return _log_mean(log)


@dataclass(frozen=True, kw_only=True)
class ChoicePlan:
    """How many choices show an advantage: with the power that was asked for, and in half of all cases."""

    needed: int
    typical: int


@functools.lru_cache(maxsize=64)
def choices_needed(win_rate: float, level: float, power: float, *, ties: float = 0.0) -> ChoicePlan:
    """The choices after which evidence of 1 / ``level`` was reached at some look, with chance ``power``.

    ``win_rate`` (ties as half) is the truth that one wishes to find, ``ties`` the share of choices for neither. Exact,
    for a look after every choice: a tie changes nothing, and of the others the number won at which E_n(1/2) gets there
    is known for each n. Raises ValueError for a win rate or shares that can't be, or that would take more than 10,000
    choices.
    """
    if not 0 <= ties < 1 or not 0.5 < win_rate <= 1 - ties / 2:
        raise ValueError(
            f"choices_needed: a win rate lies above .5 and at most at 1 - ties / 2, got {win_rate} with {ties} of ties"
        )
    if not 0 < level < 1 or not 0 < power < 1:
        raise ValueError(f"choices_needed: level and power lie between 0 and 1, got {level} and {power}")
    decided = 1 - ties
    reached = _Reached((win_rate - ties / 2) / decided, level)
    most = 1
    while reached.after(most, decided) < power:
        if most >= _MOST_CHOICES:
            raise ValueError(
                f"choices_needed: a win rate of {win_rate:g} needs more than {_MOST_CHOICES} choices at level {level:g}"
            )
        most = min(2 * most, _MOST_CHOICES)
    numbers = range(1, most + 1)
    needed, typical = (
        1 + bisect.bisect_left(numbers, share, key=lambda n: reached.after(n, decided)) for share in (power, 0.5)
    )
    return ChoicePlan(needed=needed, typical=min(needed, typical))


class _Reached:
    """The chance that the capital reached 1 / ``level`` by then, where each decided choice is won with chance ``p``."""

    def __init__(self, p: float, level: float) -> None:
        self._p, self._enough = p, math.log(1 / level)
        #: By number of decided choices.
        self._shares = [0.0]
        #: Chance of each number of wins, the bound not yet reached; and the number of wins that reaches it.
        self._standing = np.ones(1)
        self._least = 0

    def after(self, choices: int, decided: float) -> float:
        """After so many choices, of which a share ``decided`` is no tie."""
        while len(self._shares) <= choices:
            self._go_on()
        number = np.arange(choices + 1)
        return float(scipy.stats.binom.pmf(number, choices, decided) @ np.array(self._shares[: choices + 1]))

    def _go_on(self) -> None:
        n = len(self._shares)
        # One choice more needs at most one win more, and never one less.
        while self._least <= n and self._log_capital(self._least, n) < self._enough:
            self._least += 1
        now = np.append(self._standing * (1 - self._p), 0.0) + np.append(0.0, self._standing * self._p)
        self._shares.append(self._shares[-1] + float(now[self._least :].sum()))
        self._standing = now[: self._least]

    def _log_capital(self, won: int, of: int) -> float:
        return _log_mean(won * np.log1p(_SHARES) + (of - won) * np.log1p(-_SHARES))


def _log_mean(logs: Float[np.ndarray, " shares"]) -> float:
    """The logarithm of the mean of e to these."""
    most = float(logs.max())
    return most + math.log(float(np.exp(logs - most).mean()))


def _exp(log: float) -> float:
    """e to this, at most the largest number that there is."""
    return math.exp(min(log, 709.0))
