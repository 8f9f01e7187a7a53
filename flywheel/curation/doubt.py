"""Which clips a judge is asked about: those of which cheap evidence leaves it open whether they stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.config import Curate
from flywheel.curation.calibration import TooFewPairs
from flywheel.curation.policy import P_MATCH, TRAIN, least_scores
from flywheel.curation.table import Table, calibrated, gather, policy_of
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

#: P(match) of all clips.
_ANY = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Ids of the clips that are ``asked`` about, those that calibrate first (``twins``: with another's sound too).

    ``twins`` name for each clip one of another video, in the order of ids. ``doubt`` is the lowest and highest P(match)
    of what is asked about; ``audible`` clips have sound.
    """

    asked: pl.Series
    twins: Mapping[str, str]
    doubt: tuple[float, float]
    audible: int


def plan(workspace: Workspace, index: ClipIndex, settings: Curate, limit: int | None = None) -> Plan:
    """Decide by cheap evidence which clips are asked about, at most ``limit``; nothing is written.

    A clip of which cheap evidence tells nothing is in doubt as much as one can be; one that a lead spoke of is in none.
    Beside clips in doubt those are asked about that calibrate.
    """
    table = gather(workspace, index, asked=False)
    audible = int(table.clips["audible"].sum())
    twins = _twins(workspace, table.clips, settings.calibration_clips)
    unsure, doubt = table.clips.filter(pl.col("audible") & pl.col("lead").is_null()), _ANY
    if settings.judge == "doubt":
        most = settings.most_judged if settings.most_judged > 1 else settings.most_judged * audible
        unsure, doubt = _unsure(table, settings, int(most))
    ids = pl.concat([pl.Series("clip_id", list(twins), dtype=pl.String), unsure["clip_id"]])
    asked = ids.unique(maintain_order=True)
    return Plan(asked=asked if limit is None else asked.head(limit), twins=twins, doubt=doubt, audible=audible)


def _unsure(table: Table, settings: Curate, most: int) -> tuple[pl.DataFrame, tuple[float, float]]:
    """The clips in doubt, at most so many, the largest doubt first; and the P(match) between which they lie."""
    try:
        calibration = calibrated(table, settings)
    except TooFewPairs:
        # Nothing cheap tells anything of this corpus.
        distance, cuts = np.zeros(table.clips.height), np.zeros(1)
    else:
        table = table.with_probability(calibration)
        policy = policy_of(settings, table, calibration)
        cuts = least_scores(table.clips.with_columns(score=pl.col(P_MATCH)), policy).to_numpy().astype(np.float64)
        distance = np.nan_to_num(np.abs(table.clips[P_MATCH].to_numpy() - cuts), nan=0.0)
    clips = table.clips.with_columns(distance=pl.Series(distance, dtype=pl.Float32))
    asked = pl.col("audible") & pl.col("lead").is_null() & (pl.col("distance") <= settings.doubt)
    # Train clips first: of the others it is only said that they would have gone.
    clips = clips.filter(asked).sort(pl.col("split") != TRAIN, "distance", "clip_id")
    reach = settings.doubt if clips.height <= most else _reach(clips.head(most))
    return clips.head(most), _bounds(cuts, reach)


def _reach(clips: pl.DataFrame) -> float:
    """How far from the cut all train clips are among these."""
    farthest = clips.filter(pl.col("split") == TRAIN)["distance"].max()
    return float(farthest) if isinstance(farthest, float) else 0.0


def _bounds(cuts: NDArray[np.float64], reach: float) -> tuple[float, float]:
    known = cuts[np.isfinite(cuts)]
    return (float(known.min()) - reach, float(known.max()) + reach) if len(known) else _ANY


def _twins(workspace: Workspace, clips: pl.DataFrame, count: int) -> dict[str, str]:
    """Train clips, each with one of another video; those on record first, then the first by id."""
    train = clips.filter(pl.col("audible") & (pl.col("split") == TRAIN)).select("clip_id", "source")
    known = workspace.twins()
    there = train.filter(pl.col("clip_id").is_in(list(known)))["clip_id"].sort().head(count)
    # Ids are as good as random: so is the choice.
    fresh = train.filter(~pl.col("clip_id").is_in(list(known)))["clip_id"].bottom_k(count - len(there)).sort()
    chosen = train.filter(pl.col("clip_id").is_in(pl.concat([there, fresh]).implode())).sort("clip_id")
    rows = chosen.rows()
    twins = {}
    for place, (clip_id, source) in enumerate(rows):
        behind = (rows[(place + step) % len(rows)] for step in range(1, len(rows)))
        if (other := known.get(clip_id) or next((other for other, of in behind if of != source), None)) is not None:
            twins[clip_id] = other
    return twins
