"""bf16 weights that learn in 6 bytes each: AdamW with moments of 8 bits, for models whose bf16 moments do not fit.

A moment is a code into a table of powers, times the largest of its block of 256 (blocks: Dettmers et al. 2022, "8-bit
optimizers via block-wise quantization", section 2.1; the table is ours). Codes are rounded up or down by a weight's own
number, which turns from step to step (:mod:`trainers.rounding`): a moment is right on average, and stays within a code
of what fp32 would give, where a mean over a thousand steps would stray by several with fresh numbers (ours).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from trainers.rounding import RoundedAdamW, round_into, seeded, stepped, turned_bits

#: Numbers that share a scale.
BLOCK = 256
#: Blocks that are updated at a time.
_BLOCKS = 1 << 14
#: A neighbouring code's mean is 9 % larger, down to 2^-16 of the block's largest, then zero; the sign is the last bit.
_MEANS = torch.cat([torch.zeros(1), torch.logspace(-16, 0, 127, base=2)])
#: The same for squares, down to 2^-32. None is zero: a step is a mean over the root of a square.
_SQUARES = torch.logspace(-32, 0, 256, base=2)

Codes = UInt8[Tensor, "blocks 256"]
Scales = Float32[Tensor, "blocks 1"]
Values = Float32[Tensor, "blocks 256"]


def encoded(values: Values, table: Tensor, drawn: Values) -> tuple[Codes, Scales]:
    """Codes of magnitudes into a table that rises to 1, rounded by what was ``drawn`` in [0, 1); and the scales."""
    scale = values.amax(1, keepdim=True)
    share = values / scale.clamp_min(torch.finfo(torch.float32).tiny)
    table = table.to(values.device)
    lower = torch.bucketize(share, table, right=True).sub_(1).clamp_(0, len(table) - 2)
    below, above = table[lower], table[lower + 1]
    chance = (share - below) / (above - below)
    return (lower + (drawn < chance)).to(torch.uint8), scale


def encoded_means(means: Values, drawn: Values) -> tuple[Codes, Scales]:
    """Codes of numbers with a sign, and the blocks' largest magnitudes."""
    codes, scale = encoded(means.abs(), _MEANS, drawn)
    return codes.mul_(2).add_(means < 0), scale


def encoded_squares(squares: Values, drawn: Values) -> tuple[Codes, Scales]:
    """Codes of numbers that are not negative, and the blocks' largest."""
    return encoded(squares, _SQUARES, drawn)


def decoded_means(codes: Codes, scale: Scales) -> Values:
    """The numbers that these codes stand for."""
    magnitude = _MEANS.to(codes.device)[(codes >> 1).long()]
    return torch.where((codes & 1).bool(), -magnitude, magnitude) * scale


def decoded_squares(codes: Codes, scale: Scales) -> Values:
    """The numbers that these codes stand for."""
    return _SQUARES.to(codes.device)[codes.long()] * scale


class EightBitAdamW(RoundedAdamW):
    """:class:`RoundedAdamW` with moments of 8 bits: 6 bytes a weight with its gradient."""

    def _new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        blocks, device = -(-parameter.numel() // BLOCK), parameter.device
        return {
            "mean": torch.zeros(blocks, BLOCK, dtype=torch.uint8, device=device),
            "mean_scale": torch.zeros(blocks, 1, device=device),
            "square": torch.zeros(blocks, BLOCK, dtype=torch.uint8, device=device),
            "square_scale": torch.zeros(blocks, 1, device=device),
        }

    def _update(
        self, parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any], place: tuple[int, ...]
    ) -> None:
        assert parameter.grad is not None
        device = parameter.device
        of_weight, of_moments = seeded(device, *place), seeded(device, *place, 0)
        weights = parameter.detach().reshape(-1)
        for inside, blocks in _parts(weights.numel()):
            weight, gradient = _padded(weights[inside]), _padded(parameter.grad.reshape(-1)[inside])
            kept = {name: values[blocks] for name, values in state.items()}
            mean = decoded_means(kept["mean"], kept["mean_scale"])
            square = decoded_squares(kept["square"], kept["square_scale"])
            new_weight, new_mean, new_square = stepped(weight, gradient, mean, square, group)
            round_into(weight, new_weight, turned_bits(weight, of_weight, group["step"]))
            weights[inside] = weight.view(-1)[: weights[inside].numel()]
            for name, (codes, scale) in {
                "mean": encoded_means(new_mean, _turned(of_moments, weight, group["step"])),
                "square": encoded_squares(new_square, _turned(of_moments, weight, group["step"])),
            }.items():
                kept[name].copy_(codes)
                kept[f"{name}_scale"].copy_(scale)
        if not parameter.is_contiguous():
            parameter.copy_(weights.view(parameter.shape))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As ``torch.optim.Optimizer``, which would give codes and scales the type of the weights."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():
            parameter = parameters[index]
            self.state[parameter] = {name: values.to(parameter.device, copy=True) for name, values in state.items()}


def _turned(generator: torch.Generator, like: Tensor, step: int) -> Values:
    """Uniform numbers in [0, 1), the same in each step but for its turn."""
    return turned_bits(like, generator, step).float().div_(1 << 16)


def _parts(count: int) -> Iterator[tuple[slice, slice]]:
    """Places of ``count`` numbers and of their blocks, so many at a time."""
    for first in range(0, -(-count // BLOCK), _BLOCKS):
        blocks = slice(first, first + _BLOCKS)
        yield slice(first * BLOCK, min((first + _BLOCKS) * BLOCK, count)), blocks


def _padded(values: Tensor) -> Tensor:
    """The numbers in whole blocks, zeros after the last."""
    return torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
