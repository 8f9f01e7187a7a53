"""Names of columns as tables in the wild have them, by what they mean; the first of a row counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

#: Columns that hold a path, or the video itself.
PATHS = (
    *("video", "uri", "path", "file_name", "file", "video_path", "videos", "video_file", "video_name", "file_path"),
    *("video_file_name", "clip_path", "clip_name", "clip_file", "media_path", "media", "local_path", "mp4"),
)
#: Columns that hold a name under which a video lies somewhere below the table, most often without its ending.
IDS = ("video_id", "youtube_id", "vid", "yt_id", "clip_id", "video_uid", "clip")
#: Columns that may hold such a name, and hold other things in most tables.
MAYBE_IDS = ("key", "id", "name")
#: Columns that hold an address.
ADDRESSES = ("video_url", "content_url", "url")
#: Columns that hold what is said or seen.
TEXTS = (
    *("transcript", "text", "caption", "subtitles", "captions", "sentence", "sentences", "description"),
    *(
        "descriptions",
        "en_cap",
        "ch_cap",
        "recaption",
        "long_caption",
        "short_caption",
        "video_caption",
        "detailed_caption",
    ),
    *("dense_caption", "summary", "narration", "txt"),
)
#: The same with a number: ``caption_0``, ``caption_1``.
NUMBERED_TEXT = re.compile(r"(?:caption|text|sentence|description|transcript)\d{1,4}")
#: Columns that hold the turns of a conversation.
TURNS = ("conversations", "messages", "conversation")
_SECONDS = ("", "_s", "_sec", "_secs", "_second", "_seconds", "_time", "_time_s", "_time_sec", "_timestamp")
_MILLIS = ("_ms", "_time_ms", "_msec", "_millis", "_milliseconds", "_timestamp_ms")


def _times(stems: tuple[str, ...], endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(stem + ending for stem in stems for ending in endings)


_STARTS = ("start", "begin", "clip_start", "segment_start", "span_start", "video_start", "seg_start")
_ENDS = ("end", "stop", "clip_end", "segment_end", "span_end", "video_end", "seg_end")
#: Begin and end of a span, in seconds or as times of a clock; what today's own tables have comes first.
STARTS, ENDS = _times(_STARTS, _SECONDS), _times(_ENDS, _SECONDS)
STARTS_MS, ENDS_MS = _times(_STARTS, _MILLIS), _times(_ENDS, _MILLIS)
#: Begin and end in frames.
START_FRAMES, END_FRAMES = ("start_frame", "begin_frame"), ("end_frame", "stop_frame")
FPS = ("fps", "frame_rate", "video_fps")
#: Words that mean a span where both are there and both are times.
FROM, TO = ("from",), ("to",)
#: Columns that hold begin and end together, of one span or of many.
SPANS = ("timestamps", "segments", "timestamp", "segment", "spans", "span", "intervals", "interval", "time_range")


def plain(name: str) -> str:
    """A column's name without regard to case, ``_``, ``-`` and spaces."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _columns(columns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the columns that are called one of the names, in the order of the names."""
    by_plain: dict[str, str] = {}
    for column in columns:
        # One that is called just so comes before one that only means the same.
        if plain(column) not in by_plain or column in names:
            by_plain[plain(column)] = column
    found = (by_plain.get(plain(name)) for name in names)
    return tuple(dict.fromkeys(column for column in found if column is not None))


def _numbered(columns: tuple[str, ...]) -> tuple[str, ...]:
    found = [column for column in columns if NUMBERED_TEXT.fullmatch(plain(column))]
    return tuple(sorted(found, key=lambda column: (len(plain(column)), plain(column))))


#: Rows of a table have the same columns. Of odd ones nothing is kept: a row may have a million.
_MOST_COLUMNS = 100
_columns_kept, _numbered_kept = lru_cache(maxsize=512)(_columns), lru_cache(maxsize=64)(_numbered)


def _is_empty(value: Any) -> bool:
    return isinstance(value, str) and not value


class Row:
    """A row whose columns are found by what they mean; empty values are none."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        # Names that are no text, which JSON can't have and a pickled table may, mean nothing.
        self._columns = tuple(name for name in values if isinstance(name, str))

    def called(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that are called one of the names, in the order of the names."""
        find = _columns_kept if len(self._columns) <= _MOST_COLUMNS else _columns
        return find(self._columns, names)

    def given(self, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """(column, value) of such columns that hold something."""
        found = [(column, self.values[column]) for column in self.called(names)]
        return [(column, value) for column, value in found if value is not None and not _is_empty(value)]

    def first(self, names: tuple[str, ...]) -> Any:
        """The value of the first such column; None where there is none."""
        return next((value for _, value in self.given(names)), None)

    def numbered(self) -> tuple[str, ...]:
        """The columns called ``caption_0``, ``caption_1`` and the like, in their order."""
        return (_numbered_kept if len(self._columns) <= _MOST_COLUMNS else _numbered)(self._columns)

    def numbered_texts(self) -> list[Any]:
        """Values of such columns, in their order."""
        return [value for column in self.numbered() if (value := self.values[column])]
