"""The collapse watch's figures against their definitions, and its alarms on series that collapse and that do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flywheel.core.types import Estimate
from flywheel.metrics.collapse import (
    Rule,
    changes,
    collapse_figures,
    grams_of,
    jensen_shannon,
    points_of,
    self_bleu,
    vendi_and_spread,
)
from flywheel.rounds.figures import watch_rules

RULES = watch_rules()
DISTANCES = {name for name, rule in RULES.items() if rule.from_base}
UNKNOWN = {"unknown": RULES["unknown"]}
WORDS = [f"w{i}" for i in range(300)]


def texts(rng: np.random.Generator, count: int, vocabulary: int = 300, length: int = 12) -> list[str]:
    return [" ".join(WORDS[i] for i in rng.integers(0, vocabulary, length)) for _ in range(count)]


def test_self_bleu_is_its_definition() -> None:
    sample = [t.split() for t in ("a b c d e", "a b c d f", "a b x y z", "q r s t u v")]

    def grams(t: list[str], n: int) -> list[tuple[str, ...]]:
        return [tuple(t[i : i + n]) for i in range(len(t) - n + 1)]

    values = []
    for i, text in enumerate(sample):
        others = [t for j, t in enumerate(sample) if j != i]
        logs = []
        for n in range(1, 5):
            kept = sum(
                min(grams(text, n).count(g), max(grams(o, n).count(g) for o in others)) for g in set(grams(text, n))
            )
            p = (kept + (n > 1)) / (len(grams(text, n)) + (n > 1))
            logs.append(math.log(p) if p else -math.inf)
        values.append(math.exp(sum(logs) / 4))
    assert self_bleu(grams_of(sample)) == pytest.approx(np.mean(values))
    assert self_bleu(grams_of([["a", "b", "c", "d", "e"]] * 5)) == pytest.approx(1)


def test_vendi_of_copies_and_of_strangers() -> None:
    copies, spread = vendi_and_spread(points_of([["a", "b"]] * 10))
    assert (copies, spread) == (pytest.approx(0.1, abs=1e-6), pytest.approx(0, abs=1e-6))
    strangers, spread = vendi_and_spread(points_of([[f"x{i}", f"y{i}"] for i in range(10)]))
    assert strangers > 0.95
    assert spread > 0.95
    half, _ = vendi_and_spread(points_of([["a", "b"], ["c", "d"]] * 5))
    assert half == pytest.approx(0.2, abs=1e-6), "two different texts, however often"


def test_divergence() -> None:
    assert jensen_shannon({"a": 1, "b": 1}, {"a": 5, "b": 5}) == pytest.approx(0)
    assert jensen_shannon({"a": 1}, {"b": 1}) == pytest.approx(1)
    assert math.isnan(jensen_shannon({}, {"a": 1}))


@pytest.mark.slow
def test_figures_do_not_depend_on_how_many_texts_there_are_beyond_the_sample() -> None:
    rng = np.random.default_rng(0)
    many = texts(rng, 4000)
    one, two = collapse_figures(many, most=400), collapse_figures(many[:400], most=400)
    assert one == two
    assert set(one) == set(RULES) - DISTANCES, "each figure has a rule, and each rule its figure"
    assert set(collapse_figures(many[:40], origin=many[:9], human=many[:9])) == set(RULES)
    assert collapse_figures(many[:5]) == {}
    for estimate in one.values():
        assert estimate.low <= estimate.value <= estimate.high


def series(rng: np.random.Generator, vocabularies: list[int]) -> list[dict[str, Estimate]]:
    human = texts(rng, 300)
    return [collapse_figures(texts(rng, 300, v), origin=human, human=human, most=300) for v in vocabularies]


@pytest.mark.slow
def test_a_narrowing_series_gives_alarms_and_names_them() -> None:
    changed = changes(series(np.random.default_rng(1), [300, 300, 280, 300, 150]), RULES)
    assert {"distinct_1", "vocabulary", "from_human"} <= set(changed)
    assert all(change.sigmas > RULES[name].sigmas for name, change in changed.items())


@pytest.mark.slow
def test_a_steady_series_gives_none() -> None:
    """Thirty rounds of the same law, each watched with the seven before it: at most one alarm in all."""
    rng = np.random.default_rng(2)
    human = texts(rng, 200)
    rounds = [collapse_figures(texts(rng, 120), origin=human, human=human, most=120, halves=8) for _ in range(32)]
    alarms = [bool(changes(rounds[max(0, i - 7) : i], RULES)) for i in range(3, len(rounds))]
    assert sum(alarms) <= 1
    assert changes(rounds[:2], RULES) == {}


@pytest.mark.slow
def test_words_that_nobody_said_are_seen_at_once_and_a_few_are_none() -> None:
    rng = np.random.default_rng(4)
    human = texts(rng, 300)

    def of(slips: float) -> dict[str, Estimate]:
        slipped = [" ".join("slip" if rng.random() < slips else w for w in t.split()) for t in texts(rng, 300)]
        return collapse_figures(slipped, origin=human, human=human, most=300)

    assert of(0.0)["unknown"].value == 0
    assert of(0.2)["unknown"].value == pytest.approx(0.2, abs=0.02)
    assert list(changes([of(0.05)], UNKNOWN, base=of(0.0))) == ["unknown"], "after one round already"
    assert changes([of(0.002)], UNKNOWN, base=of(0.0)) == {}
    assert changes([of(0.0)], UNKNOWN, base=of(0.2)) == {}, "a base of another dialect, that learned"


def test_one_odd_round_is_no_yardstick() -> None:
    """Vocabulary of a wheel that unlearns its first round's noise and stays there (experiments/collapse, seed 202)."""
    values = [1.848, 1.700, 1.770, 1.751, 1.718, 1.715, 1.714, 1.718]
    rounds = [{"vocabulary": Estimate(value=v, low=v - 0.02, high=v + 0.02, n=80)} for v in values]
    assert [i for i in range(3, 9) if changes(rounds[:i], RULES)] == []
    assert changes([*rounds[:4], rounds[0], {"vocabulary": Estimate(value=1.5, low=1.48, high=1.52, n=80)}], RULES)


def test_a_collapse_that_speeds_up_goes_on_ringing() -> None:
    values = [0.0876, 0.0936, 0.1402, 0.1950, 0.2849, 0.3581, 0.4228]
    rounds = [{"unknown": Estimate(value=v, low=v - 0.0137, high=v + 0.0137, n=204)} for v in values]
    assert [bool(changes(rounds[1:i], UNKNOWN, base=rounds[0])) for i in range(2, 8)] == [
        False,
        True,
        True,
        True,
        True,
        True,
    ]


@pytest.mark.slow
def test_slow_decline_is_no_noise() -> None:
    """A little narrower each round: the drift itself must not pass for noise."""
    rng = np.random.default_rng(3)
    rounds = series(rng, [300, 270, 240, 215, 190, 170, 150])
    first = next(i for i in range(3, 8) if changes(rounds[:i], RULES))
    assert first <= 5


def test_a_figure_without_a_rule_is_left_out_and_directions_are_told_apart() -> None:
    rounds = [{"new": Estimate(value=v, low=v - 0.01, high=v + 0.01, n=80)} for v in (1.0, 1.0, 1.0, 2.0)]
    assert changes(rounds, RULES) == {}
    for bad, rings in (("more", True), ("less", False), ("either", True)):
        assert bool(changes(rounds, {"new": Rule(bad=bad)})) == rings  # type: ignore[arg-type]
    change = changes(rounds, {"new": Rule(bad="more")})["new"]
    assert (change.value, change.best) == (2.0, 1.0)
    assert change.sigmas == pytest.approx(1.0 / math.hypot(0.02 / 3.92, 0.02 / 3.92))
    assert changes(rounds, {"new": Rule(bad="more", least_noise=0.3)}) == {}, "3.3 sigma of the least noise"
    assert changes(rounds[-1:], {"new": Rule(bad="more")}, base=rounds[0]) == {}, (
        "the base counts where a rule takes it"
    )
    assert changes(rounds[-1:], {"new": Rule(bad="more", from_base=True)}, base=rounds[0])
