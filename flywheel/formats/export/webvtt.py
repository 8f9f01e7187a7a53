"""A WebVTT file for each clip, times from the clip's start; a text without times is one cue over the whole clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flywheel.core.types import Cue
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.rows import ExportRow
from flywheel.formats.subtitles import webvtt


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    for row in rows:
        with row.border():
            cues = row.cues or (Cue(start_s=0.0, end_s=row.end_s - row.start_s, text=row.text),)
            note = f"clip {row.id} of {row.place(out)} from {row.start_s:.3f} s to {row.end_s:.3f} s"
            (out / f"{row.id}.vtt").write_bytes(webvtt(cues, note=note).encode("utf-8"))


FORMAT = ExportFormat(write=_write, loading="one subtitle file for each clip", cues=True)
