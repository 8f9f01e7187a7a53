"""Which clips a judge is asked about: those of which cheap evidence leaves it open whether they stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.config import Curate
from flywheel.core.errors import UserError
from flywheel.curation.calibration import Calibration, TooFewPairs
from flywheel.curation.columns.index_fit import COLUMN as INDEX_FIT
from flywheel.curation.policy import P_MATCH, TRAIN, least_scores
from flywheel.curation.table import Table, calibrated, gather, policy_of
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

#: P(match) of all clips.
_ANY = (0.0, 1.0)
#: Clips of which one lends its sound: enough that one of them shows something else.
_OTHERS = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Ids of the clips that are ``asked`` about, those that calibrate first (``others``: with another's sound too).

    ``others`` name for each clip some of other videos whose sound that may be, in the order of ids; the one alone where
    it is on record. ``doubt`` is the lowest and highest P(match) of what is asked about; ``audible`` clips have sound.
    """

    asked: pl.Series
    others: Mapping[str, Sequence[str]]
    doubt: tuple[float, float]
    audible: int


def plan(workspace: Workspace, index: ClipIndex, settings: Curate, limit: int | None = None) -> Plan:
    """Decide by cheap evidence which clips are asked about, at most ``limit``; nothing is written.

    A clip of which cheap evidence tells nothing is in doubt as much as one can be; one that a lead spoke of is in none.
    Beside clips in doubt those are asked about that calibrate, and those that the index finds mismatched
    (``index_below``), whatever P(match) says of them. Raises UserError where that is asked for without an index.
    """
    table = gather(workspace, index, asked=False)
    try:
        # By P(match) here, whatever the policy goes by: too few pairs are told of when it decides.
        calibration = calibrated(table, settings.model_copy(update={"by": P_MATCH}))
    except TooFewPairs:
        # Nothing cheap tells anything of this corpus.
        calibration = None
    table = table.with_probability(calibration)
    audible = int(table.clips["audible"].sum())
    # Twins are chosen where all that calibrate are described: more of them than may be asked about would have none.
    count = settings.calibration_clips if limit is None else min(limit, settings.calibration_clips)
    others = _others(workspace, table.clips, count)
    unsure, doubt = table.clips.filter(pl.col("audible") & pl.col("lead").is_null()), _ANY
    if settings.judge == "doubt":
        most = settings.most_judged if settings.most_judged > 1 else settings.most_judged * audible
        unsure, doubt = _unsure(table, calibration, settings, int(most))
        unsure = _and_mismatched(unsure, table.clips, settings.index_below)
    lending = _lending(table.clips, others)
    ids = pl.concat([pl.Series("clip_id", list(others), dtype=pl.String), lending, unsure["clip_id"]])
    asked = ids.unique(maintain_order=True)
    asked = asked if limit is None else asked.head(limit)
    # Without a text of what is heard in the other a control would be empty.
    heard = set(asked.filter(asked.is_in(lending.implode())))
    others = {clip_id: some for clip_id, some in others.items() if not some or not heard.isdisjoint(some)}
    return Plan(asked=asked, others=others, doubt=doubt, audible=audible)


def _unsure(
    table: Table, calibration: Calibration | None, settings: Curate, most: int
) -> tuple[pl.DataFrame, tuple[float, float]]:
    """The clips in doubt, at most so many, the largest doubt first; and the P(match) between which they lie."""
    if calibration is None:
        distance, cuts = np.zeros(table.clips.height), np.zeros(1)
    else:
        policy = policy_of(settings, table, calibration)
        cuts = least_scores(table.clips.with_columns(score=pl.col(P_MATCH)), policy).to_numpy().astype(np.float64)
        distance = np.nan_to_num(np.abs(table.clips[P_MATCH].to_numpy() - cuts), nan=0.0)
    clips = table.clips.with_columns(distance=pl.Series(distance, dtype=pl.Float32))
    asked = pl.col("audible") & pl.col("lead").is_null() & (pl.col("distance") <= settings.doubt)
    # Train clips first: of the others it is only said that they would have gone.
    clips = clips.filter(asked).sort(pl.col("split") != TRAIN, "distance", "clip_id")
    reach = settings.doubt if clips.height <= most else _reach(clips.head(most))
    return clips.head(most), _bounds(cuts, reach)


def _and_mismatched(unsure: pl.DataFrame, clips: pl.DataFrame, below: float | None) -> pl.DataFrame:
    """The clips in doubt, behind them those whose sound fits their picture too little by the index, the worst first."""
    if below is None:
        return unsure
    if clips["audible"].any() and clips[INDEX_FIT].is_null().all():
        raise UserError(
            "curate.index_below: no clip's sound was compared with its picture. Run 'flywheel index', or leave it out."
        )
    mismatched = clips.filter(pl.col("audible") & pl.col("lead").is_null() & (pl.col(INDEX_FIT) < below))
    mismatched = mismatched.sort(pl.col("split") != TRAIN, INDEX_FIT, "clip_id")
    return pl.concat([unsure.select("clip_id"), mismatched.select("clip_id")]).unique(maintain_order=True)


def _reach(clips: pl.DataFrame) -> float:
    """How far from the cut all train clips are among these."""
    farthest = clips.filter(pl.col("split") == TRAIN)["distance"].max()
    return float(farthest) if isinstance(farthest, float) else 0.0


def _bounds(cuts: NDArray[np.float64], reach: float) -> tuple[float, float]:
    known = cuts[np.isfinite(cuts)]
    return (float(known.min()) - reach, float(known.max()) + reach) if len(known) else _ANY


def _others(workspace: Workspace, clips: pl.DataFrame, count: int) -> dict[str, list[str]]:
    """Train clips, each with those of other videos that follow it; those on record first, then the first by id.

    Only clips whose own sound is likelier than not to belong, as such go here, lend theirs: a sound that is foreign
    where it stands may well belong to the picture.
    """
    train = clips.filter(pl.col("audible") & (pl.col("split") == TRAIN)).select("clip_id", "source", P_MATCH)
    known = workspace.twins()
    there = train.filter(pl.col("clip_id").is_in(list(known)))["clip_id"].sort().head(count)
    # Ids are as good as random: so is the choice.
    fresh = train.filter(~pl.col("clip_id").is_in(list(known)))["clip_id"].bottom_k(count - len(there)).sort()
    chosen = train.filter(pl.col("clip_id").is_in(pl.concat([there, fresh]).implode())).sort("clip_id")
    rows = chosen.select("clip_id", "source", lends=_lends()).rows()
    return {
        clip_id: [known[clip_id]] if clip_id in known else _following(rows, place)
        for place, (clip_id, _, _) in enumerate(rows)
    }


def _lending(clips: pl.DataFrame, others: Mapping[str, Sequence[str]]) -> pl.Series:
    """The clips that may lend their sound, those on record too: each must be heard in this round as well."""
    ids = sorted({other for some in others.values() for other in some})
    return clips.filter(pl.col("audible") & pl.col("clip_id").is_in(ids))["clip_id"].sort()


def _lends() -> pl.Expr:
    """Which of the clips have a P(match) of the median or more; all where it is known of none."""
    return (pl.col(P_MATCH) >= pl.col(P_MATCH).median()).fill_null(False) | pl.col(P_MATCH).is_null().all()


def _following(rows: Sequence[tuple[str, int, bool]], place: int) -> list[str]:
    """The first clips after this one, around the end, that lend their sound and are of other videos."""
    source = rows[place][1]
    behind = (rows[(place + step) % len(rows)] for step in range(1, len(rows)))
    return list(islice((clip_id for clip_id, of, lends in behind if lends and of != source), _OTHERS))
