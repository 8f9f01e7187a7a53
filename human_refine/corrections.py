"""Corrections into the workspace: every row checked against what it corrects, good rows kept, bad ones named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from flywheel.core.types import Correction, Verdict, content_id
from flywheel.formats.corrections import read_corrections
from flywheel.store import Workspace
from human_refine.queue import waiting

#: Overrides and isolates of writing direction: with them a text can look other than it is.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(kw_only=True)
class ImportReport:
    """What an import did. ``refused`` has a line per bad row; ``known`` counts rows that were there already."""

    added: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)
    changes: list[dict[str, str]] = field(default_factory=list)


def import_corrections(workspace: Workspace, path: Path, *, refiner: str = "", preview: bool = False) -> ImportReport:
    """Read a file of corrections and keep its good rows, all in one transaction.

    ``refiner`` is whose they all are, whatever the file says; with ``preview`` nothing is kept, and ``changes`` says what would be.
    Importing the same file twice changes nothing. Raises UserError where the file as a whole can't be read.
    """
    frame = workspace.annotations().select("id", "clip_id", "text")
    annotations = dict(frame.select("id", "clip_id").iter_rows())
    texts = dict(frame.select("id", "text").iter_rows())
    report = ImportReport()
    good: dict[str, Correction] = {}
    existing = set(workspace.corrections()["id"])
    for row in read_corrections(path):
        problem = row.problem
        if not problem:
            try:
                values = {**row.values, "refiner": refiner} if refiner else row.values
                correction = _correction(values, annotations, workspace.config.review.max_chars)
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
    report.changes = [
        {
            "annotation_id": c.annotation_id,
            "verdict": c.verdict,
            "before": texts[c.annotation_id],
            "after": c.text,
            "refiner": c.refiner,
        }
        for c in good.values()
    ]
    report.added = len(good) if preview else workspace.add_corrections(list(good.values()))
    return report


def clean_text(text: str, max_chars: int) -> str:
    """The text with white space folded. Raises ValueError for one that is too long or holds what nobody can see."""
    if "\x00" in text:
        raise ValueError("the text holds a NUL byte")
    if hidden := next((c for c in text if c in _DIRECTION), ""):
        raise ValueError(f"the text holds an invisible mark that turns the direction of writing (U+{ord(hidden):04X})")
    text = " ".join(text.split())
    if len(text) > max_chars:
        raise ValueError(f"the text has {len(text)} characters, at most {max_chars} are allowed (review.max_chars)")
    return text


def _correction(values: Any, annotations: dict[str, str], max_chars: int) -> Correction:
    annotation_id, verdict = values["annotation_id"], values["verdict"].strip().lower()
    if annotation_id not in annotations:
        raise ValueError(f"annotation '{annotation_id[:40]}' is unknown")
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict '{verdict[:40]}' is unknown; there are {', '.join(get_args(Verdict))}")
    text = clean_text(values.get("text") or "", max_chars)
    if verdict == "edit" and not text:
        raise ValueError("an edit needs a text; this one is empty")
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
    """Write the last round's uncorrected texts as JSONL, in the queue's order, for people to fill in; returns how many."""
    chosen = waiting(workspace)[:limit]
    uris = dict(workspace.clips().select("id", "uri").iter_rows())
    lines = [
        json.dumps(
            {
                "annotation_id": i.annotation_id,
                "uri": uris[i.clip_id],
                "model_text": i.text,
                "verdict": "",
                "text": i.text,
                "refiner": "",
            }
        )
        for i in chosen
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(chosen)
