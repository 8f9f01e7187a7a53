"""Losses straight from hidden states: logits live for one chunk of tokens at a time.

Reduced, the gradients are made in the forward pass, in place of a chunk's logits: three matrix products, as with full
logits. Unreduced, the backward pass makes the logits again: four. The rows between the products are torch's work or,
on NVIDIA GPUs, that of two Triton kernels (:mod:`noise_control.kernels`).

Shape suffixes: N tokens, D hidden, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from noise_control import kernels
from noise_control.heads import Head, RowStatistics, TorchHead, cut, factors, joined, value
from noise_control.interface import IGNORED, TokenContext, TokenLoss, TokenStatistics, widened

#: Torch's logits of a chunk take at most this, in float32; a GPU wants larger products. On the CPU it is over glibc's
#: highest mmap threshold, so that what is freed goes back at once.
_CHUNK_BYTES = {"cpu": 40 << 20, "cuda": 256 << 20}
#: With Triton, a chunk's logits and the hidden states' gradient take at most this together.
_BUDGET = 512 << 20
#: Products of fewer rows than these waste the machine.
_LEAST_ROWS = 16
#: Rows come in multiples of these: on an H200 chunks of 1280 rows took 83.3 ms where 1408 took 86.5 (16,384 tokens,
#: 4096 wide, 131,072 words).
_TILES = (256, 128)
#: The weight's gradient is summed in float32 by parts of this many bytes.
_SUMMED_BYTES = 64 << 20


@torch.compiler.disable  # type: ignore[untyped-decorator]
def linear_loss(
    hidden_ND: Float[Tensor, "N D"],
    weight_VD: Float[Tensor, "V D"],
    target_N: Int[Tensor, " N"],
    token_loss: TokenLoss,
    bias: Float[Tensor, " V"] | None = None,
    soft_cap: float | None = None,
    context: TokenContext | None = None,
    reduction: Literal["none", "sum", "mean"] = "none",
    chunk_rows: int | None = None,
    *,
    backend: Literal["auto", "torch", "triton"] = "auto",
    budget_bytes: int | None = None,
    weight_gradient: Literal["auto", "own", "float32"] = "auto",
) -> Tensor:
    """``token_loss`` of ``hidden @ weight.T + bias``: the same values and gradients, the logits never held.

    ``none`` returns (N,), in nats; ``mean`` divides the sum by the number of targets that count.

    ``soft_cap`` s bounds logits to (-s, s) by ``s * tanh(z / s)``. A loss that wants whole sequences gets chunks that
    end with one; where a sequence is longer than a chunk it costs a fourth matrix product.

    ``backend`` ``auto`` takes Triton's kernels on NVIDIA GPUs from Ampere on, else torch. ``budget_bytes`` bounds what
    is held beside the weight's gradient: a chunk's logits, with Triton the hidden states' gradient too (512 MiB, but at
    least half of it for the logits). ``chunk_rows`` sets the tokens per chunk instead.

    ``weight_gradient`` says what half-precision chunks are summed in: ``own`` is the weight's type, ``float32`` takes
    twice the memory; ``auto`` is ``own`` with Triton.

    A loss with a ``__call__`` of its own is no weighted likelihood: it gets full logits, with a warning.

    Raises ValueError for another reduction or backend, one that can't be had, or shapes that do not fit.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"linear_loss: reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    if weight_gradient not in ("auto", "own", "float32"):
        raise ValueError(f"linear_loss: weight_gradient must be 'auto', 'own' or 'float32', got {weight_gradient!r}")
    if hidden_ND.dim() != 2 or weight_VD.dim() != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise ValueError(
            f"linear_loss: need hidden (N, D) and weight (V, D), got {tuple(hidden_ND.shape)}, {tuple(weight_VD.shape)}"
        )
    if target_N.shape != hidden_ND.shape[:1]:
        raise ValueError(
            f"linear_loss: need targets (N,) for hidden {tuple(hidden_ND.shape)}, got {tuple(target_N.shape)}"
        )
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    triton = kernels.chosen(backend, hidden_ND)
    if type(token_loss).__call__ is not TokenLoss.__call__:
        return _by_full_logits(hidden_ND, weight_VD, target_N, token_loss, bias, soft_cap, context, reduction)
    job = _Job(
        target_N=target_N.contiguous(),
        loss=token_loss,
        soft_cap=soft_cap,
        context=context,
        rows=chunk_rows or _rows(hidden_ND, weight_VD, triton, budget_bytes),
        reduction=reduction,
        triton=triton,
        wide=weight_gradient == "float32" or (weight_gradient == "auto" and not triton),
    )
    with torch.autocast(device, enabled=False):
        return _LinearLoss.apply(hidden_ND, weight_VD, bias, job)  # type: ignore[no-any-return, no-untyped-call]


def _rows(hidden: Tensor, weight: Tensor, triton: bool, budget: int | None) -> int:
    """Tokens of a chunk within a budget of bytes."""
    count, words = len(hidden), len(weight)
    if not triton:
        budget = budget or _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES["cuda"])
        return max(_LEAST_ROWS, budget // (4 * words))
    budget = budget or _BUDGET
    # Some numbers of each row are held too: statistics, weights, values.
    held = hidden.numel() * hidden.element_size() + 64 * count
    most = max(budget - held, budget // 2) // (words * hidden.element_size())
    tile = next((rows for rows in _TILES if most >= rows), None)
    if tile is None:
        return max(_LEAST_ROWS, most)
    # As many chunks as must be, as equal as they can be.
    chunks = max(1, _ceiling(count, most // tile * tile))
    return max(1, _ceiling(count, chunks * tile)) * tile


def _ceiling(a: int, b: int) -> int:
    return -(-a // b)


def _by_full_logits(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    loss: TokenLoss,
    bias: Tensor | None,
    soft_cap: float | None,
    context: TokenContext | None,
    reduction: str,
) -> Tensor:
    warnings.warn(
        f"linear_loss: {type(loss).__name__} has a __call__ of its own, so all logits are held at once, by torch; "
        "a loss that only gives weight() needs no more than a chunk of them",
        stacklevel=3,
    )
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits if soft_cap is None else soft_cap * torch.tanh(logits / soft_cap)
    loss_N = loss(logits, target, context)
    if reduction == "none":
        return loss_N
    return loss_N.sum() / ((target != IGNORED).sum().clamp(min=1) if reduction == "mean" else 1)


@dataclass(frozen=True, kw_only=True)
class _Job:
    target_N: Tensor
    loss: TokenLoss
    soft_cap: float | None
    context: TokenContext | None
    rows: int
    reduction: str
    #: Whether Triton does the rows, and whether the weight's gradient is summed in float32.
    triton: bool = False
    wide: bool = True

    def head(self, weight: Tensor, bias: Tensor | None) -> Head:
        if not self.triton:
            return TorchHead(weight, bias, self.loss, self.soft_cap)
        from noise_control.kernels.head import TritonHead

        return TritonHead(weight, bias, self.loss, self.soft_cap)

    def counted(self) -> int | Tensor:
        """What the sum is divided by; on a GPU a tensor, which nobody waits for."""
        if self.reduction != "mean":
            return 1
        count = (self.target_N != IGNORED).sum()
        return count.clamp(min=1) if count.is_cuda else max(1, int(count))

    def spans(self) -> tuple[list[slice], bool]:
        """The chunks, and whether each holds whole sequences."""
        count = len(self.target_N)
        if not self.loss.wants_sequences or self.context is None or self.context.sequence_N is None:
            return [slice(i, min(i + self.rows, count)) for i in range(0, count, self.rows)], True
        sequence = self.context.sequence_N
        begins = [0, *((sequence[1:] != sequence[:-1]).nonzero()[:, 0] + 1).tolist(), count]
        if count and max(b - a for a, b in pairwise(begins)) > self.rows:
            return [slice(i, min(i + self.rows, count)) for i in range(0, count, self.rows)], False
        spans, start, end = [], 0, 0
        for after in begins[1:]:
            if after - start > self.rows:
                spans.append(slice(start, end))
                start = end
            end = after
        return [*spans, slice(start, count)] if count else [], True

    def part(self, span: slice) -> TokenContext | None:
        if self.context is None:
            return None
        return TokenContext(
            **{name: None if value is None else value[span] for name, value in vars(self.context).items()}
        )


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> Tensor:
        needs = ctx.needs_input_grad[:3]
        head = job.head(weight, bias)
        spans, whole = job.spans()
        count = job.counted()
        known: list[RowStatistics | None] = [None] * len(spans)
        weights_N = None
        if not whole:
            parts = [head.statistics(head.logits(hidden[s]), job.target_N[s]) for s in spans]
            job.loss.weigh(joined([part.plain() for part in parts]), job.target_N, job.context)
            weights_N = job.loss.last_weight_N
            known = list(parts) if head.keeps() else known
        gradients = _Gradients(hidden, weight, bias, needs, job) if job.reduction != "none" and any(needs) else None
        plan = job.loss.planned(job.target_N, len(weight), job.context) if job.triton and whole else None
        seen: list[TokenStatistics] = []
        values, weight_parts, kept = [], [], []
        for span, before in zip(spans, known, strict=True):
            target_C, scale_C = job.target_N[span], _scale(job, span)
            logits_CV, statistics = head.again(hidden[span], target_C, before)
            if plan is not None:
                seen.append(statistics.plain())
                job.loss.bounded(plan.weight(seen[-1], span), seen[-1], target_C)
            elif whole:
                job.loss.weigh(statistics.plain(), target_C, job.part(span))
            weight_C = job.loss.last_weight_N if weights_N is None else weights_N[span]
            assert weight_C is not None
            values.append(value(job.loss, statistics, weight_C, scale_C))
            weight_parts.append(weight_C)
            if gradients is not None:
                factor = (torch.ones_like(weight_C) if scale_C is None else scale_C.to(weight_C)) / count
                by = factors(job.loss, statistics, target_C, weight_C, factor)
                gradients.add(span, head.slope(logits_CV, statistics, target_C, *by), hidden[span])
            elif head.keeps() and any(needs):
                kept.append(statistics)
        if plan is not None and seen:
            plan.count(joined(seen))
        empty = widened(hidden.new_zeros(0))
        loss_N = torch.cat(values) if values else empty
        weight_N = torch.cat(weight_parts) if weight_parts else empty
        job.loss.last_weight_N = weight_N
        ctx.job, ctx.gradients, ctx.needs = job, gradients, needs
        ctx.known = joined(kept) if kept else None
        if job.reduction == "none":
            ctx.save_for_backward(hidden, weight, bias, weight_N)
            return loss_N
        return loss_N.sum() / count

    @staticmethod
    @once_differentiable  # type: ignore[misc, no-untyped-call]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        if ctx.job.reduction != "none":
            return (*ctx.gradients.scaled(upstream), None)
        hidden, weight, bias, weight_N = ctx.saved_tensors
        job = ctx.job
        head = job.head(weight, bias)
        gradients = _Gradients(hidden, weight, bias, ctx.needs, job)
        for start in range(0, len(hidden), job.rows):
            span = slice(start, min(start + job.rows, len(hidden)))
            scale_C, factor = _scale(job, span), upstream[span].to(weight_N)
            factor = factor if scale_C is None else factor * scale_C.to(factor)
            target_C, known = job.target_N[span], None if ctx.known is None else cut(ctx.known, span)
            logits_CV, statistics = head.again(hidden[span], target_C, known)
            by = factors(job.loss, statistics, target_C, weight_N[span], factor)
            gradients.add(span, head.slope(logits_CV, statistics, target_C, *by), hidden[span])
        return (*gradients.scaled(None), None)


class _Gradients:
    """Sums of the chunks' gradients on hidden states, weight and bias; only those that are needed."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needs: tuple[bool, bool, bool], job: _Job
    ) -> None:
        self._hidden = torch.empty_like(hidden) if needs[0] else None
        self._taken, self._triton = False, job.triton
        self._dtypes = (weight.dtype, None if bias is None else bias.dtype)
        self._weight_VD = weight
        summed = widened(weight[:0]).dtype if job.wide else weight.dtype
        self._weight = torch.empty_like(weight, dtype=summed) if needs[1] else None
        # Triton's first chunk is written, not added: a pass over the table less.
        self._begun = not job.triton
        if self._weight is not None and self._begun:
            self._weight.zero_()
        self._bias = torch.zeros_like(bias, dtype=widened(bias[:0]).dtype) if bias is not None and needs[2] else None

    def add(self, span: slice, slope_CV: Tensor, hidden_CD: Tensor) -> None:
        narrow = slope_CV.to(hidden_CD.dtype)
        if self._hidden is not None:
            torch.mm(narrow, self._weight_VD, out=self._hidden[span])
        if self._weight is not None:
            if self._weight.dtype != narrow.dtype:
                self._add_widely(narrow, hidden_CD)
            elif self._begun:
                self._weight.addmm_(narrow.T, hidden_CD)
            else:
                torch.mm(narrow.T, hidden_CD, out=self._weight)
            self._begun = True
        if self._bias is not None:
            self._bias += slope_CV.sum(0, dtype=widened(slope_CV[:0]).dtype)

    def _add_widely(self, slope_CV: Tensor, hidden_CD: Tensor) -> None:
        """Add half-precision products in float32; on a GPU summed in it too, and never all of them held."""
        assert self._weight is not None
        if not self._begun:
            self._weight.zero_()
        if not slope_CV.is_cuda:
            self._weight += slope_CV.T @ hidden_CD
            return
        words = max(1, _SUMMED_BYTES // (4 * hidden_CD.shape[1]))
        for start in range(0, len(self._weight), words):
            part = slope_CV[:, start : start + words].T
            self._weight[start : start + words] += torch.mm(part, hidden_CD, out_dtype=torch.float32)

    def scaled(self, by: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients, given away: were they held here too, autograd would copy the weight's."""
        if self._taken:
            raise RuntimeError("linear_loss: a reduced loss goes backward once; use reduction='none' to go back again")
        self._taken = True
        if self._weight is not None and not self._begun:
            self._weight.zero_()
        tables = [self._hidden, self._weight, self._bias]
        out: list[Tensor | None] = []
        self._hidden = self._weight = self._bias = None
        for dtype in (None, *self._dtypes):
            table = tables.pop(0)
            if table is not None:
                table = self._times(table, by)
            out.append(table if table is None or dtype is None else table.to(dtype))
        return out[0], out[1], out[2]

    def _times(self, table: Tensor, by: Tensor | None) -> Tensor:
        # The usual loss.backward() begins with one: then nothing is done, and on a GPU nobody waits to see it.
        if by is None or (by.device.type == "cpu" and bool(by == 1)):
            return table
        if self._triton:
            from noise_control.kernels.rows import scale_in_place

            return scale_in_place(table, by)
        return table.mul_(by.to(table.dtype))


def _scale(job: _Job, span: slice) -> Tensor | None:
    return None if job.context is None or job.context.scale_N is None else job.context.scale_N[span]
