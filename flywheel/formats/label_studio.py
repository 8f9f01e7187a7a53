"""Label Studio's tasks: how a text and its cues lie in them.

A caption is a ``textarea`` result named ``caption``. A cue is a ``timelinelabels`` region named ``cue`` with its
frames, and a ``textarea`` of the same region id. Frames count from 1 and both ends belong to the region.

Seconds become frames by the clip's rate, so they come back within one frame. Where a region is as it went out, its
exact seconds are taken from ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flywheel.core.types import Cue

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
    """A task with the model's text as its prediction.

    Cues are in seconds from the clip's start, which lies at second ``start_s`` of the video; ``fps`` is its rate.
    """
    results = [result for number, cue in enumerate(cues) for result in _cue(number, cue, fps, start_s)]
    if not results:
        shared = {"id": "caption", "from_name": "caption", "to_name": "video", "type": "textarea"}
        results = [{**shared, "value": {"text": [text]}}]
    return {
        "data": {
            "video": video,
            "annotation_id": annotation_id,
            # Its smaller form puts a number of its own where the id is.
            "text_id": annotation_id,
            "model_text": text,
            "fps": fps,
            "start_s": start_s,
            "duration_s": duration_s,
        },
        "predictions": [{"model_version": model, "result": results}],
    }


def _cue(number: int, cue: Cue, fps: float, start_s: float) -> list[dict[str, Any]]:
    """A cue's region and its text."""
    first, last = _frames(cue.start_s + start_s, cue.end_s + start_s, fps)
    shared = {"id": f"cue-{number}", "to_name": "video"}
    region = {
        **shared,
        "from_name": "cue",
        "type": "timelinelabels",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": ["cue"]},
        "meta": {"seconds": [cue.start_s, cue.end_s], "frames": [first, last]},
    }
    return [region, {**shared, "from_name": "cue_text", "type": "textarea", "value": {"text": [cue.text]}}]


def _frames(start_s: float, end_s: float, fps: float) -> tuple[int, int]:
    first = round(start_s * fps) + 1
    return first, max(first, round(end_s * fps))


def region_seconds(result: Mapping[str, Any], fps: float, start_s: float) -> tuple[float, float]:
    """A region's span in seconds from the clip's start, which lies at second ``start_s`` of the video."""
    span = result["value"]["ranges"][0]
    meta = result.get("meta") or {}
    if meta.get("frames") == [span["start"], span["end"]]:
        return float(meta["seconds"][0]), float(meta["seconds"][1])
    return max(0.0, (span["start"] - 1) / fps - start_s), span["end"] / fps - start_s


def textarea(value: Any) -> str:
    """The words of a TextArea's value, which is a text, a list of texts, or an object that holds one of them.

    Raises TypeError for nothing.
    """
    if value is None:
        raise TypeError("a TextArea without a value")
    if isinstance(value, Mapping):
        value = value.get("text")
    if isinstance(value, list):
        return " ".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""
