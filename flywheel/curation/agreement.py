"""How much a judge agrees with itself: asked in the other order, and asked again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flywheel.core.types import CRITERIA, REPEATED, SWAPPED, Purpose
from flywheel.metrics.ranks import jaccard, spearman
from flywheel.store import Workspace


@dataclass(frozen=True, kw_only=True)
class OrderAgreement:
    """How much a judge's scores hang on which text is shown first, or on chance, over ``n`` clips judged both ways.

    ``spearman`` by criterion and of the mean (``mean``), nan where all scores are one; ``jaccard`` of the clips that
    the mean would keep, of those that either would.
    """

    n: int
    spearman: dict[str, float]
    jaccard: float


def order_agreement(
    workspace: Workspace, round: int, *, keep: float = 0.7, purpose: Purpose = SWAPPED
) -> OrderAgreement:
    """Compare a round's judgements with those of the same clips in which the texts were swapped.

    With the ``purpose`` ``repeated``, with those by other sampling. ``keep`` is the share of clips that a quantile of
    the mean score would keep.
    """
    scores = ["clip_id", *CRITERIA]
    first = workspace.judgements(round, words=False).select(scores)
    if purpose == REPEATED:
        second = workspace.control_judgements(REPEATED, round).select(scores)
    else:
        second = workspace.judgements(round, swapped=True, words=False).select(scores)
    both = first.join(second, on="clip_id", suffix="_swapped").drop_nulls()
    columns = {name: (both[name].to_numpy(), both[f"{name}_swapped"].to_numpy()) for name in CRITERIA}
    means = [np.mean([pair[n] for pair in columns.values()], axis=0) for n in (0, 1)]
    ranks = {name: spearman(*pair) for name, pair in columns.items()} | {"mean": spearman(means[0], means[1])}
    count = math.ceil(keep * both.height)
    # Of equal means the same clips are kept, whichever came first.
    order = [np.lexsort((np.arange(both.height), -mean))[:count] for mean in means]
    kept = [set(both["clip_id"].gather(rows).to_list()) for rows in order]
    return OrderAgreement(n=both.height, spearman=ranks, jaccard=jaccard(*kept))
