"""Corrections of timed texts as WebVTT: a folder with a file for each text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flywheel.formats.corrections._format import CorrectionFormat
from flywheel.formats.corrections._subtitles import read_subtitles
from flywheel.formats.rows import ReviewRow
from flywheel.formats.subtitles import webvtt


def _write(rows: Iterable[ReviewRow], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        content = webvtt(row.cues, note=f"annotation {row.annotation_id}")
        (out / f"{row.annotation_id}.vtt").write_text(content, encoding="utf-8")


FORMAT = CorrectionFormat(endings=(".vtt",), read=read_subtitles, write=_write, texts=False, cues=True)
