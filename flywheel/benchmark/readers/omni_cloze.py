"""Omni-Cloze: blanks in descriptions of videos with sound, each with its options.

Its page names ``uuid``, ``video_path`` and ``predicted_caption``; the blanks are found by their form, as the list whose
parts have options and an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.benchmark.drafts import Draft
from flywheel.benchmark.items import BOTH
from flywheel.benchmark.readers._reader import Beside, Reader, Values

_OPTIONS = ("options", "choices", "candidates")
_ANSWERS = ("answer", "correct_answer", "correct_option", "label")
_ASKED = ("question", "cloze", "sentence", "text")


def _drafts(row: Values, _: Path, __: Beside) -> Iterator[Draft]:
    blanks = next((value for value in row.values() if _are_blanks(value)), None)
    if blanks is None:
        raise ValueError("holds no list of blanks with options and answers")
    for number, blank in enumerate(blanks):
        yield Draft(
            id=f"{row['uuid']}#{number}",
            question=_first(blank, _ASKED) or _first(row, _ASKED),
            video=row["video_path"],
            options=_first(blank, _OPTIONS),
            answer=_first(blank, _ANSWERS),
            type=blank.get("type", blank.get("category")),
            needs=BOTH,
        )


def _are_blanks(value: Any) -> bool:
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(isinstance(part, Mapping) and _first(part, _OPTIONS) is not None for part in parts)


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


READER = Reader(
    title="Omni-Cloze",
    source="ddlBoJack/Omni-Captioner: README.md, omni_cloze.jsonl",
    files=("omni_cloze.jsonl", "*.jsonl"),
    fields=("uuid", "video_path"),
    drafts=_drafts,
)
