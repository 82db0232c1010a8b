"""App. C's zigzag: its curve, its maps, its distance and its sensitivity, all in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.estimators.base import SecondCoordinate, restore
from stochrestore.estimators.zigzag import (
    TwistedSampler,
    Zigzag,
    horizontal_projection,
    horizontal_transport,
    lipschitz_bound,
    mean_absolute_difference,
    optimal_transport,
)
from stochrestore.experiments.appendix_c import midpoint_grid
from stochrestore.metrics.wasserstein import wasserstein_1d, wasserstein_discrete
from stochrestore.problems.square import Square
from stochrestore.problems.toy import Disk

examples = settings(max_examples=60, derandomize=True, deadline=None)
frequencies = st.integers(1, 256)
unit = st.floats(0, 1)


def points(f, *, n=40, m=40):
    return midpoint_grid(2 * f * n, m)


@examples
@given(frequencies, st.lists(unit, min_size=1, max_size=20))
def test_curve_is_the_formula_of_app_c(f, y):
    y = torch.tensor(y, dtype=torch.float64)
    printed = torch.arccos(torch.cos(2 * math.pi * f * y)) / math.pi
    assert torch.allclose(Zigzag(f).curve(y), printed, atol=1e-5)  # arccos is steep at its ends


@examples
@given(frequencies, unit, unit)
def test_k_f_is_eq_12(f, x1, x2):
    segment = math.floor(2 * f * x1)
    printed = (segment + (1 - x2 if segment % 2 else x2)) / (2 * f)
    ours = horizontal_projection(torch.tensor([x1, x2], dtype=torch.float64), f).item()
    assert 0 <= ours <= 1
    if x1 < 1:
        assert ours == pytest.approx(printed, abs=1e-12)


@examples
@given(frequencies, unit, unit)
def test_both_maps_land_on_the_zigzag_in_the_same_segment(f, x1, x2):
    x = torch.tensor([x1, x2], dtype=torch.float64)
    for transport in (horizontal_transport, optimal_transport):
        moved = transport(x, f)
        assert Zigzag(f).curve(moved[0]).item() == pytest.approx(moved[1].item(), abs=1e-9)
        assert abs(moved[0] - x[0]) <= 1 / (2 * f) + 1e-12


@pytest.mark.parametrize("f", [1, 2, 3, 8])
def test_both_maps_push_forward_to_the_zigzag(f):
    for transport in (horizontal_transport, optimal_transport):
        first = transport(points(f, n=200, m=200), f)[:, 0].numpy()
        uniform = (np.arange(4000) + 0.5) / 4000
        assert wasserstein_1d(first, uniform) < 2e-3 / f


@pytest.mark.parametrize("f", [1, 2, 3])
def test_distance_against_optimal_transport_of_grids(f):
    x = midpoint_grid(48 // f * f, 24)
    y = ((torch.arange(480, dtype=torch.float64) + 0.5) / 480)[:, None]
    curve = torch.cat([y, Zigzag(f).curve(y)], dim=1)
    grid = wasserstein_discrete(x, curve)
    assert grid == pytest.approx(Zigzag(f).wasserstein(), rel=0.01)
    assert abs(grid - Zigzag(f).transport_bound()) > 0.001 / f**3  # it can tell T₀'s bound


@pytest.mark.parametrize("amplitude", [0.1, 0.5, 0.9])
def test_distance_of_a_damped_zigzag_against_grids(amplitude):
    zigzag = Zigzag(2, amplitude)
    y = ((torch.arange(480, dtype=torch.float64) + 0.5) / 480)[:, None]
    curve = torch.cat([y, zigzag.curve(y)], dim=1)
    grid = wasserstein_discrete(midpoint_grid(48, 24), curve)
    assert grid == pytest.approx(zigzag.wasserstein(), rel=0.01)


@examples
@given(frequencies)
def test_distance_lies_between_its_bounds(f):
    w = 1 / (2 * f)
    exact = Zigzag(f).wasserstein()
    assert exact**2 == pytest.approx(w**2 / 6 - w**4 / 12 + w**6 / 60, rel=1e-6)
    assert Zigzag(f).distance_bound() < exact < Zigzag(f).transport_bound()
    assert Zigzag(f).transport_bound() == pytest.approx(1 / (2 * math.sqrt(6) * f))
    assert exact >= lipschitz_bound(Zigzag(f).slope)


@examples
@given(st.floats(0, 3), st.floats(0.05, 3))
def test_mean_absolute_difference_by_quadrature(a, b):
    u = (np.arange(300) + 0.5) / 300
    p = np.sort(np.add.outer(a * u, b * u).ravel())
    n = len(p)
    gini = 2 * (2 * np.arange(1, n + 1) - n - 1) @ p / n**2
    assert mean_absolute_difference(a, b) == pytest.approx(gini, rel=1e-3)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(1, 8), st.floats(1e-4, 0.7), st.floats(0.1, 1))
def test_sensitivity_by_brute_force(f, epsilon, amplitude):
    zigzag = Zigzag(f, amplitude)
    y = (torch.arange(2 * f * 50, dtype=torch.float64) + 0.5) / (2 * f * 50)
    kinks = zigzag.width
    delta = torch.linspace(-1, 1, 801, dtype=torch.float64) * min(epsilon, 1.01 * kinks)
    change = (zigzag.curve(y[:, None] + delta) - zigzag.curve(y)[:, None]).square().amax(1)
    assert zigzag.sensitivity(epsilon) == pytest.approx(change.mean().item(), rel=2e-2)


@examples
@given(frequencies, unit)
def test_sensitivity_is_exactly_2_f_epsilon_up_to_half_a_segment(f, share):
    epsilon = max(share, 0.01) / (4 * f)
    assert Zigzag(f).sensitivity(epsilon) == pytest.approx((2 * f * epsilon) ** 2)


def test_lipschitz_bound_at_its_ends():
    assert lipschitz_bound(0) == pytest.approx(1 / math.sqrt(12))  # that of X̂ = (Y, ½)
    assert lipschitz_bound(1e6) * 1e6 == pytest.approx(1 / math.sqrt(6), rel=1e-5)
    f = 10_000
    assert Zigzag(f).wasserstein() / lipschitz_bound(Zigzag(f).slope) == pytest.approx(1, rel=1e-4)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 20))
def test_lipschitz_bound_holds_for_random_curves(seed, slope):
    rng = np.random.default_rng(seed)
    y = (np.arange(400) + 0.5) / 400
    steps = slope * np.sign(np.cumsum(rng.normal(size=400))) / 400  # slope ±L, any turns
    g = rng.uniform() + np.cumsum(steps)
    curve = np.stack([y, g], axis=1)
    grid = midpoint_grid(20, 20).numpy()
    step = 0.05 / math.sqrt(6)  # W₂ of the square to its grid, at most
    assert wasserstein_discrete(grid, curve) + step + slope / 400 >= lipschitz_bound(slope)


def test_a_twisted_sampler_has_the_posterior_whatever_its_rate():
    y = torch.linspace(-0.9, 0.9, 5, dtype=torch.float64)[:, None]
    z = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[:, None, None].expand(-1, 5, 1)
    for problem in (Square(), Disk()):
        straight, twisted = (
            restore(SecondCoordinate(TwistedSampler(problem, rate)), y, z)[..., 0]
            for rate in (0.0, 3.7)
        )
        assert torch.allclose(straight.sort(0).values, twisted.sort(0).values, atol=3e-3)
        assert not torch.allclose(straight, twisted, atol=0.1)


@pytest.mark.parametrize("frequency", [0, -1, 0.5, 2.0, math.nan])
def test_bad_frequencies(frequency):
    with pytest.raises(InputError, match=r"frequency \(f\).*an integer ≥ 1"):
        Zigzag(frequency)


def test_other_bad_input():
    with pytest.raises(InputError, match="amplitude: got 0"):
        Zigzag(1, amplitude=0)
    with pytest.raises(InputError, match=r"epsilon \(ε\): got 0"):
        Zigzag(1).sensitivity(0)
    with pytest.raises(InputError, match=r"slope \(L\): got -1"):
        lipschitz_bound(-1)
    with pytest.raises(InputError, match=r"Square.sample: n: got 0"):
        Square().sample(0, generator=torch.Generator())
