"""Losses from hidden states against full logits and other fused cross-entropies: equality, then time and memory.

    python experiments/bench/loss.py [--sizes 1024,512,65536] [--repeats 9] [--device cpu]

One JSON line per figure: median and spread of forward plus backward in seconds, peak memory over what was there before,
and both as ratios to the naive way in the same run. Versions and hardware stand in each line. Every way runs in a
process of its own; ways that can't run here are listed with the reason.

"ours" is mean-reduced, "ours unreduced" gives each token's loss, "ours adatailr" is the default loss with measured
noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from typing import Any

import torch

SIZES = {"cpu": [(1024, 512, 65_536)], "cuda": [(8192, 2304, 256_000), (16_384, 4096, 131_072), (8192, 4096, 151_936)]}
WAYS = ("naive", "torch.compile", "liger", "cut-cross-entropy", "ours", "ours unreduced", "ours adatailr")
SEQUENCE = 48


def inputs(size: tuple[int, int, int], device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, hidden, vocabulary = size
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    h = torch.randn(tokens, hidden, generator=generator).to(device, dtype)
    w = (torch.randn(vocabulary, hidden, generator=generator) * hidden**-0.5).to(device, dtype)
    target = torch.randint(0, vocabulary, (tokens,), generator=generator).to(device)
    return h.requires_grad_(), w.requires_grad_(), target


def way(name: str, target: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The mean loss as a function of hidden states and head weight. Raises ImportError where a library is missing."""

    def naive(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy((h @ w.T).float(), target)

    match name:
        case "naive":
            return naive
        case "torch.compile":
            return torch.compile(naive)  # type: ignore[no-any-return]
        case "liger":
            from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

            if not torch.cuda.is_available():
                raise ImportError("its kernels need a GPU")
            fused = LigerFusedLinearCrossEntropyLoss()
            return lambda h, w: fused(w, h, target)  # type: ignore[no-any-return]
        case "cut-cross-entropy":
            from cut_cross_entropy import linear_cross_entropy

            if not torch.cuda.is_available():
                raise ImportError("its kernels need a GPU")
            # Without its filter, which leaves out what it holds for negligible.
            return lambda h, w: linear_cross_entropy(h, w, target, filter_eps=None)  # type: ignore[no-any-return]
    from noise_control import TokenContext, linear_loss, losses

    if name == "ours":
        return lambda h, w: linear_loss(h, w, target, losses.build("mle"), reduction="mean")
    if name == "ours unreduced":
        return lambda h, w: linear_loss(h, w, target, losses.build("mle")).mean()
    loss = losses.build("adatailr", warmup_steps=0)
    sequence = torch.arange(len(target), device=target.device) // SEQUENCE
    return lambda h, w: linear_loss(h, w, target, loss, context=TokenContext(sequence_N=sequence), reduction="mean")


def peak_reset() -> int:
    """Forget the peak; the bytes in use now."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def peak() -> int:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(field + ":"))


def measure(name: str, size: tuple[int, int, int], device: str, repeats: int) -> dict[str, Any]:
    h, w, target = inputs(size, device)
    call = way(name, target)

    def once() -> torch.Tensor:
        h.grad = w.grad = None
        loss = call(h, w)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss

    loss = float(once())
    assert h.grad is not None
    assert w.grad is not None
    sums = [
        loss,
        float(h.grad.double().norm()),
        float(w.grad.double().norm()),
        float(h.grad[7, 5]),
        float(w.grad[target[3], 2]),
    ]
    h.grad = w.grad = None
    before = peak_reset()
    once()
    memory = peak() - before
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "memory": memory, "sums": sums}


def hardware(device: str) -> dict[str, Any]:
    def has(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {p: has(p) for p in ("torch", "liger-kernel", "cut-cross-entropy", "triton")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", help="tokens,hidden,vocabulary")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--rounds", type=int, default=2, help="processes per way, taken in turn, so that a noisy minute hits all"
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [tuple(map(int, s.split(","))) for s in options.sizes] if options.sizes else SIZES[options.device]
    if options.only:
        try:
            print(json.dumps(measure(options.only, sizes[0], options.device, options.repeats)))
        except (ImportError, RuntimeError) as error:
            print(json.dumps({"reason": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}))
        return
    for size in sizes:
        gathered: dict[str, dict[str, Any]] = {}
        for _ in range(options.rounds):
            for name in options.ways:
                arguments = [
                    "--only",
                    name,
                    "--sizes",
                    ",".join(map(str, size)),
                    "--repeats",
                    str(options.repeats),
                    "--device",
                    options.device,
                ]
                done = subprocess.run(
                    [sys.executable, __file__, *arguments], capture_output=True, text=True, env=os.environ, check=False
                )
                last = done.stdout.strip().splitlines()[-1:] or [json.dumps({"reason": done.stderr.strip()[-160:]})]
                result = json.loads(last[0])
                if name in gathered and "seconds" in result and "seconds" in gathered[name]:
                    gathered[name]["seconds"] += result["seconds"]
                else:
                    gathered[name] = result
        naive = gathered["naive"]
        head_gradient = size[1] * size[2] * (4 if options.device == "cpu" else 2)
        for name, result in gathered.items():
            line: dict[str, Any] = {"way": name, "tokens,hidden,vocabulary": size}
            if "reason" in result:
                print(json.dumps({**line, "not measured": result["reason"], **hardware(options.device)}), flush=True)
                continue
            tolerance = 1e-4 if options.device == "cpu" else 2e-2
            equal = all(
                abs(a - b) <= tolerance * max(abs(b), 1e-6) + 1e-9
                for a, b in zip(result["sums"], naive["sums"], strict=True)
            )
            low, _, high = quantiles(result["seconds"], n=4)
            line |= {
                "equal to naive": equal,
                "seconds": round(median(result["seconds"]), 4),
                "quartiles": [round(low, 4), round(high, 4)],
                "n": len(result["seconds"]),
                "peak MiB": round(result["memory"] / 2**20, 1),
                "peak MiB without the head's gradient": round((result["memory"] - head_gradient) / 2**20, 1),
                "time ratio": round(median(result["seconds"]) / median(naive["seconds"]), 3),
                "memory ratio": round((result["memory"] - head_gradient) / (naive["memory"] - head_gradient), 4),
            }
            print(json.dumps({**line, **hardware(options.device)}), flush=True)


if __name__ == "__main__":
    main()
