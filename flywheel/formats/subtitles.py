"""WebVTT and SRT in and out; times in seconds. Tolerant of what is found in the wild: tags, settings, missing hours, CRLF."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Sequence

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
                words = html.unescape(" ".join(_TAG.sub("", part).strip() for part in lines[index + 1 :]).strip())
                start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
                if words and end > start:
                    cues.append(Cue(start_s=start, end_s=end, text=words))
                break
    return cues


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return (
        int(hours or 0) * 3600
        + int(minutes or 0) * 60
        + int(seconds or 0)
        + int((fraction or "0").ljust(3, "0")) / 1000
    )


def text_within(cues: list[Cue], start_s: float, end_s: float) -> str:
    """The words spoken within a span: cues whose middle lies in [start_s, end_s)."""
    return " ".join(c.text for c in cues_within(cues, start_s, end_s))


def cues_within(cues: list[Cue], start_s: float, end_s: float) -> list[Cue]:
    """Those whose middle lies in the span."""
    return [c for c in cues if start_s <= (c.start_s + c.end_s) / 2 < end_s]


def webvtt(cues: Iterable[Cue], note: str = "") -> str:
    """A WebVTT file, exact to the millisecond; ``note`` becomes a comment."""
    blocks = ["WEBVTT", *([f"NOTE {note}"] if note else [])]
    blocks += [f"{_stamp(c.start_s, '.')} --> {_stamp(c.end_s, '.')}\n{_escaped(c.text)}" for c in cues]
    return "\n\n".join(blocks) + "\n"


def srt(cues: Iterable[Cue]) -> str:
    """A SubRip file, exact to the millisecond. The format has no escapes of its own; WebVTT's keep ``<`` from being read as a tag."""
    blocks = [
        f"{i}\n{_stamp(c.start_s, ',')} --> {_stamp(c.end_s, ',')}\n{_escaped(c.text)}" for i, c in enumerate(cues, 1)
    ]
    return "\n\n".join(blocks) + "\n"


def _stamp(seconds: float, point: str) -> str:
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{milli:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def check_cues(cues: Sequence[Cue], duration_s: float) -> None:
    """Raises ValueError where a cue ends before it starts, lies outside the clip, says nothing, or overlaps the next."""
    for cue in cues:
        if not 0 <= cue.start_s < cue.end_s <= duration_s + 0.05:
            raise ValueError(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{cue.start_s:g}, {cue.end_s:g})")
        if not cue.text.strip():
            raise ValueError(f"the cue at {cue.start_s:g} s says nothing")
    for before, after in itertools.pairwise(cues):
        if after.start_s < before.end_s - 1e-6:
            raise ValueError(f"the cues at {before.start_s:g} s and {after.start_s:g} s overlap")
