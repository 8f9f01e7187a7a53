"""Subtitle files that name their clip: our own WebVTT datasets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flywheel.core.types import Cue
from flywheel.formats.subtitles import parse_subtitles
from flywheel.ingest.beside import MOST_TEXT_BYTES
from flywheel.ingest.items import Item, Rules, found
from flywheel.ingest.passed import NoVideosError

_NOTE = re.compile(r"^NOTE clip \S{1,200} of (.{1,4096}) from (\d{1,9}\.\d{3}) s(?: to (\d{1,9}\.\d{3}) s)?\s*$", re.M)


def captions(file: Path, rules: Rules) -> Iterator[Item]:
    """The item of a clip's own WebVTT file. Raises NoVideosError for one that names no clip."""
    with open(file, "rb") as content:
        text = content.read(MOST_TEXT_BYTES).decode("utf-8", errors="replace")
    note = _NOTE.search(text)
    if note is None:
        raise NoVideosError(f"{file}: subtitles alone; they are read beside their video.")
    item = found(file.parent / note[1], file.parent, rules, shared="")
    if item.problem or note[3] is None:
        yield replace(item, problem=item.problem or "its subtitles name its begin and no end: export it again")
        return
    start_s, end_s = float(note[2]), float(note[3])
    cues = parse_subtitles(text, rolling=False)
    words = " ".join(cue.text for cue in cues)
    # A text without times is one cue over the whole clip.
    is_timed = len(cues) > 1 or any(cue.start_s > 0.0 or abs(cue.end_s - (end_s - start_s)) > 0.002 for cue in cues)
    placed = tuple(Cue(start_s=c.start_s + start_s, end_s=c.end_s + start_s, text=c.text) for c in cues)
    yield replace(item, transcript=words, start_s=start_s, end_s=end_s, cues=placed if is_timed else ())
