"""Label Studio's tasks as rows: what people said of a task, else what a model predicted, is its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from flywheel.core.types import Cue
from flywheel.formats.label_studio import region_seconds, textarea

#: Files that people uploaded into it get eight signs before their names.
_UPLOAD = re.compile(r"/?data/upload/(?:\d{1,9}/)?[0-9a-f]{8}-(.{1,255})")


def task_row(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Cue, ...]]:
    """The row of a task as exported, its data beside its text, or of its smaller form; any other row as it is.

    Beside it the cues of its text, in seconds of the file.
    """
    data = values.get("data")
    if "annotator" in values and "start_s" in values:
        return _with_end(values), ()
    if not isinstance(data, Mapping) or not any(key in values for key in ("annotations", "predictions", "completions")):
        return values, ()
    row = {key: value for key, value in _with_end(data).items() if key not in _ABOUT}
    said = _said(values)
    texts = list(dict.fromkeys(text for one in said if (text := _text(one))))
    first = next((one for one in said if _text(one)), {})
    return {**row, "transcript": texts} if texts else row, _cues(first, data)


def _with_end(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data with the end of the span that our own tasks name by its begin and length."""
    start_s, duration_s = data.get("start_s"), data.get("duration_s")
    if isinstance(start_s, int | float) and isinstance(duration_s, int | float):
        return {**data, "end_s": start_s + duration_s}
    return data


#: The name of our own area for a text without times.
_OURS = "caption"
#: What a task says besides: our own exports have it, and it is no text for a dataset to learn.
_ABOUT = ("model_text", "annotation_id", "text_id", "duration_s", "fps")


def _said(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotations that were not skipped, the newest first; where they say nothing, the first prediction."""
    given = task.get("annotations") or task.get("completions")
    people = [a for a in given if isinstance(a, Mapping)] if isinstance(given, list) else []
    standing = [a for a in people if not a.get("was_cancelled")]
    standing.sort(key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""), reverse=True)
    predicted = task.get("predictions")
    models = [p for p in predicted if isinstance(p, Mapping)] if isinstance(predicted, list) else []
    return standing if any(map(_text, standing)) else models[:1]


def _text(said: Mapping[str, Any]) -> str:
    """The words of an annotation: a caption's, else those of its cues in the order of time."""
    results = [r for r in said.get("result") or [] if isinstance(r, Mapping)]
    begins = {r.get("id"): _begin(r) for r in results if r.get("type") == "timelinelabels"}
    areas = [r for r in results if r.get("type") == "textarea"]
    # Of cues, where there are any; else of what we call so, where there is one; else all.
    areas = [r for r in areas if r.get("id") in begins] or [r for r in areas if r.get("from_name") == _OURS] or areas
    areas.sort(key=lambda r: begins.get(r.get("id"), -1.0))
    return " ".join(part for r in areas if (part := textarea(r.get("value") or "")))


def _cues(said: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Cue, ...]:
    """The cues of an annotation; none where the task does not say where its frames are."""
    results = [r for r in said.get("result") or [] if isinstance(r, Mapping)]
    texts = {r.get("id"): textarea(r.get("value") or "") for r in results if r.get("type") == "textarea"}
    try:
        fps, start_s = float(data["fps"]), float(data["start_s"])
        spans = {r["id"]: region_seconds(r, fps, start_s) for r in results if r.get("type") == "timelinelabels"}
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
        return ()
    cues = [Cue(start_s=a + start_s, end_s=b + start_s, text=texts.get(i, "")) for i, (a, b) in spans.items()]
    return tuple(sorted(cues, key=lambda cue: (cue.start_s, cue.end_s)))


def _begin(region: Mapping[str, Any]) -> float:
    try:
        return float(region["value"]["ranges"][0]["start"])
    except (KeyError, IndexError, TypeError, ValueError):
        return 0.0


def local_name(text: str) -> str:
    """The path that one of its addresses of files stands for; the text itself where it is none."""
    if "/data/local-files/" in text:
        named = parse_qs(urlsplit(text).query).get("d")
        return named[0] if named else text
    upload = _UPLOAD.search(text)
    return unquote(upload[1]) if upload is not None else text
