"""Theorem 3.1, its implications and Appendix D, checked by computation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from stochrestore.config import ExperimentSettings
from stochrestore.estimators.base import Estimator, SecondCoordinate
from stochrestore.estimators.linear_gaussian import (
    LinearEstimator,
    consistent_estimator,
    least_mse_perfect,
    tempered_posterior,
)
from stochrestore.estimators.polytope import Polytope
from stochrestore.metrics.sensitivity import ScalarSensitivity, scalar_sensitivity
from stochrestore.metrics.wasserstein import wasserstein_discrete, wasserstein_gaussian
from stochrestore.problems.finite import (
    Conditional,
    FiniteProblem,
    as_array,
    total_variation,
)
from stochrestore.problems.gaussian import GaussianProblem, psd_root
from stochrestore.problems.toy import ToyProblem, midpoints

Array = NDArray[np.float64]


class Settings(ExperimentSettings):
    """The settings of the chapter on Theorem 3.1."""

    experiment: ClassVar[str] = "theorem_3_1"

    problems: int = Field(200, ge=1, le=100_000, description="random finite problems")
    levels: int = Field(4, ge=4, le=6, description="grey values of the two-pixel images")
    gan_steps: int = Field(400, ge=1, description="steps of the exact GAN")
    gaussians: int = Field(200, ge=1, description="random Gaussian problems")
    inputs: int = Field(60, ge=2, description="number of inputs y for Appendix D")


# --- finite problems -------------------------------------------------------------------------


def random_problem(rng: np.random.Generator) -> FiniteProblem:
    """A random problem of two to six points and up to four inputs; some points have no mass."""
    n, inputs = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    weights = rng.integers(0, 6, n)
    weights[rng.integers(n)] += 1  # at least one point has mass
    images = rng.integers(0, inputs, n)
    return FiniteProblem.from_weights(
        {(k, int(rng.integers(5))): int(w) for k, w in enumerate(weights)},
        {(k, v): int(images[k]) for k in range(n) for v in range(5)},
    )


def random_consistent(problem: FiniteProblem, rng: np.random.Generator) -> Conditional:
    """A random consistent estimator with rational entries."""
    columns = []
    for y in problem.inputs:
        fibre = problem.fibre(y)
        weights = rng.integers(0, 6, len(fibre))
        weights[rng.integers(len(fibre))] += 1
        total = int(weights.sum())
        share = {i: Fraction(int(w), total) for i, w in zip(fibre, weights, strict=True)}
        columns.append([share.get(i, Fraction(0)) for i in range(len(problem.points))])
    return tuple(zip(*columns, strict=True))


@dataclass(frozen=True)
class TheoremCheck:
    """Theorem 3.1 on random finite problems, in exact arithmetic; all fields count problems.

    Args:
        problems: all problems.
        ambiguous: those in which D is not invertible on the support of p_X.
        posterior_fails: those whose posterior is not consistent or not of perfect quality.
        other_estimators: those in which an estimator besides the posterior meets both hypotheses.
        without_consistency: those in which several estimators have perfect quality.
        without_perfection: those in which several estimators are consistent.
        identity_fails: those in which :func:`conditional_variation` of an estimator differs from
            the total variation between p_X̂ and p_X.
    """

    problems: int
    ambiguous: int
    posterior_fails: int
    other_estimators: int
    without_consistency: int
    without_perfection: int
    identity_fails: int


def check_theorem(settings: Settings) -> TheoremCheck:
    """Whether Theorem 3.1 holds, and needs its hypotheses, on ``settings.problems`` problems."""
    rng = np.random.default_rng(settings.seed)
    problems = [random_problem(rng) for _ in range(settings.problems)]
    return TheoremCheck(
        problems=len(problems),
        ambiguous=sum(is_ambiguous(p) for p in problems),
        posterior_fails=sum(not satisfies_both(p, p.posterior) for p in problems),
        other_estimators=sum(not only_the_posterior(p) for p in problems),
        without_consistency=sum(Polytope(p, consistent=False).freedom() > 0 for p in problems),
        without_perfection=sum(Polytope(p, perfect=False).freedom() > 0 for p in problems),
        identity_fails=sum(
            conditional_variation(p, q) != total_variation(p.output(q), p.mass)
            for p in problems
            for q in [random_consistent(p, rng)]
        ),
    )


def satisfies_both(problem: FiniteProblem, estimator: Conditional) -> bool:
    """Whether an estimator is consistent and p_X̂ = p_X, in exact arithmetic."""
    allowed = problem.consistent_entries
    entries = [q for row, ok in zip(estimator, allowed, strict=True) for q in np.array(row)[~ok]]
    return not any(entries) and problem.output(estimator) == problem.mass


def only_the_posterior(problem: FiniteProblem) -> bool:
    """Whether the posterior is the only consistent estimator of perfect quality."""
    polytope = Polytope(problem)
    return polytope.freedom() == 0 and polytope.the_only_point() == problem.posterior


def is_ambiguous(problem: FiniteProblem) -> bool:
    """Whether some input has a posterior that is not a point mass."""
    return any(0 < q < 1 for row in problem.posterior for q in row)


def conditional_variation(problem: FiniteProblem, estimator: Conditional) -> Fraction:
    """E_Y TV(p_X̂|Y, p_X|Y): the mean distance of an estimator from the posterior over inputs."""
    pairs = zip(zip(*estimator, strict=True), zip(*problem.posterior, strict=True), strict=True)
    each = [total_variation(q, p) for q, p in pairs]
    return sum((d * p for d, p in zip(each, problem.p_y, strict=True)), Fraction(0))


def conditional_wasserstein(problem: FiniteProblem, estimator: Array) -> float:
    """√E_Y W₂²(p_X̂|Y, p_X|Y) of an estimator, a matrix (n, m)."""
    x, posterior = problem.coordinates, as_array(problem.posterior)
    squares = [
        wasserstein_discrete(x, x, q, p) ** 2 for q, p in zip(estimator.T, posterior.T, strict=True)
    ]
    return float(np.sqrt(np.dot(squares, [float(p) for p in problem.p_y])))


def marginal_wasserstein(problem: FiniteProblem, estimator: Array) -> float:
    """W₂(p_X̂, p_X), the perceptual index (Eq. 1) of an estimator, a matrix (n, m)."""
    x, p_y = problem.coordinates, [float(p) for p in problem.p_y]
    return wasserstein_discrete(x, x, estimator @ p_y, [float(m) for m in problem.mass])


def uniform_on_fibres(problem: FiniteProblem) -> Conditional:
    """The estimator that gives all points of the posterior's support equal probabilities."""
    size = [sum(q > 0 for q in column) for column in zip(*problem.posterior, strict=True)]
    return tuple(
        tuple(Fraction(q > 0, k) for q, k in zip(row, size, strict=True))
        for row in problem.posterior
    )


def precision_and_recall(
    problem: FiniteProblem, estimator: Conditional
) -> tuple[Fraction, Fraction]:
    """Precision P(X̂ ∈ supp p_X) and recall P(X ∈ supp p_X̂), as Sec. 2.1 defines them."""
    pairs = list(zip(problem.output(estimator), problem.mass, strict=True))
    precision = sum((q for q, p in pairs if p > 0), Fraction(0))
    return precision, sum((p for q, p in pairs if q > 0), Fraction(0))


# --- implication (iii): a GAN whose critic never sees y ---------------------------------------


@dataclass(frozen=True)
class GanHistory:
    """W₂ between p_X̂ and p_X, marginal and given Y, along a training; the estimator at its end."""

    step: list[int]
    marginal: list[float]
    conditional: list[float]
    estimator: Array


def train_gan(problem: FiniteProblem, *, consistent: bool, steps: int, seed: int) -> GanHistory:
    r"""A non-saturating GAN on a finite problem, with every expectation exact (Sec. 3, (iii)).

    The estimator is a table of logits θ, with p(x̂|y) = softmax(θ)(x̂, y). The critic does not
    see y and is optimal at each step, σ(c) = p_X/(p_X + p_X̂).

    Args:
        problem: a problem with p_X > 0 everywhere.
        consistent: whether p(x̂|y) is kept at 0 where D(x̂) ≠ y.
        steps: of gradient descent, of size 2; gradients are divided by p_Y, so that rare inputs
            learn as fast as others.
        seed: decides the first logits.
    """
    rng = np.random.default_rng(seed)
    mass, p_y = as_array([problem.mass])[0], as_array([problem.p_y])[0]
    mask = problem.consistent_entries if consistent else np.ones_like(problem.consistent_entries)
    logits = np.where(mask, rng.normal(0, 2, mask.shape), -np.inf)
    estimator, every = softmax(logits), max(steps // 40, 1)
    seen, marginal, conditional = [], [], []
    for step in range(steps + 1):
        if step > 0:
            fooled = np.log1p(estimator @ p_y / mass)  # softplus(−c(x̂)), the estimator's loss
            gradient = estimator * (fooled[:, None] - fooled @ estimator)
            logits = np.where(mask, logits - 2 * gradient, -np.inf)
            estimator = softmax(logits)
        if step % every == 0 or step == steps:
            seen.append(step)
            marginal.append(marginal_wasserstein(problem, estimator))
            conditional.append(conditional_wasserstein(problem, estimator))
    return GanHistory(seen, marginal, conditional, estimator)


def softmax(logits: Array) -> Array:
    """The columns of logits (n, m) as distributions, (n, m)."""
    exponentials = np.exp(logits - logits.max(0))
    table: Array = exponentials / exponentials.sum(0)
    return table


# --- Gaussian problems -----------------------------------------------------------------------


def two_gaussian_pixels() -> GaussianProblem:
    """Two pixels of variance 1 and correlation 0.7, of which the first is known."""
    return GaussianProblem(np.array([[1.0, 0.7], [0.7, 1.0]]), np.array([[1.0, 0.0]]))


@dataclass(frozen=True)
class Curve:
    """MSE, W₂(p_X̂, p_X) and E‖HX̂ − Y‖² of a family of estimators."""

    mse: Array
    wasserstein: Array
    inconsistency: Array


def perception_distortion(problem: GaussianProblem, points: int = 61) -> dict[str, Curve]:
    """Three families: consistent and stochastic, consistent and deterministic, least MSE.

    The last has the least MSE for each W₂. Its members interpolate linearly between the MMSE
    estimator and the one of least MSE among those of perfect quality (Freirich et al., 2021).
    Only the MMSE estimator is consistent.
    """
    grid = np.linspace(0, 1, points)
    posterior_mean, best = tempered_posterior(problem, 0), least_mse_perfect(problem)
    n, m = problem.degradation.T.shape
    lift, no_noise = np.ones((n - m, m)), np.zeros((n - m, 1))
    families = {
        "consistent, stochastic": [tempered_posterior(problem, t) for t in grid],
        "consistent, deterministic": [
            consistent_estimator(problem, c * lift, no_noise) for c in 2 * grid - 1
        ],
        "least MSE": [
            LinearEstimator(problem, (1 - t) * posterior_mean.gain + t * best.gain, t * best.noise)
            for t in grid
        ],
    }
    return {name: curve(members) for name, members in families.items()}


def curve(estimators: list[LinearEstimator]) -> Curve:
    """MSE, W₂ (in closed form) and inconsistency of each estimator."""
    return Curve(
        np.array([e.mse for e in estimators]),
        np.array([wasserstein_gaussian(e.covariance, e.problem.covariance) for e in estimators]),
        np.array([e.inconsistency for e in estimators]),
    )


@dataclass(frozen=True)
class GaussianCheck:
    """The largest relative errors of four equations over random Gaussian problems.

    Args:
        gain: A − A* = (Cov X̂ − Σ)Hᵀ C_Y⁻¹ for a random consistent estimator. It follows that
            A = A* where Cov X̂ = Σ, and then BBᵀ = S*.
        posterior: Cov X̂ = Σ and HX̂ = Y for the posterior sampler.
        twice: E‖X − X̂‖² = 2·MMSE for the posterior sampler.
        least_mse: MSE = MMSE + W₂²(p_E[X|Y], p_X) for the estimator of least MSE among those of
            perfect quality.
    """

    gain: float
    posterior: float
    twice: float
    least_mse: float


def check_gaussian(settings: Settings) -> GaussianCheck:
    """Theorem 3.1 for linear estimators on ``settings.gaussians`` random Gaussian problems."""
    rng = np.random.default_rng(settings.seed)
    errors = [_gaussian_errors(rng) for _ in range(settings.gaussians)]
    return GaussianCheck(*np.max(errors, axis=0).tolist())


def random_gaussian(rng: np.random.Generator) -> GaussianProblem:
    """A random Gaussian problem of 2 to 6 dimensions.

    The eigenvalues of Σ lie in [0.1, 10] and those of HHᵀ in [¼, 4], so that no error below is
    magnified by more than the condition number of HΣHᵀ, at most 1600.
    """
    n = int(rng.integers(2, 7))
    m = int(rng.integers(1, n))
    axes, rows = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    covariance = axes * 10 ** rng.uniform(-1, 1, n) @ axes.T
    return GaussianProblem(covariance, rows[:m] * 2 ** rng.uniform(-1, 1, (m, 1)))


def _gaussian_errors(rng: np.random.Generator) -> tuple[float, float, float, float]:
    problem = random_gaussian(rng)
    sigma, h = problem.covariance, problem.degradation
    m, n = h.shape

    some = consistent_estimator(problem, rng.normal(size=(n - m, m)), rng.normal(size=(n - m, 2)))
    implied = (some.covariance - sigma) @ h.T @ np.linalg.inv(problem.input_covariance)
    gain = np.abs(implied - (some.gain - problem.posterior_gain)).max() / np.abs(some.gain).max()

    sampler = tempered_posterior(problem, 1)
    difference = np.abs(sampler.covariance - sigma).max()
    posterior = max(difference, sampler.inconsistency) / np.trace(sigma)
    both_ways = 2 * sampler.gain @ h @ sigma  # Cov(X, X̂) + Cov(X̂, X), of equal traces
    twice = abs(np.trace(sigma + sampler.covariance - both_ways) / problem.mmse - 2)

    # W₂ by a factor of the covariance of E[X|Y], which is singular: a root of it would turn
    # rounded zeros, some 1e-16, into 1e-8.
    mean = problem.posterior_gain @ psd_root(problem.input_covariance)
    overlap = np.linalg.svd(psd_root(sigma) @ mean, compute_uv=False).sum()
    predicted = problem.mmse + np.trace(mean @ mean.T) + np.trace(sigma) - 2 * overlap
    least = abs(least_mse_perfect(problem).mse - predicted) / predicted
    return float(gain), float(posterior), float(twice), float(least)


# --- Appendix D ------------------------------------------------------------------------------


def both_sensitivities(
    estimator: Estimator, problem: ToyProblem, settings: Settings, epsilon: float = 0.01
) -> ScalarSensitivity:
    """R̃ of Eq. 7 and R of Eq. 5 for a toy estimator's second coordinate, by quadrature.

    The seeds are 400 evenly spaced levels in [0, 1]. A shift of the seed modulo 1 by a multiple of
    1/400 permutes them, so that it leaves their distribution exactly as it was.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    y = problem.sample(settings.inputs, generator=generator)[:, :1]
    z = midpoints(400)[:, None, None].expand(-1, len(y), 1)
    return scalar_sensitivity(SecondCoordinate(estimator), y, z, epsilon)
