"""Corrections as Label Studio's JSON: tasks with predictions out, tasks with annotations in."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flywheel.core.foreign import parsed_json
from flywheel.core.types import Cue
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.label_studio import region_seconds, task
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    """One row for each annotation of a task; rows count tasks."""
    try:
        tasks = parsed_json(content.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise ValueError(f"not Label Studio's JSON ({error})") from error
    if not isinstance(tasks, list):
        raise ValueError("not Label Studio's JSON (it must be a list of tasks)")
    for line, item in enumerate(tasks, 1):
        try:
            for annotation in item.get("annotations") or []:
                yield checked_row(line, _values(item["data"], annotation))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError) as error:
            yield CorrectionRow(line=line, problem=f"not a task as exported ({type(error).__name__}: {error})")


@dataclass(kw_only=True)
class _Results:
    """The results of an annotation, by what they are: spans and texts of cues by the id of their region."""

    caption: str = ""
    verdict: str = ""
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def cues(self) -> list[Cue]:
        """Cues in the order of time, in seconds from the clip's start."""
        cues = [Cue(start_s=a, end_s=b, text=self.texts.get(i, "")) for i, (a, b) in self.spans.items()]
        return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))


def _results(annotation: Mapping[str, Any], fps: float, start_s: float) -> _Results:
    results = _Results()
    for result in annotation.get("result") or []:
        value = result["value"]
        match result["from_name"]:
            case "caption":
                results.caption = " ".join(value["text"])
            case "cue":
                results.spans[result["id"]] = region_seconds(result, fps, start_s)
            case "cue_text":
                results.texts[result["id"]] = " ".join(value["text"])
            case "verdict":
                results.verdict = value["choices"][0]
    return results


def _values(data: Mapping[str, Any], annotation: Mapping[str, Any]) -> dict[str, Any]:
    results = _results(annotation, float(data["fps"]), float(data["start_s"]))
    text, payload = results.caption, ""
    if cues := results.cues():
        text = " ".join(cue.text for cue in cues)
        payload = json.dumps({"cues": [asdict(cue) for cue in cues]}, ensure_ascii=False, sort_keys=True)
    unchanged = text == data["model_text"] and not cues
    verdict = "skip" if annotation.get("was_cancelled") else results.verdict
    verdict = verdict or ("accept" if unchanged else "edit")
    return {
        "annotation_id": data["annotation_id"],
        "verdict": verdict,
        "text": text,
        "payload": payload,
        "refiner": _refiner(annotation.get("completed_by")),
        "seconds": annotation.get("lead_time") or 0.0,
        "at": annotation.get("created_at") or "",
        "reason": "rejected in Label Studio" if verdict == "reject" else "",
    }


def _refiner(user: Any) -> str:
    """A name for Label Studio's user, who comes as an object or as a number."""
    if isinstance(user, Mapping):
        return user.get("email") or user.get("username") or str(user.get("id"))
    return f"label-studio-{user}" if user else ""


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    tasks = [
        task(
            annotation_id=row.annotation_id,
            video=row.uri,
            text=row.text,
            cues=row.cues,
            fps=row.fps,
            start_s=row.start_s,
            duration_s=row.end_s - row.start_s,
            model=f"round {row.round}",
        )
        for row in rows
    ]
    out.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")


FORMAT = CorrectionFormat(endings=(".json",), read=_read, write=_write, cues=True)
