r"""The exact Wasserstein-2 distance in three cases: on the line, of atoms, and of Gaussians.

Each function returns W₂, not its square, where W₂² = inf E‖A − B‖₂² over all couplings of A and B
(Eq. 4, and Eq. 11 if the coupling is a map). All computations are in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stochrestore.errors import require
from stochrestore.problems.finite import squared_distances
from stochrestore.problems.gaussian import psd_root

Array = NDArray[np.float64]


def wasserstein_1d(
    a: ArrayLike,
    b: ArrayLike,
    weights_a: ArrayLike | None = None,
    weights_b: ArrayLike | None = None,
) -> float:
    r"""W₂ of two distributions on the line, by the quantile coupling.

    .. math:: W_2^2 = ∫_0^1 (F_a^{-1}(u) − F_b^{-1}(u))^2 \,du

    Args:
        a, b: atoms, (N,) and (M,).
        weights_a, weights_b: masses of the atoms, which sum to 1; None for equal masses.

    Raises:
        InputError: empty or not one-dimensional, NaN, negative masses, masses not summing to 1.
    """
    atoms_a, atoms_b = _atoms("wasserstein_1d: a", a, 1), _atoms("wasserstein_1d: b", b, 1)
    mass_a, mass_b = _masses("a", weights_a, len(atoms_a)), _masses("b", weights_b, len(atoms_b))
    order_a, order_b = atoms_a.argsort(kind="stable"), atoms_b.argsort(kind="stable")
    levels_a, levels_b = (
        np.append(mass[order].cumsum()[:-1].clip(max=1.0), 1.0)  # the sums are rounded
        for mass, order in ((mass_a, order_a), (mass_b, order_b))
    )
    levels = np.union1d(levels_a, levels_b)
    # Both quantile functions are constant between neighbouring levels; side="left" gives the
    # first atom whose cumulated mass reaches the level.
    quantile_a = atoms_a[order_a][np.searchsorted(levels_a, levels)]
    quantile_b = atoms_b[order_b][np.searchsorted(levels_b, levels)]
    widths = np.diff(levels, prepend=0.0)
    return math.sqrt(float(widths @ (quantile_a - quantile_b) ** 2))


def wasserstein_discrete(
    a: ArrayLike,
    b: ArrayLike,
    weights_a: ArrayLike | None = None,
    weights_b: ArrayLike | None = None,
) -> float:
    """W₂ of two discrete distributions, by the network simplex of POT (``ot.emd2``).

    Args:
        a, b: atoms, (N, d) and (M, d).
        weights_a, weights_b: masses of the atoms, which sum to 1; None for equal masses.

    Raises:
        InputError: empty or not two-dimensional, unequal d, NaN, negative masses, masses not
            summing to 1.
    """
    import ot  # slow to import, and wanted nowhere else

    atoms_a = _atoms("wasserstein_discrete: a", a, 2)
    atoms_b = _atoms("wasserstein_discrete: b", b, 2)
    same = atoms_a.shape[1] == atoms_b.shape[1]
    require(same, "wasserstein_discrete: shapes", (atoms_a.shape, atoms_b.shape), "(N, d), (M, d)")
    mass_a, mass_b = _masses("a", weights_a, len(atoms_a)), _masses("b", weights_b, len(atoms_b))
    cost = squared_distances(atoms_a, atoms_b)
    return math.sqrt(max(float(ot.emd2(mass_a, mass_b, cost, numItermax=10_000_000)), 0.0))


def wasserstein_gaussian(
    covariance_a: ArrayLike,
    covariance_b: ArrayLike,
    mean_a: ArrayLike | None = None,
    mean_b: ArrayLike | None = None,
) -> float:
    r"""W₂ of two Gaussians, from the Bures distance of the covariances and that of the means.

    .. math:: W_2^2 = ‖μ_a − μ_b‖^2 + \min_{OO^⊤ = I} ‖Σ_a^{1/2} − Σ_b^{1/2} O‖_F^2

    The minimum equals tr(Σ_a + Σ_b − 2(Σ_a^{1/2} Σ_b Σ_a^{1/2})^{1/2}), but is computed as a
    Procrustes problem, so that no digits are lost if the two covariances are close.

    Args:
        covariance_a, covariance_b: symmetric, positive semi-definite, (d, d).
        mean_a, mean_b: (d,); None for zero.

    Raises:
        InputError: NaN, unequal shapes, a covariance not symmetric or not positive semi-definite.
    """
    root_a = psd_root(covariance_a, "wasserstein_gaussian: covariance_a")
    root_b = psd_root(covariance_b, "wasserstein_gaussian: covariance_b")
    same = root_a.shape == root_b.shape
    require(same, "wasserstein_gaussian: shapes", (root_a.shape, root_b.shape), "equal")
    zero = np.zeros(len(root_a))
    shift = _vector("mean_a", mean_a, zero) - _vector("mean_b", mean_b, zero)
    left, _, right = np.linalg.svd(root_b @ root_a)
    return float(math.hypot(np.linalg.norm(shift), np.linalg.norm(root_a - root_b @ left @ right)))


def _atoms(name: str, values: ArrayLike, ndim: int) -> Array:
    atoms = np.asarray(values, dtype=np.float64)
    shaped = atoms.ndim == ndim and atoms.size > 0
    require(shaped, f"{name}: shape", atoms.shape, f"{ndim} dimension(s), not empty")
    wrong = atoms[~np.isfinite(atoms)].tolist()
    require(not wrong, name, wrong, "finite numbers")
    return atoms


def _masses(name: str, weights: ArrayLike | None, n: int) -> Array:
    if weights is None:
        return np.full(n, 1 / n)
    mass = np.asarray(weights, dtype=np.float64)
    require(mass.shape == (n,), f"weights_{name}: shape", mass.shape, f"({n},), one per atom")
    worst = float(mass.min())  # NaN where any is
    require(worst >= 0, f"weights_{name}: smallest mass", worst, "≥ 0")
    total = float(mass.sum())
    require(abs(total - 1) <= 1e-9, f"weights_{name}: sum", total, "1")
    return mass / total


def _vector(name: str, values: ArrayLike | None, zero: Array) -> Array:
    if values is None:
        return zero
    vector = np.asarray(values, dtype=np.float64)
    fits = vector.shape == zero.shape and bool(np.isfinite(vector).all())
    require(fits, name, vector.tolist(), f"{len(zero)} finite numbers")
    return vector
