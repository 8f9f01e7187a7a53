"""Corrections into the workspace: every row checked against what it corrects, good rows kept, bad ones named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.types import Correction, Verdict, content_id
from flywheel.formats.corrections import read_corrections
from flywheel.store import Workspace


@dataclass(kw_only=True)
class ImportReport:
    """What an import did. ``refused`` has a line per bad row; ``known`` counts rows that were there already."""

    added: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)


def import_corrections(workspace: Workspace, path: Path) -> ImportReport:
    """Read a file of corrections and keep its good rows, all in one transaction; the caller holds the lock.

    Importing the same file twice changes nothing. Raises UserError where the file as a whole can't be read.
    """
    annotations = dict(workspace.annotations().select("id", "clip_id").iter_rows())
    report = ImportReport()
    good: dict[str, Correction] = {}
    existing = set(workspace.corrections()["id"])
    for row in read_corrections(path):
        problem = row.problem
        if not problem:
            try:
                correction = _correction(row.values, annotations, workspace.config.review.max_chars)
            except ValueError as error:
                problem = str(error)
        if problem:
            report.refused.append(f"{path.name}: line {row.line}: {problem}.")
        elif correction.id in existing:
            report.known += 1
        elif correction.id in good:
            report.refused.append(f"{path.name}: line {row.line}: the same as an earlier line of this file.")
        else:
            good[correction.id] = correction
    report.added = workspace.add_corrections(list(good.values()))
    return report


def _correction(values: Any, annotations: dict[str, str], max_chars: int) -> Correction:
    annotation_id, verdict = values["annotation_id"], values["verdict"].strip().lower()
    if annotation_id not in annotations:
        raise ValueError(f"annotation '{annotation_id[:40]}' is unknown")
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict '{verdict[:40]}' is unknown; there are {', '.join(get_args(Verdict))}")
    text = (values.get("text") or "").strip()
    if "\x00" in text:
        raise ValueError("the text holds a NUL byte")
    text = " ".join(text.split())
    if verdict == "edit" and not text:
        raise ValueError("an edit needs a text; this one is empty")
    if len(text) > max_chars:
        raise ValueError(f"the text has {len(text)} characters, at most {max_chars} are allowed (review.max_chars)")
    try:
        seconds = float(values.get("seconds") or 0.0)
    except (TypeError, ValueError):
        raise ValueError(f"seconds must be a number, got {values['seconds']!r}") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"seconds must be zero or more, got {seconds:g}")
    refiner = (values.get("refiner") or "unnamed").strip()
    given_at = values.get("at")
    try:
        at = datetime.fromisoformat(given_at) if given_at else datetime.now(UTC)
    except (TypeError, ValueError):
        raise ValueError(f"at must be an ISO 8601 time, got {given_at!r}") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    text = text if verdict == "edit" else ""
    return Correction(
        # Without a time of its own a row is the same row however often it is imported.
        id=content_id(annotation_id, verdict, text, refiner, at.isoformat() if given_at else ""),
        annotation_id=annotation_id,
        clip_id=annotations[annotation_id],
        verdict=verdict,
        text=text,
        refiner=refiner,
        reason=(values.get("reason") or "").strip(),
        seconds=seconds,
        at=at,
    )


def export_queue(workspace: Workspace, out: Path, limit: int | None = None) -> int:
    """Write the last round's uncorrected texts as JSONL for people to fill in; returns how many.

    Half come in the order of the model's doubt (lowest mean log-prob first), half at random by id, so that what people see
    is not only the worst. Anchor clips come at random alone.
    """
    written = workspace.annotations(kind="caption").filter(pl.col("source") == "model")
    if written.is_empty():
        raise UserError("corrections export: no round has texts yet. Run 'flywheel annotate' first.")
    round = int(written["round"].to_numpy().max())
    captions = written.filter(pl.col("round") == round)
    clips = workspace.clips().select(pl.col("id").alias("clip_id"), "uri", "start_s", "end_s", "split")
    done = workspace.corrections().select("clip_id")
    open_rows = captions.join(clips, on="clip_id").join(done, on="clip_id", how="anti").sort("id")
    train, anchor = open_rows.filter(pl.col("split") == "train"), open_rows.filter(pl.col("split") == "anchor")
    doubted = train.sort("mean_logprob", "id")
    mixed = [row for pair in zip(doubted.to_dicts(), train.to_dicts(), strict=True) for row in pair]
    seen: set[str] = set()
    train_rows = [row for row in mixed if not (row["id"] in seen or seen.add(row["id"]))]  # type: ignore[func-returns-value]
    anchor_rows = anchor.to_dicts()
    if not train_rows and not anchor_rows:
        raise UserError(f"corrections export: round {round} has no text left to correct. Run 'flywheel annotate' first.")
    share = len(anchor_rows) / (len(anchor_rows) + len(train_rows))
    chosen: list[dict[str, Any]] = []
    taken = 0
    while train_rows or anchor_rows:
        from_anchor = anchor_rows and (not train_rows or taken < share * (len(chosen) + 1))
        taken += bool(from_anchor)
        chosen.append((anchor_rows if from_anchor else train_rows).pop(0))
    chosen = chosen[:limit]
    lines = [
        json.dumps(
            {"annotation_id": r["id"], "uri": r["uri"], "model_text": r["text"], "verdict": "", "text": r["text"], "refiner": ""}
        )
        for r in chosen
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(chosen)
