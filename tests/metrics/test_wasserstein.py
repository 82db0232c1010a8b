"""W₂ in one dimension, between atoms and between Gaussians: each against the others."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.metrics.wasserstein import (
    wasserstein_1d,
    wasserstein_discrete,
    wasserstein_gaussian,
)

examples = settings(max_examples=60, derandomize=True, deadline=None)
seeds = st.integers(0, 2**32)
atoms = st.lists(st.integers(-20, 20), min_size=1, max_size=8)


def masses(rng, n):
    weights = rng.integers(0, 5, n).astype(float)
    weights[rng.integers(n)] += 1
    return weights / weights.sum()


def covariance(rng, d):
    root = rng.normal(size=(d, d))
    return root @ root.T


@examples
@given(atoms, atoms, seeds)
def test_one_dimension_equals_the_network_simplex(a, b, seed):
    rng = np.random.default_rng(seed)
    mass_a, mass_b = masses(rng, len(a)), masses(rng, len(b))
    line = wasserstein_1d(a, b, mass_a, mass_b)
    plane = wasserstein_discrete(np.array(a)[:, None], np.array(b)[:, None], mass_a, mass_b)
    assert line == pytest.approx(plane, abs=1e-6)


@examples
@given(atoms, st.integers(-50, 50))
def test_shifts_cost_their_length(a, shift):
    a = np.array(a, dtype=float)
    assert wasserstein_1d(a, a + shift) == pytest.approx(abs(shift))
    pair = np.stack([a, a**2], axis=1)
    assert wasserstein_discrete(pair, pair + shift) == pytest.approx(abs(shift) * math.sqrt(2))


@examples
@given(atoms, atoms, atoms)
def test_one_dimension_is_a_distance(a, b, c):
    assert wasserstein_1d(a, a) == 0
    assert wasserstein_1d(a, b) == pytest.approx(wasserstein_1d(b, a))
    assert wasserstein_1d(a, c) <= wasserstein_1d(a, b) + wasserstein_1d(b, c) + 1e-9


@examples
@given(atoms, atoms)
def test_weights_are_repetitions(a, b):
    counts = np.arange(1, len(a) + 1)
    repeated = wasserstein_1d(np.repeat(a, counts), b)
    assert wasserstein_1d(a, b, counts / counts.sum()) == pytest.approx(repeated, abs=1e-6)


@examples
@given(seeds, st.integers(1, 5))
def test_gaussian_against_the_formula_with_traces(seed, d):
    rng = np.random.default_rng(seed)
    a, b, shift = covariance(rng, d), covariance(rng, d), rng.normal(size=d)
    cross = np.linalg.eigvals(a @ b).real.clip(0)  # those of A^½ B A^½
    squared = shift @ shift + np.trace(a + b) - 2 * np.sqrt(cross).sum()
    ours = wasserstein_gaussian(a, b, shift, np.zeros(d))
    assert ours**2 == pytest.approx(squared, abs=1e-6)


@examples
@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-3, 3))
def test_gaussian_in_one_dimension(s, t, shift):
    ours = wasserstein_gaussian([[s**2]], [[t**2]], [shift], [0.0])
    assert ours == pytest.approx(math.hypot(s - t, shift))
    levels = (np.arange(20_000) + 0.5) / 20_000
    from scipy.stats import norm

    quantiles = norm.ppf(levels)
    assert wasserstein_1d(s * quantiles + shift, t * quantiles) == pytest.approx(ours, rel=1e-2)


def test_gaussian_against_samples():
    rng = np.random.default_rng(0)
    a, b = np.diag([4.0, 1.0]), np.array([[1.0, 0.5], [0.5, 2.0]])
    x, y = (rng.multivariate_normal([0, 0], c, 1500) for c in (a, b))
    assert wasserstein_discrete(x, y) == pytest.approx(wasserstein_gaussian(a, b), abs=0.15)


def test_equal_gaussians_do_not_cancel():
    c = covariance(np.random.default_rng(3), 6)
    assert wasserstein_gaussian(c, c) < 1e-12 * np.trace(c)
    assert wasserstein_gaussian(c, c * (1 + 1e-9)) < 1e-8 * np.trace(c)


def test_optimal_coupling_is_better_than_the_given_one():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30, 3))
    assert wasserstein_discrete(a, b) < math.sqrt(((a - b) ** 2).sum(1).mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1.0]), r"a: shape: got \(0,\)"),
        (([[1.0]], [1.0]), r"a: shape: got \(1, 1\); allowed: 1 dimension"),
        (([1.0], [float("nan")]), r"b: got \[nan\]"),
        (([1.0, 2.0], [1.0], [0.5, 0.6]), r"weights_a: sum: got 1.1"),
        (([1.0, 2.0], [1.0], [1.5, -0.5]), r"weights_a: smallest mass: got -0.5"),
        (([1.0, 2.0], [1.0], [float("nan"), 1.0]), r"weights_a: smallest mass: got nan"),
        (([1.0, 2.0], [1.0], [1.0]), r"weights_a: shape: got \(1,\)"),
        (([1.0], [1.0], None, [2.0]), r"weights_b: sum: got 2.0"),
    ],
)
def test_bad_input_in_one_dimension(arguments, message):
    with pytest.raises(InputError, match=message):
        wasserstein_1d(*arguments)


def test_bad_input_elsewhere():
    with pytest.raises(InputError, match="shapes"):
        wasserstein_discrete([[1.0]], [[1.0, 2.0]])
    with pytest.raises(InputError, match=r"a: got \[inf\]"):
        wasserstein_discrete([[math.inf]], [[1.0]])
    with pytest.raises(InputError, match=r"covariance_b: smallest eigenvalue: got -2.0"):
        wasserstein_gaussian([[1.0]], [[-2.0]])
    with pytest.raises(InputError, match="shapes"):
        wasserstein_gaussian([[1.0]], np.eye(2))
    with pytest.raises(InputError, match=r"mean_a: got \[nan\]"):
        wasserstein_gaussian([[1.0]], [[1.0]], [math.nan])
    with pytest.raises(InputError, match=r"mean_b: got \[1.0, 2.0\]; allowed: 1 finite"):
        wasserstein_gaussian([[1.0]], [[1.0]], None, [1.0, 2.0])
