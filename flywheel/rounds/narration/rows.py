"""A told video as one row of a file: each text with its times, the texts it was made of, and who wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flywheel.core.types import Clip
from flywheel.rounds.narration.telling import Part, Telling, clock
from flywheel.store import Workspace
from flywheel.store.parts import read_rows

_BY = ["id", "model", "prompt", "adapter", "sampling"]


def film_row(telling: Telling, workspace: Workspace) -> dict[str, Any]:
    """A video's row.

    ``shots`` hold ``seen``, ``heard``, ``fused``, the edits of ``consistency`` and ``redundancy``, what is left
    (``text``), and in ``same_as`` the number of the shot that says it all. ``narrative`` is a list of parts;
    ``missing`` says what is not there and why. Seconds are of the video; ``by`` names the models' weights.
    """
    film, missing = telling.film, list[str]()
    narrative, ids = _narrative(telling, missing)
    shots = [_shot(telling, number, clip, missing) for number, clip in enumerate(film.shots, 1)]
    return {
        "video": film.uri,
        "content_hash": film.content_hash,
        "duration_s": film.duration_s,
        "shots": shots,
        "narrative": narrative,
        "missing": missing,
        "by": _writers(workspace, [*_generations(telling), *ids]),
    }


def _shot(telling: Telling, number: int, clip: Clip, missing: list[str]) -> dict[str, Any]:
    checked, kept = telling.checked[clip.id], telling.unrepeated[clip.id]
    if clip.id not in telling.seen:
        missing.append(f"shot {number}: not seen (flywheel rejects)")
    if clip.id not in telling.heard:
        missing.append(f"shot {number}: {'not heard (flywheel rejects)' if clip.has_audio else 'has no sound'}")
    if clip.id in telling.fused and clip.id not in telling.consistency:
        missing.append(f"shot {number}: its text was not checked (flywheel rejects)")
    return {
        "number": number,
        "clip_id": clip.id,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "start": clock(clip.start_s),
        "end": clock(clip.end_s),
        "seen": _text(telling.seen.get(clip.id)),
        "heard": _text(telling.heard.get(clip.id)),
        "fused": _text(telling.fused.get(clip.id)),
        "consistency": _edits(telling.consistency.get(clip.id), checked.log, checked.refused),
        "redundancy": _edits(telling.redundancy.get(clip.id), kept.log, kept.refused),
        "text": kept.text,
        "same_as": telling.same_as(clip),
    }


def _text(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = {"annotation": row["id"], "generation": row["generation_id"], "text": row["text"]}
    return {**names, **json.loads(row["payload"])}


def _edits(row: Mapping[str, Any] | None, log: Iterable[Any], refused: Iterable[Any]) -> dict[str, Any] | None:
    if row is None:
        return None
    names = {"annotation": row["id"], "generation": row["generation_id"]}
    return {**names, "edits": list(log), "refused": list(refused)}


def _narrative(telling: Telling, missing: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The narrative's parts, and the ids of the generations of all its levels."""
    levels = list(telling.levels())
    if not levels or isinstance(levels[-1][1], str):
        missing.append(f"narrative: {levels[-1][1] if levels else 'no shot has a text'}")
        return [], []
    told, generations = levels[-1][1], list[str]()
    for tasks, _ in levels:
        generations += telling.generations_of(tasks)
    return [_part(telling, part) for part in told if isinstance(part, Part)], generations


def _part(telling: Telling, part: Part) -> dict[str, Any]:
    start_s, end_s = telling.times_s(part)
    return {
        "first": part.first,
        "last": part.last,
        "start_s": start_s,
        "end_s": end_s,
        "start": clock(start_s),
        "end": clock(end_s),
        "text": part.text,
        "annotations": list(part.by),
    }


def _generations(telling: Telling) -> list[str]:
    passes = (telling.seen, telling.heard, telling.fused, telling.consistency, telling.redundancy)
    return [row["generation_id"] for rows in passes for row in rows.values()]


def _writers(workspace: Workspace, generations: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Generation -> the digests of its model, prompt and adapter, and its sampling."""
    rows = read_rows(workspace, "generations", set(generations), _BY)
    return {row.pop("id"): row for row in rows.sort("id").iter_rows(named=True)}
