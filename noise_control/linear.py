"""Losses straight from hidden states: logits live for one chunk of tokens at a time.

Reduced, the gradients are made in the forward pass, in place of a chunk's logits: three matrix products, as with full
logits. Unreduced, the backward pass makes the logits again: four.

Shape suffixes: N tokens, D hidden, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from noise_control.interface import IGNORED, TokenContext, TokenLoss, TokenStatistics, widened

#: Logits of a chunk take at most this, in float32; a GPU wants larger products. On the CPU it is over glibc's highest
#: mmap threshold, so that what is freed goes back at once.
_CHUNK_BYTES = {"cpu": 40 << 20, "cuda": 256 << 20}
#: Products of fewer rows than these waste the machine.
_LEAST_ROWS = 16


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
) -> Tensor:
    """``token_loss`` of ``hidden @ weight.T + bias``: the same values and gradients, the logits never held.

    ``none`` returns (N,), in nats; ``mean`` divides the sum by the number of targets that count.

    ``soft_cap`` s bounds logits to (-s, s) by ``s * tanh(z / s)``. ``chunk_rows`` sets the tokens per chunk. A loss
    that wants whole sequences gets chunks that end with one; where a sequence is longer than a chunk it costs a fourth
    matrix product. Half-precision products are summed in float32, the weight's gradient too.

    Raises ValueError for another reduction or shapes that do not fit.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"linear_loss: reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
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
    rows = chunk_rows or max(_LEAST_ROWS, _CHUNK_BYTES.get(device, _CHUNK_BYTES["cuda"]) // (4 * weight_VD.shape[0]))
    job = _Job(target_N=target_N, loss=token_loss, soft_cap=soft_cap, context=context, rows=rows, reduction=reduction)
    with torch.autocast(device, enabled=False):
        return _LinearLoss.apply(hidden_ND, weight_VD, bias, job)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True, kw_only=True)
class _Job:
    target_N: Tensor
    loss: TokenLoss
    soft_cap: float | None
    context: TokenContext | None
    rows: int
    reduction: str

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
        head = _Head(weight, bias, job)
        spans, whole = job.spans()
        count = max(1, int((job.target_N != IGNORED).sum())) if job.reduction == "mean" else 1
        weights_N = None
        if not whole:
            joined = _joined([head.statistics(head.logits(hidden[s]), job.target_N[s]) for s in spans])
            job.loss.weigh(joined, job.target_N, job.context)
            weights_N = job.loss.last_weight_N
        gradients = _Gradients(hidden, weight, bias, needs) if job.reduction != "none" and any(needs) else None
        parts, weight_parts = [], []
        for span in spans:
            logits_CV, target_C = head.logits(hidden[span]), job.target_N[span]
            statistics = head.statistics(logits_CV, target_C)
            if whole:
                job.loss.weigh(_plain(statistics), target_C, job.part(span))
                weight_C = job.loss.last_weight_N
            else:
                assert weights_N is not None
                weight_C = weights_N[span]
            assert weight_C is not None
            scale_C = _scale(job, span)
            parts.append(head.value(statistics, weight_C, scale_C))
            weight_parts.append(weight_C)
            if gradients is not None:
                scale = torch.ones_like(weight_C) if scale_C is None else scale_C.to(weight_C)
                gradients.add(span, head.slope(logits_CV, statistics, target_C, weight_C, scale / count), hidden[span])
        empty = widened(hidden.new_zeros(0))
        loss_N = torch.cat(parts) if parts else empty
        weight_N = torch.cat(weight_parts) if weight_parts else empty
        job.loss.last_weight_N = weight_N
        ctx.job, ctx.gradients, ctx.needs = job, gradients, needs
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
        job, head = ctx.job, _Head(weight, bias, ctx.job)
        gradients = _Gradients(hidden, weight, bias, ctx.needs)
        for start in range(0, len(hidden), job.rows):
            span = slice(start, min(start + job.rows, len(hidden)))
            scale_C, factor = _scale(job, span), upstream[span].to(weight_N)
            factor = factor if scale_C is None else factor * scale_C.to(factor)
            logits_CV, target_C = head.logits(hidden[span]), job.target_N[span]
            statistics = head.statistics(logits_CV, target_C)
            gradients.add(span, head.slope(logits_CV, statistics, target_C, weight_N[span], factor), hidden[span])
        return (*gradients.scaled(None), None)


@dataclass(frozen=True, kw_only=True)
class _ChunkStatistics(TokenStatistics):
    total: Tensor
    uniform_nll: Tensor | None
    possible: Tensor | None
    capped: Tensor | None


class _Head:
    """The output layer, a chunk of tokens at a time."""

    def __init__(self, weight: Tensor, bias: Tensor | None, job: _Job) -> None:
        self._weight, self._bias, self._cap, self._loss = weight, bias, job.soft_cap, job.loss
        self._buffer: Tensor | None = None

    def logits(self, hidden_CD: Tensor) -> Tensor:
        """(C, V), in memory that the next chunk takes over where types allow."""
        if self._buffer is None or len(self._buffer) < len(hidden_CD):
            self._buffer = hidden_CD.new_empty(len(hidden_CD), len(self._weight))
        logits = torch.mm(hidden_CD, self._weight.T, out=self._buffer[: len(hidden_CD)])
        if self._bias is not None:
            logits += self._bias
        logits = widened(logits)
        return logits if self._cap is None else logits.div_(self._cap).tanh_().mul_(self._cap)

    def statistics(self, logits_CV: Tensor, target_C: Tensor) -> _ChunkStatistics:
        r"""The figures that weights need; leaves $e^{z - \max z}$ where the logits were, for the slope."""
        live = target_C != IGNORED
        target_logit = logits_CV.gather(1, target_C.clamp(min=0)[:, None])[:, 0]
        possible = mean = capped = None
        if self._loss.smoothing:
            possible = logits_CV != -torch.inf
            mean = torch.where(possible, logits_CV, torch.zeros_like(logits_CV)).sum(-1) / possible.sum(-1).clamp(min=1)
        if self._cap is not None:
            capped = 1 - (logits_CV / self._cap) ** 2
        highest = logits_CV.amax(-1)
        total = logits_CV.sub_(highest[:, None]).exp_().sum(-1)
        lse = highest + total.log()
        sharpness = None
        if self._loss.wants_sharpness:
            sharpness = (torch.linalg.vector_norm(logits_CV, dim=-1) / total).square().clamp(max=1.0)
        uniform = None if mean is None else torch.where(live, lse - mean, torch.zeros_like(lse))
        return _ChunkStatistics(
            nll_N=torch.where(live, lse - target_logit, torch.zeros_like(lse)),
            vocabulary=logits_CV.shape[1],
            sharpness_N=sharpness,
            total=total,
            uniform_nll=uniform,
            possible=possible,
            capped=capped,
        )

    def value(self, statistics: _ChunkStatistics, weight_C: Tensor, scale_C: Tensor | None) -> Tensor:
        nll = statistics.nll_N
        # A weight of one keeps an infinite loss; any other takes it out, as TokenLoss does.
        loss = torch.where(nll.isinf() & (weight_C != 1), torch.zeros_like(nll), weight_C * nll)
        if statistics.uniform_nll is not None:
            loss = (1 - self._loss.smoothing) * loss + self._loss.smoothing * statistics.uniform_nll
        return loss if scale_C is None else loss * scale_C

    def slope(
        self,
        exponentials_CV: Tensor,
        statistics: _ChunkStatistics,
        target_C: Tensor,
        weight_C: Tensor,
        factor_C: Tensor,
    ) -> Tensor:
        """The loss's gradient on what the output layer gives, times ``factor_C``; in place of the exponentials."""
        live, smoothing = target_C != IGNORED, self._loss.smoothing
        weighted = torch.where(live, factor_C * weight_C * (1 - smoothing), torch.zeros_like(weight_C))
        even = torch.where(live, factor_C * smoothing, torch.zeros_like(weight_C))
        slope = exponentials_CV.mul_(((weighted + even) / statistics.total)[:, None])
        if statistics.possible is not None:
            slope -= statistics.possible * (even / statistics.possible.sum(-1).clamp(min=1))[:, None]
        slope.scatter_add_(1, target_C.clamp(min=0)[:, None], -weighted[:, None])
        return slope if statistics.capped is None else slope.mul_(statistics.capped)


class _Gradients:
    """Sums of the chunks' gradients on hidden states, weight and bias; only those that are needed."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, needs: tuple[bool, bool, bool]) -> None:
        self._hidden = torch.empty_like(hidden) if needs[0] else None
        self._taken = False
        self._dtypes = (weight.dtype, None if bias is None else bias.dtype)
        self._weight_VD = weight
        self._weight = torch.zeros_like(weight, dtype=widened(weight[:0]).dtype) if needs[1] else None
        self._bias = torch.zeros_like(bias, dtype=widened(bias[:0]).dtype) if bias is not None and needs[2] else None

    def add(self, span: slice, slope_CV: Tensor, hidden_CD: Tensor) -> None:
        narrow = slope_CV.to(hidden_CD.dtype)
        if self._hidden is not None:
            torch.mm(narrow, self._weight_VD, out=self._hidden[span])
        if self._weight is not None:
            if self._weight.dtype == narrow.dtype:
                self._weight.addmm_(narrow.T, hidden_CD)
            else:
                self._weight += narrow.T @ hidden_CD
        if self._bias is not None:
            self._bias += slope_CV.sum(0)

    def scaled(self, by: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients, given away: were they held here too, autograd would copy the weight's."""
        if self._taken:
            raise RuntimeError("linear_loss: a reduced loss goes backward once; use reduction='none' to go back again")
        self._taken = True
        tables = [self._hidden, self._weight, self._bias]
        out: list[Tensor | None] = []
        self._hidden = self._weight = self._bias = None
        for dtype in (None, *self._dtypes):
            table = tables.pop(0)
            if table is None:
                out.append(None)
                continue
            # The usual loss.backward() begins with one: then nothing is copied.
            plain = by is None or (by.device.type == "cpu" and bool(by == 1))
            made = table if plain else table * by.to(table.dtype)  # type: ignore[union-attr]
            out.append(made if dtype is None else made.to(dtype))
        return out[0], out[1], out[2]


def _scale(job: _Job, span: slice) -> Tensor | None:
    return None if job.context is None or job.context.scale_N is None else job.context.scale_N[span]


def _plain(statistics: _ChunkStatistics) -> TokenStatistics:
    return TokenStatistics(nll_N=statistics.nll_N, vocabulary=statistics.vocabulary, sharpness_N=statistics.sharpness_N)


def _joined(parts: list[_ChunkStatistics]) -> TokenStatistics:
    sharp = [part.sharpness_N for part in parts if part.sharpness_N is not None]
    return TokenStatistics(
        nll_N=torch.cat([part.nll_N for part in parts]),
        vocabulary=parts[0].vocabulary,
        sharpness_N=torch.cat(sharp) if sharp else None,
    )
