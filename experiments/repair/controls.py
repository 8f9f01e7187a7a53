"""The loop with rules, and with the controls: ``python -m experiments.repair.controls FOLDER --seed S --clips 120``.

On the corpus that :mod:`experiments.repair.confusion` rendered there. Rewards are calibrated on the same clips, against
sounds of other clips. What evaluates is no reward: how far band levels, in 40 ms, are from those of the sound
before it was damaged, in dB. One JSON line for each planner and damage.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from flywheel.curation.repair.calibrating import Calibrating
from flywheel.curation.repair.loop import Limits, repair
from flywheel.curation.repair.measures import Picture, measures
from flywheel.curation.repair.planners import Case, names, planner, role_of
from flywheel.media.audio import read_audio
from flywheel.media.grey import read_grey
from flywheel.playground.av import CORPUS, DURATION_S, SAMPLE_RATE, sample, sound
from flywheel.playground.corpus import SEED_STRIDE
from flywheel.sound.motion import visual_events

WINDOW, RANGE_DB = 640, 50.0


def bands_db(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Levels (bands, times) of 24 bands, none lower than ``RANGE_DB`` below the highest."""
    hz, _, spectra = scipy.signal.stft(samples, SAMPLE_RATE, nperseg=WINDOW)
    edges = np.searchsorted(hz, np.geomspace(60, 8000, 25))
    power = np.array([np.square(np.abs(spectra[a : max(a + 1, b)])).sum(axis=0) for a, b in pairwise(edges)])
    level: NDArray[np.float64] = 10 * np.log10(power + 1e-12)
    return np.maximum(level, level.max() - RANGE_DB)


def off_db(samples: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean distance of band levels, where either sounds."""
    found, wanted = bands_db(samples), bands_db(truth)
    sounds = (wanted > wanted.max() - 40) | (found > found.max() - 40)
    return float(np.abs(found - wanted)[sounds].mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--clips", type=int, default=120)
    arguments = parser.parse_args()
    rows = pl.read_parquet(arguments.folder / "oracle.parquet").head(arguments.clips).to_dicts()
    clips = []
    for index, row in enumerate(rows):
        path = arguments.folder / "corpus" / row["file"]
        samples = read_audio(path, 0, DURATION_S, rate_hz=SAMPLE_RATE)
        drawn_s, grey = read_grey(path, 0, DURATION_S)
        times_s, events = visual_events(grey, drawn_s)
        truth = sound(sample(arguments.seed * SEED_STRIDE + index, CORPUS))
        clips.append((row, samples, Picture(events=events, times_s=times_s), truth))
    of = [measures(samples, SAMPLE_RATE, picture) for _, samples, picture, _ in clips]
    calibrating = Calibrating()
    for row, samples, picture, _ in clips:
        calibrating.add(samples, SAMPLE_RATE, picture, row["file"])
    usual, rewards = calibrating.result()
    for name in (name for name in names() if not role_of(planner(name))):
        results: dict[str, list[dict[str, Any]]] = {}
        for (row, samples, picture, truth), found in zip(clips, of, strict=True):
            case = Case(key=row["file"], measures=found, norms=usual)
            edited, told = repair(
                samples,
                SAMPLE_RATE,
                case,
                planner(name),
                lambda s, picture=picture: rewards.of(s, SAMPLE_RATE, picture),  # type: ignore[misc]
                limits=Limits(falls=rewards.falls),
            )
            before = off_db(samples, truth)
            after = before if edited is None else off_db(edited, truth)
            # The first plan, taken whatever anybody says of it: what the loop protects from.
            first = planner(name)(case, [])
            blind = off_db(first.apply(samples, SAMPLE_RATE), truth) if first else before
            result = {"outcome": told.outcome, "before": before, "after": after, "blind": blind}
            for group in (row["damage"] or "clean", "all"):
                results.setdefault(group, []).append(result)
        for group, of_group in sorted(results.items()):
            print(
                json.dumps({"seed": arguments.seed, "planner": name, "damage": group, **summary(of_group)}), flush=True
            )


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were left alone, repaired and refused; mean distances; repaired clips that came out worse by .5 dB."""
    outcomes = {name: sum(r["outcome"] == name for r in results) for name in ("left alone", "repaired", "refused")}
    means = {
        f"{name}_db": round(float(np.mean([r[name] for r in results])), 2) for name in ("before", "after", "blind")
    }
    return {"n": len(results), **outcomes, **means, "worse": sum(r["after"] > r["before"] + 0.5 for r in results)}


if __name__ == "__main__":
    main()
