"""bf16 weights that learn: AdamW whose weights and moments are rounded up or down at random.

bf16 keeps 8 binary digits, so a weight's neighbours are 0.4 to 0.8 % away. An update smaller than half of that is lost
when it is rounded to nearest, each time anew. Rounded at random, with chances by the distance to either neighbour, it
is right on average (Gupta et al. 2015, "Deep learning with limited numerical precision", eq. 2).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import BFloat16, Float32, Int32
from torch import Tensor

#: Elements that are updated at a time; six fp32 copies of them are held.
_CHUNK = 1 << 24
#: What fp32 has more than bf16: 16 bits of the number.
_CUT = 1 << 16
#: The golden ratio's part of them: its multiples fill the interval evenly, however many are taken (Weyl 1916).
_TURN = 40_503


def mixed(*parts: int) -> int:
    """A seed of 56 bits that hangs on these numbers alone, for instance a run's seed and a step."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def seeded(device: torch.device, *parts: int) -> torch.Generator:
    """A generator that draws by these numbers alone."""
    return torch.Generator(device).manual_seed(mixed(*parts))


def uniform_bits(like: Tensor, generator: torch.Generator) -> Int32[Tensor, "*shape"]:
    """16 uniform random bits for each element of a tensor."""
    return torch.empty(like.shape, dtype=torch.int32, device=like.device).random_(_CUT, generator=generator)


def round_into(
    out: BFloat16[Tensor, "*shape"], value: Float32[Tensor, "*shape"], bits: Int32[Tensor, "*shape"]
) -> BFloat16[Tensor, "*shape"]:
    """Write ``value`` to ``out``, each element rounded to one of its two neighbours by uniform ``bits``.

    They are added below bf16's last place, and these 16 places cut off. ``value`` is overwritten.
    """
    value.view(torch.int32).add_(bits).bitwise_and_(-_CUT)
    return out.copy_(value)


def to_bf16(parameters: Iterable[torch.nn.Parameter], seed: int) -> None:
    """Make fp32 parameters bf16, rounded at random.

    To nearest, what was learned would be lost where it is less than half a bf16 step.
    """
    for index, parameter in enumerate(parameters):
        if parameter.dtype == torch.float32:
            generator = seeded(parameter.device, seed, index)
            rounded = torch.empty_like(parameter, dtype=torch.bfloat16)
            for out, value in _chunks(rounded, parameter.detach()):
                round_into(out, value.clone(), uniform_bits(value, generator))
            parameter.data = rounded


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019) on bf16 weights with bf16 moments; new values are rounded at random.

    8 bytes a weight with its gradient, against 16 of fp32. What is drawn hangs on ``seed`` and the step alone, and the
    step is part of the state: a resumed training draws as one that was not interrupted.

    A weight's bits are the same in each step but for a turn by the golden ratio. Each step is rounded as by fresh bits;
    but over many steps they fill the interval evenly, so a weight stays within about a bf16 step of what fp32 would
    give, where fresh bits let it stray by the square root of the steps (ours).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        seed: int = 0,
    ) -> None:
        """As ``torch.optim.AdamW``. Raises ValueError for weights that are not bf16."""
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "seed": seed, "step": 0}
        super().__init__(params, defaults)
        if other := {p.dtype for group in self.param_groups for p in group["params"]} - {torch.bfloat16}:
            raise ValueError(f"RoundedAdamW: trains bf16 weights, got {', '.join(map(str, other))}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; weights without a gradient stay as they are. Returns what ``closure`` gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            group["step"] += 1
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(self._new_state(parameter))
                self._update(parameter, state, group, (group["seed"], number, index))
        return loss

    def _new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def _update(
        self, parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any], place: tuple[int, ...]
    ) -> None:
        """AdamW's step of a parameter with a gradient; what is drawn hangs on its ``place`` and the step."""
        assert parameter.grad is not None
        _update_all((parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"]), group, place)


def _update_all(tensors: tuple[Tensor, ...], group: dict[str, Any], place: tuple[int, ...]) -> None:
    """AdamW's step of a parameter, whose bits hang on its ``place`` and the step."""
    step, device = group["step"], tensors[0].device
    if device.type == "cuda" and all(tensor.is_contiguous() for tensor in tensors) and _has_kernel(device):
        from trainers import rounding_kernel

        with torch.cuda.device(device):
            rounding_kernel.update(tensors, group, mixed(*place), mixed(*place, step), step * _TURN % _CUT)
        return
    still, fresh = seeded(device, *place), seeded(device, *place, step)
    for chunk in _chunks(*tensors):
        _update(chunk, group, still, fresh)


@lru_cache
def _has_kernel(device: torch.device) -> bool:
    """Whether Triton's kernel runs on a GPU; said once where not."""
    try:
        from trainers import rounding_kernel

        weight, gradient, mean, square = (torch.ones(16, dtype=torch.bfloat16, device=device) for _ in range(4))
        group = {"betas": (0.9, 0.999), "lr": 0.5, "eps": 1e-8, "weight_decay": 0.0, "step": 1}
        tensors = (weight, gradient, mean.zero_(), square.zero_())
        with torch.cuda.device(device):
            rounding_kernel.update(tensors, group, 1, 2, 3)
        works, reason = bool(((weight - 0.5).abs() < 0.01).all()), f"it gave {weight.tolist()} for 0.5"
    except Exception as error:
        works, reason = False, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if not works:
        warnings.warn(
            f"RoundedAdamW: its kernel does not run here ({reason}); torch does the same slower", stacklevel=4
        )
    return works


def _update(tensors: tuple[Tensor, ...], group: dict[str, Any], still: torch.Generator, fresh: torch.Generator) -> None:
    """AdamW's step of a few weights, in fp32; what is kept is rounded.

    ``tensors`` are weight, gradient, mean and mean square of the gradients.
    """
    weight, gradient, mean, square = tensors
    new_weight, new_mean, new_square = stepped(weight, gradient, mean.float(), square.float(), group)
    round_into(weight, new_weight, turned_bits(weight, still, group["step"]))
    round_into(mean, new_mean, uniform_bits(mean, fresh))
    round_into(square, new_square, uniform_bits(square, fresh))


def stepped(
    weight: BFloat16[Tensor, "*shape"],
    gradient: BFloat16[Tensor, "*shape"],
    mean: Float32[Tensor, "*shape"],
    square: Float32[Tensor, "*shape"],
    group: dict[str, Any],
) -> tuple[Float32[Tensor, "*shape"], Float32[Tensor, "*shape"], Float32[Tensor, "*shape"]]:
    """Weight, mean and mean square after AdamW's step of a group, not rounded; the moments may be overwritten."""
    beta1, beta2 = group["betas"]
    step, rate = group["step"], group["lr"]
    gradient = gradient.float()
    new_mean = mean.lerp_(gradient, 1 - beta1)
    new_square = square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = new_square.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    new_weight = weight.float().mul_(1 - rate * group["weight_decay"])
    new_weight.addcdiv_(new_mean, scale, value=-rate / (1 - beta1**step))
    return new_weight, new_mean, new_square


def turned_bits(weight: Tensor, still: torch.Generator, step: int) -> Int32[Tensor, "*shape"]:
    """A weight's own 16 bits, turned by the step."""
    return uniform_bits(weight, still).add_(step * _TURN % _CUT).bitwise_and_(_CUT - 1)


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Flat parts of tensors of one shape, each with at most so many elements; what is written to them is kept."""
    if all(tensor.is_contiguous() for tensor in tensors):
        yield from zip(*(torch.split(tensor.view(-1), _CHUNK) for tensor in tensors), strict=True)
    else:
        yield tensors
