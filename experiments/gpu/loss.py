"""The loss from hidden states on a GPU: ours by Triton and by torch against full logits, Liger, cut-cross-entropy.

    python experiments/gpu/loss.py --out FILE.jsonl --seconds 90 [--tiny]

bf16, mean of a batch, forward and backward. First each way's value and gradients on 256 rows against full logits in
float32; then, at each size, the median of up to 13 times by device events, and the peak memory over what was there
before, less the head's own gradient. The last lines set ours against the fastest peer that gave the right gradients.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from _part import Part
from torch import Tensor

SIZES = [(16_384, 4096, 131_072), (8192, 2304, 256_000), (8192, 4096, 151_936)]
TINY = [(64, 16, 1000)]
#: Rows of the comparison with float32, and what a right way's gradients may differ by: bf16 logits of up to 5 are off
#: by up to 1/100 (relative, in norm: a third of it), weights by as much again.
SLICE, RIGHT = 256, 0.02
REPEATS, SLOW_REPEATS = 13, 4
SEQUENCE = 48
Call = Callable[[Tensor, Tensor, Tensor], Tensor]
#: The kernels of cut-cross-entropy are compiled for long at first, so it comes after ours.
PEERS, LATE_PEERS = ("full logits", "liger"), ("cut-cross-entropy, no filter",)
#: Its default leaves out of the gradient what it holds for negligible.
FILTERED = "cut-cross-entropy"
OURS = ("mle", "tailr", "adatailr", "adatailr, rule sharpness")


#: Medians in milliseconds, and whether gradients were right, by size and way.
TIMES: dict[tuple[int, int, int], dict[str, float]] = {}
RIGHTS: dict[tuple[int, int, int], dict[str, bool]] = {}


class Bench:
    """One size's inputs, and what was measured at it."""

    def __init__(self, part: Part, size: tuple[int, int, int]) -> None:
        self.part, self.size = part, size
        tokens, hidden, words = size
        self.dtype = torch.float32 if part.tiny else torch.bfloat16
        make = torch.Generator(part.device).manual_seed(0)
        draw = {"generator": make, "device": part.device, "dtype": self.dtype}
        self.h = torch.randn(tokens, hidden, **draw).requires_grad_()  # type: ignore[call-overload]
        self.w = (torch.randn(words, hidden, **draw) * hidden**-0.5).requires_grad_()  # type: ignore[call-overload]
        self.target = torch.randint(0, words, (tokens,), generator=make, device=part.device)
        self.losses: dict[str, Any] = {}
        self.milliseconds, self.right = TIMES.setdefault(size, {}), RIGHTS.setdefault(size, {})

    def ours(self, name: str, **given: Any) -> Call:
        """Our loss as a call; a loss that adapts has found noise before."""
        from noise_control import linear_loss

        if name not in self.losses:
            self.losses[name] = adapted(name, self)
        loss = self.losses[name]

        def call(h: Tensor, w: Tensor, target: Tensor) -> Tensor:
            return linear_loss(h, w, target, loss, context=told(len(h), h.device), reduction="mean", **given)

        return call

    def exact(self, name: str) -> tuple[Tensor, ...]:
        """Value and gradients of the slice by full logits in float32."""
        h, w = (x.detach().float().requires_grad_() for x in (self.h[:SLICE], self.w))
        target = self.target[:SLICE]
        logits = h @ w.T
        if name not in self.losses:
            value = torch.nn.functional.cross_entropy(logits, target)
        else:
            value = self.losses[name](logits, target, told(len(h), h.device)).mean()
        return (value.detach(), *torch.autograd.grad(value, (h, w)))

    def compare(self, way: str, call: Call, exact: tuple[Tensor, ...]) -> dict[str, float]:
        """Relative differences of value and gradients from the exact ones."""
        h, w = (x.detach().requires_grad_() for x in (self.h[:SLICE], self.w))
        value = call(h, w, self.target[:SLICE])
        gradients = torch.autograd.grad(value, (h, w))
        names = ("value", "hidden gradient", "head gradient")
        found = {n: far(x, e) for n, x, e in zip(names, (value.detach(), *gradients), exact, strict=True)}
        self.right[way] = all(x < RIGHT for x in found.values())
        return {n: float(f"{x:.3g}") for n, x in found.items()}

    def measure(self, call: Call, repeats: int) -> dict[str, Any]:
        """Median and quartiles in milliseconds, and peak MiB over what was there less the head's gradient."""

        def once() -> None:
            self.h.grad = self.w.grad = None
            call(self.h, self.w, self.target).backward()

        once()
        self.h.grad = self.w.grad = None
        if self.part.tiny:
            return {"milliseconds": None, "over_mib": None, "n": 1}
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        once()
        torch.cuda.synchronize()
        over = torch.cuda.max_memory_allocated() - before - self.w.numel() * self.w.element_size()
        times = []
        for _ in range(repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            once()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        times.sort()
        figures = {"milliseconds": median(times), "low": times[len(times) // 4], "high": times[-1 - len(times) // 4]}
        rounded = {name: round(value, 2) for name, value in figures.items()}
        return {**rounded, "over_mib": round(over / 2**20, 1), "n": repeats}

    def waits(self, call: Call) -> int:
        """How often a call waits for the GPU: each time it has to run out of work."""
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                call(self.h, self.w, self.target).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in said)

    def case(self, way: str, call: Callable[[], Call], repeats: int, reference: str | None) -> None:
        """Compare and measure one way; what fails is a line."""
        names = {"size": self.size, "way": way}
        if self.part.seconds_left() < 6:
            self.part.line("loss", **names, not_measured="no time was left")
            return
        with self.part.case("loss", **names):
            made = call()
            differs = self.compare(way, made, self.exact(reference)) if reference is not None else None
            free()
            figures = self.measure(made, repeats)
            if figures["milliseconds"] is not None:
                self.milliseconds[way] = figures["milliseconds"]
                figures["waits"] = self.waits(made)
            self.part.line("loss", **names, **figures, differs=differs, right=self.right.get(way))
        self.h.grad = self.w.grad = None
        free()

    def verdict(self) -> None:
        """Ours against the fastest peer whose gradients were right."""
        known = {way: self.milliseconds[way] for way in (*PEERS, *LATE_PEERS) if way in self.milliseconds}
        peers = {way: time for way, time in known.items() if self.right.get(way)}
        if not peers:
            return
        fastest = min(peers, key=lambda way: peers[way])
        ratios = {
            name: round(self.milliseconds[f"{name}, triton"] / peers[fastest], 3)
            for name in OURS
            if f"{name}, triton" in self.milliseconds
        }
        self.part.line("loss against the fastest peer", size=self.size, fastest=fastest, ratios=ratios)


def peer(name: str) -> Call:
    """Another library's mean loss. Raises ImportError where it is missing."""
    if name == "full logits":
        return lambda h, w, target: torch.nn.functional.cross_entropy((h @ w.T).float(), target)
    if name == "liger":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss()
        return lambda h, w, target: fused(w, h, target)  # type: ignore[no-any-return]
    from cut_cross_entropy import linear_cross_entropy

    given = {} if name == FILTERED else {"filter_eps": None}
    return lambda h, w, target: linear_cross_entropy(h, w, target, **given)  # type: ignore[no-any-return]


def adapted(name: str, bench: Bench) -> Any:
    """A loss by name; one that adapts has seen people's texts fit better than the group's."""
    from noise_control import TokenContext, linear_loss, losses

    if name in ("mle", "tailr"):
        return losses.build(name, **({"gamma": 0.1} if name == "tailr" else {}))
    rule = {"rule": "sharpness"} if "sharpness" in name else {}
    loss = losses.build("adatailr", warmup_steps=0, **rule)
    count = min(SEQUENCE * 8, len(bench.h))
    h, w, target = bench.h[:count].detach(), bench.w.detach(), bench.target[:count]
    given, logits = told(count, h.device), h @ w.T
    for _ in range(2):
        linear_loss(h, w, target, loss, context=given, reduction="mean", backend="torch")
        loss.step()
        loss.observe_human(logits, logits.argmax(-1), TokenContext(sequence_N=given.sequence_N))
        loss.observe_source(logits, target, given)
        loss.step()
    bench.part.line("noise that the loss has found", size=bench.size, way=name, figures=loss.figures())
    return loss


def told(count: int, device: torch.device) -> Any:
    """Which text each token is of."""
    from noise_control import TokenContext

    sequence = torch.arange(count, device=device) // SEQUENCE
    return TokenContext(sequence_N=sequence, row_N=sequence, group_N=torch.zeros_like(sequence))


def far(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ceilings(part: Part) -> None:
    """A large bf16 product and a large copy: what no version can be faster than."""
    a, b = (torch.randn(8192, 8192, device=part.device, dtype=torch.bfloat16) for _ in range(2))
    out, big = torch.empty_like(a), torch.empty(2 << 30, dtype=torch.uint8, device=part.device)
    product = timed(lambda: torch.mm(a, b, out=out))
    copy = timed(lambda: big[: 1 << 30].copy_(big[1 << 30 :]))
    part.line("ceilings", tflops=round(2 * 8192**3 / product / 1e9), tb_per_s=round(2 * 2**30 / copy / 1e9, 2))


def timed(call: Callable[[], Any], repeats: int = 9) -> float:
    """Median milliseconds."""
    call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)


def against_peers(bench: Bench, backend: str) -> None:
    """Peers first, so that they are measured whatever becomes of ours; then ours by the kernels."""
    for name in PEERS:
        bench.case(name, partial(peer, name), REPEATS, name)
    for name in OURS:
        bench.case(f"{name}, {backend}", partial(bench.ours, name, backend=backend), REPEATS, name)
    bench.verdict()


def against_late_peers(bench: Bench) -> None:
    for name in LATE_PEERS:
        bench.case(name, partial(peer, name), REPEATS, name)
    bench.verdict()


def pieces(bench: Bench, rows: int) -> None:
    """What each pass and product of one chunk takes, in milliseconds."""
    from noise_control.kernels.rows import row_statistics, slope_in_place

    h, w, target = bench.h[:rows].detach(), bench.w.detach(), bench.target[:rows]
    logits, table, out = h @ w.T, torch.zeros_like(w), torch.empty_like(h)
    found, one = row_statistics(logits, target), torch.ones(rows, device=h.device)
    took = {
        "logits": timed(lambda: torch.mm(h, w.T, out=logits)),
        "statistics": timed(lambda: row_statistics(logits, target)),
        "with sharpness": timed(lambda: row_statistics(logits, target, sharpness=True)),
        "slope": timed(lambda: slope_in_place(logits, target, found, one)),
        "hidden gradient": timed(lambda: torch.mm(logits, w, out=out)),
        "head gradient": timed(lambda: table.addmm_(logits.T, h)),
    }
    rounded = {name: round(time, 3) for name, time in took.items()}
    bench.part.line("pieces of a chunk", size=bench.size, rows=rows, milliseconds=rounded)


def what_helps(bench: Bench) -> None:
    """What helps to choose defaults, then what is slow."""
    for rows in (768, 1024, 1280, 1536, 2048):
        call = partial(bench.ours, "mle", backend="triton", chunk_rows=rows)
        bench.case(f"mle, triton, {rows} rows", call, 6, None)
        with bench.part.case("pieces of a chunk", size=bench.size, rows=rows):
            pieces(bench, rows)
    wide = {"backend": "triton", "weight_gradient": "float32"}
    bench.case("mle, triton, float32 sums", partial(bench.ours, "mle", **wide), SLOW_REPEATS, "mle")
    for name in OURS[:3]:
        bench.case(f"{name}, torch", partial(bench.ours, name, backend="torch"), SLOW_REPEATS, name)
    bench.case(FILTERED, partial(peer, FILTERED), SLOW_REPEATS, FILTERED)


def main() -> None:
    part = Part(__doc__)
    part.need_gpu()
    if part.tiny:
        for size in TINY:
            against_peers(Bench(part, size), "torch")
        return
    with part.case("ceilings"):
        ceilings(part)
    steps: list[Callable[[Bench], None]] = [partial(against_peers, backend="triton"), against_late_peers, what_helps]
    for step in steps:
        for size in SIZES:
            free()
            step(Bench(part, size))


if __name__ == "__main__":
    main()
