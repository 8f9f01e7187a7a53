"""Choices between two texts as files: every row checked against the texts it names, and written as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import polars as pl

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import CAPTION, Choice, Preference, content_id
from flywheel.formats.rows import CorrectionRow
from flywheel.store import View, Workspace
from flywheel.store.parts import read_rows
from flywheel.store.preferences import known_choice_ids
from human_refine.cells import refiner_of, seconds_of, time_of, unknown_text
from human_refine.cleaning import clean_text
from human_refine.pairs import GOLD
from human_refine.sound_pairs import SOUND

_MOST_ID_CHARS = 64
#: What people write instead.
_ALSO = {"tie": "equal", "both": "equal", "neither": "both_bad", "none": "both_bad", "cant_tell": "skip"}


@dataclass(kw_only=True)
class ReadChoices:
    """Rows of a file as choices: the ``good`` ones by their ids, those ``said_now``, and what is wrong with others."""

    good: dict[str, Preference] = field(default_factory=dict)
    said_now: list[str] = field(default_factory=list)
    known: int = 0
    blank: int = 0
    refused: list[tuple[CorrectionRow, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A text that a row names."""

    clip_id: str
    text: str


def read_choices(
    workspace: Workspace,
    rows: Sequence[CorrectionRow],
    *,
    refiner: str = "",
    now: datetime | None = None,
    offered: bool = False,
) -> ReadChoices:
    """The choices that these rows hold, none of them kept yet.

    ``refiner`` is whose they all are and ``now`` when they were made, whatever the rows say; empty takes rows at their
    word. With ``offered`` only texts count whose clips people may be asked of: none of the test split.
    """
    sides = _sides(workspace, rows, offered)
    results = [_read(row, sides, refiner, now) for row in rows]
    existing = known_choice_ids(workspace, {r.id for r in results if isinstance(r, Preference)})
    read = ReadChoices()
    for row, result in zip(rows, results, strict=True):
        if result is None:
            read.blank += 1
        elif isinstance(result, str):
            read.refused.append((row, result))
        elif result.id in existing:
            read.known += 1
        elif result.id in read.good:
            read.refused.append((row, "the same as an earlier line of this file"))
        else:
            read.good[result.id] = result
            if refiner or not row.values.get("at"):
                read.said_now.append(result.id)
    return read


def choices_on_record(workspace: View) -> Iterable[dict[str, Any]]:
    """All choices on record as rows of a file, oldest first; what :func:`read_choices` reads is the same again.

    Hidden pairs, which check the person, and pairs of sounds are left out: their sides are of no file.
    """
    for preference in workspace.preference_records():
        if not preference.first_id.startswith((GOLD, SOUND)):
            yield {**asdict(preference), "at": preference.at.isoformat()}


def _sides(workspace: Workspace, rows: Iterable[CorrectionRow], offered: bool) -> dict[str, _Side]:
    """Annotation id -> text, of the captions that the rows name and whose clips are there."""
    ids = {row.values[name] for row in rows for name in ("first_id", "second_id")}
    texts = read_rows(workspace, "annotations", ids, ["id", "clip_id", "text"], pl.col("kind") == CAPTION)
    where = pl.col("split").is_in(["train", "anchor"]) if offered else None
    clips = set(read_rows(workspace, "clips", texts["clip_id"].unique(), ["id"], where)["id"])
    return {i: _Side(clip_id=clip_id, text=text) for i, clip_id, text in texts.iter_rows() if clip_id in clips}


def _read(
    row: CorrectionRow, sides: Mapping[str, _Side], refiner: str, now: datetime | None
) -> Preference | str | None:
    """The choice that a row holds, what is wrong with it, or None where nobody filled it in."""
    values = {**row.values, "refiner": refiner, "at": None, "id": None} if refiner else row.values
    try:
        with one_item():
            try:
                return _choice(values, sides, now or datetime.now(UTC))
            except ValueError as error:
                return str(error)
    except MediaError as error:
        return str(error)


def _choice(values: Mapping[str, Any], sides: Mapping[str, _Side], now: datetime) -> Preference | None:
    chosen = (values.get("chosen") or "").strip().lower().replace("can't", "cant").replace(" ", "_")
    chosen = _ALSO.get(chosen, chosen)
    if not chosen:
        return None
    if chosen not in get_args(Choice):
        raise ValueError(f"chosen '{chosen[:40]}' is unknown; there are {', '.join(get_args(Choice))}")
    first_id, second_id = (values[name].strip() for name in ("first_id", "second_id"))
    clip_id = _common_clip(first_id, second_id, sides)
    left: Any = (values.get("left") or "").strip().lower()
    if left not in ("", "first", "second"):
        raise ValueError(f"left says which text was shown on the left, first or second, got '{left[:40]}'")
    refiner, at = refiner_of(values), time_of(values, now)
    # Without an id and a time of its own a row is the same row however often it is imported.
    key = content_id("choice", first_id, second_id, chosen, refiner, at.isoformat() if at is not None else "")
    return Preference(
        id=clean_text(values.get("id") or "", _MOST_ID_CHARS) or key,
        clip_id=clip_id,
        first_id=first_id,
        second_id=second_id,
        chosen=chosen,  # type: ignore[arg-type]
        refiner=refiner,
        left=left,
        seconds=seconds_of(values),
        at=min(at, now) if at is not None else now,
    )


def _common_clip(first_id: str, second_id: str, sides: Mapping[str, _Side]) -> str:
    """The clip that both texts are of. Raises ValueError where they can't be set side by side."""
    for annotation_id in (first_id, second_id):
        if annotation_id not in sides:
            raise ValueError(unknown_text(annotation_id, "unknown, no caption, or its clip is gone"))
    first, second = sides[first_id], sides[second_id]
    if first.clip_id != second.clip_id:
        raise ValueError("the two texts are of different clips")
    if first.text.split() == second.text.split():
        raise ValueError("the two texts are the same, so there is nothing to choose")
    return first.clip_id
