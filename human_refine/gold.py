"""Gold: clips whose right text a lead has given, shown among the others without a mark, to see how well each refiner judges.

Gold stands apart from all else: only train clips can become it, and from then on no round learns from them, no agreement and no count includes
what was said of them. A row of the table is a word; the newest of a clip counts, an empty text ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from scipy.stats import binomtest

from flywheel.core.errors import UserError
from flywheel.core.types import Correction, content_id, standing
from flywheel.metrics import mean_estimate, token_f1
from flywheel.store import View, Workspace
from flywheel.store import schema as db


def add_gold(workspace: Workspace, texts: Mapping[str, str], by: str) -> int:
    """Make these clips (id -> right text) gold, or with an empty text no longer; returns how many words were new.

    Raises UserError for a clip that is none of the train split: anchors and test clips measure the model, not people.
    """
    may = may_be_gold(workspace)
    for clip_id in texts:
        if clip_id not in may:
            raise UserError(f"gold: {clip_id} is no train clip. Only these can be gold.")
    now, known = datetime.now(UTC).isoformat(), gold_texts(workspace)
    rows = [
        {"id": content_id("gold", clip_id, text, by, now), "clip_id": clip_id, "text": text, "by": by, "at": now}
        for clip_id, text in texts.items()
        if known.get(clip_id, "") != text
    ]
    with workspace.database.transaction() as connection:
        return workspace.database.insert_new(connection, db.gold, rows)


def may_be_gold(workspace: Workspace) -> frozenset[str]:
    """Ids of the clips that can be gold."""
    return frozenset(workspace.clips("train")["id"])


def gold_texts(workspace: View) -> dict[str, str]:
    """Clip id -> its right text; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return dict(workspace.snapshot.gold)
    query = sql.select(db.gold.c.clip_id, db.gold.c.text).order_by(db.gold.c.at, db.gold.c.id)
    with workspace.database.transaction() as connection:
        texts = {row.clip_id: row.text for row in connection.execute(query)}
    return {clip_id: text for clip_id, text in texts.items() if text}


def gold_scores(
    texts: Mapping[str, Mapping[str, Any]],
    corrections: Mapping[str, Sequence[Correction]],
    gold: Mapping[str, str],
    right_f1: float,
) -> dict[str, dict[str, Any]]:
    """Refiner -> how the gold items went that the person judged: ``seen``, ``right``, ``accuracy`` with its exact 95 % interval
    (Clopper-Pearson), ``f1`` of the texts left standing, and ``f1_before`` of those that were shown.

    ``texts`` are annotation rows by id. A text is right where its word F1 with gold is at least ``right_f1``; a reject is right where the
    text shown was not. Skips and can't-tells are not judged.
    """
    found: dict[str, dict[str, Any]] = {}
    for annotation_id, said in corrections.items():
        row = texts.get(annotation_id)
        if row is None or row["kind"] != "caption" or row["clip_id"] not in gold:
            continue
        meant = gold[row["clip_id"]]
        before = token_f1(row["text"], meant)
        for name, correction in standing(said).items():
            entry = found.setdefault(name, {"seen": 0, "right": 0, "f1s": [], "before": []})
            entry["seen"] += 1
            entry["before"].append(before)
            if correction.verdict == "reject":
                entry["right"] += before < right_f1
                continue
            after = before if correction.verdict == "accept" else token_f1(correction.text, meant)
            entry["f1s"].append(after)
            entry["right"] += after >= right_f1
    out = {}
    for name, entry in found.items():
        interval = binomtest(entry["right"], entry["seen"]).proportion_ci(method="exact")
        out[name] = {
            "seen": entry["seen"], "right": entry["right"], "accuracy": entry["right"] / entry["seen"],
            "low": float(interval.low), "high": float(interval.high),
            "f1": mean_estimate(entry["f1s"]).value if entry["f1s"] else None, "f1_before": mean_estimate(entry["before"]).value,
        }  # fmt: skip
    return out
