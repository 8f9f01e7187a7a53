"""Names of columns as tables in the wild have them, by what they mean; the first of a row counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

#: Columns that hold a path, or the video itself.
PATHS = (
    *("video", "uri", "path", "file_name", "file", "video_path", "videos", "video_file", "video_name", "file_path"),
    *("video_file_name", "clip_path", "clip_name", "clip_file", "media_path", "media", "local_path"),
    # A hub's view of tars has the members' endings.
    *("mp4", "webm", "mkv", "mov", "avi"),
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
    *("dense_caption", "summary", "narration", "txt", "response", "output"),
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


@lru_cache(maxsize=512)
def _plain_all(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(plain, names))


def _by_plain(columns: tuple[str, ...]) -> dict[str, list[str]]:
    """The columns by their plain names."""
    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(plain(column), []).append(column)
    return found


def _called(by_plain: Mapping[str, list[str]], names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that are called one of the names, in the order of the names."""
    found = []
    for name, as_plain in zip(names, _plain_all(names), strict=True):
        if same := by_plain.get(as_plain):
            # One that is called just so comes before one that only means the same.
            found.append(name if name in same else same[0])
    return tuple(dict.fromkeys(found))


def _numbered(columns: tuple[str, ...]) -> tuple[str, ...]:
    found = [column for column in columns if NUMBERED_TEXT.fullmatch(plain(column))]
    return tuple(sorted(found, key=lambda column: (len(plain(column)), plain(column))))


class _Columns:
    """The columns of a table by what they mean, each meaning looked for once."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns, self._by_plain = columns, _by_plain(columns)
        self._called: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._numbered: tuple[str, ...] | None = None

    def called(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that are called one of the names, in the order of the names."""
        if (found := self._called.get(names)) is None:
            found = self._called[names] = _called(self._by_plain, names)
        return found

    def numbered(self) -> tuple[str, ...]:
        """The columns called ``caption_0``, ``caption_1`` and the like, in their order."""
        if self._numbered is None:
            self._numbered = _numbered(self._columns)
        return self._numbered


#: Rows of a table have the same columns. Of odd ones nothing is kept: a row may have a million.
_MOST_COLUMNS = 100
_columns_kept = lru_cache(maxsize=64)(_Columns)


def _is_empty(value: Any) -> bool:
    return isinstance(value, str) and not value


class Row:
    """A row whose columns are found by what they mean; empty values are none."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        # Names that are no text, which JSON can't have and a pickled table may, mean nothing.
        columns = tuple(name for name in values if isinstance(name, str))
        self._columns = (_columns_kept if len(columns) <= _MOST_COLUMNS else _Columns)(columns)
        self.called, self.numbered = self._columns.called, self._columns.numbered

    def given(self, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """(column, value) of such columns that hold something."""
        columns = self.called(names)
        if not columns:
            return []
        found = [(column, self.values[column]) for column in columns]
        return [(column, value) for column, value in found if value is not None and not _is_empty(value)]

    def first(self, names: tuple[str, ...]) -> Any:
        """The value of the first such column; None where there is none."""
        return next((value for _, value in self.given(names)), None)

    def numbered_texts(self) -> list[Any]:
        """Values of such columns, in their order."""
        return [value for column in self.numbered() if (value := self.values[column])]
