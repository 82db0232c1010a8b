r"""How steep a deterministic estimator has to be for its distance to the data, and W₂ by cells.

The distance is the joint index W = W₂(p_{X,Y}, p_{X̂,Y}) of Ohayon, Michaeli and Elad (2024), or,
for consistent estimators, the perceptual index W₂(p_X, p_X̂) (Eq. 1). The bounds hold for every
problem; the book's chapter on the Lipschitz constant proves them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stochrestore.errors import require
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.wasserstein import wasserstein_discrete

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difficulty:
    """What the bounds need to know of a problem.

    Args:
        mmse: E‖X − E[X|Y]‖², ≥ 0; it is 0 where Y determines X.
        mean_index: the index P* of the posterior mean E[X|Y], in the sense in which W is measured;
            0 ≤ P*² ≤ mmse, since X itself may be coupled with its posterior mean.

    Raises:
        InputError: a value out of range, or not a finite number.
    """

    mmse: float
    mean_index: float

    def __post_init__(self) -> None:
        usable = math.isfinite(self.mmse) and self.mmse >= 0
        require(usable, "Difficulty.mmse", self.mmse, "a finite number ≥ 0")
        within = 0 <= self.mean_index <= math.sqrt(self.mmse) * (1 + 1e-9)
        require(within, "Difficulty.mean_index (P*)", self.mean_index, "0 ≤ P* ≤ √mmse")


def least_slope(index: float, difficulty: Difficulty, copies: int = 1) -> float:
    r"""The least Lipschitz constant L of a deterministic estimator at a distance W.

    .. math:: L ≥ \sqrt{c} \sqrt{\frac{\mathrm{MMSE} + (P^* − W)_+^2}{W^2} − 1}

    Args:
        index: W ≥ 0.
        difficulty: the MMSE and P* of the problem.
        copies: c, how often the compared vectors contain y: 1 for the joint index of any estimator
            of slope L, and for the perceptual index of a consistent estimator (Y, g(Y)) with g of
            slope L; 2 for the joint index of such an estimator, (Y, g(Y), Y).

    Returns:
        L ≥ 0; infinite where W = 0 and Y does not determine X.

    Raises:
        InputError: W negative or not a number, or copies other than 1 and 2.
    """
    _require_copies(copies)
    require(bool(index >= 0), "index (W)", index, "a number ≥ 0")
    if index == 0:
        return math.inf if difficulty.mmse > 0 else 0.0
    apart = max(difficulty.mean_index - index, 0.0)
    return math.sqrt(copies * max((difficulty.mmse + apart**2) / index**2 - 1, 0.0))


def least_index(slope: float, difficulty: Difficulty, copies: int = 1) -> float:
    """The least W of a deterministic estimator of slope L: the inverse of :func:`least_slope`.

    Raises:
        InputError: L negative or not finite, or copies other than 1 and 2.
    """
    _require_copies(copies)
    require(math.isfinite(slope) and slope >= 0, "slope (L)", slope, "a finite number ≥ 0")
    mmse, mean_index, stretch = difficulty.mmse, difficulty.mean_index, 1 + slope**2 / copies
    alone = math.sqrt(mmse / stretch)
    if alone >= mean_index:
        return alone
    both = mmse + mean_index**2  # the root of (stretch − 1)W² + 2P*W = mmse + P*²
    return both / (mean_index + math.sqrt(mean_index**2 + (stretch - 1) * both))


def root_constants(difficulty: Difficulty, t: float = 1.0) -> tuple[float, float]:
    r"""m₁ and m₂ such that L ≥ m₁/√W − m₂ for every deterministic estimator, whatever W > 0 is.

    .. math:: m_1 = 2\sqrt{t \sqrt{\mathrm{MMSE}}}, \qquad m_2 = 1 + t

    This is the form of the theorem of 2024. It follows from L ≥ √MMSE/W − 1, of which it is, as a
    function of 1/√W, the tangent at W = √MMSE/t.

    Raises:
        InputError: t is not a finite number > 0.
    """
    require(math.isfinite(t) and t > 0, "root_constants: t", t, "a finite number > 0")
    return 2 * math.sqrt(t * math.sqrt(difficulty.mmse)), 1 + t


@dataclass(frozen=True)
class Cells:
    """A distribution cut into n cells of equal mass, each replaced by its mean.

    Args:
        means: (n, d).
        variance: E‖X − mean of X's cell‖², what the means do not see.
    """

    means: Array
    variance: float

    @classmethod
    def of(cls, points: Array) -> Cells:
        """The cells of n·k points of equal mass, given cell by cell, (n, k, d).

        Raises:
            InputError: another shape, or numbers that are not finite.
        """
        shaped = points.ndim == 3 and points.size > 0
        require(shaped, "Cells.of: shape", points.shape, "(n, k, d), not empty")
        finite = bool(np.isfinite(points).all())
        require(finite, "Cells.of: points", "NaN or infinity", "finite numbers")
        means = points.mean(1)
        return cls(means, float(((points - means[:, None]) ** 2).sum(-1).mean()))


def wasserstein_cells(a: Cells, b: Cells) -> Interval:
    r"""W₂ of two distributions between bounds, from the optimal transport of their cells' means.

    .. math:: W_{ab} − \sqrt{V_a} − \sqrt{V_b} ≤ W_2 ≤ \sqrt{W_{ab}^2 + V_a + V_b}

    The first is the triangle inequality. The second is the cost of a plan: cells go where their
    means go, and within a pair of cells points are coupled independently.

    Returns:
        The distance of the means, and the two bounds as its interval.
    """
    between = wasserstein_discrete(a.means, b.means)
    low = between - math.sqrt(a.variance) - math.sqrt(b.variance)
    return Interval(between, max(low, 0.0), math.sqrt(between**2 + a.variance + b.variance))


def lipschitz_envelope(y: Array, g: Array, slope: float) -> Array:
    """The largest L-Lipschitz function below g, which is the least g(y′) + L|y − y′| over y′.

    Args:
        y: increasing inputs, (n,).
        g: values, (n,).
        slope: L ≥ 0.
    """
    tilt = slope * y
    rising = np.minimum.accumulate(g - tilt) + tilt
    falling: Array = np.minimum.accumulate((g + tilt)[::-1])[::-1] - tilt
    return np.minimum(rising, falling)


def steepest(y: Array, g: Array) -> float:
    """The largest slope of a curve between neighbouring inputs, which increase: (n,), (n,)."""
    return float(np.abs(np.diff(g) / np.diff(y)).max())


def _require_copies(copies: int) -> None:
    require(copies in (1, 2), "copies of y", copies, "1 or 2")
