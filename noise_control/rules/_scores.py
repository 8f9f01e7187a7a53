"""Scores of texts as histograms, and mixtures of normals that explain them.

Ours; ``docs/theory.md`` 4.3 and 4.4. A normal is (mean, spread), spread its standard deviation. Suffixes: S texts,
K bins of the histogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Scores of texts are kept as a histogram, since counts add up over ranks.
LOWEST, HIGHEST, BIN = -6.0, 8.0, 0.125
BINS = int((HIGHEST - LOWEST) / BIN)
CENTRES = LOWEST + BIN * (torch.arange(BINS, dtype=torch.float64) + 0.5)
#: Least distance, in standard deviations of right texts, of the wrong texts' mean.
_MIN_DISTANCE = 0.5
#: Share of wrong texts over which too few right ones remain to tell them from noise words in all texts.
_MOST_WRONG_TEXTS = 0.75
#: EM's iterations at most.
_MOST_ITERATIONS = 60
#: Under this rate it does not matter how right texts with noise words score.
LEAST_RATE = 0.02
#: Shares of the noise that may be in words rather than in whole texts.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Nats per text by which wrong texts must explain the scores better than noise words do, for what fitting alone gains:
#: a part for the normals' misfit, and a little for each part in words, so that of equal explanations the simple one
#: wins. A third part, for the chance in people's texts, is the caller's.
_PRICE, _SHARE_PRICE = 0.05, 0.01
#: The first part grows with the rate that words alone would have to explain, up to here: without noise there is no
#: misfit of it.
_FULL_PRICE_RATE = 0.2
#: Rates from which EM looks for wrong texts.
_START_RATES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class PeopleScores:
    """Mean and mean square of the scores of people's texts, and of the same with noise words in them at a rate."""

    mean: float
    squares: float
    corrupted_mean: float
    corrupted_squares: float
    corrupted_rate: float

    def normal(self, rate: float) -> tuple[float, float]:
        """The normal of people's scores with noise words at this rate.

        It lies between those without and at the rate at which they were scored, in proportion (theory, 4.3).
        """
        share = rate / max(self.corrupted_rate, LEAST_RATE)
        variance = (1 - share) * (self.squares - self.mean**2) + share * (
            self.corrupted_squares - self.corrupted_mean**2
        )
        return (1 - share) * self.mean + share * self.corrupted_mean, math.sqrt(max(variance, 0.0)) + 0.01


@dataclass(frozen=True, kw_only=True)
class WrongTexts:
    """The share of wrong texts, and the normal of their scores."""

    rate: float
    mean: float
    spread: float

    def apart_from(self, people: PeopleScores) -> bool:
        """Whether they are more than a cover for noise words whose scores were foreseen badly.

        They must lie under people's scores, and right texts must remain to be pinned.
        """
        mean, spread = people.normal(0.0)
        return self.mean < mean - _MIN_DISTANCE * spread and self.rate < _MOST_WRONG_TEXTS


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How scores came about: ``value`` is the mean log-likelihood less prices, ``word_rate`` that of noise words."""

    value: float
    word_rate: float
    wrong: WrongTexts | None


def bin_of(score_S: Float[Tensor, " S"]) -> Int[Tensor, " S"]:
    """The histogram's bin of each score."""
    return ((score_S - LOWEST) / BIN).long().clamp(0, BINS - 1)


def posterior(
    score: Float[Tensor, "*S"], rate: Float[Tensor, "*#S"], right: tuple[Tensor, Tensor], wrong: tuple[Tensor, Tensor]
) -> Float[Tensor, "*S"]:
    """P(right | score) of two normals; outside their means it stays what it is there, so that it never falls."""
    inner = torch.minimum(torch.maximum(score, wrong[0]), right[0])
    spreads = [spread.clamp(min=1e-6) for spread in (right[1], wrong[1])]
    as_right = -0.5 * ((inner - right[0]) / spreads[0]) ** 2 - spreads[0].log() + (1 - rate).clamp(min=1e-9).log()
    as_wrong = -0.5 * ((inner - wrong[0]) / spreads[1]) ** 2 - spreads[1].log() + rate.clamp(min=1e-9).log()
    return torch.sigmoid(as_right - as_wrong)


def shifted(scores_K: Float[Tensor, " K"], by: float) -> Float[Tensor, " K"]:
    """A histogram moved by a distance, between bins by shares."""
    whole = math.floor(by / BIN)
    share = by / BIN - whole
    out = torch.zeros_like(scores_K)
    for bins, part in ((whole, 1 - share), (whole + 1, share)):
        index = (torch.arange(BINS, device=scores_K.device) + bins).clamp(0, BINS - 1)
        out.index_add_(0, index, part * scores_K)
    return out


def explanations(
    scores_K: Float[Tensor, " K"],
    people: PeopleScores,
    *,
    total: float,
    chance: float,
    words: bool,
    rate_max: float,
) -> list[Explanation]:
    """How well scores are explained, by how much of the noise is in words (theory, 4.4).

    ``total`` is the rate of noise of either kind, ``chance`` the price for the chance in people's texts. ``words`` says
    whether noise words are looked for at all.
    """
    shares = _SHARES if words and total > 0 else (0.0,)
    # Without wrong texts all noise is in words, and its rate is known: nothing is fitted.
    without = shares[-1] * total
    explained = [Explanation(value=fit(scores_K, [(1.0, *people.normal(without))]), word_rate=without, wrong=None)]
    price = chance + _PRICE * min(1.0, total / _FULL_PRICE_RATE)
    for share in shares:
        right = people.normal(share * total)
        # EM goes where it starts: from wrong texts far off, and from each rate that would move the mean as far.
        moved = right[0] - float((scores_K * CENTRES).sum() / scores_K.sum())
        starts = [(0.3, right[0] - 2 * right[1])]
        starts += [(rate, right[0] - moved / rate) for rate in _START_RATES if moved > 0]
        for rate, mean in starts:
            start = WrongTexts(rate=rate, mean=mean, spread=right[1])
            wrong = pinned_mixture(scores_K, right, start, rate_max)
            if wrong is not None and (not words or wrong.apart_from(people)):
                value = fit(scores_K, [(1 - wrong.rate, *right), (wrong.rate, wrong.mean, wrong.spread)])
                value = value - price - _SHARE_PRICE * share
                explained.append(Explanation(value=value, word_rate=share * total, wrong=wrong))
    return explained


def pinned_mixture(
    scores_K: Float[Tensor, " K"], right: tuple[float, float], start: WrongTexts, rate_max: float
) -> WrongTexts | None:
    """EM for the wrong texts, the right ones' normal held; None where no second component stands apart."""
    share = scores_K / scores_K.sum()
    held = (torch.tensor(right[0]).double(), torch.tensor(right[1]).double())
    rate, mean, spread = start.rate, start.mean, start.spread
    for _ in range(_MOST_ITERATIONS):
        before = mean
        wrong = (torch.tensor(mean).double(), torch.tensor(spread).double())
        mass = share * (1 - posterior(CENTRES, torch.tensor(rate).double(), held, wrong))
        rate = float(mass.sum())
        if rate < 0.005:
            return None
        mean = float((mass * CENTRES).sum()) / rate
        spread = max(math.sqrt(float((mass * (CENTRES - mean) ** 2).sum()) / rate), 0.1 * right[1], BIN / 2)
        rate = min(rate, rate_max)
        if abs(mean - before) < 1e-4:
            break
    return None if mean > right[0] - _MIN_DISTANCE * right[1] else WrongTexts(rate=rate, mean=mean, spread=spread)


def fit(scores_K: Float[Tensor, " K"], parts: list[tuple[float, float, float]]) -> float:
    """Mean log-likelihood (nats per text) of scores under a mixture of normals (share, mean, spread)."""
    density = sum((share * _normal(CENTRES, mean, spread) for share, mean, spread in parts), torch.zeros_like(CENTRES))
    return float((scores_K / scores_K.sum() * density.clamp(min=1e-30).log()).sum())


def _normal(x: Float[Tensor, " K"], mean: float, spread: float) -> Float[Tensor, " K"]:
    return (-0.5 * ((x - mean) / spread) ** 2).exp() / (spread * math.sqrt(2 * math.pi))
