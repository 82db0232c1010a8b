"""Theorem 3.1 for linear estimators of Gaussian problems."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.estimators.linear_gaussian import (
    LinearEstimator,
    consistent_estimator,
    least_mse_perfect,
    tempered_posterior,
)
from stochrestore.metrics.wasserstein import wasserstein_gaussian
from stochrestore.problems.gaussian import GaussianProblem, psd_root

seeds = st.integers(0, 2**32)
examples = settings(max_examples=50, derandomize=True, deadline=None)


def random_problem(rng):
    n = int(rng.integers(2, 6))
    m = int(rng.integers(1, n))
    root = rng.normal(size=(n, n)) + 2 * np.eye(n)
    return GaussianProblem(root @ root.T, np.linalg.qr(rng.normal(size=(n, n)))[0][:m])


def free(problem):
    return problem.degradation.shape[1] - problem.degradation.shape[0]


@examples
@given(seeds)
def test_posterior_by_conditioning_on_samples(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    x = rng.multivariate_normal(np.zeros(len(problem.covariance)), problem.covariance, 4000)
    residual = x - x @ problem.degradation.T @ problem.posterior_gain.T
    y = x @ problem.degradation.T
    assert np.abs(residual.T @ y / len(x)).max() < 0.15 * np.trace(problem.covariance)
    spread = residual.T @ residual / len(x)
    assert np.abs(spread - problem.posterior_covariance).max() < 0.15 * np.trace(problem.covariance)


@examples
@given(seeds)
def test_the_posterior_sampler_is_consistent_perfect_and_twice_the_mmse(seed):
    problem = random_problem(np.random.default_rng(seed))
    sampler = tempered_posterior(problem, 1)
    np.testing.assert_allclose(sampler.covariance, problem.covariance, atol=1e-9)
    assert sampler.inconsistency == pytest.approx(0, abs=1e-9)
    assert sampler.mse == pytest.approx(2 * problem.mmse, rel=1e-9)


@pytest.mark.parametrize("smallest", [1e-8, 1e-11, 1e-13, 0])
@pytest.mark.parametrize("seed", range(5))
def test_a_posterior_may_be_far_narrower_than_the_prior(seed, smallest):
    """Σ − A*HΣ carries rounding of the size of Σ, which may exceed the posterior's covariance."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    covariance = axes * [3.0, 2.0, 1.0, smallest] @ axes.T
    problem = GaussianProblem(covariance, rng.normal(size=(3, 4)) @ axes[:, :3] @ axes[:, :3].T)
    sampler = tempered_posterior(problem, 1)
    np.testing.assert_allclose(sampler.covariance, covariance, atol=1e-10)
    np.testing.assert_allclose(
        problem.posterior_covariance, smallest * np.outer(axes[:, 3], axes[:, 3]), atol=1e-14
    )
    assert sampler.inconsistency == pytest.approx(0, abs=1e-10)
    assert wasserstein_gaussian(sampler.covariance, covariance) < 1e-4
    assert wasserstein_gaussian(tempered_posterior(problem, 0).covariance, covariance) < 1e-3


@examples
@given(seeds)
def test_a_consistent_estimator_of_the_right_covariance_is_the_posterior_sampler(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    lift = rng.normal(size=(free(problem), len(problem.degradation)))
    some = consistent_estimator(problem, lift, rng.normal(size=(free(problem), 3)))
    assert some.inconsistency == pytest.approx(0, abs=1e-9)
    gap = some.covariance - problem.covariance
    inverse = np.linalg.inv(problem.input_covariance)
    implied = gap @ problem.degradation.T @ inverse
    np.testing.assert_allclose(some.gain - problem.posterior_gain, implied, atol=1e-8)
    assert np.linalg.norm(gap) > 1e-3  # a random one is not


def test_without_consistency_a_perfect_estimator_need_not_be_the_posterior_sampler():
    problem = GaussianProblem(np.eye(2), np.array([[1.0, 0.0]]))
    blind = LinearEstimator(problem, np.zeros((2, 1)), np.eye(2))  # ignores y
    np.testing.assert_allclose(blind.covariance, problem.covariance)
    assert blind.inconsistency == pytest.approx(2)


@examples
@given(seeds, st.floats(0, 2))
def test_mse_along_the_path(seed, temperature):
    problem = random_problem(np.random.default_rng(seed))
    mse = tempered_posterior(problem, temperature).mse
    assert mse == pytest.approx((1 + temperature**2) * problem.mmse, rel=1e-9)


@examples
@given(seeds)
def test_least_mse_of_perfect_quality(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    best = least_mse_perfect(problem)
    np.testing.assert_allclose(best.covariance, problem.covariance, atol=1e-7)
    w2 = wasserstein_gaussian(tempered_posterior(problem, 0).covariance, problem.covariance)
    assert best.mse == pytest.approx(problem.mmse + w2**2, rel=1e-6)
    assert best.mse <= 2 * problem.mmse * (1 + 1e-9)


def test_mse_by_sampling():
    rng = np.random.default_rng(0)
    problem = random_problem(rng)
    shape = problem.degradation.T.shape
    some = LinearEstimator(problem, rng.normal(size=shape), rng.normal(size=(shape[0], 2)))
    x = rng.multivariate_normal(np.zeros(shape[0]), problem.covariance, 200_000)
    x_hat = x @ problem.degradation.T @ some.gain.T + rng.normal(size=(len(x), 2)) @ some.noise.T
    assert np.mean(np.sum((x - x_hat) ** 2, axis=1)) == pytest.approx(some.mse, rel=0.02)
    slip = (x_hat - x) @ problem.degradation.T
    assert np.mean(np.sum(slip**2, axis=1)) == pytest.approx(some.inconsistency, rel=0.02)


@pytest.mark.parametrize(
    ("covariance", "degradation", "message"),
    [
        ([[1, 0], [0, -1]], [[1, 0]], r"smallest eigenvalue: got -1.0.*positive semi-definite"),
        ([[1, 2], [0, 1]], [[1, 0]], "symmetric"),
        ([[1, float("nan")], [float("nan"), 1]], [[1, 0]], "finite"),
        ([[1, 0]], [[1, 0]], r"shape: got \(1, 2\)"),
        ([[1, 0], [0, 1]], [[1, 0, 0]], r"\(H\): got \(1, 3\)"),
        ([[1, 0], [0, 1]], [[1, float("inf")]], r"\(H\).*finite"),
        ([[1, 0], [0, 1]], [[1, 0], [2, 0]], "HΣHᵀ: smallest eigenvalue"),
        ([[0, 0], [0, 1]], [[1, 0]], "HΣHᵀ: smallest eigenvalue: got 0.0"),
    ],
)
def test_bad_problems(covariance, degradation, message):
    with pytest.raises(InputError, match=message):
        GaussianProblem(np.array(covariance, dtype=float), np.array(degradation, dtype=float))


def test_bad_estimators():
    problem = GaussianProblem(np.eye(2), np.array([[1.0, 0.0]]))
    with pytest.raises(InputError, match=r"gain \(A\): shape: got \(1, 2\)"):
        LinearEstimator(problem, np.zeros((1, 2)), np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"noise \(B\): shape: got \(3, 1\)"):
        LinearEstimator(problem, np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(InputError, match="temperature"):
        tempered_posterior(problem, -0.1)
    with pytest.raises(InputError, match="temperature"):
        tempered_posterior(problem, float("nan"))


def test_psd_root_squares_to_the_covariance():
    root = psd_root([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(root @ root, [[2, 1], [1, 2]])
    assert not psd_root(np.zeros((2, 2))).any()
