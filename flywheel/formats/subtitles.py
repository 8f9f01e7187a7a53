"""WebVTT and SRT in; times in seconds. Tolerant of what is found in the wild: tags, settings, missing hours, CRLF."""

from __future__ import annotations

import re

from flywheel.core.types import Cue

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_ARROW = re.compile(rf"{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")


def parse_subtitles(text: str) -> list[Cue]:
    """Cues of a ``.vtt`` or ``.srt`` file in the order of the file; what is no cue is passed over."""
    cues: list[Cue] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")):
        lines = block.strip().split("\n")
        for index, line in enumerate(lines):
            if match := _ARROW.search(line):
                words = " ".join(_TAG.sub("", part).strip() for part in lines[index + 1 :]).strip()
                start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
                if words and end > start:
                    cues.append(Cue(start_s=start, end_s=end, text=words))
                break
    return cues


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + int((fraction or "0").ljust(3, "0")) / 1000


def text_within(cues: list[Cue], start_s: float, end_s: float) -> str:
    """The words spoken within a span: cues whose middle lies in [start_s, end_s)."""
    return " ".join(c.text for c in cues_within(cues, start_s, end_s))


def cues_within(cues: list[Cue], start_s: float, end_s: float) -> list[Cue]:
    """Those whose middle lies in the span."""
    return [c for c in cues if start_s <= (c.start_s + c.end_s) / 2 < end_s]
