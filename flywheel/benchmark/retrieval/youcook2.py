"""YouCook2: steps of cooking videos, each with a sentence (Zhou et al. 2018); its validation part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.benchmark.retrieval._reader import Described, RetrievalReader, texts
from flywheel.benchmark.rows import NAME, Row
from flywheel.core.errors import UserError
from flywheel.core.foreign import parsed_json


def _rows(file: Path, _: Collection[str]) -> Iterator[Row]:
    """A row for each video of the validation part."""
    try:
        value = parsed_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}.") from error
    videos = value.get("database") if isinstance(value, Mapping) else None
    if not isinstance(videos, Mapping):
        raise UserError(f"{file}: has no 'database' of videos.")
    for name, video in videos.items():
        place = f"{file.name}:{name}"
        if not isinstance(video, Mapping):
            yield Row(place=place, file=file, problem=f"is no video but a {type(video).__name__}")
        elif video.get("subset", "validation") == "validation":
            yield Row(place=place, file=file, values={NAME: name, **video})


def _described(row: Mapping[str, Any]) -> Iterator[Described]:
    name, steps = str(row[NAME]), row["annotations"]
    if not isinstance(steps, list):
        raise ValueError("has no list of annotations")
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping):
            raise ValueError(f"annotation {number} is a {type(step).__name__}")
        start_s, end_s = (float(time) for time in step["segment"])
        if not 0 <= start_s < end_s:
            raise ValueError(f"annotation {number} is from {start_s:g} to {end_s:g} s")
        [text] = texts(step.get("sentence"))
        yield Described(key=f"{name}_{step.get('id', number)}", text=text, names=(name,), span_s=(start_s, end_s))


READER = RetrievalReader(
    title="YouCook2",
    source="youcookii_annotations_trainval.json (database: subset, annotations: segment, id, sentence)",
    files=("youcookii_annotations*.json", "*.json"),
    fields=("annotations",),
    described=_described,
    rows=_rows,
)
