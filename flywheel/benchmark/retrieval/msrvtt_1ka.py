"""MSR-VTT 1kA: a thousand pairs of a short video and a sentence (Yu et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flywheel.benchmark.retrieval._reader import Described, RetrievalReader, texts


def _described(row: Mapping[str, Any]) -> Iterator[Described]:
    video = str(row["video_id"] or "").strip()
    if not video:
        raise ValueError("has no video_id")
    for text in texts(row.get("sentence") or row.get("desc") or row.get("caption")):
        yield Described(key=video, text=text, names=(video,))


READER = RetrievalReader(
    title="MSR-VTT 1kA",
    source="MSRVTT_JSFUSION_test.csv (key, vid_key, video_id, sentence); descs_ret_test.json (video_id, desc)",
    files=("MSRVTT_JSFUSION_test.csv", "descs_ret_test.json", "*.csv", "*.json"),
    fields=("video_id",),
    described=_described,
)
