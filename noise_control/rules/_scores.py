"""Scores of texts as histograms, and mixtures of normals on them: what :mod:`noise_control.rules.mixture` decides by.

Ours; ``docs/theory.md`` 4.3 and 4.4. Suffix: K bins of the histogram.
"""

from __future__ import annotations

import math

import torch
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


def posterior(score: Tensor, rate: Tensor, right: tuple[Tensor, Tensor], wrong: tuple[Tensor, Tensor]) -> Tensor:
    """P(right | score) of two normals; outside their means it stays what it is there, so that it never falls with the score."""
    inner = torch.minimum(torch.maximum(score, wrong[0]), right[0])
    spreads = [spread.clamp(min=1e-6) for spread in (right[1], wrong[1])]
    as_right = -0.5 * ((inner - right[0]) / spreads[0]) ** 2 - spreads[0].log() + (1 - rate).clamp(min=1e-9).log()
    as_wrong = -0.5 * ((inner - wrong[0]) / spreads[1]) ** 2 - spreads[1].log() + rate.clamp(min=1e-9).log()
    return torch.sigmoid(as_right - as_wrong)


def corrupted(people: list[float], rate: float) -> tuple[float, float]:
    """Mean and spread of the scores of people's texts with noise words at this rate: between what they are without and at the
    rate at which they were scored, in proportion (theory, 4.3)."""
    own, own_squares, other, other_squares, _, measured_rate = people
    share = rate / max(measured_rate, LEAST_RATE)
    variance = (1 - share) * (own_squares - own**2) + share * (other_squares - other**2)
    return (1 - share) * own + share * other, math.sqrt(max(variance, 0.0)) + 0.01


def shifted(scores_K: Tensor, by: float) -> Tensor:
    """A histogram moved by a distance, between bins by shares."""
    whole = math.floor(by / BIN)
    share = by / BIN - whole
    out = torch.zeros_like(scores_K)
    for bins, part in ((whole, 1 - share), (whole + 1, share)):
        index = (torch.arange(BINS, device=scores_K.device) + bins).clamp(0, BINS - 1)
        out.index_add_(0, index, part * scores_K)
    return out


def recentred(people: Tensor, by: float) -> Tensor:
    """Mean and mean square, of scores less a constant; what follows them stays."""
    own, squares = people[:2]
    return torch.cat([torch.stack([own - by, squares - 2 * by * own + by**2]), people[2:]])


def pinned_mixture(
    scores_K: Tensor, right: tuple[float, float], start: tuple[float, float, float], rate_max: float
) -> tuple[float, float, float] | None:
    """EM for the wrong texts' (rate, mean, spread), the right ones' held; None where no second component stands apart."""
    share = scores_K / scores_K.sum()
    held = (torch.tensor(right[0]).double(), torch.tensor(right[1]).double())
    rate, mean, spread = start
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
    return None if mean > right[0] - _MIN_DISTANCE * right[1] else (rate, mean, spread)


def stands_apart(wrong: tuple[float, float, float], people: list[float]) -> bool:
    """Whether wrong texts are more than a cover for noise words whose scores were foreseen badly: they are under people's own scores,
    and right texts remain to be pinned."""
    own, spread = corrupted(people, 0.0)
    return wrong[1] < own - _MIN_DISTANCE * spread and wrong[0] < _MOST_WRONG_TEXTS


def fit(scores_K: Tensor, parts: list[tuple[float, float, float]]) -> float:
    """Mean log-likelihood of scores under a mixture of normals (share, mean, spread)."""
    density = sum((share * normal(CENTRES, (mean, spread)) for share, mean, spread in parts), torch.zeros_like(CENTRES))
    return float((scores_K / scores_K.sum() * density.clamp(min=1e-30).log()).sum())


def normal(x: Tensor, mean_and_spread: tuple[float, float]) -> Tensor:
    mean, spread = mean_and_spread
    return (-0.5 * ((x - mean) / spread) ** 2).exp() / (spread * math.sqrt(2 * math.pi))
