"""The statements of docs/theory.md against brute force: float64, small vocabularies, random draws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from noise_control import TokenContext, losses
from noise_control.rules._repeats import too_often
from noise_control.rules._scores import PeopleScores
from noise_control.rules.mixture import Mixture

pytestmark = pytest.mark.usefixtures("unchecked")

GENERATOR = torch.Generator().manual_seed(7)


def dirichlet(*shape: int, power: float = 3.0) -> Tensor:
    """Random distributions over the last axis, some of them nearly on one word."""
    x = torch.rand(*shape, generator=GENERATOR, dtype=torch.float64) ** power + 1e-12
    return x / x.sum(-1, keepdim=True)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * (a - b).abs().sum(-1)


def descended(data: Tensor, weight: object, steps: int = 2500) -> Tensor:
    """Where a tabular softmax goes under E_data[weight(q) * -log q]; the weight carries no gradient."""
    logits = torch.zeros_like(data, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(steps):
        q = logits.softmax(-1)
        loss = -(data * weight(q.detach()) * q.log()).sum()  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().softmax(-1)


def tailr(gamma: Tensor | float) -> object:
    return lambda q: q / (gamma + (1 - gamma) * q)


def test_sequence_bound() -> None:
    """1.1, by enumeration: three words, three places, conditionals on the whole prefix."""
    for _ in range(50):
        tables = [{prefix: dirichlet(2, 3) for prefix in itertools.product(range(3), repeat=t)} for t in range(3)]
        whole, bound = 0.0, 0.0
        for text in itertools.product(range(3), repeat=3):
            chances = torch.ones(2, dtype=torch.float64)
            for t in range(3):
                bound += float(chances[0] * distance(*tables[t][text[:t]])) / 3 ** (3 - t)
                chances = chances * tables[t][text[:t]][:, text[t]]
            whole += 0.5 * float((chances[0] - chances[1]).abs())
        assert whole <= bound + 1e-12


def test_l2_decomposition_and_bounds() -> None:
    """1.3 over 3,000 draws: identity, the best gamma against a grid, the Brier identity, the linear bound.

    Pooled too.
    """
    p, q = dirichlet(3000, 6), dirichlet(3000, 6)
    onehot, grid = torch.eye(6, dtype=torch.float64), torch.linspace(0, 1, 101, dtype=torch.float64)
    b, v = ((q - p) ** 2).sum(-1), 1 - (p**2).sum(-1)
    errors = []
    for gamma in grid:
        proxy = gamma * onehot + (1 - gamma) * q[:, None]
        error = (p * ((proxy - p[:, None]) ** 2).sum(-1)).sum(-1)
        torch.testing.assert_close(error, (1 - gamma) ** 2 * b + gamma**2 * v, rtol=1e-9, atol=1e-12)
        errors.append(error)
        value = (p * distance(proxy, q[:, None])).sum(-1)
        bound = gamma * v + (1 - gamma) * distance(p, q)
        assert ((value - distance(p, q)).abs() <= bound + 1e-12).all()
        assert ((p * distance(proxy, p[:, None])).sum(-1) <= bound + 1e-12).all()
    best = grid[torch.stack(errors).argmin(0)]
    assert ((best - b / (b + v)).abs() <= 0.0051).all()
    assert abs(float(grid[torch.stack(errors).sum(1).argmin()] - b.sum() / (b + v).sum())) <= 0.0051
    torch.testing.assert_close((p * (1 - 2 * q + (q**2).sum(-1, keepdim=True))).sum(-1), b + v, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_water_filling() -> None:
    """1.4: rare tokens deleted, the rest sharpened."""
    data, gamma = torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01], dtype=torch.float64), 0.1
    kept = torch.ones(5, dtype=torch.bool)
    for _ in range(5):
        omega = data[kept].sum() / (1 + gamma * (kept.sum() - 1))
        kept = data > gamma * omega
    wanted = ((data / omega - gamma) / (1 - gamma)).clamp(min=0)
    torch.testing.assert_close(descended(data, tailr(gamma)), wanted, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_uniform_noise_is_removed_exactly() -> None:
    p, rate = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64), 0.4
    data = (1 - rate) * p + rate / 4
    found = descended(data, tailr((rate / 4) / (1 - rate + rate / 4)))
    torch.testing.assert_close(found, p, rtol=0, atol=1e-3)


def test_robustness_bound() -> None:
    """1.5 over random finite classes."""
    for _ in range(500):
        p, n, family = dirichlet(5), dirichlet(5), dirichlet(20, 5)
        rate = torch.rand((), generator=GENERATOR, dtype=torch.float64)
        chosen = family[distance((1 - rate) * p + rate * n, family).argmin()]
        assert distance(p, chosen) <= distance(p, family).min() + 2 * rate * distance(p, n) + 1e-12


def test_posterior_weights_are_exact_for_any_noise() -> None:
    """4.1.

    With the true rate and noise words the gradient vanishes at the clean conditional, overlapping noise or not.
    """
    for _ in range(200):
        p, n = dirichlet(8), dirichlet(8)
        rate = 0.9 * torch.rand((), generator=GENERATOR, dtype=torch.float64)
        data, a = (1 - rate) * p + rate * n, rate * n / (1 - rate)
        logits = p.log().requires_grad_()
        log_q = logits.log_softmax(-1)
        (-(data * (log_q.exp() / (log_q.exp() + a)).detach() * log_q)).sum().backward()
        torch.testing.assert_close(logits.grad, torch.zeros_like(p), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_tailr_form_tilts_where_noise_is_concentrated() -> None:
    """4.1's counter-example: the same gamma per word, TaiLr's factor, another fixed point."""
    p, n, rate = torch.tensor([0.5, 0.5]).double(), torch.tensor([1.0, 0.0]).double(), 0.3
    data, a = (1 - rate) * p + rate * n, rate * n / (1 - rate)
    torch.testing.assert_close(descended(data, lambda q: q / (q + a)), p, rtol=0, atol=1e-3)
    tilted = descended(data, tailr(a / (1 + a)))
    assert 0.6 < tilted[0] < 0.62, tilted


def test_total_rate_is_exact_at_any_model() -> None:
    """4.2: whatever the model has absorbed, from nothing to all of the noise and beyond, the rate is the rate."""
    p, n = dirichlet(9), dirichlet(9)
    for rate in (0.0, 0.2, 0.6):
        data = (1 - rate) * p + rate * n
        for q in (p, data, 0.5 * p + 0.5 * n, dirichlet(9)):
            f = q / (q + n)
            own, noise, group = (p * f).sum(), (n * f).sum(), (data * f).sum()
            torch.testing.assert_close(
                (own - group) / (own - noise), torch.tensor(rate, dtype=torch.float64), rtol=1e-9, atol=1e-12
            )


def test_corrupted_moments() -> None:
    """4.3: what is put on people's texts is the group's noise at its rate.

    Between none and that rate moments go in proportion.
    """
    loss = losses.build("adatailr", warmup_steps=0, buckets=1 << 10)
    noise = torch.tensor([0.5, 0.3, 0.2, 0, 0, 0, 0, 0], dtype=torch.float64)
    sequence = torch.arange(500).repeat_interleave(8)
    words = torch.multinomial(noise, 4000, replacement=True, generator=GENERATOR)
    loss(torch.zeros(4000, 8), words, TokenContext(sequence_N=sequence))
    loss.step()
    people = torch.full((4000,), 7)
    loss.observe_human(torch.zeros(4000, 8), people, TokenContext(sequence_N=sequence))
    [(group, replaced)] = loss.corrupted(people, TokenContext(sequence_N=sequence))
    assert group == 0
    hit = replaced != 7
    assert float(hit.float().mean()) == pytest.approx(0.3, abs=0.03)
    drawn = torch.bincount(replaced[hit], minlength=8) / hit.sum()
    assert float((drawn - noise).abs().max()) < 0.05
    scored = PeopleScores(mean=0.1, squares=0.26, corrupted_mean=-0.5, corrupted_squares=0.75, corrupted_rate=0.4)
    assert scored.normal(0.0) == pytest.approx((0.1, math.sqrt(0.26 - 0.01) + 0.01))
    assert scored.normal(0.4) == pytest.approx((-0.5, math.sqrt(0.75 - 0.25) + 0.01))
    assert scored.normal(0.2) == pytest.approx((-0.2, math.sqrt((0.25 + 0.5) / 2) + 0.01))


def test_right_texts_are_rarely_held_to_stand_too_often() -> None:
    """4.6: of a source that says what people say, in how many of 400 draws any text is doubted.

    And the share of a phrase that people never say.
    """
    share = torch.tensor([0.3, 0.2, 0.15, 0.1, *[0.25 / 40] * 40], dtype=torch.float64)
    doubted = 0
    for _ in range(400):
        source, people = (
            torch.bincount(torch.multinomial(share, n, replacement=True, generator=GENERATOR), minlength=44).double()
            for n in (400, 60)
        )
        doubted += bool(too_often(source, 400, people).any())
    assert doubted <= 4, doubted
    source, people = torch.tensor([200.0, *[2.0] * 100]), torch.tensor([0.0, *[0.6] * 100])
    found = too_often(source, 400, people)
    assert float(found[0]) == pytest.approx(1 - (0.5 / 61) / 0.5)
    assert not found[1:].any()
    assert not too_often(source, 400, torch.zeros(101)).any(), "nobody to compare with"
    assert not too_often(torch.tensor([3.0, 1.0]), 4, people[:2]).any(), "four rows are not enough"


@pytest.mark.slow
def test_a_steady_rise_is_no_noise() -> None:
    """4.5: clean texts under a model that grows surer at every step.

    Set against the last look alone they would look noisy.
    """
    generator = torch.Generator().manual_seed(3)
    words = torch.randn(10, 20, generator=generator, dtype=torch.float64) * 3
    loss = losses.build("adatailr", warmup_steps=0, buckets=1 << 10)
    assert isinstance(loss, Mixture)
    highest, lagged = 0.0, 0.0
    own = group = 0.0

    def texts(count: int, step: int) -> tuple[Tensor, Tensor, TokenContext]:
        clip = torch.randint(0, 10, (count,), generator=generator).repeat_interleave(6)
        target = torch.multinomial(words[clip].softmax(-1), 1, generator=generator)[:, 0]
        return words[clip] * step / 200, target, TokenContext(sequence_N=torch.arange(count).repeat_interleave(6))

    def sureness(logits: Tensor, target: Tensor) -> float:
        return float(logits.softmax(-1).gather(1, target[:, None]).mean())

    for step in range(200):
        if step % 20 == 0:
            shown = texts(400, step)
            loss.observe_human(*shown)
            own = sureness(shown[0], shown[1])
            lagged = max(lagged, 1 - group / own) if step > 40 else lagged
        batch = texts(120, step)
        group = sureness(batch[0], batch[1]) if step % 20 == 10 else group
        loss(*batch)
        loss.step()
        highest = max(highest, float(loss.noise_rates()[0]))
    assert highest < 0.05, highest
    assert lagged > 0.05, "a lagged comparison would have called this noise"
