"""The Gaussian problem, X ~ N(0, Σ) and Y = HX, with its posterior in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stochrestore.errors import require

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProblem:
    """X ~ N(0, Σ) degraded linearly, Y = HX (Sec. 2 with D linear).

    Args:
        covariance: Σ, (n, n), symmetric and positive semi-definite.
        degradation: H, (m, n), such that HΣHᵀ is invertible: no measurement follows from the
            others.

    Raises:
        InputError: Σ is not square, not finite, not symmetric or not positive semi-definite; H
            has another width or is not finite; or HΣHᵀ is singular.
    """

    covariance: Array
    degradation: Array

    def __post_init__(self) -> None:
        psd_root(self.covariance, "GaussianProblem.covariance (Σ)")
        shape, n = np.shape(self.degradation), len(self.covariance)
        where = "GaussianProblem.degradation (H)"
        require(len(shape) == 2 and shape[1] == n, where, shape, f"(m, {n})")
        finite = bool(np.isfinite(self.degradation).all())
        require(finite, where, self.degradation.tolist(), "finite numbers")
        smallest = float(np.linalg.eigvalsh(self.input_covariance)[0])
        invertible = smallest > 1e-12 * float(np.trace(self.input_covariance))
        require(invertible, "HΣHᵀ: smallest eigenvalue", smallest, "> 0")

    @property
    def input_covariance(self) -> Array:
        """C_Y = HΣHᵀ, (m, m)."""
        return self.degradation @ self.covariance @ self.degradation.T

    @property
    def posterior_gain(self) -> Array:
        """A* = ΣHᵀ(HΣHᵀ)⁻¹, (n, m), with which E[X | Y] = A*Y."""
        cross = self.degradation @ self.covariance
        return np.asarray(np.linalg.solve(self.input_covariance, cross).T, dtype=np.float64)

    @property
    def posterior_root(self) -> Array:
        """B with BBᵀ = S*, (n, n − m): Σ^½ times an orthonormal basis of the kernel of HΣ^½.

        The difference Σ − A*HΣ has rounding errors of the size of Σ, which may exceed S* itself.
        """
        root = psd_root(self.covariance)
        _, _, right = np.linalg.svd(self.degradation @ root)
        return np.asarray(root @ right[len(self.degradation) :].T, dtype=np.float64)

    @property
    def posterior_covariance(self) -> Array:
        """S* = Cov[X | Y] = Σ − A*HΣ, (n, n), which is the same for every y."""
        return self.posterior_root @ self.posterior_root.T

    @property
    def mmse(self) -> float:
        """E‖X − E[X|Y]‖² = tr S*."""
        return float(np.trace(self.posterior_covariance))


def psd_root(covariance: ArrayLike, name: str = "covariance") -> Array:
    """The symmetric square root of a covariance, (d, d).

    Eigenvalues down to −10⁻¹⁰ of the largest are taken for rounding.

    Raises:
        InputError: the matrix is not square, not finite or not symmetric, or it has a negative
            eigenvalue.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.size > 0
    require(square, f"{name}: shape", matrix.shape, "(d, d)")
    require(bool(np.isfinite(matrix).all()), name, matrix.tolist(), "finite numbers")
    require(bool(np.allclose(matrix, matrix.T)), name, matrix.tolist(), "a symmetric matrix")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    psd = bool(values[0] >= -1e-10 * abs(float(values[-1])))
    require(psd, f"{name}: smallest eigenvalue", float(values[0]), "≥ 0 (positive semi-definite)")
    root: Array = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
