"""Linear estimators of the Gaussian problem, X̂ = AY + BZ with Z ~ N(0, I)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space

from stochrestore.errors import require
from stochrestore.problems.gaussian import GaussianProblem, psd_root

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearEstimator:
    """X̂ = AY + BZ, which is deterministic if B = 0.

    Args:
        problem: Σ and H.
        gain: A, (n, m).
        noise: B, (n, k).
    """

    problem: GaussianProblem
    gain: Array
    noise: Array

    def __post_init__(self) -> None:
        expected = self.problem.degradation.T.shape
        fits = self.gain.shape == expected
        require(fits, "LinearEstimator.gain (A): shape", self.gain.shape, str(expected))
        rows = self.noise.ndim == 2 and len(self.noise) == expected[0]
        require(rows, "LinearEstimator.noise (B): shape", self.noise.shape, f"({expected[0]}, k)")

    @property
    def covariance(self) -> Array:
        """Cov X̂ = A C_Y Aᵀ + BBᵀ, (n, n); perceptual quality is perfect if it equals Σ."""
        root = np.hstack([self.gain @ psd_root(self.problem.input_covariance), self.noise])
        return root @ root.T  # without negative eigenvalues, whatever the rounding

    @property
    def inconsistency(self) -> float:
        """E‖HX̂ − Y‖², which is 0 if HA = I and HB = 0."""
        h = self.problem.degradation
        residual = h @ self.gain - np.eye(len(h))
        from_input = np.trace(residual @ self.problem.input_covariance @ residual.T)
        return float(from_input + np.sum((h @ self.noise) ** 2))

    @property
    def mse(self) -> float:
        """E‖X − X̂‖² = MMSE + E‖(A − A*)Y‖² + tr BBᵀ for X̂ independent of X given Y (Sec. 2)."""
        error = self.gain - self.problem.posterior_gain
        excess = np.trace(error @ self.problem.input_covariance @ error.T)
        return self.problem.mmse + float(excess + np.sum(self.noise**2))


def tempered_posterior(problem: GaussianProblem, temperature: float) -> LinearEstimator:
    """X̂ = A*Y + t·BZ, BBᵀ = S*, from the MMSE estimator (t = 0) to the posterior sampler (t = 1).

    It is consistent for every t, and E‖X − X̂‖² = (1 + t²)·MMSE, which is 2·MMSE at t = 1.

    Raises:
        InputError: t negative or not a number.
    """
    require(bool(temperature >= 0), "temperature (t)", temperature, "a number ≥ 0")
    return LinearEstimator(problem, problem.posterior_gain, temperature * problem.posterior_root)


def consistent_estimator(problem: GaussianProblem, lift: Array, noise: Array) -> LinearEstimator:
    """A consistent linear estimator A = A* + NM, B = NR, where the columns of N span ker H.

    Args:
        lift: M, (n − m, m).
        noise: R, (n − m, k).
    """
    kernel = null_space(problem.degradation)
    return LinearEstimator(problem, problem.posterior_gain + kernel @ lift, kernel @ noise)


def least_mse_perfect(problem: GaussianProblem) -> LinearEstimator:
    """The estimator of least MSE among those of perfect perceptual quality (implication (ii)).

    It transports the posterior mean optimally onto p_X (Freirich et al., 2021). Among linear
    estimators, A maximises tr(A*C_Y Aᵀ) under A C_Y Aᵀ ⪯ Σ, and noise supplies the rest of Σ.
    """
    root, c_root = psd_root(problem.covariance), psd_root(problem.input_covariance)
    left, _, right = np.linalg.svd(root @ problem.posterior_gain @ c_root, full_matrices=False)
    frame = left @ right  # orthonormal columns, (n, m): A = Σ^½·frame·C_Y^-½
    noise = root @ (np.eye(len(root)) - frame @ frame.T)
    return LinearEstimator(problem, root @ frame @ np.linalg.inv(c_root), noise)
