"""How well sounds that are wrong, or come at a wrong time, are found in the playground's audio-visual world.

``python -m experiments.curation.evidence FOLDER --seed 30000 --clips 600`` renders two corpora as videos: one with 30 %
sounds of another theme, one of which half is shifted by half a second to a second. It prints a JSON line a figure.
The measures were chosen on seeds 0 to 120.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import mannwhitneyu

from flywheel.core.config import template
from flywheel.curation.calibration import Calibration, calibrate
from flywheel.curation.columns import joined, sources
from flywheel.curation.evidence import measure_all
from flywheel.curation.pairs import CONTROLS, Pairs
from flywheel.ingest import ingest
from flywheel.media.encode import Quality, write_video
from flywheel.playground import av
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

_RATES = (10, 12, 15)
_QUALITY = Quality(crf=26, preset="veryfast", threads=1)
_FEATURES = ("together", "elsewhere")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=30_000)
    parser.add_argument("--clips", type=int, default=600)
    arguments = parser.parse_args()
    _mismatches(arguments.folder, arguments.seed, arguments.clips)
    _shifts(arguments.folder, arguments.seed + 10_000, arguments.clips // 2)


def _say(**figures: Any) -> None:
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}), flush=True)


def _mismatches(folder: Path, seed: int, count: int) -> None:
    frame = _measured(folder / "mismatch", seed, count, "mismatch", 0.3)
    matched = frame["fault"].to_numpy() == ""
    own = _matrix(frame, "")
    told = ~np.isnan(own).all(axis=1)
    together = frame["together"].to_numpy()
    _say(what="told", clips=count, share=float(told.mean()))
    _say(what="auc of together, mismatch", value=_auc(together[told & matched], together[told & ~matched]))
    calibration = calibrate(_pairs(frame))
    p_match = calibration.p_match(own, _source(frame))
    _say(what="auc of P(match), mismatch", value=_auc(p_match[told & matched], p_match[told & ~matched]))
    share = calibration.share_matched
    _say(what="share matched", truth=float(matched.mean()), value=share.value, low=share.low, high=share.high)
    cut = np.sort(p_match[told])[round(0.3 * told.sum())]
    lost, dropped = (p_match[told & matched] < cut).mean(), (p_match[told & ~matched] < cut).mean()
    _say(what="best 70 %", planted_dropped=float(dropped), true_dropped=float(lost))
    chosen = calibration.losing(0.02)
    lost, bad = (p_match[told & matched] < chosen.at).mean(), (p_match[told & ~matched] >= chosen.at).mean()
    _say(
        what="lose at most 2 %",
        at=chosen.at,
        said_lost=chosen.lost.value,
        said_lost_high=chosen.lost.high,
        true_lost=float(lost),
        said_kept_bad=chosen.kept_bad.value,
        true_kept_bad=float(bad),
    )
    _reliability("cross-fitted", p_match, matched)
    # Calibrated on one half of the videos, applied to the other.
    half = np.arange(count) % 2 == 0
    other = calibrate(_pairs(frame.filter(pl.Series(half))))
    _reliability("held out", _applied(other, frame, ~half), matched[~half])


def _applied(calibration: Calibration, frame: pl.DataFrame, which: np.ndarray) -> np.ndarray:
    rest = frame.filter(pl.Series(which))
    return calibration.p_match(_matrix(rest, ""), _source(rest))


def _reliability(name: str, p_match: np.ndarray, matched: np.ndarray) -> None:
    """Predicted against true shares in ten bins, and their difference weighed by clips."""
    told = ~np.isnan(p_match)
    bins = np.minimum(p_match[told] * 10, 9).astype(int)
    rows, gap = [], 0.0
    for number in np.unique(bins):
        within = bins == number
        predicted, truth = float(p_match[told][within].mean()), float(matched[told][within].mean())
        rows.append((round(predicted, 3), round(truth, 3), int(within.sum())))
        gap += abs(predicted - truth) * within.sum() / len(bins)
    _say(what=f"reliability, {name}", bins=rows, mean_gap=float(gap))


def _shifts(folder: Path, seed: int, count: int) -> None:
    frame = _measured(folder / "shift", seed, count, "shift", 0.5)
    shifted = frame["fault"].to_numpy() == "shift"
    together = frame["together"].to_numpy()
    told = ~np.isnan(together)
    _say(what="auc of together, shift", value=_auc(together[told & ~shifted], together[told & shifted]))
    errors = np.abs(frame["offset_s"].to_numpy() - frame["late_s"].to_numpy())
    for rate in (*_RATES, None):
        these = ~np.isnan(errors) & (frame["fps"].to_numpy() == rate if rate else True)
        _say(
            what="offset",
            fps=rate or "all",
            told=float(these.sum() / (frame["fps"].to_numpy() == rate).sum() if rate else these.mean()),
            median_ms=1000 * float(np.median(errors[these])),
            p95_ms=1000 * float(np.quantile(errors[these], 0.95)),
            within_40_ms=float((errors[these] <= 0.04).mean()),
        )


def _auc(high: np.ndarray, low: np.ndarray) -> float:
    return float(mannwhitneyu(high, low).statistic / (len(high) * len(low)))


def _measured(folder: Path, seed: int, count: int, fault: str, share: float) -> pl.DataFrame:
    """The columns of a rendered corpus, with ``fault``, ``late_s`` and ``fps`` of each clip."""
    videos = folder / "corpus"
    videos.mkdir(parents=True, exist_ok=True)
    truth = [_rendered(videos, seed + number, fault, share) for number in range(count)]
    Workspace.create(folder / "w", template())
    workspace = Workspace.open(folder / "w", ["corpus.test_share=0", "corpus.anchor_share=0", "tracking.enabled=false"])
    with workspace.lock():
        ingest(workspace, [str(videos)])
        began = time.process_time()
        measured = measure_all(workspace, ClipIndex(workspace), 1)
        spent_s = time.process_time() - began
    _say(what="cost", fault=fault, clips=measured.measured, cpu_ms_per_clip=1000 * spent_s / max(1, measured.measured))
    names = workspace.clips().select(
        clip_id="id", file=pl.col("uri").str.extract(r"(\d+\.mp4)$"), source="content_hash"
    )
    frame = names.join(pl.DataFrame(truth), on="file", how="inner").sort("file")
    return joined(workspace, frame, sources())


def _rendered(folder: Path, seed: int, fault: str, share: float) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 11])
    timeline = av.sample(seed)
    if rng.random() < share:
        timeline = av.plant(timeline, fault, rng)
    fps = int(rng.choice(_RATES))
    times_s = np.arange(round(av.DURATION_S * fps)) / fps
    file = folder / f"{seed:06d}.mp4"
    sound = (av.sound(timeline), av.SAMPLE_RATE)
    write_video(file, av.frames(timeline, times_s), size=(128, 64), fps=fps, quality=_QUALITY, sound=sound)
    return {"file": file.name, "fault": timeline.fault, "late_s": timeline.offset_s, "fps": fps}


def _matrix(frame: pl.DataFrame, pair: str) -> np.ndarray:
    return frame.select(pl.col(f"{pair}{name}").cast(pl.Float32).fill_null(np.nan) for name in _FEATURES).to_numpy()


def _source(frame: pl.DataFrame) -> np.ndarray:
    return frame["source"].hash(0).to_numpy()


def _pairs(frame: pl.DataFrame) -> Pairs:
    controls = tuple(_matrix(frame, f"{pair}_") for pair in CONTROLS)
    label = np.full(frame.height, -1, np.int8)
    return Pairs(own=_matrix(frame, ""), controls=controls, source=_source(frame), label=label)


if __name__ == "__main__":
    main()
