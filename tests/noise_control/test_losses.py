"""Losses against float64 brute force, hand-worked values, limits and each other."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch

from flywheel.core.errors import UserError
from noise_control import IGNORED, TokenContext, losses
from noise_control.interface import sharpness_of, tailr_weight

GAMMAS = (1e-7, 1e-3, 0.1, 0.5, 0.8, 0.999)


def draw(n: int = 7, v: int = 11, seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, v, generator=generator, dtype=torch.float64) * scale
    return logits.requires_grad_(), torch.randint(0, v, (n,), generator=generator)


def phi(q: torch.Tensor, gamma: float) -> torch.Tensor:
    """The potential whose gradient TaiLr's is (method page, 3.2)."""
    return -(gamma + (1 - gamma) * q).log() / (1 - gamma)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_tailr_gradient_is_the_potentials(gamma: float) -> None:
    logits, target = draw()
    losses.build("tailr", gamma=gamma)(logits, target).sum().backward()
    detached = logits.grad.clone()
    logits.grad = None
    phi(logits.softmax(-1).gather(1, target[:, None]), gamma).sum().backward()
    torch.testing.assert_close(detached, logits.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_weight_is_the_finite_difference_of_the_potential(gamma: float) -> None:
    q = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    step = 1e-6
    slope = (phi(q + step, gamma) - phi(q - step, gamma)) / (2 * step)
    torch.testing.assert_close(-slope * q, tailr_weight(q.log(), gamma), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_logit_gradient_is_weight_times_residual(gamma: float) -> None:
    logits, target = draw()
    loss = losses.build("tailr", gamma=gamma)
    loss(logits, target).sum().backward()
    q = logits.detach().softmax(-1)
    onehot = torch.nn.functional.one_hot(target, q.shape[1])
    torch.testing.assert_close(logits.grad, loss.last_weight_N[:, None] * (q - onehot), rtol=1e-9, atol=1e-12)


def test_direction_of_gamma() -> None:
    """gamma -> 0 is maximum likelihood, gamma = 1 is total variation: not the other way round."""
    logits, target = draw()
    nll = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(losses.build("tailr", gamma=1e-9)(logits, target), nll, rtol=1e-6, atol=0)
    losses.build("tailr", gamma=1.0)(logits, target).sum().backward()
    total_variation = logits.grad.clone()
    logits.grad = None
    (1 - logits.softmax(-1).gather(1, target[:, None])).sum().backward()
    torch.testing.assert_close(total_variation, logits.grad, rtol=1e-9, atol=1e-12)


def test_by_hand() -> None:
    """q = 1/4 and gamma = 1/5: w = .25 / (.2 + .8 * .25) = .625, loss = .625 * ln 4."""
    loss = losses.build("tailr", gamma=0.2)(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([2]))
    assert loss.item() == pytest.approx(0.625 * math.log(4), rel=1e-12)


def test_weight_is_monotone_and_bounded() -> None:
    q = torch.linspace(1e-6, 1, 200, dtype=torch.float64)
    rows = torch.stack([tailr_weight(q.log(), g) for g in (0.0, *GAMMAS, 1.0)])
    assert (rows.diff(dim=1) >= -1e-12).all(), "must not fall as q grows"
    assert (rows.diff(dim=0) <= 1e-12).all(), "must not grow with gamma"
    assert (rows <= 1).all()
    assert (rows >= q - 1e-12).all()


def test_floor() -> None:
    logits, target = draw(scale=8.0)
    loss = losses.build("tailr", gamma=0.8, floor=0.2)
    loss(logits, target)
    assert loss.last_weight_N.min() == 0.2


@pytest.mark.parametrize("arguments", [{"gamma": -0.1}, {"gamma": 1.1}, {"gamma": 0.1, "floor": -1}])
def test_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need 0 <="):
        losses.build("tailr", **arguments)


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UserError, match="Did you mean 'tailr'"):
        losses.build("tailer")
    with pytest.raises(UserError, match="Did you mean 'gamma'"):
        losses.build("tailr", gama=0.1)


def arguments_of(name: str) -> dict[str, float]:
    return {
        "tailr": {"gamma": 0.1},
        "loss_truncation": {"warmup_steps": 0},
        "error_norm_truncation": {"warmup_steps": 0},
    }.get(name, {})


@pytest.mark.parametrize("name", losses.names())
def test_contract(name: str) -> None:
    """What every registered loss must keep: shape, ignored targets, finite extremes, gradients, state."""
    arguments = arguments_of(name)
    loss = losses.build(name, **arguments)
    assert loss.built_from == (name, arguments)
    logits, target = draw()
    target[2] = IGNORED
    value = loss(logits, target)
    assert value.shape == target.shape
    assert value[2] == 0
    with pytest.MonkeyPatch.context() as patch:
        # It calls the loss hundreds of times, with the shapes that were checked above.
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        assert torch.autograd.gradcheck(lambda z: with_first_weight(loss, z, target), (logits,))
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-torch.inf, 3.0, 1.0], [80.0, 80.0, 80.0]], requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        loss = losses.build(name, **arguments)
        logits = extreme.detach().to(dtype).requires_grad_()
        out = loss(logits, torch.tensor([0, 1, 2]))
        out.sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(logits.grad).all()
    loss, fresh = losses.build(name, **arguments), losses.build(name, **arguments)
    loss(*draw())
    loss.step()
    fresh.load_state_dict(loss.state_dict())
    torch.testing.assert_close(fresh(*draw(seed=3)), loss(*draw(seed=3)), rtol=0, atol=0)


@pytest.mark.parametrize("name", losses.names())
def test_nothing_to_learn_from(name: str) -> None:
    """A batch of padding alone costs nothing and moves nothing."""
    loss = losses.build(name, **arguments_of(name))
    for _ in range(2):
        logits, target = draw()
        out = loss(logits, torch.full_like(target, IGNORED))
        out.sum().backward()
        assert (out == 0).all()
        assert (logits.grad == 0).all()
        loss.step()


@pytest.mark.parametrize("name", [n for n in losses.names() if n not in ("mle", "label_smoothing")])
def test_a_target_held_for_impossible_gives_finite_gradients(name: str) -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [0.0, 2.0, 1.0]], requires_grad=True)
    loss = losses.build(name, **arguments_of(name))
    for _ in range(2):
        logits.grad = None
        loss(logits, torch.tensor([1, 2])).sum().backward()
        assert torch.isfinite(logits.grad).all()
        loss.step()


def test_a_factor_per_token() -> None:
    logits, target = draw()
    scale = torch.rand(len(target), dtype=torch.float64)
    loss = losses.build("tailr", gamma=0.2, smoothing=0.1)
    torch.testing.assert_close(loss(logits, target, TokenContext(scale_N=scale)), loss(logits, target) * scale)


def test_tailr_warms_up() -> None:
    logits, target = draw()
    loss = losses.build("tailr", gamma=0.4, warmup_steps=4)
    values = []
    for _ in range(6):
        values.append(loss(logits, target).detach())
        loss.step()
    assert torch.equal(values[0], torch.nn.functional.cross_entropy(logits, target, reduction="none"))
    torch.testing.assert_close(values[2], losses.build("tailr", gamma=0.2)(logits, target).detach())
    assert torch.equal(values[4], values[5])


def test_label_smoothing_is_torchs() -> None:
    logits, target = draw()
    wanted = torch.nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(losses.build("label_smoothing", amount=0.2)(logits, target), wanted)
    masked = logits.detach().clone()
    masked[:, 3] = -torch.inf
    kept = target != 3
    rest = torch.cat([masked[:, :3], masked[:, 4:]], 1)
    wanted = torch.nn.functional.cross_entropy(
        rest[kept], (target - (target > 3).long())[kept], reduction="none", label_smoothing=0.2
    )
    torch.testing.assert_close(losses.build("label_smoothing", amount=0.2)(masked[kept], target[kept]), wanted)


@pytest.mark.parametrize("power", [0.3, 0.7, 1.0])
def test_gce_has_the_gradient_of_its_own_form(power: float) -> None:
    logits, target = draw()
    found = torch.autograd.grad(losses.build("gce", power=power)(logits, target).sum(), logits)
    q = logits.softmax(-1).gather(1, target[:, None])
    wanted = torch.autograd.grad(((1 - q**power) / power).sum(), logits)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_dft_is_total_variation() -> None:
    logits, target = draw()
    torch.testing.assert_close(losses.build("dft")(logits, target), losses.build("tailr", gamma=1.0)(logits, target))


def test_loss_truncation_drops_the_worst_sequences() -> None:
    """Ten sequences of two tokens; the two with the highest mean loss are dropped at share .2, whole."""
    q = torch.linspace(0.05, 0.95, 10, dtype=torch.float64).repeat_interleave(2)
    logits = torch.stack([q.log(), (1 - q).log()], 1)
    context = TokenContext(sequence_N=torch.arange(10).repeat_interleave(2))
    loss = losses.build("loss_truncation", share=0.2, warmup_steps=1)
    assert (loss(logits, torch.zeros(20, dtype=torch.long), context) > 0).all(), "warm-up"
    loss.step()
    loss(logits, torch.zeros(20, dtype=torch.long), context)
    assert loss.last_weight_N.tolist() == [0.0] * 4 + [1.0] * 16


def test_error_norm_truncation_keeps_the_unsure_and_drops_the_wrong_and_sure() -> None:
    """Equal likelihood, unequal norm: .1 beside one word of .9 is dropped, .1 among nine others of .1 is not."""
    sure, unsure = torch.full((10,), 1e-9, dtype=torch.float64), torch.full((10,), 0.1, dtype=torch.float64)
    sure[0], sure[1] = 0.1, 0.9
    logits = torch.stack([sure.log(), *[unsure.log()] * 9])
    loss = losses.build("error_norm_truncation", share=0.1, warmup_steps=1)
    for _ in range(2):
        loss(logits, torch.zeros(10, dtype=torch.long))
        loss.step()
    assert loss.last_weight_N.tolist() == [0.0] + [1.0] * 9


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gce", {"power": 1.2}),
        ("label_smoothing", {"amount": -0.1}),
        ("loss_truncation", {"share": float("nan")}),
        ("error_norm_truncation", {"warmup_steps": -1}),
        ("adatailr", {"floor": -0.2}),
        ("adatailr", {"noise_max": 2.0}),
        ("adatailr", {"warmup_steps": -1}),
        ("adatailr", {"levels": "some"}),
        ("adatailr", {"rule": "sharpness", "decay": 1.5}),
    ],
)
def test_values_out_of_range(name: str, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"need|must be"):
        losses.build(name, **arguments)


def test_a_rules_arguments_are_checked_too() -> None:
    with pytest.raises(UserError, match="Did you mean 'mixture'"):
        losses.build("adatailr", rule="mixtur")
    with pytest.raises(UserError, match="Did you mean 'decay'"):
        losses.build("adatailr", decai=0.5)


def with_first_weight(loss: object, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """gradcheck moves the logits, and a detached weight must not move with them: hold it at its first value."""
    base, _ = draw()
    loss(base, target)  # type: ignore[operator]
    weight = loss.last_weight_N.clone()  # type: ignore[attr-defined]
    value = weight * torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
    smoothing = loss.smoothing  # type: ignore[attr-defined]
    uniform = torch.where(target == IGNORED, torch.zeros_like(value), -logits.log_softmax(-1).mean(-1))
    return (1 - smoothing) * value + smoothing * uniform


def test_sharpness_equals_sum_of_squares() -> None:
    logits, _ = draw(50)
    torch.testing.assert_close(
        sharpness_of(logits.detach()), logits.detach().softmax(-1).square().sum(-1), rtol=1e-9, atol=1e-12
    )
