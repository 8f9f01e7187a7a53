"""Corrections into the workspace: every row checked against what it corrects, good rows kept, bad ones named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import polars as pl

from flywheel import kinds
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import CAPTION, LEARN, Correction, Verdict, content_id
from flywheel.formats.corrections import CorrectionRow, read_corrections
from flywheel.formats.rows import is_choice
from flywheel.store import Workspace
from flywheel.store.corrections import known_correction_ids
from flywheel.store.parts import read_rows
from human_refine.cells import refiner_of, seconds_of, time_of, unknown_text
from human_refine.choices import read_choices
from human_refine.cleaning import clean_payload, clean_text
from human_refine.gold import add_gold, gold_texts, may_be_gold
from human_refine.items import EDITABLE

#: Rows that the page can have offered: those of rounds that it shows.
_OFFERED = EDITABLE & (pl.col("round") > 0)
_CAPTIONS = (pl.col("kind") == CAPTION) & (pl.col("purpose") == LEARN)


@dataclass(kw_only=True)
class ImportReport:
    """What an import did.

    ``added`` counts corrections and ``choices`` those between two texts. ``refused`` has a line per bad row; ``known``
    counts rows that were there already, ``blank`` those that nobody filled in. ``notes`` say what was guessed to read
    the file.
    """

    added: int = 0
    choices: int = 0
    known: int = 0
    blank: int = 0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changes: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Target:
    """A text that rows of a file correct."""

    clip_id: str
    text: str
    payload: str
    kind: str
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who sends a file through the page.

    ``refiner`` is whose its rows all are and when they were said is ``now``, whatever the file says; empty for a lead,
    whose files are taken at their word. Nobody corrects there what the page does not offer.
    """

    refiner: str
    now: datetime


def import_corrections(
    workspace: Workspace, path: Path, *, sender: Sender | None = None, preview: bool = False
) -> ImportReport:
    """Reads a file of corrections, of choices between two texts or of both, and keeps its good rows.

    Those of a kind are kept in one transaction. ``sender`` is who sent it through the page. With ``preview`` nothing is
    kept, and ``changes`` says what would be. Importing the same file twice changes nothing. Raises UserError where the
    file as a whole can't be read.
    """
    every_row = list(read_corrections(path))
    rows = [row for row in every_row if not is_choice(row)]
    targets = _targets(workspace, rows) if sender is None else _offered(workspace, rows)
    rules = _Rules(max_chars=workspace.config.review.max_chars, sender=sender)
    read = [_read(row, targets, rules) for row in rows]
    existing = known_correction_ids(workspace, {c.id for c in read if isinstance(c, Correction)})
    report = ImportReport(notes=_notes(path, every_row))
    good: dict[str, Correction] = {}
    said_now: list[str] = []
    for row, result in zip(rows, read, strict=True):
        if result is None:
            report.blank += 1
        elif isinstance(result, str):
            report.refused.append(_line(path, row, result))
        elif result.id in existing:
            report.known += 1
        elif result.id in good:
            report.refused.append(_line(path, row, "the same as an earlier line of this file"))
        else:
            good[result.id] = result
            if not row.values.get("at") or (sender is not None and sender.refiner):
                said_now.append(result.id)
    report.changes = [
        {
            "annotation_id": c.annotation_id,
            "verdict": c.verdict,
            "before": targets[c.annotation_id].text,
            "after": c.text,
            "refiner": c.refiner,
        }
        for c in good.values()
    ]
    report.added = len(good) if preview else workspace.add_corrections(list(good.values()), said_now=said_now)
    _import_choices(workspace, path, [row for row in every_row if is_choice(row)], sender, preview, report)
    return report


def _import_choices(
    workspace: Workspace,
    path: Path,
    rows: list[CorrectionRow],
    sender: Sender | None,
    preview: bool,
    report: ImportReport,
) -> None:
    """Keep the good ones of these choices, and put what became of them into the report."""
    if not rows:
        return
    refiner, now = (sender.refiner, sender.now) if sender is not None else ("", None)
    read = read_choices(workspace, rows, refiner=refiner, now=now, offered=sender is not None)
    report.known += read.known
    report.blank += read.blank
    report.refused += [_line(path, row, problem) for row, problem in read.refused]
    good = list(read.good.values())
    report.choices = len(good) if preview else workspace.add_preferences(good, said_now=read.said_now)


def import_gold(workspace: Workspace, path: Path, by: str) -> ImportReport:
    """Reads a file of corrections as gold.

    The text that an accept or edit of a caption leaves is the clip's right one, a reject ends its being gold. Raises
    UserError where the file as a whole can't be read.
    """
    rows = [_no_choice(row) for row in read_corrections(path)]
    targets = _targets(workspace, rows, _CAPTIONS)
    rules = _Rules(max_chars=workspace.config.review.max_chars)
    train = may_be_gold(workspace, {target.clip_id for target in targets.values()})
    current = gold_texts(workspace)
    report = ImportReport(notes=_notes(path, rows))
    texts: dict[str, str] = {}
    for row in rows:
        result = _read(row, targets, rules)
        if result is None:
            report.blank += 1
            continue
        problem = result if isinstance(result, str) else _gold_problem(result, train)
        if isinstance(result, str) or problem:
            report.refused.append(_line(path, row, problem))
            continue
        shown = " ".join(targets[result.annotation_id].text.split())
        text = {"accept": shown, "edit": result.text, "reject": ""}[result.verdict]
        if current.get(result.clip_id, "") == text:
            report.known += 1
        else:
            texts[result.clip_id] = text
    report.added = add_gold(workspace, texts, by) if texts else 0
    return report


def _gold_problem(correction: Correction, train: frozenset[str]) -> str:
    """Why a correction can't be gold; empty where it can."""
    if correction.verdict not in ("accept", "edit", "reject"):
        return "gold is accept, edit or reject"
    return "" if correction.clip_id in train else "only train clips can be gold"


def _no_choice(row: CorrectionRow) -> CorrectionRow:
    return CorrectionRow(line=row.line, problem="a choice between two texts is no gold") if is_choice(row) else row


def _notes(path: Path, rows: Iterable[CorrectionRow]) -> list[str]:
    return [f"{path.name}: {row.note}" for row in rows if row.note]


def _line(path: Path, row: CorrectionRow, problem: str) -> str:
    return f"{path.name}: line {row.line}: {problem}."


def _targets(workspace: Workspace, rows: Iterable[CorrectionRow], where: pl.Expr | None = None) -> dict[str, _Target]:
    """Annotation id -> text, of those that the rows name and that exist."""
    return {target_id: target for target_id, target, _ in _named(workspace, rows, where)}


def _offered(workspace: Workspace, rows: Iterable[CorrectionRow]) -> dict[str, _Target]:
    """As :func:`_targets`, of those alone that the page can have laid before somebody: none of the test split."""
    return {i: target for i, target, split in _named(workspace, rows, _OFFERED) if split in ("train", "anchor")}


def _named(
    workspace: Workspace, rows: Iterable[CorrectionRow], where: pl.Expr | None
) -> Iterator[tuple[str, _Target, str]]:
    """Id, text and split of the annotations that the rows name; the split is empty where the clip is gone."""
    ids = {row.values["annotation_id"] for row in rows if not row.problem}
    texts = read_rows(workspace, "annotations", ids, ["id", "clip_id", "text", "payload", "kind"], where)
    clips = read_rows(workspace, "clips", texts["clip_id"].unique(), ["id", "start_s", "end_s", "split"])
    known = {clip_id: (end_s - start_s, split) for clip_id, start_s, end_s, split in clips.iter_rows()}
    for annotation_id, clip_id, text, payload, kind in texts.iter_rows():
        duration_s, split = known.get(clip_id, (math.inf, ""))
        target = _Target(clip_id=clip_id, text=text, payload=payload, kind=kind, duration_s=duration_s)
        yield annotation_id, target, split


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What rows of a file are held to."""

    max_chars: int
    sender: Sender | None = None


def _read(row: CorrectionRow, targets: Mapping[str, _Target], rules: _Rules) -> Correction | str | None:
    """The correction that a row holds, what is wrong with it, or None where nobody filled it in."""
    if row.problem:
        return row.problem
    refiner = rules.sender.refiner if rules.sender is not None else ""
    values = {**row.values, "refiner": refiner, "at": None} if refiner else row.values
    try:
        with one_item():
            try:
                return _correction(values, targets, rules)
            except ValueError as error:
                return str(error)
    except MediaError as error:
        return str(error)


def _correction(values: Mapping[str, Any], targets: Mapping[str, _Target], rules: _Rules) -> Correction | None:
    annotation_id = values["annotation_id"].strip()
    verdict = (values.get("verdict") or "").strip().lower().replace("can't", "cant").replace(" ", "_")
    if annotation_id not in targets:
        if not verdict:
            return None
        how = "unknown" if rules.sender is None else "unknown, or none that the page offers"
        raise ValueError(unknown_text(annotation_id, how))
    if verdict not in ("", *get_args(Verdict)):
        raise ValueError(f"verdict '{verdict[:40]}' is unknown; there are {', '.join(get_args(Verdict))}")
    target = targets[annotation_id]
    text = clean_text(values.get("text") or "", rules.max_chars)
    if text and text == " ".join((values.get("model_text") or "").split()):
        # Nobody touched it: what a spreadsheet makes of a text (TRUE, 7, a date) it makes of both.
        text = " ".join(target.text.split())
    verdict = _meant(verdict, text, values.get("payload") or "", target)
    if not verdict:
        return None
    refiner = refiner_of(values)
    now = rules.sender.now if rules.sender is not None else datetime.now(UTC)
    at = time_of(values, now)
    payload = ""
    if verdict == "edit":
        text, payload = _content(text, values.get("payload") or "", target, rules.max_chars)
    else:
        text = ""
    # Without a time of its own a row is the same row however often it is imported.
    key = [annotation_id, verdict, text, refiner, at.isoformat() if at is not None else ""]
    return Correction(
        id=content_id(*key, *([payload] if payload else [])),
        annotation_id=annotation_id,
        clip_id=target.clip_id,
        payload=payload,
        verdict=verdict,
        text=text,
        refiner=refiner,
        reason=clean_text(values.get("reason") or "", rules.max_chars),
        seconds=seconds_of(values),
        at=min(at, now) if at is not None else now,
    )


def _meant(verdict: str, text: str, payload: str, target: _Target) -> Any:
    """The verdict as it is meant: an accept whose text was changed is an edit; empty is a row not filled in.

    Raises ValueError where the verdict and the changed text contradict each other.
    """
    changed = bool(text) and text != " ".join(target.text.split())
    changed = changed or (bool(payload) and _plain(payload) != _plain(target.payload))
    if verdict == "edit" and not text:
        raise ValueError("an edit needs a text; this one is empty")
    if not changed or verdict in ("edit", "skip", "cant_tell", "withdraw"):
        return verdict
    if verdict == "accept":
        return "edit"
    if verdict == "reject":
        raise ValueError("a reject leaves no text, and this one was changed: say edit, or put why into 'reason'")
    raise ValueError("the text was changed, and the verdict is empty: say edit, or accept, reject or skip")


def _plain(payload: str) -> Any:
    """The values of a payload; itself where it is no JSON."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload


def _content(text: str, payload: str, target: _Target, max_chars: int) -> tuple[str, str]:
    """Text and payload of an edit."""
    if payload:
        payload = clean_payload(payload, target.kind, target.duration_s, max_chars)
        return kinds.get(target.kind).words(json.loads(payload)), payload
    if target.kind != CAPTION:
        raise ValueError(f"an edit of a {target.kind} needs its payload")
    return text, ""
