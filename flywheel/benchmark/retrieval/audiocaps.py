"""AudioCaps: ten seconds of sound of a video, five captions each in the test part (Kim et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flywheel.benchmark.retrieval._reader import Described, RetrievalReader, texts

_LENGTH_S = 10


def _described(row: Mapping[str, Any]) -> Iterator[Described]:
    video = str(row.get("youtube_id") or row.get("video_id") or "").strip()
    if not video:
        raise ValueError("has no youtube_id")
    key = video
    names: tuple[str, ...] = (video, f"Y{video}")
    if row.get("start_time") not in (None, ""):
        start = int(float(row["start_time"]))
        end, key = start + _LENGTH_S, f"{video}_{start}"
        # As those who fetch them cut and name them: by seconds, by thousandths of them, by the begin alone.
        parts = (f"{video}_{start}_{end}", f"{video}_{start * 1000}_{end * 1000}", key)
        names = (*parts, *(f"Y{part}" for part in parts), *names)
    for text in texts(row["caption"]):
        yield Described(key=key, text=text, names=names)


READER = RetrievalReader(
    title="AudioCaps",
    source="test.csv (audiocap_id, youtube_id, start_time, caption); the files are the ten seconds",
    files=("test.csv", "*test*.csv", "*test*.json", "*.csv", "*.json"),
    fields=("caption",),
    described=_described,
)
