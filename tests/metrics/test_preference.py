"""Choices between two texts: what was seen so far is evidence whenever one looks, and the plan keeps its word."""

import functools
import math

import numpy as np
import pytest

from flywheel.metrics import preference
from flywheel.metrics.preference import WinRate, choices_needed

_SIMULATIONS = 4000


@functools.cache
def _least_wins(level, most):
    """Wins among n choices at which the evidence reaches 1 / level, for n from 0 to ``most``."""
    least, wins = [], 0
    for n in range(most + 1):
        while wins <= n and WinRate([1.0] * wins + [0.0] * (n - wins)).e_value < 1 / level:
            wins += 1
        least.append(wins)
    return np.array(least)


def _reached(choices, level):
    won, lost = ((choices == said).cumsum(axis=1, dtype=np.int16) for said in (2, 0))
    return (won >= _least_wins(level, choices.shape[1])[won + lost]).any(axis=1).mean()


def _drawn(p, ties, looks):
    rng = np.random.default_rng(7)
    win = (1 - ties) * p
    # 0 lost, 1 a tie, 2 won.
    return np.searchsorted([1 - ties - win, 1 - win], rng.random((_SIMULATIONS, looks), np.float32)).astype(np.int8)


@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_equal_texts_seldom_reach_the_level_though_one_looks_after_every_choice(ties):
    share = _reached(_drawn(0.5, ties, 120), 0.1)
    # Never above the level; and not so far below that it could be a test that finds nothing.
    assert 0.02 < share <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / _SIMULATIONS)


@pytest.mark.parametrize(("win_rate", "ties"), [(0.75, 0.0), (0.7, 0.3)])
def test_after_the_planned_choices_the_advantage_is_found_as_often_as_was_asked(win_rate, ties):
    plan = choices_needed(win_rate, 0.05, 0.9, ties=ties)
    choices = _drawn((win_rate - ties / 2) / (1 - ties), ties, plan.needed)
    error = 3 * math.sqrt(0.9 * 0.1 / _SIMULATIONS)
    assert 0.9 - error <= _reached(choices, 0.05) <= 0.93 + error
    assert _reached(choices[:, : plan.typical], 0.05) == pytest.approx(0.5, abs=0.06)


def _capital(choices, m, share):
    return math.prod(1 - share + share * x / m for x in choices)


def test_the_evidence_is_the_capital_of_one_who_bets_at_fair_odds():
    choices = [1, 0.5, 1, 0, 1, 0.25]
    shares = 1 - (1 - (np.arange(64) + 0.5) / 64) ** (1 / 3)
    rate = WinRate(choices)
    assert rate.e_value == pytest.approx(np.mean([_capital(choices, 0.5, u) for u in shares]))
    assert rate.e_value_worse == pytest.approx(np.mean([_capital([1 - x for x in choices], 0.5, u) for u in shares]))
    assert WinRate(reversed(choices)).e_value == pytest.approx(rate.e_value), "whatever came first"
    interval = rate.interval(0.2)
    assert np.mean([_capital(choices, interval.low, u) for u in shares]) == pytest.approx(10)
    above = 1 - interval.high
    assert np.mean([_capital([1 - x for x in choices], above, u) for u in shares]) == pytest.approx(10)
    assert (interval.value, interval.n) == (pytest.approx(sum(choices) / 6), 6)


def test_an_interval_narrows_with_choices_and_ties_count_as_half():
    few, many = (WinRate([1, 1, 0, 0.5] * n).interval() for n in (10, 400))
    assert few.low < 0.5 < few.value == 0.625 < few.high
    assert 0.5 < many.low < 0.625 < many.high
    assert many.high - many.low < (few.high - few.low) / 3
    ties = WinRate([0.5] * 400)
    assert ties.e_value == pytest.approx(1)
    assert ties.interval().low == pytest.approx(1 - ties.interval().high)


def test_without_choices_and_at_the_ends_nothing_breaks():
    none = WinRate().interval()
    assert (math.isnan(none.value), none.low, none.high, none.n) == (True, 0, 1, 0)
    assert WinRate().e_value == 1
    always, never = WinRate([1] * 5000), WinRate([0] * 5000)
    assert always.e_value > 1e300
    assert 0 < never.e_value < 1e-6
    assert always.interval().high == 1
    assert never.interval().low == 0


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_what_is_no_choice_is_refused(bad):
    with pytest.raises(ValueError, match="0 \\(lost\\) to 1 \\(won\\)"):
        WinRate([bad])


def test_a_plan_for_what_nobody_will_notice_is_refused(monkeypatch):
    monkeypatch.setattr(preference, "_MOST_CHOICES", 200)
    with pytest.raises(ValueError, match="more than 200 choices"):
        choices_needed(0.55, 0.05, 0.9)
    with pytest.raises(ValueError, match="at most at 1 - ties / 2"):
        choices_needed(0.9, 0.05, 0.9, ties=0.4)
    with pytest.raises(ValueError, match="alpha"):
        WinRate([1]).interval(0)
