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
from flywheel.core.types import CRITERIA
from flywheel.curation import columns
from flywheel.curation.calibration import Calibration
from flywheel.curation.evidence import Measured
from flywheel.curation.judged import Judged
from flywheel.curation.pairs import CONTROLS
from flywheel.curation.policy import P_MATCH, Policy, decide, summary
from flywheel.curation.table import calibrated, gather, policy_of
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What a run of curation decided.

    ``kept``, ``dropped`` and ``unscored`` count clips, ``hours`` what is kept of them; clips without a score are among
    the kept or the dropped too. ``would_drop``: of the splits that stay whole, how many clips would have gone.
    ``cost``: ``seconds`` of measuring and of asking models, their ``calls``, ``tokens`` and ``money``, in all and per
    clip and clip kept. ``judged`` is what :class:`Judged` says, empty where no model was asked. ``threshold`` is what
    the policy came to, with its price where the probability tells it. ``calibration`` is empty where there are too few
    pairs for one.
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
    judged: dict[str, Any] = field(default_factory=dict)


def curate(
    workspace: Workspace,
    index: ClipIndex,
    settings: Curate,
    measured: Measured,
    *,
    judged: Judged | None = None,
    dry_run: bool = False,
) -> Curated:
    """Decide on all clips from what was measured and ``judged``; put the decisions in force but for a ``dry_run``.

    Raises UserError where a column is unknown, where the policy needs a probability and there are too few pairs, and
    where no train clip is left: nothing is changed then.
    """
    table = gather(workspace, index)
    calibration = calibrated(table, settings, judged.doubt if judged is not None else None)
    if judged is not None and calibration is not None and not calibration.judge_scores:
        say("curate: P(match) goes without the judge: too few clips calibrate. Raise curate.calibration_clips.")
    table = table.with_probability(calibration)
    clips, policy = table.clips, policy_of(settings, table, calibration)
    decided = decide(clips, policy)
    counts: dict[str, Any] = summary(clips, decided)
    if not counts.pop("train_kept"):
        raise UserError(
            f"curate: the policy ({settings.policy} {settings.value:g} by {settings.by}) leaves no train clip. Nothing "
            "was changed. Lower curate.value, loosen curate.limits, or look with 'flywheel curate --dry-run'."
        )
    run = decisions_digest(decided)
    if not dry_run:
        # First: what is put in force last is there with all that stands on it.
        workspace.add_match_probabilities(run, clips.filter(table.judged()).select("clip_id", P_MATCH))
        workspace.add_decisions(run, decided)
    doubts = clips.filter(pl.col(P_MATCH).is_null()).group_by("doubt").len().sort("doubt")
    return Curated(
        **counts,
        run=run,
        rejected=measured.rejected,
        doubts={str(doubt or "not measured"): int(count) for doubt, count in doubts.iter_rows()},
        threshold=_threshold(policy, calibration),
        calibration=_record(calibration),
        cost=_cost(clips, counts["kept"], measured, judged),
        judged=judged.record() if judged is not None else {},
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
    said = workspace.judgements().filter(pl.col("clip_id") == clip_id)
    reasons = dict(zip(CRITERIA, said["reasons"].to_list()[0], strict=False)) if said.height else {}
    plain = {
        name: None if value != value else value for name, value in evidence.items() if not name.startswith(controls)
    }
    judged = {"judge_reasons": reasons, "judge_sources": json.loads(said["sources"][0] or "{}")} if reasons else {}
    return {**plain, **judged, **decision, "lead": words}


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
        "num_judged": calibration.num_judged,
        "reliability": [asdict(bin) for bin in calibration.reliability],
        "thresholds": [asdict(threshold) for threshold in calibration.thresholds if _is_tenth(threshold.at)],
    }


def _is_tenth(at: float) -> bool:
    return round(at * 100) % 10 == 0


def _cost(clips: pl.DataFrame, kept: int, measured: Measured, judged: Judged | None) -> dict[str, float]:
    """Sums of measuring and asking, and the same per clip and per clip kept."""
    seconds = float(clips["seconds"].cast(pl.Float64).fill_nan(None).sum()) if "seconds" in clips.columns else 0.0
    asked = judged.cost() if judged is not None else {"seconds": 0.0, "tokens": 0.0, "money": 0.0, "calls": 0.0}
    totals = {**asked, "seconds": seconds + asked["seconds"]}
    each = {f"{name}_per_clip": value / max(1, clips.height) for name, value in totals.items()}
    each_kept = {f"{name}_per_clip_kept": value / max(1, kept) for name, value in totals.items()}
    return {**totals, "seconds_now": measured.seconds + asked["seconds"], **each, **each_kept}


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
    if judged := curated.get("judged"):
        text += (
            f"; {judged['asked']} of {judged['audible']} clips with sound were judged, {judged['unscored']} unscored"
        )
    threshold = curated["threshold"]
    if "lost" in threshold:
        lost, bad = threshold["lost"], threshold["kept_bad"]
        text += (
            f"; P(match) of {threshold['value']:.2f} or more loses {100 * lost['value']:.1f} % of the good clips "
            f"({100 * lost['low']:.1f} to {100 * lost['high']:.1f}) and keeps {100 * bad['value']:.0f} % of the bad "
            f"ones ({100 * bad['low']:.0f} to {100 * bad['high']:.0f})"
        )
    return text
