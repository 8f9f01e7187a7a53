"""The collapse watch: figures of texts that move before quality falls, and alarms where they leave their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import polars as pl
import scipy

from flywheel.core.types import CAPTION, HUMAN, LEARN, MEASURE, Estimate, Purpose
from flywheel.metrics import token_f1
from flywheel.metrics.collapse import Change, changes, collapse_figures
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import watch_rules, watch_words
from flywheel.rounds.progress import last_resplit
from flywheel.rounds.texts import CurrentTexts
from flywheel.store.clip_index import ClipView

#: Texts of the test split that are measured, and those that came with the videos which they are compared with.
_MOST_MEASURED, _MOST_ORIGINS = 1000, 2000
#: Fewer anchors tell no rank correlation.
_LEAST_ANCHORS = 8


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A figure of the watch that got worse by more than its noise; ``sigmas`` is by how much of it."""

    figure: str
    value: float
    best: float
    sigmas: float
    reason: str


def collapse_figures_of(context: RoundContext, texts: CurrentTexts, round: int) -> dict[str, Estimate]:
    """Measure M_round's texts of the test split, which has the same clips in every round.

    Where they can be had also ``human_share``, the share (by weight) of human texts that the round learned from, and
    ``calibration``, Spearman's rho of its log-probs with its quality on anchors.
    """
    human = [h.text for _, h in sorted(texts.human.items()) if h.text]
    figures = collapse_figures(
        _first_texts(context, round, MEASURE, _MOST_MEASURED, context.split("test")),
        most=_MOST_MEASURED,
        origin=_first_texts(context, 0, LEARN, _MOST_ORIGINS),
        human=human,
        seed=context.config.evaluate.seed,
    )
    if (human_share := _human_share(context, round)) is not None:
        figures["human_share"] = human_share
    if (calibration := _calibration(_of_anchors(context, texts, round), texts.anchors())) is not None:
        figures["calibration"] = calibration
    return figures


def _first_texts(
    context: RoundContext, round: int, purpose: Purpose, most: int, among: ClipView | None = None
) -> list[str]:
    """The texts of the clips with the least ids, at most so many, of all or ``among`` some; others are not held."""
    # Rows of Python's own: a frame's few rows would hold the words of all that they were chosen from.
    first: list[tuple[str, str]] = []
    columns = ["clip_id", "text"]
    for frame in context.workspace.annotation_batches(columns, round=round, kind=CAPTION, purpose=purpose):
        some = frame if among is None else frame.filter(pl.Series(among.has(frame["clip_id"])))
        least = some.sort("clip_id", maintain_order=True).head(most)
        first = sorted([*first, *least.iter_rows()], key=itemgetter(0))[:most]
    return [text for _, text in first]


def _human_share(context: RoundContext, round: int) -> Estimate | None:
    """The share, by weight, of people's texts in what pretraining learned from; None where it learned nothing."""
    learned = (pl.col("stage") == "pretrain") & (pl.col("use") == "learned")
    sums, count = {True: 0.0, False: 0.0}, 0
    for frame in context.workspace.records.batches(
        "examples", columns=["source", "weight"], round=round, where=learned
    ):
        count += frame.height
        for human, weight in frame.group_by(pl.col("source") == HUMAN).agg(pl.col("weight").sum()).iter_rows():
            sums[human] += weight
    if not count:
        return None
    share = sums[True] / sum(sums.values())
    return Estimate(value=share, low=share, high=share, n=count)


def _of_anchors(context: RoundContext, texts: CurrentTexts, round: int) -> pl.DataFrame:
    """The measured texts of anchors that people corrected, with their log-probs, in the order of their clips' ids."""
    anchors = pl.Series(list(texts.anchors()), dtype=pl.String)
    columns = ["clip_id", "text", "mean_logprob"]
    frames = context.workspace.annotation_batches(columns, round=round, kind=CAPTION, purpose=MEASURE)
    empty = pl.DataFrame(schema={"clip_id": pl.String, "text": pl.String, "mean_logprob": pl.Float64})
    return pl.concat([empty, *(f.filter(pl.col("clip_id").is_in(anchors.implode())) for f in frames)]).sort("clip_id")


def _calibration(measured: pl.DataFrame, anchors: Mapping[str, str]) -> Estimate | None:
    """Rank correlation of log-prob and token F1 on anchors; None where they are too few or all alike."""
    pairs = [
        (logprob, token_f1(text, anchors[clip]))
        for clip, text, logprob in measured.select("clip_id", "text", "mean_logprob").iter_rows()
        if clip in anchors
    ]
    logprobs, scores = [p for p, _ in pairs], [f for _, f in pairs]
    if len(pairs) < _LEAST_ANCHORS or len(set(logprobs)) < 2 or len(set(scores)) < 2:
        return None
    rho = float(scipy.stats.spearmanr(logprobs, scores).statistic)
    low, high = _fisher(rho, len(pairs))
    return Estimate(value=rho, low=low, high=high, n=len(pairs))


def _fisher(rho: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation by Fisher's transformation."""
    z, error = math.atanh(max(-0.999, min(0.999, rho))), 1.96 * math.sqrt(1.06 / (count - 3))
    return math.tanh(z - error), math.tanh(z + error)


def alarms_of(series: Sequence[Mapping[str, Estimate]]) -> list[Alarm]:
    """Return the last round's alarms, the strongest first; the series begins with the base.

    The base's dialect is another one, so it counts only for distances from the corpus's and people's texts.
    """
    base, *rounds = series
    alarms = [_alarm(name, change) for name, change in changes(rounds, watch_rules(), base=base).items()]
    return sorted(alarms, key=lambda alarm: -alarm.sigmas)


def _alarm(name: str, change: Change) -> Alarm:
    numbers = f"{name} {change.value:.3g} after {change.best:.3g}, {change.sigmas:.0f} sigma"
    return Alarm(
        figure=name,
        value=change.value,
        best=change.best,
        sigmas=change.sigmas,
        reason=f"{watch_words(name)} ({numbers})",
    )


def rounds_without_promotion(context: RoundContext, round: int) -> int:
    """Count the rounds in a row up to this one that were not promoted."""
    count, first = 0, last_resplit(context.workspace)
    while round - count > first and _verdict(context, round - count) != "promoted":
        count += 1
    return count


def _verdict(context: RoundContext, round: int) -> str:
    return str(context.workspace.stage(round, "gate")[1].get("verdict", "promoted"))
