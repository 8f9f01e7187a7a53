"""Policies on columns: which clips stay, why, and that only train clips go."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import Decision
from flywheel.curation.policy import Policy, decide, decisions, summary


def clips(count: int = 200, **more: Any) -> pl.DataFrame:
    """Clips of ten videos whose probability rises from 0 to 1; every tenth is a test clip, every twentieth unscored."""
    number = np.arange(count)
    p_match = np.linspace(0, 1, count).astype(np.float32)
    p_match[::20] = np.nan
    columns = {
        "clip_id": [f"c{n:04d}" for n in number],
        "split": np.where(number % 10 == 3, "test", "train"),
        "source": (number % 10).astype(np.uint64),
        "duration_s": np.full(count, 36.0, np.float32),
        "p_match": p_match,
        "silent": np.where(number == count - 1, 0.95, 0.1).astype(np.float32),
        "doubt": np.where(number % 20 == 0, "still picture", ""),
        "lead": [None] * count,
        "lead_reason": [None] * count,
    }
    schema = {"lead": pl.Boolean, "lead_reason": pl.String}
    return pl.DataFrame({**columns, **more}, schema_overrides=schema)


def kept(frame: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    return frame.join(decide(frame, policy), on="clip_id", maintain_order="left")


def test_a_least_value_drops_what_is_under_it_and_says_so() -> None:
    out = kept(clips(), Policy(how="least", value=0.5))
    train = out.filter((pl.col("split") == "train") & pl.col("p_match").is_not_nan())
    assert train["kept"].to_list() == (train["p_match"] >= 0.5).to_list()
    assert set(train["reason"]) == {"P(match) under 0.5", "P(match) of 0.5 or more"}


def test_what_cannot_be_told_stays_unless_asked_and_is_never_a_number() -> None:
    for drop in (False, True):
        unscored = kept(clips(), Policy(how="least", value=0.5, drop_unscored=drop)).filter(pl.col("score").is_null())
        assert unscored.height == 10
        assert unscored["kept"].to_list() == [not drop] * 10
        assert set(unscored["reason"]) == {"can't tell: still picture"}


def test_clips_that_measure_stay_and_their_reason_says_what_would_have_been() -> None:
    frame = clips()
    decided = decide(frame, Policy(how="least", value=0.5))
    test = decided.filter(frame["split"] == "test")
    assert test["kept"].all()
    assert test["reason"][0] == "test clip: stays (would have gone: P(match) under 0.5)"
    assert summary(frame, decided)["would_drop"] == {"test": 10}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_quantile_keeps_this_share_of_scored_train_clips(share: float) -> None:
    out = kept(clips(), Policy(how="quantile", value=share))
    scored = out.filter((pl.col("split") == "train") & pl.col("score").is_not_null())
    assert scored["kept"].mean() == pytest.approx(share, abs=0.01)
    if 0 < share < 1:
        assert scored.filter("kept")["p_match"].min() > scored.filter(~pl.col("kept"))["p_match"].max()


def test_hours_keep_the_best_that_fit() -> None:
    out = kept(clips(), Policy(how="hours", value=0.5))
    scored = out.filter((pl.col("split") == "train") & pl.col("score").is_not_null() & pl.col("kept"))
    assert scored.height == 50
    assert scored["p_match"].min() == pytest.approx(
        clips().filter(pl.col("split") == "train")["p_match"].to_numpy()[-50], abs=0.02
    )


def test_balance_keeps_the_same_share_of_each_video() -> None:
    frame = clips(p_match=np.sort(np.random.default_rng(0).random(200)).astype(np.float32), source=np.arange(200) // 50)
    out = kept(frame, Policy(how="quantile", value=0.6, balance=True)).filter(pl.col("split") == "train")
    shares = out.group_by("source").agg(pl.col("kept").mean())["kept"]
    assert shares.min() > 0.55
    plain = kept(frame, Policy(how="quantile", value=0.6)).filter(pl.col("split") == "train")
    assert plain.group_by("source").agg(pl.col("kept").mean())["kept"].min() == 0


def test_limits_of_other_columns_hold_whatever_the_score() -> None:
    policy = Policy(how="least", value=0.5, limits={"silent": (None, 0.8)})
    last = decide(clips(), policy).row(-1, named=True)
    assert last == {"clip_id": "c0199", "kept": False, "score": 1.0, "reason": "silent above 0.8"}


def test_what_a_lead_said_wins() -> None:
    lead = [None] * 200
    lead[1], lead[198] = True, False
    reasons = [None] * 200
    reasons[1], reasons[198] = "rare", "a watermark"
    frame = clips(lead=lead, lead_reason=reasons)
    rows = decide(frame, Policy(how="least", value=0.5))
    assert rows.row(1, named=True)["kept"] is True
    assert rows.row(1, named=True)["reason"] == "kept by a lead: rare"
    assert rows.row(198, named=True)["kept"] is False
    assert rows.row(198, named=True)["reason"] == "dropped by a lead: a watermark"


def test_the_control_is_a_random_choice_of_as_many_hours() -> None:
    frame = clips(count=2000)
    policy = kept(frame, Policy(how="quantile", value=0.5))
    control = kept(frame, Policy(how="quantile", value=0.5, control=True, seed=1))
    train = pl.col("split") == "train"
    hours = [out.filter(train & pl.col("kept"))["duration_s"].sum() for out in (policy, control)]
    assert hours[1] == pytest.approx(hours[0], rel=0.01)
    assert control.filter(train & pl.col("kept"))["p_match"].fill_nan(None).mean() == pytest.approx(0.5, abs=0.03)
    again = kept(frame, Policy(how="quantile", value=0.5, control=True, seed=1))
    assert again["kept"].equals(control["kept"])
    other = kept(frame, Policy(how="quantile", value=0.5, control=True, seed=2))
    assert not other["kept"].equals(control["kept"])


def test_decisions_are_objects_too() -> None:
    first = next(decisions(decide(clips(), Policy(how="least", value=0.5))))
    assert first == Decision(clip_id="c0000", kept=True, score=None, reason="can't tell: still picture")
