"""One run of curation: columns, the probability, the policy, and the decisions on record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from flywheel.core.config import Curate
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.curation import columns
from flywheel.curation.calibration import Calibration, TooFewPairs, calibrate
from flywheel.curation.evidence import Measured
from flywheel.curation.pairs import CONTROLS, Pairs
from flywheel.curation.policy import P_MATCH, TRAIN, Policy, decide, summary
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What a run of curation decided.

    ``kept``, ``dropped`` and ``unscored`` count clips, ``hours`` what is kept of them; clips without a score are among
    the kept or the dropped too. ``would_drop``: of the splits that stay whole, how many clips would have gone.
    ``cost``: ``seconds`` of measuring, in all and per clip and clip kept, ``tokens`` and ``money`` (nothing here asks a
    model). ``threshold`` is what the policy came to, with its price where the probability tells it. ``calibration`` is
    empty where there are too few pairs for one.
    """

    run: str = ""
    kept: int = 0
    dropped: int = 0
    unscored: int = 0
    hours: float = 0.0
    hours_dropped: float = 0.0
    would_drop: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    doubts: dict[str, int] = field(default_factory=dict)
    threshold: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def curate(
    workspace: Workspace, index: ClipIndex, settings: Curate, measured: Measured, *, dry_run: bool = False
) -> Curated:
    """Decide on all clips from what was measured; put the decisions in force but for a ``dry_run``.

    Raises UserError where a column is unknown, where the policy needs a probability and there are too few pairs, and
    where no train clip is left: nothing is changed then.
    """
    of = columns.sources()
    clips = columns.joined(workspace, _facts(workspace, index), of)
    features = tuple(name for source in of for name in source.features)
    calibration = _calibrated(clips, features, settings)
    clips = clips.with_columns(p_match=_probability(clips, features, calibration))
    policy = _policy(settings, clips, calibration)
    decided = decide(clips, policy)
    counts: dict[str, Any] = summary(clips, decided)
    if not counts.pop("train_kept"):
        raise UserError(
            f"curate: the policy ({settings.policy} {settings.value:g} by {settings.by}) leaves no train clip. Nothing "
            "was changed. Lower curate.value, loosen curate.limits, or look with 'flywheel curate --dry-run'."
        )
    run = decisions_digest(decided)
    if not dry_run:
        workspace.add_decisions(run, decided)
    doubts = clips.filter(pl.col(P_MATCH).is_null()).group_by("doubt").len().sort("doubt")
    return Curated(
        **counts,
        run=run,
        rejected=measured.rejected,
        doubts={str(doubt or "not measured"): int(count) for doubt, count in doubts.iter_rows()},
        threshold=_threshold(policy, calibration),
        calibration=_record(calibration),
        cost=_cost(clips, counts["kept"], measured),
    )


def explain(workspace: Workspace, clip_id: str) -> dict[str, Any]:
    """All that is known of a clip and what was decided: columns, score, reason, a lead's word. Raises UserError."""
    decided = workspace.decisions().filter(pl.col("clip_id") == clip_id)
    ids = pl.DataFrame({"clip_id": [clip_id]})
    evidence = columns.joined(workspace, ids, columns.sources()).row(0, named=True)
    if decided.is_empty() and evidence.get("doubt") is None:
        raise UserError(f"clip {clip_id}: nothing was measured of it. Run 'flywheel curate' first.")
    decision = {} if decided.is_empty() else decided.row(0, named=True)
    lead = workspace.clip_verdicts().filter(pl.col("clip_id") == clip_id)
    words = lead.row(0, named=True) if lead.height else None
    controls = tuple(f"{pair}_" for pair in CONTROLS)
    plain = {
        name: None if value != value else value for name, value in evidence.items() if not name.startswith(controls)
    }
    return {**plain, **decision, "lead": words}


def _facts(workspace: Workspace, index: ClipIndex) -> pl.DataFrame:
    """What policies need to know of all clips beside the evidence, in the order in which they were taken in."""
    facts = index.facts("id", "split", "start_s", "end_s")
    words = workspace.clip_verdicts().select("clip_id", lead="kept", lead_reason="reason")
    frame = facts.select(
        clip_id="id",
        split=pl.col("split").cast(pl.Categorical),
        duration_s=(pl.col("end_s") - pl.col("start_s")).cast(pl.Float32),
    )
    frame = frame.with_columns(source=pl.Series(index.hashes("content_hash"), dtype=pl.UInt64))
    return frame.join(words, on="clip_id", how="left", maintain_order="left")


def _calibrated(clips: pl.DataFrame, features: tuple[str, ...], settings: Curate) -> Calibration | None:
    """P(match) as the train clips tell; None where there are too few and the policy does without."""
    # In the order of ids, which is as good as a random one: the first pairs are those that count.
    train = clips.filter(pl.col("split") == TRAIN).sort("clip_id")
    label = train["lead"].cast(pl.Int8).fill_null(-1)
    pairs = Pairs(
        own=_matrix(train, features),
        controls=tuple(_matrix(train, tuple(f"{pair}_{name}" for name in features)) for pair in CONTROLS),
        source=train["source"].to_numpy(),
        label=label.to_numpy(),
    )
    try:
        return calibrate(pairs, seed=settings.seed)
    except TooFewPairs as error:
        if settings.by == P_MATCH:
            raise
        say(str(error))
        return None


def _matrix(frame: pl.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    return frame.select(pl.col(name).cast(pl.Float32).fill_null(np.nan) for name in names).to_numpy()


def _probability(clips: pl.DataFrame, features: tuple[str, ...], calibration: Calibration | None) -> pl.Series:
    if calibration is None:
        return pl.Series([None], dtype=pl.Float32).new_from_index(0, clips.height)
    p_match = calibration.p_match(_matrix(clips, features), clips["source"].to_numpy())
    return pl.Series(p_match, dtype=pl.Float32).fill_nan(None)


def _policy(settings: Curate, clips: pl.DataFrame, calibration: Calibration | None) -> Policy:
    """The policy that the configuration asks for. Raises UserError for columns that there are none of."""
    numbers = {name for name, kind in clips.schema.items() if kind.is_numeric()} - {"source"}
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


def _threshold(policy: Policy, calibration: Calibration | None) -> dict[str, Any]:
    """What the policy came to, and what keeping from that probability on costs."""
    record: dict[str, Any] = {"how": policy.how, "by": policy.by, "value": policy.value}
    if calibration is not None and policy.by == P_MATCH and policy.how in ("lose", "least"):
        price = asdict(calibration.cost(policy.value))
        record |= {"lost": price["lost"], "kept_bad": price["kept_bad"]}
    return record


def _record(calibration: Calibration | None) -> dict[str, Any]:
    if calibration is None:
        return {}
    return {
        "share_matched": asdict(calibration.share_matched),
        "auc": calibration.auc,
        "num_pairs": calibration.num_pairs,
        "reliability": [asdict(bin) for bin in calibration.reliability],
        "thresholds": [asdict(threshold) for threshold in calibration.thresholds if _is_tenth(threshold.at)],
    }


def _is_tenth(at: float) -> bool:
    return round(at * 100) % 10 == 0


def _cost(clips: pl.DataFrame, kept: int, measured: Measured) -> dict[str, float]:
    seconds = float(clips["seconds"].cast(pl.Float64).fill_nan(None).sum()) if "seconds" in clips.columns else 0.0
    return {
        "seconds": seconds,
        "seconds_now": measured.seconds,
        "seconds_per_clip": seconds / max(1, clips.height),
        "seconds_per_clip_kept": seconds / max(1, kept),
        "tokens": 0.0,
        "money": 0.0,
    }


def decisions_digest(decided: pl.DataFrame) -> str:
    """An id of these decisions: the same ones have the same."""
    digest = hashlib.sha256()
    for part in decided.iter_slices(65_536):
        scores = part["score"].fill_null(np.nan).to_numpy().tobytes()
        words = json.dumps([part["clip_id"].to_list(), part["kept"].to_list(), part["reason"].to_list()])
        digest.update(words.encode() + scores)
    return digest.hexdigest()[:16]


def headline(curated: Mapping[str, Any]) -> str:
    """One line about a run's record."""
    text = (
        f"{curated['kept']} clips kept ({curated['hours']:.2f} h), {curated['dropped']} dropped, "
        f"{curated['unscored']} without a score"
    )
    if curated["would_drop"]:
        text += "; would have gone: " + ", ".join(f"{n} {split}" for split, n in curated["would_drop"].items())
    threshold = curated["threshold"]
    if "lost" in threshold:
        lost, bad = threshold["lost"], threshold["kept_bad"]
        text += (
            f"; P(match) of {threshold['value']:.2f} or more loses {100 * lost['value']:.1f} % of the good clips "
            f"({100 * lost['low']:.1f} to {100 * lost['high']:.1f}) and keeps {100 * bad['value']:.0f} % of the bad "
            f"ones ({100 * bad['low']:.0f} to {100 * bad['high']:.0f})"
        )
    return text
