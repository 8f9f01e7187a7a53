"""Label Studio's JSON: tasks with predictions out, tasks with annotations in.

A caption is a ``textarea`` result named ``caption``; a timed cue is a ``timelinelabels`` region named ``cue`` with its frames (counted from 1, both
ends belonging to it, as Label Studio does) and a ``textarea`` of the same region id. Times in seconds become frames by the clip's rate, so
they come back within one frame; where a region is as it went out, its exact seconds are taken from ``meta``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flywheel.core.types import Cue
from flywheel.formats.corrections import CorrectionRow

#: The labeling interface that fits the tasks.
INTERFACE = """<View>
  <Video name="video" value="$video" frameRate="$fps" timelineHeight="120"/>
  <TimelineLabels name="cue" toName="video"><Label value="cue"/></TimelineLabels>
  <TextArea name="cue_text" toName="video" perRegion="true" editable="true"/>
  <TextArea name="caption" toName="video" editable="true" maxSubmissions="1" rows="4"/>
  <Choices name="verdict" toName="video"><Choice value="reject"/><Choice value="cant_tell"/></Choices>
</View>
"""


def task(
    *,
    annotation_id: str,
    video: str,
    text: str,
    cues: Iterable[Cue],
    fps: float,
    start_s: float,
    duration_s: float,
    model: str,
) -> dict[str, Any]:
    """One task with the model's text as its prediction. Cues are in seconds from the clip's start, which lies at ``start_s``."""
    results: list[dict[str, Any]] = []
    for number, cue in enumerate(cues):
        region = f"cue-{number}"
        first, last = _frames(cue.start_s + start_s, cue.end_s + start_s, fps)
        shared = {"id": region, "to_name": "video"}
        exact = {"meta": {"seconds": [cue.start_s, cue.end_s], "frames": [first, last]}}
        results.append(
            {**shared, "from_name": "cue", "type": "timelinelabels",
             "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": ["cue"]}, **exact}
        )  # fmt: skip
        results.append({**shared, "from_name": "cue_text", "type": "textarea", "value": {"text": [cue.text]}})
    if not results:
        results.append(
            {"id": "caption", "from_name": "caption", "to_name": "video", "type": "textarea", "value": {"text": [text]}}
        )
    return {
        "data": {
            "video": video, "annotation_id": annotation_id, "model_text": text, "fps": fps, "start_s": start_s, "duration_s": duration_s
        },
        "predictions": [{"model_version": model, "result": results}],
    }  # fmt: skip


def _frames(start_s: float, end_s: float, fps: float) -> tuple[int, int]:
    first = round(start_s * fps) + 1
    return first, max(first, round(end_s * fps))


def read_tasks(content: bytes) -> Iterator[CorrectionRow]:
    """Corrections from an export: one row per annotation of a task. Raises ValueError where it is no list of tasks."""
    try:
        tasks = json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not Label Studio's JSON ({type(error).__name__})") from error
    if not isinstance(tasks, list):
        raise ValueError("not Label Studio's JSON (it must be a list of tasks)")
    for number, found in enumerate(tasks, 1):
        try:
            for annotation in found.get("annotations") or []:
                yield _row(number, found, annotation)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            yield CorrectionRow(
                line=number, values={}, problem=f"not a task as exported ({type(error).__name__}: {error})"
            )


def _row(number: int, found: Mapping[str, Any], annotation: Mapping[str, Any]) -> CorrectionRow:
    data = found["data"]
    by = annotation.get("completed_by")
    refiner = (
        by.get("email") or by.get("username") or str(by.get("id"))
        if isinstance(by, Mapping)
        else f"label-studio-{by}"
        if by
        else ""
    )
    text, cues, verdict = "", {}, ""
    said: dict[str, str] = {}
    for result in annotation.get("result") or []:
        value = result["value"]
        match result["from_name"]:
            case "caption":
                text = " ".join(value["text"])
            case "cue":
                cues[result["id"]] = _seconds(result, float(data["fps"]), float(data["start_s"]))
            case "cue_text":
                said[result["id"]] = " ".join(value["text"])
            case "verdict":
                verdict = value["choices"][0]
    payload = ""
    if cues:
        lines = [{"start_s": a, "end_s": b, "text": said.get(region, "")} for region, (a, b) in cues.items()]
        lines.sort(key=lambda line: (line["start_s"], line["end_s"]))
        payload = json.dumps({"cues": lines}, ensure_ascii=False, sort_keys=True)
        text = " ".join(str(line["text"]) for line in lines)
    if annotation.get("was_cancelled"):
        verdict = "skip"
    if not verdict:
        verdict = "accept" if text == data["model_text"] and not cues else "edit"
    return CorrectionRow(
        line=number,
        values={
            "annotation_id": data["annotation_id"], "verdict": verdict, "text": text, "payload": payload, "refiner": refiner,
            "seconds": annotation.get("lead_time") or 0.0, "at": annotation.get("created_at") or "",
            "reason": "rejected in Label Studio" if verdict == "reject" else "",
        },
    )  # fmt: skip


def _seconds(result: Mapping[str, Any], fps: float, start_s: float) -> tuple[float, float]:
    span = result["value"]["ranges"][0]
    kept = result.get("meta") or {}
    if kept.get("frames") == [span["start"], span["end"]]:
        return float(kept["seconds"][0]), float(kept["seconds"][1])
    return max(0.0, (span["start"] - 1) / fps - start_s), span["end"] / fps - start_s
