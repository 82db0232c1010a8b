"""Per-pixel std, Eq. 9, AI-PSNR and consistency against closed forms; what makes an attack weak."""

import math

import pytest
import torch

from stochrestore.attacks import Attack
from stochrestore.degradations import Inpainting
from stochrestore.errors import InputError
from stochrestore.metrics import restoration
from stochrestore.metrics.restoration import (
    attack_checks,
    consistency_psnr,
    per_pixel_std,
    robustness,
)
from stochrestore.networks.unet import UNet

INPAINTING = Inpainting(8)
KNOWN, HIDDEN = 2, 6


class Copies:
    """Each hidden pixel is gain · (mean known pixel of its channel) + noise · its seed."""

    def __init__(self, gain=0.0, noise=0.0):
        self.gain, self.noise = gain, noise
        self.largest_batch, self.seeds_drawn = 0, []

    def seed(self, y, n, *, generator):
        self.seeds_drawn.append(n)
        dims = 3 * HIDDEN * 8
        z = torch.randn(n, len(y), dims, generator=generator, dtype=y.dtype)
        return z if self.noise else torch.zeros_like(z)

    def __call__(self, y, z):
        self.largest_batch = max(self.largest_batch, len(y))
        means = y.mean((2, 3), keepdim=True).expand(-1, -1, HIDDEN, 8)
        hidden = self.gain * means + self.noise * z.reshape(-1, 3, HIDDEN, 8)
        return torch.cat([hidden, y], 2)


def inputs(n, generator):
    return torch.rand(n, 3, KNOWN, 8, generator=generator, dtype=torch.float64)


def test_std_is_averaged_over_all_pixels(generator):
    """Three quarters vary by .2, the known quarter not at all."""
    found = per_pixel_std(Copies(noise=0.2), inputs(5, generator), samples=200, generator=generator)
    assert found.shape == (5,)
    # The std of S normal samples is biased low by 1/(4S).
    assert found.tolist() == pytest.approx(5 * [0.75 * 0.2 * (1 - 1 / 800)], rel=0.02)


def test_std_of_two_samples_is_their_distance(generator):
    estimator, y = Copies(noise=0.3), inputs(4, generator)
    again = torch.Generator().manual_seed(5)
    found = per_pixel_std(estimator, y, samples=2, generator=again)
    again.manual_seed(5)
    first, second = (estimator(y, estimator.seed(y, 1, generator=again)[0]) for _ in range(2))
    expected = (first - second).abs().flatten(1).mean(1) / math.sqrt(2)
    assert torch.allclose(found, expected)


def test_std_keeps_one_sample_of_one_batch(generator, monkeypatch):
    monkeypatch.setattr(restoration, "BATCH", 4)
    estimator = Copies(noise=0.1)
    found = per_pixel_std(estimator, inputs(10, generator), generator=generator)
    assert found.shape == (10,)
    assert estimator.largest_batch == 4
    assert estimator.seeds_drawn == [1] + 3 * 32 * [1]  # the first: is it always 0?


def test_std_of_a_deterministic_estimator_is_exactly_zero_without_a_sample(generator):
    estimator = Copies(gain=0.7)  # its seeds are zeros
    assert per_pixel_std(estimator, inputs(3, generator), generator=generator).tolist() == [0, 0, 0]
    assert estimator.largest_batch == 0


def test_std_is_not_lost_beside_a_large_mean(generator):
    y = inputs(2, generator).float() + 1000
    found = per_pixel_std(Copies(gain=1.0, noise=0.01), y, samples=64, generator=generator)
    assert found.tolist() == pytest.approx(2 * [0.75 * 0.01], rel=0.05)


ATTACK = Attack(radius=0.4, steps=30, lr=0.05)
DIMS = 3 * 8 * 8


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_eq_9_of_a_linear_estimator(noise, generator):
    """The worst δ is constant: hidden pixels move by gain · ε/√48, the known ones by ε/√48."""
    found = robustness(
        Copies(gain=3.0, noise=noise),
        inputs(6, generator),
        ATTACK,
        input_dims=DIMS,
        seeds=2,
        generator=generator,
    )
    step = 0.4 / math.sqrt(3 * KNOWN * 8)
    worst = -10 * math.log10((0.75 * 9 + 0.25) * step**2)
    # δ may have either sign in each channel.
    assert found.psnr.tolist() == pytest.approx(6 * [worst], abs=0.1)
    assert found.ball_used.tolist() == pytest.approx(6 * [1.0])
    assert found.ai_psnr.tolist() == pytest.approx(6 * [-10 * math.log10(0.16 / DIMS)])


def test_the_paper_s_radius_is_its_ai_psnr(generator):
    """ε = 2.5 over 3·64·64 dimensions: 32.9 dB, Table 1's smallest."""
    y = torch.rand(2, 3, 16, 64, generator=generator)
    found = robustness(
        Whole(),
        y,
        Attack(radius=2.5, steps=5, lr=1.0),
        input_dims=3 * 64 * 64,
        generator=generator,
    )
    assert found.ai_psnr.min().item() == pytest.approx(32.94, abs=0.005)


class Whole:
    """G(y, z) = y, deterministic."""

    def seed(self, y, n, *, generator):
        return torch.zeros(n, len(y), 1)

    def __call__(self, y, z):
        return y


def test_a_deterministic_estimator_is_attacked_with_one_seed(generator):
    estimator = Copies(gain=1.0)
    robustness(estimator, inputs(5, generator), ATTACK, input_dims=DIMS, generator=generator)
    assert estimator.largest_batch == 5


def test_the_attack_is_judged_on_a_fresh_seed_the_same_on_both_sides(generator, monkeypatch):
    """A stochastic estimator whose seed hides the input is not robust by noise."""
    monkeypatch.setattr(restoration, "BATCH", 3)
    still = robustness(
        Copies(gain=0.0, noise=5.0),
        inputs(4, generator),
        ATTACK,
        input_dims=DIMS,
        seeds=3,
        generator=generator,
    )
    # Only the known pixels move, by δ itself.
    assert torch.allclose(still.psnr, still.ai_psnr)


def test_gradients_may_be_off_outside(generator):
    with torch.no_grad():
        found = robustness(
            Copies(gain=1.0), inputs(2, generator), ATTACK, input_dims=DIMS, generator=generator
        )
    assert not found.psnr.requires_grad
    assert found.ball_used.min() > 0.99


def checks(attack, generator, estimator=None):
    estimator = estimator or Copies(gain=3.0, noise=0.1)
    y = inputs(12, generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoration, "BATCH", 8)
        return attack_checks(estimator, y, attack, seeds=2, generator=generator)


def test_a_working_attack_is_credible(generator):
    found = checks(Attack(radius=0.4, steps=10, lr=0.1), generator)
    assert found.credible()
    assert all(column.shape == (12,) for column in found)
    assert found.noise.mean() > found.attack.mean() + 3
    doubled = 20 * math.log10(2)
    assert (found.attack - found.larger_ball).mean().item() == pytest.approx(doubled, abs=0.5)


def test_an_attack_that_barely_leaves_its_start_is_not(generator):
    assert not checks(Attack(radius=0.4, steps=1, lr=1e-9), generator).credible()


def test_an_attack_of_too_few_steps_is_found_out_by_more(generator):
    found = checks(Attack(radius=0.4, steps=2, lr=0.01), generator)
    assert found.more_steps.mean() < found.attack.mean() - 0.5


def test_a_network_s_attack_is_credible(generator):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(Inpainting(16), 16, 4, stochastic=True).eval().requires_grad_(False)
    network.last.weight.mul_(3000)  # an untrained network's output is almost constant
    y = torch.rand(8, 3, 4, 16, generator=generator)
    attack = Attack(radius=0.6, steps=5, lr=1.0)
    found = attack_checks(network, y, attack, seeds=3, generator=generator)
    assert found.credible()


def test_consistency_is_infinite_where_exact_and_finite_where_not(generator):
    x = torch.rand(3, 3, 8, 8, generator=generator)
    y = INPAINTING.degrade(x).clone()
    y[2] += 0.01
    found = consistency_psnr(INPAINTING, x, y)
    assert found[:2].tolist() == [math.inf, math.inf]
    assert found[2].item() == pytest.approx(40, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y, g: per_pixel_std(Copies(), y, samples=1, generator=g), "samples: got 1"),
        (
            lambda y, g: robustness(Copies(), y, ATTACK, input_dims=9, seeds=0, generator=g),
            "seeds: got 0",
        ),
        (
            lambda y, g: robustness(Copies(), y, ATTACK, input_dims=0, generator=g),
            "input_dims: got 0",
        ),
    ],
)
def test_bad_input_is_refused(call, message, generator):
    with pytest.raises(InputError, match=message):
        call(inputs(2, generator), generator)
