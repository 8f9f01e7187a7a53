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
    """A row for each annotation of the validation part's videos."""
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
            yield from _steps(file, place, name, video.get("annotations"))


def _steps(file: Path, place: str, name: str, steps: Any) -> Iterator[Row]:
    """A row for each, so that one that is bad takes none of the others with it."""
    if not isinstance(steps, list):
        yield Row(place=place, file=file, problem="has no list of annotations")
        return
    for number, step in enumerate(steps):
        one = f"{place}:{number}"
        if isinstance(step, Mapping):
            yield Row(place=one, file=file, values={"id": number, **step, NAME: name})
        else:
            yield Row(place=one, file=file, problem=f"is no annotation but a {type(step).__name__}")


def _described(row: Mapping[str, Any]) -> Iterator[Described]:
    name = str(row[NAME])
    start_s, end_s = (float(time) for time in row["segment"])
    if not 0 <= start_s < end_s:
        raise ValueError(f"is from {start_s:g} to {end_s:g} s")
    [text] = texts(row["sentence"])
    yield Described(key=f"{name}_{row['id']}", text=text, names=(name,), span_s=(start_s, end_s))


READER = RetrievalReader(
    title="YouCook2",
    source="youcookii_annotations_trainval.json (database: subset, annotations: segment, id, sentence)",
    files=("youcookii_annotations*.json", "*.json"),
    fields=("segment", "sentence"),
    described=_described,
    rows=_rows,
)
