"""Whether a model that is told when knows when: the same LoRA with and without time tokens, on held-out timelines.

    python -m experiments.time_aware.study --folder F --results R [--seed 1 --steps 300 --videos 12 --arms times,words]

Learns from timelines put together of rendered shots, and is measured on videos of other seeds, rendered and read as
files. A question about a part ("From A to B, what is seen?") is learned with its answer, and so is one without times
("Is a bell seen?"). Grounding: of the four shots of a block, in which is a thing seen, or a sound heard? Each shot's
times are asked about, and the one in which the answer is likeliest is chosen. Appends one JSON line for each arm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flywheel.benchmark.building import clock, named_sound, named_thing
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames
from flywheel.models.inputs import SOUND_RATE_HZ, ClipInput
from flywheel.models.time_aware import Encoders, Perceived, TimeAware
from flywheel.models.time_aware.files import new_model, save_model
from flywheel.playground.av import DURATION_S
from flywheel.playground.av.drawing import frames
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.av.sounds import sound
from flywheel.playground.timeline import PER_BLOCK, LongVideo, Shot, _scene, long_video, render
from trainers.time_aware import Plan, fit

#: Times of a shot at which frames are taken, in seconds.
_TIMES_S = (0.4, 1.2, 2.0, 2.8)
_SIZE = (128, 64)
_KINDS = sorted(KINDS)

#: A query with its answer, about a timeline.
Asked = tuple[Perceived, str, str]


def main() -> None:
    """Encode, train the arms, measure, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--shots", type=int, default=16, help="Rendered shots of each kind.")
    parser.add_argument("--arms", default="times,words", help="Left empty, shots and videos are rendered alone.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts: dict[str, Any] = {}
    for arm in arguments.arms.split(","):
        began = time.process_time()
        torch.manual_seed(arguments.seed)
        encoders, model = new_model(times=arm == "times")
        if not parts:
            parts["pool"] = _pool(encoders, arguments.seed, arguments.shots, arguments.folder)
            parts["held_out"] = _held_out(encoders, arguments.seed, arguments.videos, arguments.folder)
            print(f"encoded in {time.process_time() - began:.0f} CPU s", flush=True)
        if not arm:
            return
        row = _arm(model, arm, arguments, parts["pool"], parts["held_out"])
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def _arm(model: TimeAware, arm: str, arguments: Any, pool: Any, held_out: list[tuple[LongVideo, Perceived]]) -> Any:
    began = time.process_time()
    plan = Plan(steps=arguments.steps, seed=arguments.seed)
    losses = fit(model, _stream(pool, arguments.seed), plan)
    trained = time.process_time()
    row = {
        "arm": arm,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "videos": len(held_out),
        "losses": [round(float(np.mean(losses[n : n + 20])), 3) for n in range(0, len(losses), 20)],
        "grounding": _grounding(model, held_out, None),
        "chance": 1 / PER_BLOCK,
        "untimed": _untimed(model, held_out, arguments.seed),
        "train_cpu_s": round(trained - began),
    }
    if arm == "times":
        row["grounding_shuffled"] = _grounding(model, held_out, np.random.default_rng(arguments.seed))
        save_model(model, arguments.folder / f"model-{arguments.seed}", steps=arguments.steps, seed=arguments.seed)
    return row


# What there is to learn.


def _pool(encoders: Encoders, seed: int, count: int, folder: Path) -> dict[str, dict[str, list[torch.Tensor]]]:
    """Tokens of rendered shots, by medium and kind; kept in a file, since they take longer than the training."""
    from safetensors.torch import load_file, save_file

    file = folder / f"pool-{seed}-{count}.safetensors"
    names = [(medium, kind, n) for medium in ("seen", "heard") for kind in _KINDS for n in range(count)]
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = {f"{m}/{k}/{n}": _shot(encoders, m, k, seed * 1_000_003 + 7919 * n) for m, k, n in names}
        save_file(made, file)
    kept = load_file(file)
    return {m: {k: [kept[f"{m}/{k}/{n}"] for n in range(count)] for k in _KINDS} for m in ("seen", "heard")}


def _shot(encoders: Encoders, medium: str, kind: str, seed: int) -> torch.Tensor:
    """The tokens of a shot of which only one medium is looked at, dim and bright by turns."""
    other = next(name for name in _KINDS if name != kind)
    shot = Shot(start_s=0.0, end_s=DURATION_S, seen=kind, heard=other)
    if medium == "heard":
        shot = Shot(start_s=0.0, end_s=DURATION_S, seen=other, heard=kind)
    scene = _scene(seed, seed % 2, shot)
    if medium == "seen":
        return encoders.seen(frames(scene, _TIMES_S, *_SIZE), _TIMES_S)[0]
    return encoders.heard(sound(scene))[0]


def _stream(pool: Any, seed: int) -> Iterator[list[Asked]]:
    """Batches without end: each query is about a timeline of its own."""
    rng = np.random.default_rng([seed, 11])
    number = 0
    while True:
        batch = []
        for _ in range(Plan.batch_size):
            number += 1
            # Other numbers than those of the videos that are measured.
            video = long_video(seed + 500, number)
            batch.append((_put_together(video, pool, rng), *_question(video, rng)))
        yield batch


def _put_together(video: LongVideo, pool: Any, rng: np.random.Generator) -> Perceived:
    """What would be perceived of a timeline whose shots are drawn from the pool."""
    seen, heard = (
        torch.cat([pool[medium][kind][int(rng.integers(len(pool[medium][kind])))] for kind in kinds])
        for medium, kinds in (("seen", [s.seen for s in video.shots]), ("heard", [s.heard for s in video.shots]))
    )
    starts = [shot.start_s for shot in video.shots]
    spans = [(s + a, s + b) for s in starts for a, b in zip(_TIMES_S[::2], _TIMES_S[1::2], strict=True)]
    halves = 1.6 * torch.arange(len(heard), dtype=torch.float32)
    return Perceived(
        seen_VD=seen,
        seen_span_V2=torch.tensor(spans),
        heard_AD=heard,
        heard_span_A2=torch.stack([halves, halves + 1.6], dim=-1),
    )


def _question(video: LongVideo, rng: np.random.Generator) -> tuple[str, str]:
    medium = "seen" if rng.random() < 0.5 else "heard"
    if rng.random() < 0.75:
        shot = video.shots[int(rng.integers(len(video.shots)))]
        return _given(shot, medium), _named(medium, getattr(shot, medium))
    return _whether(video, medium, rng)


def _whether(video: LongVideo, medium: str, rng: np.random.Generator) -> tuple[str, str]:
    """Whether something is seen, or heard, at any time; as often as not it is."""
    there = sorted({getattr(shot, medium) for shot in video.shots})
    is_there = rng.random() < 0.5
    kinds = there if is_there else [kind for kind in _KINDS if kind not in there]
    kind = kinds[int(rng.integers(len(kinds)))]
    return f"Is {_named(medium, kind)} {medium}?", "yes" if is_there else "no"


def _given(shot: Shot, medium: str) -> str:
    return f"From {clock(shot.start_s)} to {clock(shot.end_s)}, what is {medium}?"


def _named(medium: str, kind: str) -> str:
    return named_thing(kind) if medium == "seen" else named_sound(kind)


# What is measured.


def _held_out(encoders: Encoders, seed: int, count: int, folder: Path) -> list[tuple[LongVideo, Perceived]]:
    """Videos as files, and what is perceived of their frames and sound as they are read."""
    found = []
    for number in range(count):
        video = long_video(90_000 + seed, number)
        place = folder / "videos" / f"{seed}-{video.name}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        render(video, place)
        times_s = [shot.start_s + t for shot in video.shots for t in _TIMES_S]
        clip = ClipInput(
            key=video.name,
            duration_s=video.duration_s,
            fps=10.0,
            frames_THWC=read_frames(place, times_s, max_side=_SIZE[0]),
            times_s=tuple(times_s),
            sound=read_audio(place, 0.0, video.duration_s, rate_hz=SOUND_RATE_HZ),
        )
        found.append((video, encoders(clip)))
    return found


def _grounding(
    model: TimeAware, held_out: list[tuple[LongVideo, Perceived]], shuffled: np.random.Generator | None
) -> dict[str, float]:
    """The share of shots found, with its standard error over videos; the options' time tokens ``shuffled``, if so."""
    shares = []
    for video, perceived in held_out:
        right = []
        for medium in ("seen", "heard"):
            for first in range(0, len(video.shots), PER_BLOCK):
                block = video.shots[first : first + PER_BLOCK]
                right += [_found(model, perceived, block, medium, place, shuffled) for place in range(0, PER_BLOCK, 2)]
        shares.append(float(np.mean(right)))
    return _estimate(shares)


def _found(
    model: TimeAware,
    perceived: Perceived,
    block: tuple[Shot, ...],
    medium: str,
    place: int,
    shuffled: np.random.Generator | None,
) -> bool:
    order = list(range(PER_BLOCK)) if shuffled is None else [int(n) for n in shuffled.permutation(PER_BLOCK)]
    queries = [_given(shot, medium) for shot in block]
    spans = [[(block[n].start_s, block[n].end_s)] if model.sizes.times else [] for n in order]
    states = model.states_at([perceived] * PER_BLOCK, spans).detach()
    scores = model.mean_logprobs(states, queries, [_named(medium, getattr(block[place], medium))] * PER_BLOCK)
    return int(scores.argmax()) == place


def _untimed(model: TimeAware, held_out: list[tuple[LongVideo, Perceived]], seed: int) -> dict[str, float]:
    """The share of questions without times that are answered rightly by the likelier of yes and no."""
    rng, shares = np.random.default_rng([seed, 12]), []
    for video, perceived in held_out:
        asked = [_whether(video, medium, rng) for medium in ("seen", "heard") for _ in range(4)]
        queries = [query for query, _ in asked]
        states = model.states([perceived] * len(queries), queries).detach()
        yes, no = (model.mean_logprobs(states, queries, [word] * len(queries)) for word in ("yes", "no"))
        said = ["yes" if more else "no" for more in (yes > no).tolist()]
        shares.append(float(np.mean([a == b for a, (_, b) in zip(said, asked, strict=True)])))
    return _estimate(shares)


def _estimate(shares: list[float]) -> dict[str, float]:
    error = float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else float("nan")
    return {"value": round(float(np.mean(shares)), 4), "standard_error": round(error, 4)}


if __name__ == "__main__":
    main()
