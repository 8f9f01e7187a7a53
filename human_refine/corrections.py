"""Corrections into the workspace: every row checked against what it corrects, good rows kept, bad ones named."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import polars as pl

from flywheel import kinds
from flywheel.core.errors import UserError
from flywheel.core.types import Correction, Cue, Verdict, content_id
from flywheel.formats import corrections
from flywheel.formats.corrections import read_corrections
from flywheel.formats.rows import ReviewRow
from flywheel.store import Workspace
from human_refine.gold import add_gold, gold_texts, may_be_gold
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
    frame = workspace.annotations().select("id", "clip_id", "text", "kind")
    annotations = {row["id"]: row for row in frame.iter_rows(named=True)}
    durations = {i: end - start for i, start, end in workspace.clips().select("id", "start_s", "end_s").iter_rows()}
    report = ImportReport()
    good: dict[str, Correction] = {}
    existing = set(workspace.corrections()["id"])
    for row in read_corrections(path):
        problem = row.problem
        if not problem:
            try:
                values = {**row.values, "refiner": refiner} if refiner else row.values
                correction = _correction(values, annotations, durations, workspace.config.review.max_chars)
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
            "before": annotations[c.annotation_id]["text"],
            "after": c.text,
            "refiner": c.refiner,
        }
        for c in good.values()
    ]
    report.added = len(good) if preview else workspace.add_corrections(list(good.values()))
    return report


def import_gold(workspace: Workspace, path: Path, by: str) -> ImportReport:
    """Read a file of corrections as gold: the text that an accept or edit of a caption leaves is the clip's right one, a reject ends its being gold."""
    annotations = {row["id"]: row for row in workspace.annotations(kind="caption").iter_rows(named=True)}
    durations = {i: end - start for i, start, end in workspace.clips().select("id", "start_s", "end_s").iter_rows()}
    may, known = may_be_gold(workspace), gold_texts(workspace)
    report = ImportReport()
    texts: dict[str, str] = {}
    for row in read_corrections(path):
        problem = row.problem
        if not problem:
            try:
                said = _correction(row.values, annotations, durations, workspace.config.review.max_chars)
                shown = " ".join(annotations[said.annotation_id]["text"].split())
                text = {"accept": shown, "edit": said.text, "reject": ""}.get(said.verdict)
                if text is None:
                    problem = "gold is accept, edit or reject"
                elif said.clip_id not in may:
                    problem = "only train clips can be gold"
                elif known.get(said.clip_id, "") == text:
                    report.known += 1
                else:
                    texts[said.clip_id] = text
            except ValueError as error:
                problem = str(error)
        if problem:
            report.refused.append(f"{path.name}: line {row.line}: {problem}.")
    report.added = add_gold(workspace, texts, by) if texts else 0
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


def clean_payload(payload: str, kind: str, duration_s: float, max_chars: int) -> str:
    """The payload of an edit as it is kept. Raises ValueError where it does not fit the kind."""
    try:
        check = kinds.get(kind).check
    except UserError as error:
        # A kind whose plug-in is gone costs its rows and not the file.
        raise ValueError(str(error).rstrip(".")) from error
    if check is None:
        raise ValueError(f"a {kind} has no cues: give its text instead")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the payload is not JSON ({type(error).__name__})") from error
    kept = check(value, duration_s, lambda text: clean_text(text, max_chars))
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def _correction(
    values: Any, annotations: dict[str, dict[str, Any]], durations: dict[str, float], max_chars: int
) -> Correction:
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
    annotation = annotations[annotation_id]
    payload = values.get("payload") or ""
    if payload and verdict == "edit":
        payload = clean_payload(payload, annotation["kind"], durations.get(annotation["clip_id"], math.inf), max_chars)
        text = kinds.get(annotation["kind"]).words(json.loads(payload))
    elif verdict == "edit" and annotation["kind"] != "caption":
        raise ValueError(f"an edit of a {annotation['kind']} needs its payload")
    else:
        payload = ""
    return Correction(
        # Without a time of its own a row is the same row however often it is imported.
        id=content_id(
            annotation_id, verdict, text, refiner, at.isoformat() if given_at else "", *([payload] if payload else [])
        ),
        annotation_id=annotation_id,
        clip_id=annotation["clip_id"],
        payload=payload,
        verdict=verdict,
        text=text,
        refiner=refiner,
        reason=(values.get("reason") or "").strip(),
        seconds=seconds,
        at=at,
    )


def export_queue(workspace: Workspace, out: Path, limit: int | None = None, form: str = "jsonl") -> int:
    """Write the last round's uncorrected texts, in the queue's order, for people to fill in; returns how many.

    ``form`` is the name of one of :mod:`flywheel.formats.corrections`. A format of timed texts gets the round's dense
    captions; one that takes both gets captions where there are none. Raises UserError where there is nothing to write.
    """
    chosen = corrections.get(form)
    dense = workspace.annotations(kind="dense_caption") if chosen.cues else pl.DataFrame()
    if dense.is_empty() and not chosen.texts:
        raise UserError(
            "corrections export: no round has dense captions. Name them in annotate.also and run 'flywheel annotate'."
        )
    rows = _waiting_cues(workspace, dense, limit) if not dense.is_empty() else _waiting_captions(workspace, limit)
    chosen.write(rows, out)
    return len(rows)


def _waiting_captions(workspace: Workspace, limit: int | None) -> list[ReviewRow]:
    clips = {row["id"]: row for row in workspace.clips().iter_rows(named=True)}
    return [
        _review_row(clips[item.clip_id], annotation_id=item.annotation_id, text=item.text, round=item.round)
        for item in waiting(workspace)[:limit]
    ]


def _waiting_cues(workspace: Workspace, dense: pl.DataFrame, limit: int | None) -> list[ReviewRow]:
    done = set(workspace.corrections()["annotation_id"])
    newest = int(dense["round"].to_numpy().max())
    chosen = dense.filter((pl.col("round") == newest) & ~pl.col("id").is_in(done)).sort("mean_logprob", "id")[:limit]
    clips = {row["id"]: row for row in workspace.clips().iter_rows(named=True)}
    return [
        _review_row(
            clips[row["clip_id"]], annotation_id=row["id"], text=row["text"], round=row["round"], payload=row["payload"]
        )
        for row in chosen.iter_rows(named=True)
    ]


def _review_row(clip: dict[str, Any], *, annotation_id: str, text: str, round: int, payload: str = "") -> ReviewRow:
    return ReviewRow(
        annotation_id=annotation_id,
        uri=clip["uri"],
        text=text,
        round=round,
        start_s=clip["start_s"],
        end_s=clip["end_s"],
        fps=clip["fps"],
        cues=tuple(Cue(**cue) for cue in json.loads(payload)["cues"]) if payload else (),
    )
