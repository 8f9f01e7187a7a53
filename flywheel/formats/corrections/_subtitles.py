"""One subtitle file for each timed text; what WebVTT and SRT share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace

from flywheel.core.encodings import decoded
from flywheel.formats.rows import CorrectionRow, checked_row
from flywheel.formats.subtitles import parse_subtitles

_ANNOTATION = re.compile(r"^NOTE annotation (\S{1,200})", re.M)


def read_subtitles(content: bytes, stem: str) -> Iterator[CorrectionRow]:
    """The file as an edit of one annotation, which a NOTE names, or else the file's name."""
    given = decoded(content)
    text = given.text.replace("\r\n", "\n").replace("\r", "\n")
    # What people leave is what they mean, also where a line comes twice.
    cues = parse_subtitles(text, rolling=False)
    if not cues:
        yield CorrectionRow(line=1, problem="holds no cue")
        return
    note = _ANNOTATION.search(text)
    row = checked_row(
        1,
        {
            "annotation_id": note[1] if note else stem,
            "verdict": "edit",
            "text": " ".join(cue.text for cue in cues),
            "payload": json.dumps({"cues": [asdict(cue) for cue in cues]}, ensure_ascii=False, sort_keys=True),
        },
    )
    yield replace(row, note=given.note)
