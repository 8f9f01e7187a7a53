r"""Two passes over a chunk's logits: what losses need of each row, then the loss's slope in place of the logits.

One program a row, float32 inside, whatever the logits are kept in. A row's logit is $z$, or $z + b$ with a bias, or
$s \tanh(z/s)$ of that with a soft cap s. Ours; the running sums are those of online softmax (Milakov and Gimelshein
2018, arXiv 1805.02867). A pointer that a kernel does not use is the logits' own.

Shapes: C rows of a chunk, V vocabulary. Importing this needs Triton.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Words that a program takes at a time, and its warps: 16 bytes a thread and load, four loads in flight.
BLOCK, WARPS = 4096, 8
#: Elements that a program of the scaling takes.
SCALED = 16_384


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Figures of each row, float32 (C,).

    ``highest`` is the largest logit m, ``total`` is $s = \\sum_v e^{z_v - m}$. ``nll`` is of the target (0 where it is
    negative, NaN where it is no word), ``sharpness`` is $\\sum_v q_v^2$. ``uniform_nll`` is the mean of $-\\log q_v$
    over the ``possible`` words, those whose logit is not -inf. Those not asked for are None.
    """

    nll: Tensor
    highest: Tensor
    total: Tensor
    sharpness: Tensor | None
    uniform_nll: Tensor | None
    possible: Tensor | None


def row_statistics(
    logits_CV: Tensor,
    target_C: Tensor,
    bias_V: Tensor | None = None,
    soft_cap: float | None = None,
    *,
    sharpness: bool = False,
    smoothing: bool = False,
) -> Rows:
    """One pass that reads the logits and changes nothing. ``logits_CV`` may have rows apart, but no words apart."""
    rows, words = logits_CV.shape
    nll, highest, total = (logits_CV.new_empty(rows, dtype=torch.float32) for _ in range(3))
    extra = [logits_CV.new_empty(rows, dtype=torch.float32) if wanted else None for wanted in (sharpness, smoothing)]
    possible = torch.empty_like(extra[1]) if extra[1] is not None else None
    if rows:
        with _device(logits_CV):
            _statistics[(rows,)](
                logits_CV,
                *(logits_CV if x is None else x for x in (bias_V, target_C)),
                *(nll, highest, total),
                *(logits_CV if x is None else x for x in (*extra, possible)),
                words,
                logits_CV.stride(0),
                **_options(words, bias_V, soft_cap),
                SHARPNESS=sharpness,
                SMOOTHING=smoothing,
            )
    return Rows(nll=nll, highest=highest, total=total, sharpness=extra[0], uniform_nll=extra[1], possible=possible)


def slope_in_place(
    logits_CV: Tensor,
    target_C: Tensor,
    rows: Rows,
    weighted_C: Tensor,
    even_C: Tensor | None = None,
    bias_V: Tensor | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    r"""The loss's slope on what the output layer gives, in place of its logits: $w (q - e_t) + u (q - 1/n)$.

    ``weighted_C`` is w, ``even_C`` is u, the share of the uniform distribution over the n possible words; both float32
    and zero where ignored, where the slope is zero whatever the logits are.
    """
    count, words = logits_CV.shape
    if count:
        with _device(logits_CV):
            _slope[(count,)](
                logits_CV,
                *(logits_CV if x is None else x for x in (bias_V, target_C)),
                *(rows.highest, rows.total, weighted_C),
                *(logits_CV if x is None else x for x in (even_C, rows.possible)),
                words,
                logits_CV.stride(0),
                **_options(words, bias_V, soft_cap),
                SMOOTHING=even_C is not None,
            )
    return logits_CV


def scale_in_place(table: Tensor, by: Tensor) -> Tensor:
    """``table * by`` for a number on the device; where it is one, nothing is read or waited for."""
    if not table.is_contiguous():
        return table.mul_(by.to(table.dtype))
    if table.numel():
        with _device(table):
            _scale[(triton.cdiv(table.numel(), SCALED),)](table, by, table.numel(), BLOCK=SCALED, num_warps=WARPS)
    return table


def _options(words: int, bias: Tensor | None, soft_cap: float | None) -> dict[str, Any]:
    block = min(BLOCK, triton.next_power_of_2(words))
    return {
        "cap": float(soft_cap or 1.0),
        "BLOCK": block,
        "BIAS": bias is not None,
        "CAP": soft_cap is not None,
        "num_warps": min(WARPS, max(1, block // 256)),
    }


def _device(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@triton.jit  # type: ignore[untyped-decorator]
def _tanh(x):  # type: ignore[no-untyped-def]
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    far = (1.0 - e) / (1.0 + e)
    # Near zero the difference above would lose its digits.
    s = x * x
    near = x * (1.0 - s * (0.3333333333 - s * (0.1333333333 - s * (0.0539682540 - s * 0.0218694885))))
    return tl.where(a < 0.3, near, tl.where(x < 0.0, -far, far))


@triton.jit  # type: ignore[untyped-decorator]
def _logit(Z, B, at, inside, cap, BIAS: tl.constexpr, CAP: tl.constexpr):  # type: ignore[no-untyped-def]
    x = tl.load(Z + at, mask=inside, other=-float("inf")).to(tl.float32)
    if BIAS:
        x += tl.load(B + at, mask=inside, other=0.0).to(tl.float32)
    if CAP:
        x = tl.where(inside, cap * _tanh(x / cap), -float("inf"))
    return x


@triton.jit  # type: ignore[untyped-decorator]
def _statistics(  # type: ignore[no-untyped-def]
    Z,
    B,
    TARGET,
    NLL,
    HIGHEST,
    TOTAL,
    SHARP,
    UNIFORM,
    POSSIBLE,
    words,
    stride,
    cap,
    BLOCK: tl.constexpr,
    BIAS: tl.constexpr,
    CAP: tl.constexpr,
    SHARPNESS: tl.constexpr,
    SMOOTHING: tl.constexpr,
):
    # In 64 bits: rows times vocabulary is over 2^31 for large chunks.
    row = tl.program_id(0).to(tl.int64)
    z = Z + row * stride
    highest = -float("inf")
    total = 0.0
    squares = 0.0
    sum_possible = 0.0
    num_possible = 0.0
    for start in range(0, words, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = _logit(z, B, at, at < words, cap, BIAS, CAP)
        new = tl.maximum(highest, tl.max(x, axis=0))
        # While all were -inf, -inf - -inf would be no number.
        safe = tl.where(new == -float("inf"), 0.0, new)
        shrink = tl.exp(highest - safe)
        e = tl.exp(x - safe)
        total = total * shrink + tl.sum(e, axis=0)
        if SHARPNESS:
            squares = squares * shrink * shrink + tl.sum(e * e, axis=0)
        if SMOOTHING:
            possible = x != -float("inf")
            sum_possible += tl.sum(tl.where(possible, x, 0.0), axis=0)
            num_possible += tl.sum(possible.to(tl.float32), axis=0)
        highest = new
    target = tl.load(TARGET + row)
    live = target >= 0
    known = live & (target < words)
    own = _logit(z, B, tl.where(known, target, 0), known, cap, BIAS, CAP)
    nll = (highest - own) + tl.log(total)
    nll = tl.where(known, nll, float("nan"))
    tl.store(NLL + row, tl.where(live, nll, 0.0))
    tl.store(HIGHEST + row, highest)
    tl.store(TOTAL + row, total)
    if SHARPNESS:
        tl.store(SHARP + row, tl.minimum(squares / (total * total), 1.0))
    if SMOOTHING:
        mean = sum_possible / tl.maximum(num_possible, 1.0)
        tl.store(UNIFORM + row, tl.where(live, (highest - mean) + tl.log(total), 0.0))
        tl.store(POSSIBLE + row, num_possible)


@triton.jit  # type: ignore[untyped-decorator]
def _slope(  # type: ignore[no-untyped-def]
    Z,
    B,
    TARGET,
    HIGHEST,
    TOTAL,
    WEIGHTED,
    EVEN,
    POSSIBLE,
    words,
    stride,
    cap,
    BLOCK: tl.constexpr,
    BIAS: tl.constexpr,
    CAP: tl.constexpr,
    SMOOTHING: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    z = Z + row * stride
    target = tl.load(TARGET + row)
    highest = tl.load(HIGHEST + row)
    weighted = tl.load(WEIGHTED + row)
    factor = weighted
    each = 0.0
    if SMOOTHING:
        even = tl.load(EVEN + row)
        factor += even
        each = even / tl.maximum(tl.load(POSSIBLE + row), 1.0)
    ratio = factor / tl.load(TOTAL + row)
    for start in range(0, words, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < words
        x = _logit(z, B, at, inside, cap, BIAS, CAP)
        slope = tl.exp(x - highest) * ratio
        if SMOOTHING:
            slope -= tl.where(x != -float("inf"), each, 0.0)
        slope = tl.where(at == target, slope - weighted, slope)
        if CAP:
            slope *= 1.0 - (x / cap) * (x / cap)
        slope = tl.where(factor == 0.0, 0.0, slope)
        tl.store(z + at, slope.to(Z.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _scale(TABLE, BY, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    by = tl.load(BY).to(tl.float32)
    if by != 1.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < count
        value = tl.load(TABLE + at, mask=inside).to(tl.float32)
        tl.store(TABLE + at, (value * by).to(TABLE.dtype.element_ty), mask=inside)
