"""The order of the queue: its rule, written plainly, and the same from what the queue keeps in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import content_id
from human_refine.order import in_order, order_keys

Values = Mapping[str, float]


def by_the_rule(
    ids: list[str], splits: Mapping[str, str], random_share: float, signals: Mapping[str, Values]
) -> list[tuple[str, str]]:
    """The order as it is defined, with whole lists and dictionaries."""
    by_hash = sorted(ids, key=lambda i: content_id("queue", i))
    train = [i for i in by_hash if splits.get(i) == "train"]
    anchors = [i for i in by_hash if splits.get(i) == "anchor"]
    ranked = [
        (name, sorted((i for i in values if splits.get(i) == "train"), key=lambda i: (-values[i], i)))
        for name, values in signals.items()
    ]
    left, mixed = list(train), []
    owed, turn = 0.0, 0
    while left:
        owed += random_share
        why, chosen = "random", None
        if owed < 1:
            for _ in ranked:
                name, best = ranked[turn % len(ranked)]
                turn += 1
                if (chosen := next((i for i in best if i in left), None)) is not None:
                    why = name
                    break
        else:
            owed -= 1
        chosen = chosen or left[0]
        left.remove(chosen)
        mixed.append((chosen, why))
    return list(evenly([(i, "anchor") for i in anchors], mixed))


def evenly(few: list[tuple[str, str]], many: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    share = len(few) / max(1, len(few) + len(many))
    taken = given = 0
    while taken < len(few) or given < len(many):
        if taken < len(few) and (given == len(many) or taken < share * (taken + given + 1)):
            yield few[taken]
            taken += 1
        else:
            yield many[given]
            given += 1


def values_of(ids: list[str], values: Values) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([values.get(i, np.nan) for i in ids])


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_the_rule_says(seed: int) -> None:
    """Any share, any signals, equal values, texts without one, and clips of all splits."""
    rng = random.Random(seed)
    ids = [content_id(seed, i) if i % 3 else f'odd \u00e9 "{i}"' for i in range(rng.choice([1, 7, 150]))]
    splits = {i: rng.choice(["train", "train", "train", "anchor", "test"]) for i in ids}
    signals = {
        name: {i: rng.choice([0.0, 0.5, rng.random()]) for i in ids if rng.random() < density}
        for name, density in [("doubt", 1.0), ("change", 0.4), ("noise", 0.02)][: rng.randrange(4)]
    }
    share = rng.choice([0.0, 0.3, 0.5, 1.0])
    arrays = {name: values_of(ids, values) for name, values in signals.items()}
    made = in_order(pl.Series(ids, dtype=pl.String), [splits[i] for i in ids], share, arrays)
    assert made == by_the_rule(ids, splits, share, signals)


def test_keys_are_those_of_content_id() -> None:
    ids = ["a0", content_id("x"), "with blank", "gr\u00fcn", 'quote"', "back\\slash", "", "\u00b2"]
    assert [f"{int(key):016x}" for key in order_keys(ids)] == [content_id("queue", i)[:16] for i in ids]


def test_what_the_rule_is_for() -> None:
    """Anchors at random alone and evenly; of the rest half at random, half in turns by the signals."""
    count = 400
    ids = [f"a{i:03d}" for i in range(count)]
    splits = {i: "anchor" if n % 10 == 0 else "test" if n % 10 == 1 else "train" for n, i in enumerate(ids)}
    doubt = np.arange(count) / count
    noise = np.array([1.0 if 2 <= n < 12 else np.nan for n in range(count)])

    def ordered(share: float, **signals: np.ndarray) -> list[tuple[str, str]]:  # type: ignore[type-arg]
        return in_order(pl.Series(ids), [splits[i] for i in ids], share, signals)

    items = ordered(0.5, doubt=doubt, noise=noise)
    assert len(items) == len({i for i, _ in items}) == 360, "each once, and nothing of the test split"
    for part in (items[:90], items[90:180], items[180:270]):
        assert 9 <= sum(why == "anchor" for _, why in part) <= 11
    assert all((why == "anchor") == (splits[i] == "anchor") for i, why in items)
    first = [why for _, why in items if why != "anchor"][:60]
    assert 28 <= first.count("random") <= 32
    assert {i for i, why in items if why == "noise"} <= {ids[n] for n in range(2, 12)}
    doubted = [i for i, why in items if why == "doubt"]
    assert doubted == sorted(doubted, reverse=True)
    assert doubted[0] == "a399"
    anchors = [i for i, why in items if why == "anchor"]
    assert anchors not in (sorted(anchors), sorted(anchors, reverse=True))
    assert {why for _, why in ordered(1.0, doubt=doubt)} == {"anchor", "random"}
    assert "random" not in {why for _, why in ordered(0.0, doubt=doubt)}
