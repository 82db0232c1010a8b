"""Fréchet distance of two sets of features; it is the FID if the features are Inception's.

Means and covariances are gathered batch by batch, in float64. The trace of the matrix root is a
sum of singular values: with Σ = F Fᵀ, tr (Σ₁Σ₂)^½ = ‖F₁ᵀF₂‖_*, the nuclear norm. Eigenvalues that
are mere rounding errors are never put under a square root. So the result is exact, too, where a
covariance does not have full rank, as with fewer samples than dimensions or repeated features.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, lapack
from torch import Tensor

from stochrestore.errors import require
from stochrestore.metrics.torchvision_ops import import_piq

Array = NDArray[np.float64]
Mode = Literal["exact", "piq"]


class Moments:
    """Mean and covariance of features that arrive in batches, with memory O(D²).

    Batches are centred at their own means before they are merged (Chan et al., 1983), so no
    digits are lost if the mean is large. Batches may have any size. The way in which the features
    are divided into batches changes the result by rounding only.

    Args:
        dims: D, the number of features of a sample.
    """

    def __init__(self, dims: int) -> None:
        require(dims >= 1, "Moments: dims", dims, "an integer ≥ 1")
        self.count = 0
        self.mean: Array = np.zeros(dims)
        # The lower triangle of Σᵢ (xᵢ − mean)(xᵢ − mean)ᵀ, as BLAS fills it.
        self._scatter: Array = np.zeros((dims, dims), order="F")

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of one set, (N, D)."""
        require(features.ndim == 2, "Moments: shape", tuple(features.shape), "(samples, dims)")
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    def update(self, features: Tensor) -> None:
        """Add a batch, (n, D).

        Raises:
            InputError: another number of dimensions, NaN or infinity.
        """
        dims = len(self.mean)
        fits = features.ndim == 2 and features.shape[1] == dims
        require(fits, "Moments.update: shape", tuple(features.shape), f"(samples, {dims})")
        if len(features) == 0:
            return
        finite = bool(features.isfinite().all())
        require(finite, "Moments.update", "NaN or infinity", "finite numbers")
        rows = features.detach().double().cpu().numpy()
        mean = rows.mean(axis=0)
        batch = Moments(dims)
        batch.count, batch.mean = len(rows), mean
        batch._scatter = blas.dsyrk(1.0, (rows - mean).T, lower=True)
        self.merge(batch)

    def merge(self, other: Moments) -> None:
        """Add the samples of another accumulator."""
        total = self.count + other.count
        if total == 0:
            return
        shift = other.mean - self.mean
        self._scatter += other._scatter
        weight = self.count * other.count / total
        blas.dsyr(weight, shift, lower=True, a=self._scatter, overwrite_a=True)
        self.mean = self.mean + shift * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> Array:
        """Σ, (D, D), with divisor N − 1."""
        lower = np.tril(self._scatter) / self._degrees()
        return lower + np.tril(lower, -1).T

    @property
    def variance(self) -> Array:
        """The diagonal of Σ, (D,)."""
        return self._scatter.diagonal() / self._degrees()

    def factor(self) -> Array:
        """F of full column rank with F Fᵀ = Σ, (D, rank), by pivoted Cholesky."""
        # The default tolerance, D ε max Σᵢᵢ, ends the columns where rounding begins.
        lower, pivots, rank, _ = lapack.dpstrf(self._scatter / self._degrees(), lower=True)
        factor = np.empty((len(self.mean), rank))
        factor[pivots - 1] = np.tril(lower)[:, :rank]
        return factor

    def _degrees(self) -> int:
        require(self.count >= 2, "Moments: samples", self.count, "at least 2")
        return self.count - 1


def frechet_from_moments(a: Moments, b: Moments) -> float:
    r"""Fréchet distance of two Gaussians with these moments (Heusel et al., 2017).

    .. math:: d^2 = ‖μ_a − μ_b‖^2 + \operatorname{tr}(Σ_a + Σ_b − 2(Σ_aΣ_b)^{1/2})

    The value is d², which the literature calls the distance.

    Raises:
        InputError: unequal dimensions, fewer than two samples.
    """
    dims = len(a.mean), len(b.mean)
    require(dims[0] == dims[1], "Fréchet distance: dims", dims, "equal")
    shift = float(np.square(a.mean - b.mean).sum())
    spread = float(a.variance.sum() + b.variance.sum())
    root = torch.from_numpy(a.factor().T @ b.factor())
    # torch's LAPACK takes less time for this than the one scipy brings.
    overlap = float(torch.linalg.svdvals(root).sum())
    return max(shift + spread - 2 * overlap, 0.0)


@torch.no_grad()
def frechet_distance(real: Tensor, fake: Tensor, *, mode: Mode = "exact") -> float:
    """Fréchet distance of two sets of features, (N, D) and (M, D).

    Args:
        mode: ``"exact"`` follows the definition in float64. ``"piq"`` gives the value of piq 0.8,
            which is biased high because its Newton–Schulz iteration stops early.

    Raises:
        InputError: ill-shaped, non-finite or too few features, or an unknown mode.
    """
    require(mode in ("exact", "piq"), "frechet_distance: mode", mode, "'exact' or 'piq'")
    if mode == "exact":
        return frechet_from_moments(Moments.of(real), Moments.of(fake))
    piq: Any = import_piq()
    distance = float(piq.FID().compute_metric(real, fake))
    require(math.isfinite(distance), "frechet_distance: piq's result", distance, "finite")
    return distance
