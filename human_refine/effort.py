"""What refiners did: how far they agree where two saw the same text, how much they changed, how long it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from flywheel.core.types import Correction, Cue, standing
from flywheel.metrics import token_f1
from flywheel.metrics.agreement import boundary_iou, edit_rate, krippendorff_alpha, text_distance
from flywheel.store import Workspace
from human_refine.gold import gold_scores, gold_texts
from human_refine.people import heard

_LEAST_PAIRS = 5


def effort(workspace: Workspace, round: int | None = None) -> dict[str, Any]:
    """Agreement over texts that two or more people settled (``alpha`` by word distance, ``boundary_iou`` of cues; absent where nothing
    tells), and per refiner counts, edit rate, seconds and how gold went (:func:`human_refine.gold.gold_scores`); of one round's texts or of all.
    Gold counts in that alone, and in the seconds."""
    annotations = workspace.annotations(round=round).select("id", "clip_id", "kind", "text", "payload")
    texts = {row["id"]: row for row in annotations.iter_rows(named=True)}
    by_text: dict[str, list[Correction]] = {}
    for correction in heard(workspace):
        if correction.annotation_id in texts:
            by_text.setdefault(correction.annotation_id, []).append(correction)
    gold = gold_texts(workspace)
    judged = gold_scores(texts, by_text, gold, workspace.config.review.gold_right_f1)
    pairs: list[tuple[str, str, float]] = []
    units: dict[str, list[str | None]] = {}
    ious: list[float] = []
    refiners: dict[str, dict[str, Any]] = {}
    for annotation_id, corrections in by_text.items():
        said = standing(corrections)
        original = texts[annotation_id]
        if original["clip_id"] in gold:
            said = {}
        else:
            pairs += _agreements(said, original["text"])
            units[annotation_id] = [_text(c, original["text"]) for c in said.values()]
        cues = [_cues(c.payload or original["payload"]) for c in said.values() if c.verdict != "reject"]
        if original["payload"] and len(cues) > 1:
            ious.append(_mean([boundary_iou(a, b) for i, a in enumerate(cues) for b in cues[i + 1 :]]))
        for correction in corrections:
            found = refiners.setdefault(
                correction.refiner, {"refiner": correction.refiner, "said": 0, "seconds": 0.0, "last": "", "rates": []}
            )
            found[correction.verdict] = found.get(correction.verdict, 0) + 1
            found["said"] += correction.verdict != "withdraw"
            found["seconds"] += correction.seconds
            found["last"] = max(found["last"], correction.at.isoformat())
        for name, correction in said.items():
            if correction.verdict in ("accept", "edit"):
                refiners[name]["rates"].append(edit_rate(original["text"], _text(correction, original["text"]) or ""))
    rows = []
    for found in refiners.values():
        rates = found.pop("rates")
        found |= _with_others(found["refiner"], pairs)
        rows.append(
            {
                **found,
                "gold": judged.get(found["refiner"]),
                "seconds_each": found["seconds"] / max(1, found["said"]),
                "edit_rate": _mean(rates) if rates else None,
            }
        )
    both = sum(len(values) > 1 for values in units.values())
    alpha = krippendorff_alpha(units, text_distance)
    out: dict[str, Any] = {"texts": len(units), "overlap": both, "refiners": sorted(rows, key=lambda r: -r["said"])}
    seen = sum(entry["seen"] for entry in judged.values())
    if seen:
        out["gold_accuracy"] = sum(entry["right"] for entry in judged.values()) / seen
    if alpha == alpha:
        out["alpha"] = alpha
    if ious:
        out["boundary_iou"] = _mean(ious)
    given = [c for corrections in by_text.values() for c in corrections if c.verdict != "withdraw"]
    if given:
        out["seconds_each"] = sum(c.seconds for c in given) / len(given)
        rates = [row["edit_rate"] for row in rows if row["edit_rate"] is not None]
        if rates:
            out["edit_rate"] = _mean(rates)
    return out


def _agreements(said: Mapping[str, Correction], original: str) -> list[tuple[str, str, float]]:
    """Word F1 of what each two people made of a text; a reject agrees with a reject alone."""
    texts = [(name, _text(c, original)) for name, c in said.items()]
    return [
        (a, b, float(x is y) if x is None or y is None else token_f1(x, y))
        for i, (a, x) in enumerate(texts)
        for b, y in texts[i + 1 :]
    ]


def _with_others(name: str, pairs: Sequence[tuple[str, str, float]]) -> dict[str, float]:
    """Mean agreement of a person with the others, theirs among themselves, and how likely so low a rank is by chance (Mann-Whitney, one-sided);
    empty with fewer than five pairs of either."""
    mine = [v for a, b, v in pairs if name in (a, b)]
    rest = [v for a, b, v in pairs if name not in (a, b)]
    if len(mine) < _LEAST_PAIRS or len(rest) < _LEAST_PAIRS:
        return {}
    p = float(stats.mannwhitneyu(mine, rest, alternative="less").pvalue)
    return {"shared": len(mine), "agreement": _mean(mine), "agreement_of_others": _mean(rest), "agreement_p": p}


def _text(correction: Correction, original: str) -> str | None:
    return {"accept": original, "reject": None}.get(correction.verdict, correction.text)


def _cues(payload: str) -> list[Cue]:
    return [Cue(**cue) for cue in json.loads(payload)["cues"]] if payload else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
