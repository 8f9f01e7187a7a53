"""The collapse watch: figures of each round's texts that fall, or rise, before quality does; alarms where they leave their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from scipy import stats

from flywheel.core.types import CAPTION, HUMAN, LEARN, MEASURE, Estimate
from flywheel.metrics import token_f1
from flywheel.metrics.collapse import BAD, DISTANCES, changes, collapse_figures
from flywheel.rounds.context import RoundContext

_WORDS: Mapping[str, str] = {
    "distinct_1": "fewer different words", "distinct_3": "fewer different phrases", "vocabulary": "a smaller vocabulary", "vendi": "fewer effectively different texts",
    "spread": "texts nearer to each other", "unique": "more texts said twice", "self_bleu": "texts more like each other", "repetition": "more said twice in a text",
    "top_phrase": "one phrase in more texts", "length": "another length", "from_origin": "further from what came with the videos", "from_human": "further from people's words",
    "unknown": "more words that nobody else said",
}  # fmt: skip

#: Three figures of one side over thirty rounds ring at random in 2 wheels of 100 at this; the ten others have 4, which comes to 1.
_SIGMAS_OF_DISTANCES = 3.5


def watched(context: RoundContext, round: int) -> dict[str, Estimate]:
    """Figures of M_round's texts of the test split (the same clips in every round), and where they can be had the share of human text that it learned from
    (``human_share``, by weight) and how its log-probs go with its quality on anchors (``calibration``, Spearman's rho)."""
    workspace, test = context.workspace, {c.id for c in context.split("test")}
    said = workspace.annotations(round=round, purpose=MEASURE).sort("clip_id")
    own = said.filter(pl.col("clip_id").is_in(sorted(test)))["text"].to_list()
    given = workspace.annotations(round=0, kind=CAPTION, purpose=LEARN).sort("clip_id").head(2000)["text"].to_list()
    texts = context.texts()
    people = [h.text for _, h in sorted(texts.human.items()) if h.text]
    settings = context.config.evaluate
    found = collapse_figures(own, origin=given, human=people, seed=settings.seed)
    learned = workspace.examples(round=round).filter((pl.col("stage") == "pretrain") & (pl.col("use") == "learned"))
    if learned.height:
        weights = dict(learned.group_by(pl.col("source") == HUMAN).agg(pl.col("weight").sum()).iter_rows())
        share = weights.get(True, 0.0) / sum(weights.values())
        found["human_share"] = Estimate(value=share, low=share, high=share, n=learned.height)
    anchors = texts.anchors()
    pairs = [
        (p, token_f1(t, anchors[c]))
        for c, t, p in said.select("clip_id", "text", "mean_logprob").iter_rows()
        if c in anchors
    ]
    if len(pairs) >= 8 and len({p for p, _ in pairs}) > 1 and len({f for _, f in pairs}) > 1:
        rho = stats.spearmanr([p for p, _ in pairs], [f for _, f in pairs])
        low, high = _fisher(float(rho.statistic), len(pairs))
        found["calibration"] = Estimate(value=float(rho.statistic), low=low, high=high, n=len(pairs))
    return found


def _fisher(rho: float, count: int) -> tuple[float, float]:
    z, error = math.atanh(max(-0.999, min(0.999, rho))), 1.96 * math.sqrt(1.06 / (count - 3))
    return math.tanh(z - error), math.tanh(z + error)


def alarms_of(series: Sequence[Mapping[str, Estimate]]) -> list[dict[str, Any]]:
    """Alarms of the last round of a series that begins with the base; its dialect is another, so it counts only where the question is how far a text is from the corpus."""
    base, *rounds = series
    found = changes(rounds, names=BAD.keys() - DISTANCES) | changes(
        rounds, base=base, names=DISTANCES, sigmas=_SIGMAS_OF_DISTANCES
    )
    return [
        {
            "figure": name,
            **values,
            "reason": f"{_WORDS[name]} ({name} {values['value']:.3g} after {values['best']:.3g}, {values['sigmas']:.0f} sigma)",
        }
        for name, values in sorted(found.items(), key=lambda item: -item[1]["sigmas"])
    ]


def flat_rounds(context: RoundContext, round: int) -> int:
    """How many rounds in a row up to this one were not promoted."""
    count = 0
    while (
        round - count > 0 and context.workspace.stage(round - count, "gate")[1].get("verdict", "promoted") != "promoted"
    ):
        count += 1
    return count
