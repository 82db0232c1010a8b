"""The chapter on the Lipschitz constant, and its theorem without each of its assumptions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore import config
from stochrestore.errors import InputError
from stochrestore.estimators.zigzag import Zigzag
from stochrestore.experiments import registry
from stochrestore.experiments.lipschitz import (
    DISK,
    SQUARE,
    EvenZigzag,
    Inputs,
    Settings,
    Stairs,
    chord_problems,
    disk_cells,
    explored,
    explored_recall,
    exploring_bound,
    finite_difficulty,
    finite_estimators,
    finite_sensitivity,
    folded,
    gaussian_difficulty,
    gaussian_line,
    on_disk,
    posterior_sensitivity,
    sine_curve,
    square_zigzags,
    zigzag_index,
)
from stochrestore.experiments.toy_tradeoff import posterior_sensitivity as disk_sensitivity
from stochrestore.metrics.lipschitz import least_index, least_slope
from stochrestore.metrics.wasserstein import wasserstein_discrete
from stochrestore.problems.finite import FiniteProblem, first_pixel, two_pixel_images
from stochrestore.problems.square import Square
from stochrestore.problems.toy import Disk, midpoints

SMALL = Settings(preset="smoke", cells=100, inputs=60)


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_valid(preset):
    assert registry.load("lipschitz", preset).preset == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 1}, "levels: got 1"),
        ({"cells": 10}, "cells: got 10"),
        ({"networks": 6}, "networks: got 6"),
        ({"frequency": 0.5}, "frequency: got 0.5"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InputError, match=message):
        registry.load("lipschitz", "smoke", **change)


# --- The square --------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize(("f", "amplitude"), [(1, 1.0), (2, 1.0), (2, 0.5)])
def test_the_zigzags_index_is_that_of_a_fine_transport(f, amplitude, copies):
    x = torch.cartesian_prod(midpoints(32), midpoints(20)).numpy()
    y = midpoints(640)
    curve = np.column_stack([y, Zigzag(f, amplitude).curve(y)])
    stretch = np.array([math.sqrt(copies), 1])
    found = wasserstein_discrete(x * stretch, curve * stretch)
    assert found == pytest.approx(zigzag_index(f, amplitude, copies), rel=0.02)


@given(st.integers(1, 500), st.floats(0.01, 1))
def test_the_joint_index_is_the_larger_one_but_not_by_much(f, amplitude):
    marginal, joint = (zigzag_index(f, amplitude, copies) for copies in (1, 2))
    assert marginal == pytest.approx(Zigzag(f, amplitude).wasserstein())
    assert marginal <= joint <= math.sqrt(2) * marginal


@given(st.integers(1, 500), st.floats(0.01, 1), st.sampled_from([1, 2]))
def test_no_damped_zigzag_is_below_the_bound(f, amplitude, copies):
    slope = Zigzag(f, amplitude).slope
    assert zigzag_index(f, amplitude, copies) >= least_index(slope, SQUARE, copies) * (1 - 1e-9)


@pytest.mark.parametrize("copies", [1, 2])
def test_zigzags_attain_the_bound_in_the_limit(copies):
    far = square_zigzags([4096], copies)[0]
    least = least_slope(far.index.value, SQUARE, copies)
    assert far.slope / least == pytest.approx(1, abs=1e-3)


# --- The theorem without each of its assumptions -----------------------------------------------


def test_a_stochastic_estimator_is_below_the_bound():
    square = chord_problems()["square"]
    assert posterior_sensitivity(square, 0.01, SMALL) == 0 < least_slope(1e-6, SQUARE)


def test_a_curve_that_is_steeper_than_it_says_is_below_the_bound():
    found = square_zigzags([64])[0]
    assert found.index.value < least_index(found.slope / 2, SQUARE, 2)


def test_the_marginal_index_is_below_the_bound_without_consistency():
    fold = folded(200)
    assert fold.marginal < 0.01 < least_index(1, SQUARE) < fold.joint


def test_where_the_degradation_can_be_inverted_nothing_has_to_be_paid():
    one_each = FiniteProblem.from_weights({(0, 1): 1, (1, 1): 1, (2, 1): 1}, first_pixel)
    difficulty = finite_difficulty(one_each)
    (only,) = finite_estimators(one_each)
    assert (difficulty.mmse, only.slope, only.index.value) == pytest.approx((0, 0, 0), abs=1e-9)


# --- Gaussian and finite problems --------------------------------------------------------------


@given(st.floats(0, 0.99), st.floats(-50, 50))
def test_no_linear_estimator_of_gaussian_pixels_is_below_the_bound(correlation, gain):
    line = gaussian_line(correlation, gain)
    least = least_index(line.slope, gaussian_difficulty(correlation), 2)
    assert line.index.value >= least * (1 - 1e-6)


@given(st.lists(st.integers(0, 9), min_size=9, max_size=9).filter(lambda w: min(w[::3]) > 0))
@settings(max_examples=20, deadline=None)
def test_no_deterministic_estimator_of_small_images_is_below_the_bound(weights):
    points = [(a, b) for a in range(3) for b in range(3)]
    problem = FiniteProblem.from_weights(dict(zip(points, weights, strict=True)), first_pixel)
    difficulty = finite_difficulty(problem)
    found = list(finite_estimators(problem))
    assert len(found) == 27
    for each in found:
        assert each.index.value >= least_index(each.slope, difficulty, 2) - 1e-6


def test_sensitivity_of_a_finite_posterior():
    assert finite_sensitivity(two_pixel_images(4)) > 0
    same = FiniteProblem.from_weights({(a, b): 1 for a in (0, 1) for b in (0, 1)}, first_pixel)
    moved = FiniteProblem.from_weights({(0, 0): 1, (1, 1): 1}, first_pixel)
    assert (finite_sensitivity(same), finite_sensitivity(moved)) == (0, 1)


# --- The disk ----------------------------------------------------------------------------------


def test_cells_of_the_disk_have_its_moments():
    cells = disk_cells(400)
    assert len(cells.means) == pytest.approx(400, rel=0.05)
    total = (cells.means**2).mean(0).sum() + cells.variance
    assert total == pytest.approx(2 / 4 + 1 / 4, rel=1e-3)
    assert DISK.mmse == DISK.mean_index**2 == 1 / 4


@pytest.mark.parametrize("curve", [sine_curve(5.0), EvenZigzag(5.0), torch.zeros_like])
def test_curves_over_the_disk_keep_their_slope_and_the_bound(curve):
    found = on_disk("curve", curve, SMALL, slope=5.0)
    assert found.slope == 5
    assert found.index.high >= least_index(5.0, DISK, 2)


def test_a_flat_curve_is_half_away_from_the_disk():
    flat = on_disk("flat", torch.zeros_like, SMALL)
    assert flat.slope == 0
    assert flat.index.low <= 0.5 <= flat.index.high


@pytest.mark.parametrize("slope", [4.0, 20.0])
def test_the_even_zigzag_is_equally_steep_everywhere_but_at_the_ends(slope):
    y = torch.linspace(-0.5, 0.5, 5001, dtype=torch.float64)
    steps = (EvenZigzag(slope)(y).diff() / y.diff()).abs()
    assert steps.quantile(0.02) > slope - 1
    assert steps.max() < slope + 1


# --- Stochastic estimators ---------------------------------------------------------------------


def test_sensitivities_of_posteriors():
    found = chord_problems()
    disk = posterior_sensitivity(found["disk"], 0.01, SMALL)
    assert disk == pytest.approx(math.sqrt(disk_sensitivity(0.01)) / 0.01, rel=0.02)
    assert posterior_sensitivity(found["stairs"], 0.02, SMALL) == pytest.approx(10, rel=0.01)
    ring = [posterior_sensitivity(found["ring"], e, SMALL) ** 2 for e in (0.1, 0.01)]
    assert ring[1] > ring[0] + 0.3


@given(st.floats(0.2, 1))
@settings(max_examples=5, deadline=None)
def test_a_ramp_of_width_h_has_the_sensitivity_of_its_slope_on_its_share(ramp):
    inputs = Inputs(Stairs(ramp), 0, 1, torch.ones_like)
    assert posterior_sensitivity(inputs, 1e-3, SMALL) == pytest.approx(ramp**-0.5, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stairs(-1), r"Stairs.ramp \(h\): got -1; allowed"),
        (lambda: posterior_sensitivity(chord_problems()["disk"], 0, SMALL), "epsilon .*: got 0"),
        (lambda: explored(torch.zeros_like, Square(), -1, SMALL), "epsilon .*: got -1"),
    ],
)
def test_bad_input_is_said_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- Exploring ---------------------------------------------------------------------------------


def test_without_a_perturbation_the_zigzag_is_where_appendix_c_has_it():
    assert explored(Zigzag(4).curve, Square(), 0, SMALL) == pytest.approx(6**-0.5, rel=1e-2)


@pytest.mark.parametrize("teeth", [0.5, 1.0, 1.5])
def test_whole_teeth_sample_the_posterior(teeth):
    by_quadrature = 2 * teeth / SMALL.inputs
    assert explored(Zigzag(4).curve, Square(), teeth / 4, SMALL) < by_quadrature


@given(st.integers(1, 32), st.floats(0.1, 1), st.floats(0, 0.3))
@settings(max_examples=40, deadline=None)
def test_no_zigzag_explores_more_than_its_slope_allows(f, amplitude, epsilon):
    zigzag = Zigzag(f, amplitude)
    least = exploring_bound(zigzag.slope, epsilon)
    assert explored(zigzag.curve, Square(), epsilon, SMALL) >= least - 1e-3


def test_a_steeper_curve_explores_more_than_a_flatter_one_may():
    """So the bound does depend on the slope."""
    assert explored(Zigzag(32).curve, Square(), 0.02, SMALL) < exploring_bound(2, 0.02)


def test_a_robust_curve_shows_less_of_the_disk():
    robust, erratic = (explored(sine_curve(a), Disk(), 0.1, SMALL) for a in (1.0, 50.0))
    assert erratic < 0.25 < 0.5 < robust


def test_a_robust_curve_recalls_more_where_its_inputs_are_perturbed_and_a_fast_one_needs_none():
    slow, fast = sine_curve(1.0), sine_curve(200.0)
    assert explored_recall(slow, 0.0) < 0.2 < explored_recall(slow, 0.5) - 0.1
    assert explored_recall(fast, 0.0) > 0.9


def test_perturbed_posterior_samples_recall_the_disk():
    """A curve so fast that its phase at y + δ is as good as random."""

    def shuffled(y):
        return (1e6 * y).sin().asin() / (math.pi / 2) * (1 - y.clamp(-1, 1) ** 2).sqrt()

    assert explored_recall(shuffled, 1e-3) > 0.98


@pytest.mark.parametrize("epsilon", [-0.1, math.inf])
def test_a_radius_of_exploring_is_a_number(epsilon):
    with pytest.raises(InputError, match="epsilon"):
        explored_recall(sine_curve(1.0), epsilon)
