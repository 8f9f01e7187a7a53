"""The first reconstruction's rule: its gamma, its noise rate, its state."""

from __future__ import annotations

import torch

from noise_control import IGNORED, TokenContext, losses
from noise_control.rules.sharpness import Sharpness, target_gamma


def draw(n: int = 7, v: int = 11, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, v, generator=generator, dtype=torch.float64) * 2
    return logits.requires_grad_(), torch.randint(0, v, (n,), generator=generator)


def built(**arguments: object) -> Sharpness:
    loss = losses.build("adatailr", rule="sharpness", **arguments)
    assert isinstance(loss, Sharpness)
    return loss


def adapted(noise_rate: float, groups: int = 1) -> Sharpness:
    """One whose groups all have this noise rate: people's tokens are certain, the groups' are not."""
    rule = built(warmup_steps=0)
    rule._sums = torch.tensor([[1 - noise_rate, 1.0, 1.0]] * groups, dtype=torch.float64)
    rule._pending = torch.zeros_like(rule._sums)
    rule._human = torch.ones(3, dtype=torch.float64)
    return rule


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
        loss = built(warmup_steps=0)
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
    assert torch.equal(losses.build("adatailr", rule="sharpness")(logits, target), plain)
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
    first, second = (losses.build("adatailr", rule="sharpness") for _ in range(2))
    first(logits, target)
    second(more, with_padding)
    for loss in (first, second):
        loss.observe_human(more, with_padding)
        loss.step()
    assert torch.equal(first.state_dict()["sums"], second.state_dict()["sums"])
    assert torch.equal(first.state_dict()["human"], second.state_dict()["human"])


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
    whole = losses.build("adatailr", rule="sharpness", warmup_steps=0)
    parts = [losses.build("adatailr", rule="sharpness", warmup_steps=0) for _ in range(2)]
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
            fresh = losses.build("adatailr", rule="sharpness", warmup_steps=0)
            fresh.load_state_dict(parts[1].state_dict())
            parts[1] = fresh
    for loss in parts:
        torch.testing.assert_close(loss.noise_rates(), whole.noise_rates(), rtol=1e-12, atol=1e-15)  # type: ignore[attr-defined]
    assert whole.noise_rates().max() > 0  # type: ignore[attr-defined]


def test_no_people_no_adaptation() -> None:
    logits, target = draw()
    loss = losses.build("adatailr", rule="sharpness", warmup_steps=0)
    for _ in range(3):
        value = loss(logits, target)
        loss.step()
    assert torch.equal(value, torch.nn.functional.cross_entropy(logits, target, reduction="none"))
