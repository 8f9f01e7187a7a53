"""Whether small encoders find clips of the playground's audio-visual world by what is seen, heard and written.

``python -m experiments.retrieval.playground --seeds 0 1 2 --out FILE`` trains each arm on clips in which some pairs of
(colour, thing) never occur, and asks for clips that each have one of them. A JSON line an arm and seed: recall@1, @10
and the median rank among 200 in each direction with 95 % intervals over queries, chance, and the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.core.types import content_id
from flywheel.metrics.retrieval import retrieval_estimates
from flywheel.models import encoders
from flywheel.models.encoders import ALL, SOUND, TEXT, VIDEO, Batch, Encoder
from flywheel.playground import av
from trainers.contrastive import ContrastiveSettings, train_encoder

#: Arm -> encoder, its sizes, and whether the sound of what is asked for is muted.
ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "trimodal": ("trimodal", {"video_text": False}, False),
    "trimodal, contrast alone": ("trimodal", {"video_text": False, "local_weight": 0.0}, False),
    "trimodal, sound muted": ("trimodal", {"video_text": False}, True),
    "trimodal, video-text": ("trimodal", {"local_weight": 0.0}, False),
    "dual": ("dual", {}, False),
}
_TRAIN_SEED, _TEST_SEED = 5_000_000, 6_000_000


class Rendered:
    """Clips as an encoder reads them, in memory: 65 KB each."""

    def __init__(self, encoder: Encoder, timelines: list[av.Timeline], *, muted: bool = False) -> None:
        times_s = [(i + 0.5) * av.DURATION_S / encoder.frames for i in range(encoder.frames)]
        side = encoder.frame_size
        self.texts = [av.caption(timeline) for timeline in timelines]
        self.digest = content_id("rendered", muted, *self.texts)
        videos = np.stack([av.frames(timeline, times_s, side, side) for timeline in timelines])
        sounds = [av.sound(timeline).astype(np.float32)[None] * (not muted) for timeline in timelines]
        self.video = torch.from_numpy(videos)
        self.sound = torch.cat([encoder.read_sound(sound) for sound in sounds])
        self.text = encoder.read_text(self.texts)
        numbers: dict[str, int] = {}
        self.same_text = torch.tensor([numbers.setdefault(text, len(numbers)) for text in self.texts])

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, places: NDArray[np.int64]) -> Batch:
        own = torch.from_numpy(places)
        return Batch(
            video=self.video[own],
            sound=self.sound[own],
            text=self.text[own],
            present={name: torch.ones(len(own), dtype=torch.bool) for name in ALL},
            same={VIDEO: own, SOUND: own, TEXT: self.same_text[own]},
        )


def timelines(first: int, number: int, *, held_out: bool) -> list[av.Timeline]:
    """So many timelines in which a pair that is kept out occurs, or none does."""
    found = (av.sample(seed) for seed in count(first))
    chosen: list[av.Timeline] = []
    for timeline in found:
        if any((thing.colour, thing.name) in av.BASE.unseen_pairs for thing in timeline.things) == held_out:
            chosen.append(timeline)
        if len(chosen) == number:
            break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("steps", "batch", "rate")}
    rendered: dict[str, list[Rendered]] = {}
    train = timelines(_TRAIN_SEED, arguments.clips, held_out=False)
    validation = timelines(_TRAIN_SEED + 500_000, 256, held_out=False)
    test = timelines(_TEST_SEED, arguments.asked, held_out=True)
    for seed in arguments.seeds:
        trained: dict[str, Encoder] = {}
        for arm in arguments.arms:
            name, sizes, muted = ARMS[arm]
            key, began = json.dumps([name, sizes]), time.process_time()
            if key not in trained:
                torch.manual_seed(seed)
                trained[key] = encoders.build(name, **sizes)
                encoder = trained[key]
                shape = json.dumps([encoder.frames, encoder.frame_size, encoder.words, str(encoder.spectrogram)])
                data = rendered.setdefault(shape, [])
                data += [] if data else [Rendered(encoder, some) for some in (train, validation)]
                rendered_s = time.process_time() - began
                with tempfile.TemporaryDirectory() as folder:
                    done = train_encoder(
                        encoder, *data, Path(folder) / "e", ContrastiveSettings(**settings, chunk=64, seed=seed)
                    )
                facts = {"best_step": done.step, "losses": done.last, "render_s": round(rendered_s, 1)}
            encoder = trained[key]
            line = {
                "arm": arm,
                "seed": seed,
                "clips": len(train),
                **settings,
                "parameters": sum(weight.numel() for weight in encoder.parameters()),
                "asked": len(test),
                "chance": 1 / len(test),
                "recall": _directions(encoder, Rendered(encoder, test, muted=muted)),
                **facts,
                "cpu_s": round(time.process_time() - began, 1),
                "torch": torch.__version__,
            }
            with arguments.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(arm, seed, {k: v["recall@1"]["value"] for k, v in line["recall"].items()}, line["cpu_s"], flush=True)


def _directions(encoder: Encoder, asked: Rendered) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by direction, such as ``text-video``: what is asked with, and what is asked for."""
    batch, found = asked.batch(np.arange(len(asked))), {}
    with torch.no_grad():
        vectors = {name: value.numpy() for name, value in encoder.vectors(batch).items()}
    for query in vectors:
        for item in vectors:
            if query != item:
                figures = retrieval_estimates(vectors[query] @ vectors[item].T, np.arange(len(asked)), ks=(1, 10))
                found[f"{query}-{item}"] = {
                    name: {key: round(value, 4) for key, value in asdict(figure).items()}
                    for name, figure in figures.items()
                }
    return found


if __name__ == "__main__":
    main()
