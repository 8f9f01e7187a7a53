"""Corrections as Label Studio's JSON: tasks with predictions out, tasks with annotations in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.encodings import decoded
from flywheel.core.errors import MediaError
from flywheel.core.foreign import parsed_json
from flywheel.core.types import Cue
from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.label_studio import region_seconds, task, textarea
from flywheel.formats.rows import CorrectionRow, ReviewRow, checked_row


def _read(content: bytes, _: str) -> Iterator[CorrectionRow]:
    """One row for each annotation of a task, or for a task that has none; rows count tasks.

    It comes as its JSON, or as JSON-MIN: there a task's answers lie beside its data.
    """
    try:
        tasks = parsed_json(decoded(content).text)
    except ValueError as error:
        raise ValueError(f"not Label Studio's JSON ({error})") from error
    tasks = [tasks] if isinstance(tasks, dict) and "data" in tasks else tasks
    if not isinstance(tasks, list):
        raise ValueError("not Label Studio's JSON (it must be a list of tasks)")
    for line, item in enumerate(tasks, 1):
        yield from _bordered(line, partial(_rows, line, item))


#: What the data of our tasks say that corrections are read by.
_DATA = ("annotation_id", "model_text", "fps", "start_s")


def _bordered(line: int, read: Callable[[], list[CorrectionRow]]) -> list[CorrectionRow]:
    """Rows, or what is wrong with them: one annotation takes no other with it."""
    try:
        with one_item("not a task as exported"):
            return read()
    except MediaError as error:
        return [CorrectionRow(line=line, problem=str(error))]


def _rows(line: int, item: Any) -> list[CorrectionRow]:
    if not isinstance(item, Mapping):
        raise ValueError(f"a task must be an object, got {type(item).__name__}")
    if "data" not in item and ("annotator" in item or "lead_time" in item):
        return [checked_row(line, _values(*_from_small(item)))]
    if given := item.get("annotations") or item.get("completions"):
        return [row for one in given for row in _bordered(line, partial(_of_one, line, item, one))]
    if item.get("drafts"):
        return [CorrectionRow(line=line, problem="holds a draft alone: submit it in Label Studio and export again")]
    # Nobody has come to it yet.
    return [checked_row(line, {"annotation_id": _data(item)["annotation_id"], "verdict": ""})]


def _of_one(line: int, item: Mapping[str, Any], annotation: Mapping[str, Any]) -> list[CorrectionRow]:
    return [checked_row(line, _values(_data(item), annotation))]


def _data(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a task is about. Raises ValueError for one that was not exported here."""
    data = item.get("data")
    lacks = [name for name in _DATA if name not in data] if isinstance(data, Mapping) else _DATA
    if lacks:
        raise ValueError(f"its data lacks {', '.join(lacks)}: take tasks that 'flywheel corrections export' wrote")
    return dict(data or {})


def _from_small(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(data, annotation) of a task in JSON-MIN. Raises ValueError where it does not say what is what."""
    if not isinstance(item.get("text_id"), str):
        # There its own number of the annotation stands where ours was.
        raise ValueError("JSON-MIN of a task that an older version exported: export it as JSON")
    spans, words = (_as_list(item.get(name)) for name in ("cue", "cue_text"))
    if len(spans) != len(words):
        raise ValueError("JSON-MIN does not say which text is which cue's: export it as JSON")
    results: list[dict[str, Any]] = []
    for number, (span, text) in enumerate(zip(spans, words, strict=True)):
        results.append({"id": number, "from_name": "cue", "value": span})
        results.append({"id": number, "from_name": "cue_text", "value": {"text": textarea(text)}})
    for name, key in (("caption", "text"), ("verdict", "choices")):
        results += [{"from_name": name, "value": {key: textarea(part)}} for part in _as_list(item.get(name))[:1]]
    about = {key: item.get(key) for key in ("created_at", "lead_time")}
    data = {**item, "annotation_id": item["text_id"]}
    return data, {**about, "completed_by": item.get("annotator"), "result": results}


def _as_list(value: Any) -> list[Any]:
    """The answers of a name: one stands alone, none is nothing."""
    return value if isinstance(value, list) else [value] if value not in (None, "") else []


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
        # What joins two regions has neither.
        value, name = result.get("value"), result.get("from_name")
        match name if "value" in result else None:
            case "caption":
                # An area that may be filled several times gives as many results.
                results.caption = " ".join(part for part in (results.caption, textarea(value)) if part)
            case "cue":
                results.spans[result["id"]] = region_seconds(result, fps, start_s)
            case "cue_text":
                results.texts[result["id"]] = textarea(value)
            case "verdict":
                chosen = value["choices"]
                results.verdict = chosen if isinstance(chosen, str) else chosen[0]
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
        "refiner": _refiner(annotation.get("completed_by") or annotation.get("created_username")),
        "seconds": annotation.get("lead_time") or 0.0,
        "at": annotation.get("created_at") or "",
        "reason": "rejected in Label Studio" if verdict == "reject" else "",
    }


def _refiner(user: Any) -> str:
    """A name for Label Studio's user, who comes as an object, a number or an address."""
    if isinstance(user, Mapping):
        user = user.get("email") or user.get("username") or user.get("id")
    if isinstance(user, str) and not user.isdigit():
        return user
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
