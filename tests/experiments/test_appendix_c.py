"""The experiment behind the chapter on Appendix C."""

import math

import numpy as np
import pytest
import torch

from stochrestore import config
from stochrestore.errors import InputError
from stochrestore.estimators.zigzag import Zigzag, lipschitz_bound, optimal_transport
from stochrestore.experiments import registry
from stochrestore.experiments.appendix_c import (
    Settings,
    conditional_wasserstein,
    damped_zigzags,
    fitted_slope,
    horizontal_transport,
    midpoint_grid,
    powers_of_two,
    push_forward,
    quadrature,
    sampled_wasserstein,
)

SETTINGS = Settings(preset="smoke", samples=150, repeats=4)


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_valid(preset):
    assert registry.load("appendix_c", preset).preset == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency": 0}, "frequency: got 0"),
        ({"frequency": 2.5}, "frequency: got 2.5"),
        ({"epsilon": -0.1}, "epsilon: got -0.1"),
        ({"epsilon": math.nan}, "epsilon: got nan"),
        ({"repeats": 1}, "repeats: got 1"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InputError, match=message):
        registry.load("appendix_c", "smoke", **change)


@pytest.mark.parametrize("f", [1, 2, 3, 16])
@pytest.mark.parametrize("transport", [horizontal_transport, optimal_transport])
def test_both_maps_pass_the_checks_of_a_push_forward(f, transport):
    found = push_forward(f, SETTINGS, transport)
    assert found.off_curve < 1e-12
    assert found.histogram < 0.05
    assert found.p_value > 1e-6


def test_other_maps_do_not():
    def identity(x, f):
        return x

    def onto_the_curve_but_not_uniformly(x, f):
        first = x[..., 0] ** 2
        return torch.stack([first, Zigzag(f).curve(first)], dim=-1)

    assert push_forward(3, SETTINGS, identity).off_curve > 0.5
    wrong = push_forward(3, SETTINGS, onto_the_curve_but_not_uniformly)
    assert wrong.off_curve == 0
    assert wrong.histogram > 0.5
    assert wrong.p_value < 1e-3


@pytest.mark.parametrize("f", [1, 3, 64])
def test_quadrature_agrees_with_the_closed_forms(f):
    cost, zigzag = quadrature(f), Zigzag(f)
    assert cost["T0"] == pytest.approx(zigzag.transport_bound(), rel=1e-9)
    assert cost["optimal map"] == pytest.approx(zigzag.wasserstein(), rel=1e-7)
    assert cost["nearest point"] == pytest.approx(zigzag.distance_bound(), rel=1e-9)


@pytest.mark.parametrize("f", [1, 4])
def test_nearest_point_by_brute_force(f):
    y = torch.linspace(0, 1, 4001, dtype=torch.float64)
    curve = torch.stack([y, Zigzag(f).curve(y)], dim=1)
    distance = torch.cdist(midpoint_grid(60, 30), curve).amin(1)
    assert distance.square().mean().sqrt() == pytest.approx(Zigzag(f).distance_bound(), rel=5e-3)


def test_slope_of_a_power_law():
    frequencies = powers_of_two(256)
    assert frequencies == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    fit = fitted_slope(frequencies, [3 * f**-1.5 for f in frequencies])
    assert (fit.low, fit.value, fit.high) == pytest.approx((-1.5, -1.5, -1.5))
    exact = fitted_slope(frequencies, [Zigzag(f).wasserstein() for f in frequencies])
    assert exact.low < exact.value < exact.high
    assert exact.value == pytest.approx(-1, abs=0.01)


def test_samples_are_biased_and_the_correction_helps():
    coarse, fine = sampled_wasserstein(1, SETTINGS), sampled_wasserstein(32, SETTINGS)
    assert coarse.corrected.mean() == pytest.approx(Zigzag(1).wasserstein() ** 2, rel=0.2)
    truth = Zigzag(32).wasserstein()
    assert fine.raw.mean() > 5 * truth
    assert fine.reference.mean() == pytest.approx(fine.raw.mean(), rel=0.3)
    assert abs(fine.corrected.mean() - truth**2) < 0.3 * (fine.raw**2).mean()


def test_samples_are_repeatable_by_seed():
    first, again = (sampled_wasserstein(2, SETTINGS).raw for _ in range(2))
    other = sampled_wasserstein(2, SETTINGS.model_copy(update={"seed": 1})).raw
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_zigzag_never_comes_nearer_to_the_posterior():
    assert [conditional_wasserstein(f) for f in (1, 8, 64)] == pytest.approx(
        [6**-0.5] * 3, rel=1e-5
    )


def test_no_damped_zigzag_is_below_the_bound():
    for f in (1, 2, 7, 64):
        family = damped_zigzags(f, points=50)
        bound = np.array([lipschitz_bound(s) for s in family.slope])
        assert (family.wasserstein >= bound).all()
        assert (np.diff(family.slope) > 0).all()
        assert family.wasserstein[-1] == pytest.approx(Zigzag(f).wasserstein())
