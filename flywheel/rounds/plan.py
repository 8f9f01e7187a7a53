"""What a round of so many clips takes on so many accelerators, told from rounds that were measured.

Each stage takes ``a + b n`` seconds for n clips: a start, and a part that grows. Both are fitted to the stage's
measured runs, each weighed by its own size, since errors are a share of what is measured. Passes that ask a model have
a pipeline: decoding and engine overlap, so the slower of both counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from flywheel.rounds.accelerators import SPREAD

#: Half-width of an estimate from runs of two sizes, which leave nothing to judge the fit by, as a share of it.
_UNJUDGED = 0.25
#: The least half-width that is told: machines differ from day to day by more than a fit of few runs shows.
_LEAST = 0.05
_CONFIDENCE = 0.95
#: CPU seconds of a stage's own work, without any model: start and seconds a clip, of docs/scale.md (round 1 with the
#: fake engine at 20 k and 200 k clips).
DEFAULTS: Mapping[str, tuple[float, float]] = {"annotate": (10.5, 5.9e-4), "evaluate": (10.0, 1.2e-4)}
Bound = Literal["decoding", "engine", "start-up", "clips"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stage that was measured: ``clips`` it went through, wall ``seconds``, and on how many ``gpus`` (None: unknown).

    ``decode_s`` are the decoders' seconds over all threads, ``money`` what the engine cost.
    """

    stage: str
    clips: int
    seconds: float
    gpus: int | None = 1
    decode_s: float = 0.0
    money: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage is expected to take; ``low`` and ``high`` are seconds, ``sizes`` the clips of the runs behind it."""

    stage: str
    seconds: float
    low: float
    high: float
    gpu_seconds: float
    money: float
    bound_by: Bound
    sizes: tuple[int, ...] = ()

    def record(self, clips: int) -> dict[str, Any]:
        """As JSON has it, with seconds, GPU-seconds and money per 1,000 clips."""
        each = {"seconds": self.seconds, "gpu_seconds": self.gpu_seconds, "money": self.money}
        return {**asdict(self), "per_1000_clips": {name: value / clips * 1000 for name, value in each.items()}}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A round of ``clips`` on ``gpus``: its stages in order, and what is not known of it."""

    clips: int
    gpus: int
    stages: tuple[StagePlan, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def bottleneck(self) -> StagePlan:
        """The stage that takes longest."""
        return max(self.stages, key=lambda stage: stage.seconds)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        sums = {name: sum(getattr(s, name) for s in self.stages) for name in ("seconds", "gpu_seconds", "money")}
        # Stages err each on their own, but one wrong machine makes all wrong: the wider reading counts.
        ends = {name: sum(getattr(s, name) for s in self.stages) for name in ("low", "high")}
        slowest = self.bottleneck
        return {
            "clips": self.clips,
            "gpus": self.gpus,
            **sums,
            **ends,
            "bottleneck": {"stage": slowest.stage, "bound_by": slowest.bound_by},
            "stages": {stage.stage: stage.record(self.clips) for stage in self.stages},
            "unknown": list(self.unknown),
        }


def planned(
    runs: Iterable[Run], stages: Sequence[str], clips: int, gpus: int, *, decoders: int = 1, price_per_hour: float = 0.0
) -> Plan:
    """The plan of a round of these ``stages``; ``price_per_hour`` is that of one accelerator, and counts where no
    run's own cost is known. Raises ValueError for clips or GPUs below 1."""
    if clips < 1 or gpus < 1:
        raise ValueError(f"clips and gpus must be at least 1, got {clips} and {gpus}")
    measured: dict[str, list[Run]] = {}
    for run in runs:
        if run.clips > 0 and run.seconds > 0:
            measured.setdefault(run.stage, []).append(run)
    unknown, found = [], []
    for stage in stages:
        if mine := measured.get(stage):
            found.append(_of_runs(stage, mine, clips, gpus, decoders, price_per_hour))
            unknown += _doubts(stage, mine, clips, gpus)
        elif stage in DEFAULTS:
            start, each = DEFAULTS[stage]
            seconds = start + each * clips
            found.append(_stage(stage, seconds, seconds, 10 * seconds, gpus, 0.0, "clips"))
            unknown.append(f"{stage}: was never run here; only its own work is counted, without any model")
        else:
            unknown.append(f"{stage}: was never run here, and is left out")
    return Plan(clips=clips, gpus=gpus, stages=tuple(found), unknown=tuple(unknown))


def _of_runs(stage: str, runs: list[Run], clips: int, gpus: int, decoders: int, price: float) -> StagePlan:
    sizes = tuple(sorted({run.clips for run in runs}))
    # What grows is spread over accelerators, the start is not.
    share = clips / _speed(stage, gpus)
    start, each, half = fitted([(run.clips / _speed(stage, run.gpus), run.seconds) for run in runs], share)
    growing = each * share
    # The decoders' work does not shrink with more engines.
    decode = sum(run.decode_s for run in runs) / sum(run.clips for run in runs) * clips / decoders
    bound: Bound = "clips" if stage not in SPREAD else "engine"
    if decode > growing:
        growing, bound = decode, "decoding"
    if start > growing:
        bound = "start-up"
    seconds = start + growing
    cost = sum(run.money for run in runs) / sum(run.clips for run in runs) * clips
    on_gpus = stage in SPREAD
    money = cost or (seconds * gpus * price / 3600 if on_gpus else 0.0)
    return _stage(stage, seconds, seconds * (1 - half), seconds * (1 + half), gpus, money, bound, sizes)


def _stage(
    stage: str,
    seconds: float,
    low: float,
    high: float,
    gpus: int,
    money: float,
    bound: Bound,
    sizes: tuple[int, ...] = (),
) -> StagePlan:
    busy = seconds * gpus if stage in SPREAD else 0.0
    return StagePlan(
        stage=stage,
        seconds=seconds,
        low=max(0.0, low),
        high=high,
        gpu_seconds=busy,
        money=money,
        bound_by=bound,
        sizes=sizes,
    )


def _speed(stage: str, gpus: int | None) -> int:
    return gpus or 1 if stage in SPREAD else 1


def fitted(points: Sequence[tuple[float, float]], at: float) -> tuple[float, float, float]:
    r"""Start a and part b of $T(n) = a + b n$ with a, b >= 0, by least squares of relative errors; and the half-width
    of the 95 % prediction at n = ``at``, as a share of it.

    ``points`` are (clips of each accelerator, seconds). Of one size nothing tells a from b: then a is 0, and the
    half-width is as wide as all of it being the start would make it.
    """
    n, seconds = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True))
    if len(set(n)) == 1:
        mean = float(seconds.mean())
        far = max(at / n[0], n[0] / at)
        return 0.0, mean / n[0], max(_UNJUDGED, 1 - 1 / far)
    design = np.stack([np.ones_like(n), n], axis=1) / seconds[:, None]
    start, each = _not_negative(design)
    freedom = len(n) - 2
    if freedom < 1:
        return start, each, _UNJUDGED
    from scipy.stats import t

    errors = design @ np.array([start, each]) - 1
    row = np.array([1.0, at]) / (start + each * at)
    spread = float(row @ np.linalg.inv(design.T @ design) @ row)
    half = float(t.ppf((1 + _CONFIDENCE) / 2, freedom)) * math.sqrt(float(errors @ errors) / freedom * (1 + spread))
    return start, each, max(_LEAST, half)


def _not_negative(design: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Least squares of ``design @ x = 1`` with x >= 0, (2,)."""
    from scipy.optimize import nnls

    (start, each), _ = nnls(design, np.ones(len(design)))
    return float(start), float(each)


def _doubts(stage: str, runs: Sequence[Run], clips: int, gpus: int) -> list[str]:
    """What a stage's prediction rests on without having been measured."""
    sizes, doubts = sorted({run.clips for run in runs}), []
    if len({run.clips / _speed(stage, run.gpus) for run in runs}) == 1:
        doubts.append(f"{stage}: measured at {sizes[0]} clips alone, so its start can't be told from what grows")
    if clips > 10 * sizes[-1]:
        doubts.append(f"{stage}: {clips / sizes[-1]:.0f} times as many clips as were measured ({sizes[-1]})")
    if stage in SPREAD and any(run.gpus is None for run in runs):
        doubts.append(f"{stage}: on how many accelerators it ran is not on record of all runs; 1 is assumed")
    if stage in SPREAD and gpus not in (counts := {run.gpus or 1 for run in runs}):
        seen = ", ".join(map(str, sorted(counts)))
        doubts.append(f"{stage}: measured on {seen} accelerator(s); that {gpus} are as many times as fast is assumed")
    return doubts
