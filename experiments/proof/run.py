"""The adapter's proof on adapters of known effect: what it says, and whether that is right.

    python experiments/proof/run.py --workspace DEMO --out experiments/proof/results.jsonl [--scales 13]

DEMO is a workspace of ``flywheel demo`` with three rounds. On its last round's model, the adapters of all rounds, made
smaller by 1 to 1e-3, and one of zeros, are proven; what writes in their place is the adapter itself, the base, another
round's adapter, a random one, and the adapter nine tenths grown. The engine is transformers with another attention and
other batches than the reference's, in float32 and in bfloat16. A row says what was to write, what wrote, how far both
are from each other by transformers itself, the noise, and the verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from annotators import Request, build
from annotators.canaries import NUM_CANARIES, SEEN, canaries, effect_of, score
from annotators.proof import Verdict, prove, unseen
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.playground import scenes

Weights = Mapping[str, torch.Tensor]


def questions(count: int) -> list[Request]:
    """Rendered clips, half of them with a hint."""
    times = tuple(0.2 + 0.4 * i for i in range(8))
    return [
        Request(
            key=str(i),
            clip=ClipInput(
                key=str(i),
                frames_THWC=scenes.draw(scenes.sample_scene(i), times),
                times_s=times,
                duration_s=3.2,
                fps=10.0,
            ),
            prompt="Transcript: something\n" * (i % 2) + "Describe what is seen and heard.",
        )
        for i in range(count)
    ]


class Switched:
    """One model whose adapter's weights are exchanged, and an engine on it that computes otherwise."""

    def __init__(self, model: Path, adapter: Path, precision: str) -> None:
        self.vlm = load_vlm(model, adapter, precision=precision)
        self.builder = InputBuilder(self.vlm.processor)
        self.reference = build("transformers", vlm=self.vlm, builder=self.builder)
        self.engine = build("transformers", vlm=self.vlm, builder=self.builder, batch_size=3)
        self._own = {n: p for n, p in self.vlm.model.named_parameters() if "lora_" in n}

    def put(self, weights: Weights, scale: float = 1.0) -> None:
        """Let these weights be the adapter's, its change of the model made ``scale`` times as large."""
        with torch.no_grad():
            for name, own in self._own.items():
                value = weights[name.replace(".default.", ".")]
                own.copy_(value * scale if "lora_B" in name else value)

    def computes(self, how: str) -> None:
        self.vlm.model.get_base_model().set_attn_implementation(how)


def random_like(weights: Weights, seed: int) -> Weights:
    """An adapter of the same size whose change points elsewhere."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: value[:, torch.randperm(value.shape[1], generator=random)] if "lora_A" in name else value
        for name, value in weights.items()
    }


def study(
    model: Path, folders: Sequence[Path], precision: str, scales: Sequence[float], asked: Sequence[Request]
) -> Iterator[dict[str, Any]]:
    """A row for each adapter and each of what writes in its place."""
    switched = Switched(model, folders[0], precision)
    adapters = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    cases = [(i, scale) for i in range(len(adapters)) for scale in scales] + [(0, 0.0)]
    for i, scale in cases:
        right, stale = adapters[i], adapters[i - 1]
        switched.put(right, scale)
        switched.computes("sdpa")
        began = time.perf_counter()
        known = canaries(switched.vlm, switched.builder, asked, switched.reference)
        early, seconds = unseen(known), time.perf_counter() - began
        writers: dict[str, tuple[Weights, float]] = {
            "right": (right, scale),
            "base": (right, 0.0),
            "stale": (stale, scale or 1.0),
            "other": (random_like(right, i), scale or 1.0),
            "nine tenths": (right, 0.9 * scale),
        }
        for writes, (weights, size) in writers.items():
            switched.put(weights, size)
            switched.computes("sdpa")
            first = known[:NUM_CANARIES]
            there = [score(switched.vlm, switched.builder, c.request, c.token_ids)[0] for c in first]
            apart = float(np.mean(np.abs(np.concatenate(there) - np.concatenate([c.adapted for c in first]))))
            switched.computes("eager")
            found = early or prove(switched.engine, known)
            yield {
                "precision": precision,
                "adapter": folders[i].parent.name,
                "scale": scale,
                "writes": writes,
                "effect": effect_of(first),
                "apart": apart,
                "noise": found.noise,
                "engine_noise": found.engine_noise,
                "batch_noise": found.batch_noise,
                "rounding_noise": found.rounding_noise,
                "to_adapter": found.to_adapter,
                "to_base": found.to_base,
                "tokens": found.tokens,
                "astray": found.astray,
                "asked": early is None,
                "verdict": str(found.verdict),
                "canaries_s": round(seconds, 2),
            }


def judged(row: Mapping[str, Any]) -> str:
    """What is wrong with a row's verdict; empty where nothing is."""
    same = row["writes"] == "right" or row["apart"] == 0
    if same and row["verdict"] == Verdict.REFUTED:
        return "the right one is refuted"
    if same and row["effect"] > SEEN * row["noise"] and row["verdict"] != Verdict.PROVEN:
        return "the right one is not proven"
    if row["apart"] > SEEN * row["noise"] and row["verdict"] == Verdict.PROVEN:
        return "a wrong one passes"
    return ""


def main() -> int:
    """Write the rows and say how many were right; exit 1 where one was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scales", type=int, default=13)
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument(
        "--questions", type=int, default=64, help="that canaries may be chosen of; 64 are what rounds take"
    )
    options = parser.parse_args()
    rounds = sorted((options.workspace / "models").glob("round=*/adapter"))
    scales = [float(s) for s in np.geomspace(1.0, 1e-3, options.scales)]
    wrong, rows = 0, 0
    with options.out.open("w") as file:
        for precision in options.precision.split(","):
            for row in study(rounds[-1].parent / "model", rounds, precision, scales, questions(options.questions)):
                row["wrong"] = judged(row)
                wrong, rows = wrong + bool(row["wrong"]), rows + 1
                file.write(json.dumps(row) + "\n")
                file.flush()
    print(f"{rows} proofs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
