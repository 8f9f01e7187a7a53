"""Which clips are kept: a pure function of their columns, a policy and what leads said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from flywheel.core.types import Decision

#: The column of the probability that sound and picture belong together.
P_MATCH = "p_match"
TRAIN = "train"
How = Literal["lose", "least", "quantile", "hours"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which clips stay.

    ``how`` with ``value``: ``least`` keeps what has at least the value in column ``by``, ``quantile`` the best share of
    the train clips that have one, ``hours`` the best hours of them. ``lose`` is made a ``least`` by the calibration.
    ``limits``: columns and the (lowest, highest) values that a clip may have in them, whatever its score. ``balance``:
    of each video the same share stays, by quantile and hours. ``drop_unscored``: what has no score goes.
    ``control``: a random choice of equally many hours in place of the policy's, to compare with.
    """

    how: How
    value: float
    by: str = P_MATCH
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    balance: bool = False
    drop_unscored: bool = False
    control: bool = False
    seed: int = 0


def decide(clips: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """``clip_id``, ``kept``, ``score``, ``reason`` of each clip, in their order.

    ``clips`` has ``clip_id``, ``split``, ``source`` (a number for each video), ``duration_s``, the columns that the
    policy names (null or nan: not known), ``doubt`` (why there is no score), ``lead`` (true: keep, false: drop, null)
    and ``lead_reason``. Only train clips are dropped; of others the reason says that they would have gone.
    """
    score = clips[policy.by].cast(pl.Float32).fill_nan(None)
    clips = clips.with_columns(score=score)
    wanted, why = _wanted(clips, policy)
    if policy.control:
        wanted, why = _control(clips, wanted, policy)
    decided = clips.select("clip_id", "split", "score", "lead", "lead_reason").with_columns(wanted=wanted, why=why)
    return decided.select("clip_id", kept=_KEPT, score="score", reason=_REASON)


#: What a lead said wins; clips that measure stay.
_SAID = pl.coalesce("lead", "wanted")
_KEPT = _SAID | (pl.col("split") != TRAIN)
_WORDS = (
    pl.when(pl.col("lead").is_null())
    .then("why")
    .otherwise(
        pl.when("lead").then(pl.lit("kept by a lead: ")).otherwise(pl.lit("dropped by a lead: "))
        + pl.col("lead_reason")
    )
)
_REASON = (
    pl.when(_SAID | (pl.col("split") == TRAIN))
    .then(_WORDS)
    .otherwise(pl.col("split") + pl.lit(" clip: stays (would have gone: ") + _WORDS + pl.lit(")"))
)


def decisions(frame: pl.DataFrame) -> Iterator[Decision]:
    """The rows of :func:`decide` as objects."""
    for clip_id, kept, score, reason in frame.select("clip_id", "kept", "score", "reason").iter_rows():
        yield Decision(clip_id=clip_id, kept=kept, score=score, reason=reason)


def _wanted(clips: pl.DataFrame, policy: Policy) -> tuple[pl.Series, pl.Series]:
    """Whether each clip should stay, and why (clips,): limits first, then the score."""
    cut = least_scores(clips, policy)
    scored, enough = clips["score"].is_not_null(), (clips["score"] >= cut).fill_null(False)
    name = "P(match)" if policy.by == P_MATCH else policy.by
    at = f"{cut[0]:.3g}" if cut.n_unique() == 1 else "its video's cut"
    unscored = not policy.drop_unscored
    why = pl.select(
        pl.when(~scored)
        .then(pl.lit("can't tell: ") + clips["doubt"].fill_null("not measured"))
        .when(enough)
        .then(pl.lit(f"{name} of {at} or more"))
        .otherwise(pl.lit(f"{name} under {at}"))
        .alias("why")
    )["why"]
    wanted = pl.select(pl.when(scored).then(enough).otherwise(pl.lit(unscored)).alias("wanted"))["wanted"]
    for column, (low, high) in policy.limits.items():
        values = clips[column].cast(pl.Float64).fill_nan(None)
        for bound, words in ((low, "under"), (high, "above")):
            if bound is None:
                continue
            out = (values < bound if words == "under" else values > bound).fill_null(False)
            said = pl.lit(f"{column} {words} {bound:g}")
            why = pl.select(pl.when(out & wanted).then(said).otherwise(why)).to_series()
            wanted = wanted & ~out
    return wanted, why


def least_scores(clips: pl.DataFrame, policy: Policy) -> pl.Series:
    """The least score (clips,) that stays, for quantile and hours as the train clips that have a score tell.

    Clips are as :func:`decide` has them, with their ``score``.
    """
    height = clips.height
    if policy.how in ("least", "lose"):
        return pl.repeat(policy.value, height, dtype=pl.Float32, eager=True)
    train = clips.filter((pl.col("split") == TRAIN) & pl.col("score").is_not_null())
    if train.is_empty():
        return pl.repeat(-np.inf, height, dtype=pl.Float32, eager=True)
    if not policy.balance:
        share = _share(train, policy)
        return pl.repeat(_quantile(train["score"].to_numpy(), share), height, dtype=pl.Float32, eager=True)
    share = _share(train, policy)
    by_source = train.group_by("source").agg(pl.col("score").quantile(1 - share, "lower").alias("cut"))
    # A video that no train clip is of has the cut of all.
    rest = _quantile(train["score"].to_numpy(), share)
    return clips.select("source").join(by_source, on="source", how="left", maintain_order="left")["cut"].fill_null(rest)


def _share(train: pl.DataFrame, policy: Policy) -> float:
    """The share of the scored train clips that stays."""
    if policy.how == "quantile":
        return policy.value
    hours = train.sort("score", descending=True)["duration_s"].cast(pl.Float64).cum_sum().to_numpy() / 3600
    return float((hours <= policy.value).mean())


def _quantile(scores: np.ndarray, share: float) -> float:
    """The score that the best share of them has at least; above all of them where none is to stay."""
    count = round(share * len(scores))
    if count <= 0:
        return float("inf")
    return float(np.partition(scores, len(scores) - count)[len(scores) - count])


def _control(clips: pl.DataFrame, wanted: pl.Series, policy: Policy) -> tuple[pl.Series, pl.Series]:
    """A random choice of train clips of as many hours as the policy keeps of them; others as the policy has them."""
    is_train = clips["split"] == TRAIN
    hours = float(clips.filter(is_train & wanted)["duration_s"].sum())
    # By id, not by place: the same clips whatever came after them.
    drawn = clips["clip_id"].hash(policy.seed)
    order = drawn.arg_sort()
    lengths = clips["duration_s"].zip_with(is_train, pl.zeros(clips.height, eager=True))
    within = (lengths.gather(order).cum_sum() <= hours).to_numpy()
    chosen = np.zeros(clips.height, dtype=bool)
    chosen[order.to_numpy()] = within
    chosen &= is_train.to_numpy()
    mixed = pl.Series(np.where(is_train.to_numpy(), chosen, wanted.to_numpy()))
    said = pl.lit(f"random choice of {hours / 3600:.3g} h (control)")
    return mixed, pl.repeat(pl.select(said).item(), clips.height, dtype=pl.String, eager=True)


def summary(clips: pl.DataFrame, decided: pl.DataFrame) -> dict[str, object]:
    """How many stay and go, with hours; of the splits that stay whole how many would have gone."""
    frame = decided.with_columns(split=clips["split"], hours=clips["duration_s"] / 3600)
    spared = frame.filter(pl.col("kept") & pl.col("reason").str.contains("(would have gone: ", literal=True))
    counts: Sequence[tuple[str, int]] = spared.group_by("split").len().sort("split").rows()
    return {
        "kept": int(frame["kept"].sum()),
        "dropped": int((~frame["kept"]).sum()),
        "unscored": int(frame["score"].is_null().sum()),
        "hours": float(frame.filter("kept")["hours"].sum()),
        "hours_dropped": float(frame.filter(~pl.col("kept"))["hours"].sum()),
        "train_kept": int(frame.filter((pl.col("split") == TRAIN) & pl.col("kept")).height),
        "would_drop": dict(counts),
    }
