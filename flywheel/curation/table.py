"""All clips with their columns of evidence, and P(match) as they tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from flywheel.core.config import Curate
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.curation import columns
from flywheel.curation.calibration import Calibration, TooFewPairs, calibrate
from flywheel.curation.pairs import CONTROLS, Pairs
from flywheel.curation.policy import P_MATCH, TRAIN, Policy
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex


@dataclass(frozen=True, kw_only=True)
class Table:
    """The clips, a row each in the order in which they were taken in, as policies need them (:func:`decide`).

    ``features`` are the columns that tell whether sound and picture belong together, ``asked`` those of them that a
    model was asked for.
    """

    clips: pl.DataFrame
    features: tuple[str, ...]
    asked: frozenset[str]

    def judged(self) -> pl.Series:
        """Which clips (clips,) have a feature that a model was asked for."""
        if not self.asked:
            return pl.repeat(False, self.clips.height, dtype=pl.Boolean, eager=True)
        known = pl.any_horizontal(pl.col(name).is_not_null() for name in sorted(self.asked))
        return self.clips.select(judged=known)["judged"]

    def with_probability(self, calibration: Calibration | None) -> Table:
        """The table with the column ``p_match``, null where nothing tells it."""
        if calibration is None:
            return replace(self, clips=self.clips.with_columns(p_match=pl.lit(None, dtype=pl.Float32)))
        p_match = calibration.p_match(_matrix(self.clips, self.features), self.clips["source"].to_numpy())
        return replace(self, clips=self.clips.with_columns(p_match=pl.Series(p_match, dtype=pl.Float32).fill_nan(None)))


def gather(workspace: Workspace, index: ClipIndex, *, asked: bool = True) -> Table:
    """All clips with the columns of all sources; without those that models are ``asked`` for, where that is False."""
    of = [source for source in columns.sources() if asked or not source.asked]
    return Table(
        clips=columns.joined(workspace, _facts(workspace, index), of),
        features=tuple(name for source in of for name in source.features),
        asked=frozenset(name for source in of if source.asked for name in source.features),
    )


def _facts(workspace: Workspace, index: ClipIndex) -> pl.DataFrame:
    """What policies need to know of all clips beside the evidence, in the order in which they were taken in."""
    facts = index.facts("id", "split", "start_s", "end_s", "has_audio")
    words = workspace.clip_verdicts().select("clip_id", lead="kept", lead_reason="reason")
    frame = facts.select(
        clip_id="id",
        split=pl.col("split").cast(pl.Categorical),
        duration_s=(pl.col("end_s") - pl.col("start_s")).cast(pl.Float32),
        audible="has_audio",
    )
    frame = frame.with_columns(source=pl.Series(index.hashes("content_hash"), dtype=pl.UInt64))
    return frame.join(words, on="clip_id", how="left", maintain_order="left")


def calibrated(table: Table, settings: Curate, doubt: tuple[float, float] | None = None) -> Calibration | None:
    """P(match) as the train clips tell (:func:`calibrate`); None where there are too few and the policy does without.

    Raises TooFewPairs where it does not.
    """
    # In the order of ids, which is as good as a random one: the first pairs are those that count.
    train = table.clips.filter(pl.col("split") == TRAIN).sort("clip_id")
    pairs = Pairs(
        own=_matrix(train, table.features),
        controls=tuple(_matrix(train, tuple(f"{pair}_{name}" for name in table.features)) for pair in CONTROLS),
        source=train["source"].to_numpy(),
        label=train["lead"].cast(pl.Int8).fill_null(-1).to_numpy(),
        asked=np.array([name in table.asked for name in table.features]),
    )
    try:
        return calibrate(pairs, seed=settings.seed, doubt=doubt)
    except TooFewPairs as error:
        if settings.by == P_MATCH:
            raise
        say(str(error))
        return None


def policy_of(settings: Curate, table: Table, calibration: Calibration | None) -> Policy:
    """The policy that the configuration asks for. Raises UserError for columns that there are none of."""
    numbers = {name for name, kind in table.clips.schema.items() if kind.is_numeric()} - {"source"}
    for key, name in (("by", settings.by), *(("limits", name) for name in settings.limits)):
        if name not in numbers:
            raise UserError(f"curate.{key}: there is no column '{name}'. There are {', '.join(sorted(numbers))}.")
    value = settings.value
    if settings.policy == "lose":
        assert calibration is not None
        value = calibration.losing(settings.value).at
    return Policy(
        how=settings.policy,
        value=value,
        by=settings.by,
        limits=settings.limits,
        balance=settings.balance,
        drop_unscored=settings.unscored == "drop",
        control=settings.control,
        seed=settings.seed,
    )


def _matrix(frame: pl.DataFrame, names: Sequence[str]) -> np.ndarray:
    return frame.select(pl.col(name).cast(pl.Float32).fill_null(np.nan) for name in names).to_numpy()
