"""What repair is worth to who learns from it: ``python -m experiments.repair.end_use --seed S``, a line for each arm.

One small network learns from clips of the playground's audio-visual world which sounds there are and when they begin;
its labels are right, its sounds are clean, damaged, edited in some way, or left out. It is always measured on other
clips, all of them clean: F1 of sound slots (kind, and kind with an onset within .25 s). Training has the same number of
steps in all arms. ``--sum FILE`` prints means over seeds, differences with standard errors, and what was recovered.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flywheel.curation.repair.calibrating import Calibrating
from flywheel.curation.repair.loop import Limits, repair
from flywheel.curation.repair.measures import Picture, measures
from flywheel.curation.repair.planners import Case, planner
from flywheel.playground.av import CORPUS, DURATION_S, SAMPLE_RATE, Timeline, frames, sample, sound
from flywheel.playground.av.damage import DAMAGES, damage
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.corpus import SEED_STRIDE
from flywheel.sound.motion import visual_events

ARMS = ("damaged", "agent", "clean", "random", "rules", "curated")
DAMAGE_RATE, FPS, WIDTH, HEIGHT = 0.6, 25, 96, 64
NAMES = sorted(KINDS)
BANDS, WINDOW, HOP = 48, 640, 320
FRAMES = round(DURATION_S * SAMPLE_RATE / HOP)
#: Frames in which a sound counts as beginning, and seconds within which an onset is right.
SPREAD, RIGHT_S = 2, 0.25

Samples = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A clip: what happens in it, its true sound and the one that it came with, and what happens in its picture.

    ``damage`` is the kind that was done to the sound, empty for none.
    """

    timeline: Timeline
    damage: str
    clean: Samples
    heard: Samples
    picture: Picture


def made(seed: int) -> Made:
    """The clip of a seed, damaged by chance."""
    timeline, times_s = sample(seed, CORPUS), np.arange(round(DURATION_S * FPS)) / FPS
    clean, rng = sound(timeline), np.random.default_rng([seed, 90001])
    heard, kind = clean, ""
    if rng.random() < DAMAGE_RATE:
        kind = str(rng.choice(DAMAGES))
        heard, _ = damage(clean, timeline, kind, rng, SAMPLE_RATE)
    grey = np.stack(list(frames(timeline, list(times_s), WIDTH, HEIGHT))).mean(axis=3).astype(np.uint8)
    seen_s, events = visual_events(grey, times_s)
    seen = Picture(events=events, times_s=seen_s)
    return Made(timeline=timeline, damage=kind, clean=clean, heard=heard, picture=seen)


def arms_of(clips: Sequence[Made]) -> tuple[dict[str, list[tuple[Samples, Timeline]]], dict[str, int]]:
    """Sounds and timelines to learn from by arm, and what the loop did."""
    calibrating = Calibrating()
    for number, clip in enumerate(clips):
        calibrating.add(clip.heard, SAMPLE_RATE, clip.picture, str(number))
    usual, rewards = calibrating.result()
    arms: dict[str, list[tuple[Samples, Timeline]]] = {name: [] for name in ARMS}
    outcomes: dict[str, int] = defaultdict(int)
    for number, clip in enumerate(clips):
        case = Case(key=str(number), measures=measures(clip.heard, SAMPLE_RATE, clip.picture), norms=usual)
        first = planner("rules")(case, [])
        edited, trace = repair(
            clip.heard,
            SAMPLE_RATE,
            case,
            planner("rules"),
            lambda s, picture=clip.picture: rewards.of(s, SAMPLE_RATE, picture),  # type: ignore[misc]
            limits=Limits(falls=rewards.falls),
        )
        outcomes[trace.outcome] += 1
        sounds = {
            "clean": clip.clean,
            "damaged": clip.heard,
            "random": planner("random")(case, []).apply(clip.heard, SAMPLE_RATE),
            "rules": first.apply(clip.heard, SAMPLE_RATE),
            "agent": clip.heard if edited is None else edited,
        }
        if not first:
            sounds["curated"] = clip.heard
        for name, samples in sounds.items():
            arms[name].append((samples, clip.timeline))
    return arms, dict(outcomes)


def features(samples: Samples) -> NDArray[np.float32]:
    """Levels (bands, frames) in dB."""
    hz, _, spectra = scipy.signal.stft(samples, SAMPLE_RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    edges = np.searchsorted(hz, np.geomspace(60, 7900, BANDS + 1))
    power = np.square(np.abs(spectra[:, :FRAMES]))
    bands = [power[a : max(a + 1, b)].mean(axis=0) for a, b in itertools.pairwise(edges)]
    return (10 * np.log10(np.array(bands) + 1e-9)).astype(np.float32)


def targets(timeline: Timeline) -> NDArray[np.float32]:
    """(kinds, frames): 1 where a sound of the kind begins."""
    out = np.zeros((len(NAMES), FRAMES), np.float32)
    for event in timeline.sounds:
        for at_s in event.times_s:
            place = round(at_s * SAMPLE_RATE / HOP)
            out[NAMES.index(event.kind), max(0, place - SPREAD) : place + SPREAD + 1] = 1
    return out


class Net(nn.Module):
    """Log-odds (clips, kinds, frames) that a sound begins, from levels (clips, bands, frames)."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        sizes = (BANDS, 64, 64, 64)
        layers: list[nn.Module] = []
        for number, (inside, outside) in enumerate(itertools.pairwise(sizes)):
            around = 2**number
            layers += [nn.Conv1d(inside, outside, 5, padding=2 * around, dilation=around), nn.ReLU(), nn.Dropout(0.1)]
        self.body = nn.Sequential(*layers, nn.Conv1d(64, len(NAMES), 1))

    def forward(self, level: Tensor) -> Tensor:
        return self.body((level - self.mean) / self.spread)  # type: ignore[no-any-return]


def trained(clips: Sequence[tuple[Samples, Timeline]], seed: int, steps: int) -> Net:
    """A network that learned from these clips."""
    torch.manual_seed(seed)
    level = torch.from_numpy(np.stack([features(samples) for samples, _ in clips]))
    wanted = torch.from_numpy(np.stack([targets(timeline) for _, timeline in clips]))
    net = Net(level.mean(dim=(0, 2), keepdim=True), level.std(dim=(0, 2), keepdim=True) + 1e-3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0))
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        some = torch.randint(len(level), (32,), generator=order)
        optimizer.zero_grad()
        loss(net(level[some]), wanted[some]).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def slots_f1(net: Net, clips: Sequence[tuple[Samples, Timeline]]) -> tuple[float, float]:
    """F1 of kinds, and of kinds with their onsets, over all clips."""
    with torch.no_grad():
        level = torch.from_numpy(np.stack([features(samples) for samples, _ in clips]))
        found = torch.sigmoid(net(level)).numpy()
    kinds, onsets = np.zeros(3), np.zeros(3)  # right, found, wanted
    for odds, (_, timeline) in zip(found, clips, strict=True):
        heard = {NAMES[place] for place in np.flatnonzero(odds.max(axis=1) > 0.5)}
        there = {event.kind for event in timeline.sounds}
        kinds += (len(heard & there), len(heard), len(there))
        for place, name in enumerate(NAMES):
            peaks = scipy.signal.find_peaks(odds[place], height=0.5, distance=6)[0] * HOP / SAMPLE_RATE
            true_s = np.array([t for event in timeline.sounds if event.kind == name for t in event.times_s])
            right = 0
            if len(peaks) and len(true_s):
                near = np.abs(peaks[:, None] - true_s) <= RIGHT_S
                rows, columns = scipy.optimize.linear_sum_assignment(~near)
                right = int(near[rows, columns].sum())
            onsets += (right, len(peaks), len(true_s))
    first, second = (2 * right / max(1.0, many + wanted) for right, many, wanted in (kinds, onsets))
    return float(first), float(second)


def run(seed: int, num_train: int, num_test: int, steps: int) -> None:
    """Print a line for each arm."""
    began = time.process_time()
    first = seed * SEED_STRIDE
    arms, outcomes = arms_of([made(first + number) for number in range(num_train)])
    unseen = [sample(first + num_train + number, CORPUS) for number in range(num_test)]
    test = [(sound(timeline), timeline) for timeline in unseen]
    for name in ARMS:
        kinds, onsets = slots_f1(trained(arms[name], seed, steps), test)
        row: dict[str, Any] = {"seed": seed, "arm": name, "clips": len(arms[name]), "kinds_f1": round(kinds, 4)}
        row |= {"onsets_f1": round(onsets, 4), "test": num_test, "steps": steps, "loop": outcomes}
        print(json.dumps(row | {"cpu_s": round(time.process_time() - began, 1)}), flush=True)


def summary(file: Path) -> None:
    """Print means over seeds, differences from the damaged clips with standard errors, and the share recovered."""
    by: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in map(json.loads, file.read_text().splitlines()):
        by[row["arm"]][row["seed"]] = row
    seeds = sorted(by["damaged"])
    for figure in ("kinds_f1", "onsets_f1"):
        values = {name: np.array([by[name][seed][figure] for seed in seeds]) for name in ARMS}
        lost = float((values["clean"] - values["damaged"]).mean())
        for name in ARMS:
            change = values[name] - values["damaged"]
            error = float(change.std(ddof=1) / np.sqrt(len(seeds))) if len(seeds) > 1 else float("nan")
            line = {"figure": figure, "arm": name, "seeds": len(seeds), "mean": round(float(values[name].mean()), 4)}
            line |= {"over_damaged": [round(float(change.mean()), 4), round(error, 4)]}
            print(json.dumps(line | {"recovered": round(float(change.mean()) / lost, 3) if lost > 0 else None}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--test", type=int, default=160)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--sum", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.sum is not None:
        summary(arguments.sum)
        return
    run(arguments.seed, arguments.clips, arguments.test, arguments.steps)


if __name__ == "__main__":
    main()
