"""Losses against float64 brute force, hand-worked values, limits and each other."""

from __future__ import annotations

import math

import pytest
import torch

from flywheel.core.errors import UserError
from noise_control import IGNORED, TokenContext, linear_loss, losses
from noise_control.interface import tailr_weight
from noise_control.losses.adatailr import AdaTailr, sharpness_of, target_gamma

GAMMAS = (1e-7, 1e-3, 0.1, 0.5, 0.8, 0.999)


def draw(n: int = 7, v: int = 11, seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, v, generator=generator, dtype=torch.float64) * scale
    return logits.requires_grad_(), torch.randint(0, v, (n,), generator=generator)


def adapted(noise_rate: float, groups: int = 1) -> AdaTailr:
    """An adatailr whose groups all have this noise rate: people's tokens are certain, the groups' are not."""
    loss = losses.build("adatailr", warmup_steps=0)
    assert isinstance(loss, AdaTailr)
    loss._sums = torch.tensor([[1 - noise_rate, 1.0, 1.0]] * groups, dtype=torch.float64)
    loss._pending = torch.zeros_like(loss._sums)
    loss._human = torch.ones(3, dtype=torch.float64)
    return loss


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


@pytest.mark.parametrize("name", losses.names())
def test_contract(name: str) -> None:
    """What every registered loss must keep: shape, ignored targets, finite extremes, gradients, state."""
    arguments = {"gamma": 0.1} if name == "tailr" else {}
    loss = losses.build(name, **arguments)
    assert loss.built_from == (name, arguments)
    logits, target = draw()
    target[2] = IGNORED
    value = loss(logits, target)
    assert value.shape == target.shape
    assert value[2] == 0
    assert torch.autograd.gradcheck(lambda z: with_first_weight(loss, z, target), (logits,))
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-torch.inf, 3.0, 1.0], [80.0, 80.0, 80.0]], requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        logits = extreme.detach().to(dtype).requires_grad_()
        out = loss(logits, torch.tensor([0, 1, 2]))
        out.sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(logits.grad).all()
    fresh = losses.build(name, **arguments)
    loss.step()
    fresh.load_state_dict(loss.state_dict())
    torch.testing.assert_close(fresh(*draw(seed=3)), loss(*draw(seed=3)), rtol=0, atol=0)


def with_first_weight(loss: object, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """gradcheck moves the logits, and a detached weight must not move with them: hold it at its first value."""
    base, _ = draw()
    loss(base, target)  # type: ignore[operator]
    weight = loss.last_weight_N.clone()  # type: ignore[attr-defined]
    return weight * torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")


def test_sharpness_equals_sum_of_squares() -> None:
    logits, _ = draw(50)
    torch.testing.assert_close(sharpness_of(logits.detach()), logits.detach().softmax(-1).square().sum(-1), rtol=1e-9, atol=1e-12)


def test_target_gamma_is_the_optimum_on_disjoint_supports() -> None:
    """Exactly B/(B+V) when the noise's own norm is kept, never more without it; in [0, 1]; rising in both."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        p = torch.zeros(12, dtype=torch.float64)
        n = torch.zeros(12, dtype=torch.float64)
        p[:6] = torch.rand(6, generator=generator, dtype=torch.float64) ** 3
        n[6:] = torch.rand(6, generator=generator, dtype=torch.float64) ** 3
        p, n = p / p.sum(), n / n.sum()
        eps = torch.rand(1, generator=generator, dtype=torch.float64)
        data = (1 - eps) * p + eps * n
        b, v = ((p - data) ** 2).sum(), 1 - (data**2).sum()
        c, n2 = (p**2).sum(), (n**2).sum()
        exact = eps**2 * (c + n2) / (1 - c + 2 * eps * c)
        torch.testing.assert_close(exact[0], b / (b + v), rtol=1e-9, atol=1e-12)
        found = target_gamma(eps, c)
        assert 0 <= found <= exact + 1e-12
    rates = torch.linspace(0, 0.9, 20, dtype=torch.float64)
    table = target_gamma(rates[:, None], torch.linspace(0.01, 0.99, 20, dtype=torch.float64)[None])
    assert (table.diff(dim=0) >= 0).all()
    assert (table.diff(dim=1) >= 0).all()


def test_noise_rate_identities() -> None:
    """eps_hat is eps at q = p; eps - eps * eta * N2 / ((1 - eta) c) when a share eta of the noise is absorbed."""
    p = torch.tensor([0.5, 0.3, 0.2, 0, 0, 0], dtype=torch.float64)
    n = torch.tensor([0, 0, 0, 0.4, 0.4, 0.2], dtype=torch.float64)
    eps = 0.4
    for eta in (0.0, 0.1, 0.2):
        q = (1 - eta) * p + eta * n
        data = (1 - eps) * p + eps * n
        loss = losses.build("adatailr", warmup_steps=0)
        assert isinstance(loss, AdaTailr)
        c = (q**2).sum()
        loss._sums = torch.stack([(data * q).sum(), c, torch.ones((), dtype=torch.float64)])[None]
        loss._pending = torch.zeros_like(loss._sums)
        loss._human = torch.stack([(p * q).sum(), c, torch.ones((), dtype=torch.float64)])
        wanted = eps - eps * eta * (n**2).sum() / ((1 - eta) * (p**2).sum())
        torch.testing.assert_close(loss.noise_rates()[0], wanted, rtol=1e-9, atol=1e-12)


def test_adatailr_without_noise_is_cross_entropy_to_the_bit() -> None:
    logits, target = draw()
    logits = logits.float()
    target[1] = IGNORED
    plain = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
    assert torch.equal(losses.build("adatailr")(logits, target), plain)
    assert torch.equal(losses.build("mle")(logits, target), plain)
    context = TokenContext(group_N=torch.tensor([0, 0, 0, 1, 1, 1, 1]))
    loss = adapted(0.5, groups=2)
    loss._sums[0] = 1.0
    mixed = loss(logits, target, context)
    assert torch.equal(mixed[:3], plain[:3]), "a clean group beside a noisy one stays cross-entropy"
    assert (mixed[3:] < plain[3:]).all()


def test_adatailr_counts_neither_padding_nor_prompt() -> None:
    logits, target = draw()
    with_padding = torch.cat([target, torch.full((3,), IGNORED)])
    more = torch.cat([logits.detach(), torch.full((3, 11), 50.0, dtype=torch.float64)])
    first, second = losses.build("adatailr"), losses.build("adatailr")
    first(logits, target)
    second(more, with_padding)
    for loss in (first, second):
        loss.observe_human(more, with_padding)
        loss.step()
    assert first.state_dict()["sums"] == second.state_dict()["sums"]
    assert first.state_dict()["human"] == second.state_dict()["human"]


def test_no_gradient_through_what_adapts() -> None:
    logits, target = draw()
    loss = adapted(0.4)
    loss(logits, target).sum().backward()
    q = logits.detach().softmax(-1)
    onehot = torch.nn.functional.one_hot(target, 11)
    torch.testing.assert_close(logits.grad, loss.last_weight_N[:, None] * (q - onehot), rtol=1e-9, atol=1e-12)


def test_state_is_summed_over_ranks_and_resumed_exactly() -> None:
    logits, target = draw(20)
    groups = torch.arange(20) % 3
    whole = losses.build("adatailr", warmup_steps=0)
    parts = [losses.build("adatailr", warmup_steps=0) for _ in range(2)]
    for seed in range(4):
        human, _ = draw(9, seed=100 + seed)
        human_target = human.detach().argmax(-1)
        for loss in (whole, *parts):
            loss.observe_human(human, human_target)
        whole(logits, target, TokenContext(group_N=groups))
        for rank, loss in enumerate(parts):
            half = slice(rank * 10, rank * 10 + 10)
            loss(logits[half], target[half], TokenContext(group_N=groups[half]))
        total = sum(loss._pending for loss in parts)  # type: ignore[attr-defined,misc]
        whole.step()
        for loss in parts:
            loss.step(lambda _, total=total: total)  # type: ignore[misc]
        if seed == 1:
            fresh = losses.build("adatailr", warmup_steps=0)
            fresh.load_state_dict(parts[1].state_dict())
            parts[1] = fresh
    for loss in parts:
        torch.testing.assert_close(loss.noise_rates(), whole.noise_rates(), rtol=1e-12, atol=1e-15)  # type: ignore[attr-defined]
    assert whole.noise_rates().max() > 0  # type: ignore[attr-defined]


def test_no_people_no_adaptation() -> None:
    logits, target = draw()
    loss = losses.build("adatailr", warmup_steps=0)
    for _ in range(3):
        value = loss(logits, target)
        loss.step()
    assert torch.equal(value, torch.nn.functional.cross_entropy(logits, target, reduction="none"))


def test_water_filling() -> None:
    """A tabular softmax under TaiLr goes where 3.4 of the method page says: rare tokens deleted, the rest sharpened."""
    data = torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01], dtype=torch.float64)
    gamma = 0.1
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(6000):
        optimizer.zero_grad()
        (data * phi(logits.softmax(-1), gamma)).sum().backward()
        optimizer.step()
    kept = torch.ones(5, dtype=torch.bool)
    for _ in range(5):
        omega = data[kept].sum() / (1 + gamma * (kept.sum() - 1))
        kept = data > gamma * omega
    wanted = ((data / omega - gamma) / (1 - gamma)).clamp(min=0)
    torch.testing.assert_close(logits.detach().softmax(-1), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["mle", "tailr", "adatailr"])
@pytest.mark.parametrize("soft_cap", [None, 5.0])
def test_linear_loss_equals_the_unchunked(name: str, soft_cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noise_control.linear._CHUNK", 4)
    generator = torch.Generator().manual_seed(2)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in ((11, 6), (9, 6), (9,))
    )
    target = torch.randint(0, 9, (11,), generator=generator)
    target[3] = IGNORED
    built = [
        losses.build("tailr", gamma=0.3) if name == "tailr" else adapted(0.4) if name == "adatailr" else losses.build("mle")
        for _ in range(2)
    ]
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if soft_cap is not None:
        logits = soft_cap * torch.tanh(logits / soft_cap)
    plain = built[0](logits, target)
    wanted = torch.autograd.grad(plain.sum(), (hidden, weight, bias))
    chunked = linear_loss(hidden, weight, target, built[1], bias=bias, soft_cap=soft_cap)
    found = torch.autograd.grad(chunked.sum(), (hidden, weight, bias))
    torch.testing.assert_close(chunked, plain, rtol=1e-9, atol=1e-12)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    built[0].step()
    built[1].step()
    torch.testing.assert_close(
        torch.tensor(built[0].state_dict().get("sums", [0.0])),
        torch.tensor(built[1].state_dict().get("sums", [0.0])),
        rtol=1e-12,
        atol=0,
    )
    mean = linear_loss(hidden, weight, target, losses.build("mle"), reduction="mean")
    logits = torch.nn.functional.linear(hidden, weight)
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED))
