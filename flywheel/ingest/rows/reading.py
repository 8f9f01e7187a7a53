"""What a row says: the videos that it names, their spans and their texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flywheel.core.types import Cue
from flywheel.ingest.places import address_as_written, is_address, is_nothing
from flywheel.ingest.rows.label_studio import local_name, task_row
from flywheel.ingest.rows.names import (
    ADDRESSES,
    END_FRAMES,
    ENDS,
    ENDS_MS,
    FPS,
    FROM,
    IDS,
    MAYBE_IDS,
    PATHS,
    SPANS,
    START_FRAMES,
    STARTS,
    STARTS_MS,
    TEXTS,
    TO,
    TURNS,
    Row,
)
from flywheel.ingest.rows.texts import is_said_to_be_none, texts_of, video_parts, words
from flywheel.ingest.rows.times import NoPairsError, NoTimeError, Span, span_of, spans_of, unpacked_texts

#: Columns in which a video's path or content is looked for first.
PATH_NAMES = PATHS
#: Columns that name a video in some way.
VIDEO_NAMES = (*PATHS, *IDS, *ADDRESSES, *TURNS)
#: Columns that mean something.
NAMES = (
    *(*PATHS, *IDS, *MAYBE_IDS, *ADDRESSES, *TEXTS, *TURNS, *SPANS, *STARTS, *ENDS, *STARTS_MS, *ENDS_MS, *FPS),
    *(*START_FRAMES, *END_FRAMES, *FROM, *TO, "page_dir", "keyframe", "data", "annotations", "predictions"),
    *("annotator", "start_s", "duration_s", "json"),
)
#: Videos of one row.
_MOST_VIDEOS = 1000
#: What bare bytes of a video are called.
_NAMELESS = "video.mp4"
_WITHOUT_VIDEO = "names no video (one of video, uri, path, file_name, file, video_path)"


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video as a row names it: by its path, by a name to be looked for, or with its content."""

    path: str = ""
    #: Where ``is_name``, the path may lack its ending and its folder.
    is_name: bool = False
    content: bytes | None = None
    #: A file that holds just the span: it is taken in whole where ``path`` is not there.
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One video of a row with what is said of it. ``problem`` says why it can't be taken; ``others`` counts the texts
    that are left out. ``cues`` are the text's, in seconds of the file.
    """

    video: Video = Video()
    text: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    others: int = 0
    problem: str = ""
    cues: tuple[Cue, ...] = ()


def says_no_video(columns: list[str]) -> bool:
    """Whether a table with these columns names no video."""
    row = Row(dict.fromkeys(columns))
    return not any(row.called(names) for names in (PATHS, IDS, ADDRESSES, TURNS))


def are_read(columns: list[str]) -> frozenset[str]:
    """Those of a table's columns whose values mean something here."""
    row = Row(dict.fromkeys(columns))
    return frozenset((*row.called(NAMES), *row.numbered()))


def readings(values: Mapping[str, Any]) -> list[Reading]:
    """The readings of a row, one at least."""
    values, cues = task_row(_with_members(values))
    row = Row(values)
    videos = _videos(row)
    if not videos:
        return [Reading(problem=_without_video(row))]
    try:
        said = list(_said(row, videos[0], cues))
    except NoTimeError as error:
        return [Reading(video=video, problem=error.problem) for video in videos]
    return said + [replace(one, video=video) for video in videos[1:] for one in said]


def _with_members(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with what its ``json`` column says besides, as a hub's view of tars has it; others as they are."""
    inner = values.get("json")
    return {**inner, **values} if isinstance(inner, Mapping) else values


def _without_video(row: Row) -> str:
    for _, value in row.given((*PATHS, *ADDRESSES)):
        if isinstance(value, str) and is_address(value):
            return f"{address_as_written(value)} is an address, and those are not fetched; download it first"
    address = row.first(ADDRESSES)
    if isinstance(address, str) and address:
        return f"names an address and no file ({address[:80]}): download it first"
    return _WITHOUT_VIDEO


def _videos(row: Row) -> list[Video]:
    """The videos of a row, each once."""
    for column, value in row.given(PATHS):
        if found := _of_value(value):
            # Our own datasets name a clip's file, and the video that it was cut from.
            cut = row.values.get("file_name")
            return [replace(found[0], cut=cut)] if column == "uri" and isinstance(cut, str) else found
    in_turns = [
        found for _, turns in row.given(TURNS) for part in video_parts(turns) for found in _of_value(part.get("video"))
    ]
    if in_turns:
        return list(dict.fromkeys(in_turns))[:_MOST_VIDEOS]
    page = row.first(("page_dir",))
    for _, value in [*row.given(IDS), *row.given(MAYBE_IDS)]:
        if isinstance(value, int) or (isinstance(value, str) and not is_nothing(value)):
            return [Video(path=f"{page}/{value}" if isinstance(page, str) else str(value), is_name=True)]
    return []


def _of_value(value: Any) -> list[Video]:
    """The videos of a cell: a path, bytes, an object with one of them, or a list of these."""
    if isinstance(value, list):
        found = [video for part in value[:_MOST_VIDEOS] if not isinstance(part, list) for video in _of_value(part)]
        return list(dict.fromkeys(found))
    if isinstance(value, str) and not is_nothing(value) and not is_address(value):
        return [Video(path=local_name(value))]
    if isinstance(value, bytes) and value:
        return [Video(path=_NAMELESS, content=value)]
    if isinstance(value, Mapping):
        name = next((value[key] for key in ("path", "src", "url", "file_name") if isinstance(value.get(key), str)), "")
        content = value.get("bytes")
        if isinstance(content, bytes) and content:
            return [Video(path=name or _NAMELESS, content=content)]
        return [Video(path=name)] if name and not is_address(name) else []
    return []


def _said(row: Row, video: Video, cues: tuple[Cue, ...]) -> Iterator[Reading]:
    """The spans of a row's video with their texts; one reading without a span where it names none."""
    span, texts = span_of(row), texts_of(row) or [""] * is_said_to_be_none(row)
    if span == (None, None):
        span = _span_in_turns(row)
    listed = spans_of(row) if span == (None, None) and not _is_about_pictures(row) else []
    if not listed:
        yield _reading(video, span, texts, cues)
        return
    of_each = _of_each(row, len(listed))
    if not of_each and len(texts) > 1 < len(listed) and not any(isinstance(inner, Row) for _, inner in listed):
        raise NoPairsError
    # A single text is about all spans.
    for (one, inner), given in zip(listed, of_each or [texts] * len(listed), strict=True):
        yield _reading(video, one, (texts_of(inner) if isinstance(inner, Row) else []) or given)


def _of_each(row: Row, count: int) -> list[list[str]]:
    """The texts of each span in a column that has an entry for each; empty where none has."""
    for _, value in row.given(TEXTS):
        value = unpacked_texts(value)
        if isinstance(value, list) and len(value) == count > 1:
            return [words(part) or [""] for part in value]
    return []


def _reading(video: Video, span: Span, texts: list[str], cues: tuple[Cue, ...] = ()) -> Reading:
    text = texts[0] if texts else None
    others = max(0, len(texts) - 1)
    return Reading(video=video, start_s=span[0], end_s=span[1], text=text, others=others, cues=cues)


def _span_in_turns(row: Row) -> Span:
    """The span of the video that a conversation shows."""
    for _, turns in row.given(TURNS):
        for part in video_parts(turns):
            return span_of(Row(part))
    return None, None


def _is_about_pictures(row: Row) -> bool:
    """Whether the times of a row are those of pictures, each with a text of its own."""
    values = [value for _, value in row.given(("captions",)) if isinstance(value, list) and value]
    return any(isinstance(value[0], Mapping) and "idx" in value[0] for value in values) or bool(
        row.first(("keyframe",))
    )
