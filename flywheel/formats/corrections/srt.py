"""Corrections of timed texts as SRT: a folder with a file for each text, named by its annotation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._subtitles import read_subtitles
from flywheel.formats.rows import ReviewRow
from flywheel.formats.subtitles import srt


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        (out / f"{row.annotation_id}.srt").write_text(srt(row.cues), encoding="utf-8")


FORMAT = CorrectionFormat(endings=(".srt",), read=read_subtitles, write=_write, texts=False, cues=True)
