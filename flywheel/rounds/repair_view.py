"""Repair on the report's page: what became of sounds, by the table of figures, and some before and after."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from flywheel.core.errors import FlywheelError
from flywheel.core.types import REPAIR, Clip, RoundReport
from flywheel.curation.repair.summary import headline
from flywheel.media.audio import read_audio
from flywheel.rounds.context import RoundContext
from flywheel.rounds.figures import figure_of
from flywheel.rounds.stages import from_record, stage_of

#: Clips that are shown, of each so many seconds.
_SHOWN, _MOST_S, _RATE_HZ = 3, 8.0, 16_000
_WINDOW, _RANGE_DB = 512, 60.0


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A repaired clip: why, and spectrograms before and after as PNG in base64; ``error`` where there are none."""

    clip: Clip
    reason: str
    before: str = ""
    after: str = ""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class RepairView:
    """What became of sounds, in a line and by figures (label, value), and some repaired clips."""

    headline: str
    figures: Sequence[tuple[str, float]]
    repairs: Sequence[Repair]


def repair_view(context: RoundContext, report: RoundReport) -> RepairView | None:
    """What the round's repair came to; None where it had none."""
    record = report.details.get(REPAIR)
    if not record:
        return None
    stage = stage_of(REPAIR)
    result = from_record(stage.result, record)
    return RepairView(
        headline=headline(asdict(result)),
        figures=[(_label(name), value) for name, value in stage.figures(result).items()],
        repairs=_repairs(context),
    )


def _label(name: str) -> str:
    """What the table of figures calls it; of a pattern with the part that tells them apart."""
    title, (_, *parts) = figure_of(name).title, name.split("/")
    return title if len(parts) == 1 else f"{title}: {parts[-1]}"


def _repairs(context: RoundContext) -> list[Repair]:
    """The first clips by id whose edited sound stands."""
    standing = context.workspace.standing_sounds().sort("clip_id").filter(pl.col("version") != "").head(_SHOWN)
    rows = context.workspace.records.rows("sound_versions", standing["id"], ["clip_id", "reason"])
    return [
        _repair(context, context.clips[clip_id], reason)
        for clip_id, reason in rows.iter_rows()
        if clip_id in context.clips
    ]


def _repair(context: RoundContext, clip: Clip, reason: str) -> Repair:
    end_s, source = min(clip.end_s, clip.start_s + _MOST_S), context.sounds().of(clip)
    if not source.version:
        return Repair(clip=clip, reason=reason, error="its edited sound can't be made again: its original is used")
    try:
        context.workspace.originals.check(clip.uri, clip.content_hash)
        before = read_audio(Path(clip.uri), clip.start_s, end_s, rate_hz=_RATE_HZ)
        begin_s = source.start_s
        after = read_audio(source.path, begin_s, begin_s + end_s - clip.start_s, rate_hz=_RATE_HZ)
    except FlywheelError as problem:
        return Repair(clip=clip, reason=reason, error=str(problem))
    return Repair(clip=clip, reason=reason, before=spectrogram(before), after=spectrogram(after))


def spectrogram(samples: NDArray[np.float32]) -> str:
    """Levels of samples (n,) by time and frequency as a grey PNG in base64, low frequencies below."""
    from PIL import Image

    _, _, spectra = scipy.signal.stft(samples, _RATE_HZ, nperseg=_WINDOW)
    level = 20 * np.log10(np.abs(spectra) + 1e-6)
    grey = np.clip((level - level.max() + _RANGE_DB) / _RANGE_DB, 0, 1)[::-1] * 255
    out = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).resize((320, 128)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
