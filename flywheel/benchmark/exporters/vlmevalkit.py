"""VLMEvalKit: a TSV in the columns of its Video-MME, and one for each variant, beside the videos.

Its loader shows a video to each question: where nothing is to be seen, that video is black.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from flywheel.benchmark.exporters._exporter import Exported, Exporter
from flywheel.benchmark.exporters._variants import VARIANTS, Kept, Variant
from flywheel.benchmark.items import LETTERS, Item, Rejected
from flywheel.core.errors import MediaError
from flywheel.core.files import written_whole

COLUMNS = (
    *("index", "video", "video_path", "duration", "domain", "candidates", "sub_category", "task_type"),
    *("subtitle_path", "question", "answer"),
)
#: Upper bounds in seconds of Video-MME's lengths, by which its script groups.
_LENGTHS = ((120.0, "short"), (900.0, "medium"))


def _write(exported: Exported, out: Path) -> tuple[dict[str, int], list[Rejected]]:
    kept, counts = Kept(), dict[str, int]()

    def row(item: Item, variant: Variant) -> dict[str, Any]:
        return _row(item, variant, exported, out)

    for variant in VARIANTS:
        name = variant.named(exported.name)
        with written_whole(out / f"{name}.tsv") as part, open(part, "w", encoding="utf-8", newline="") as lines:
            table = csv.DictWriter(lines, COLUMNS, delimiter="\t", lineterminator="\n")
            table.writeheader()
            counts[name] = 0
            for values in kept.rows(exported.items, variant, row):
                table.writerow({"index": counts[name], **values})
                counts[name] += 1
    return counts, kept.rejected


def _row(item: Item, variant: Variant, exported: Exported, out: Path) -> dict[str, Any]:
    if item.is_open:
        raise MediaError("is an open question, and the table has options")
    video = exported.media.video(out, item, picture=variant.picture, sound=variant.sound)
    duration_s = item.duration_s or exported.media.duration_s(item)
    return {
        # Its loader looks for video/NAME.mp4 beside the table.
        "video": Path(video).stem,
        "video_path": f"./{video}",
        "duration": next((name for most, name in _LENGTHS if duration_s <= most), "long"),
        "domain": exported.name,
        # Its script evaluates the column as Python.
        "candidates": repr([f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]),
        "sub_category": item.type,
        "task_type": item.type,
        "subtitle_path": "",
        "question": item.question,
        "answer": LETTERS[item.key],
    }


EXPORTER = Exporter(
    title="VLMEvalKit",
    source="open-compass/VLMEvalKit: vlmeval/dataset/videomme.py",
    loading="python run.py --data {name} --model MODEL  # in VLMEvalKit, as a VideoMME whose folder is {out}",
    write=_write,
)
