r"""The zigzag estimator of App. C, and its properties in closed form.

Throughout, w = 1/(2f) is the width of one of the zigzag's 2f segments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stochrestore.errors import require
from stochrestore.estimators.base import OneUniform
from stochrestore.estimators.closed_form import DeterministicToyEstimator
from stochrestore.problems.toy import ToyProblem, triangle_wave


@dataclass(frozen=True)
class Zigzag(DeterministicToyEstimator):
    """X̂ = (Y, G_f(Y)) with G_f(y) = arccos(cos 2πfy)/π (App. C), for X uniform on [0, 1]².

    Args:
        frequency: f, an integer ≥ 1, the number of teeth.
        amplitude: a = 1 in the paper; a < 1 damps the curve about ½, which makes it more robust.

    Raises:
        InputError: a frequency that is not an integer ≥ 1, or an amplitude outside (0, 1].
    """

    frequency: int
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        whole = isinstance(self.frequency, int) and self.frequency >= 1
        require(whole, "Zigzag.frequency (f)", self.frequency, "an integer ≥ 1")
        require(0 < self.amplitude <= 1, "Zigzag.amplitude", self.amplitude, "0 < amplitude ≤ 1")

    @property
    def width(self) -> float:
        """w = 1/(2f), the width of a segment."""
        return 1 / (2 * self.frequency)

    @property
    def slope(self) -> float:
        """2fa, the Lipschitz constant of the curve."""
        return self.amplitude / self.width

    def curve(self, y: Tensor) -> Tensor:
        """G_f(y) as a triangle wave, because the gradient of arccos explodes at the kinks."""
        return 0.5 + self.amplitude * (triangle_wave(self.frequency * y) - 0.5)

    def sensitivity(self, epsilon: float) -> float:
        """R of Eq. 3 for the estimated coordinate X̂⁽²⁾, exact for every ε > 0.

        An attack of size ε moves G by a·min(2fε, max(G, 1 − G)), because it climbs or descends a
        segment until the farther kink. So R = (2faε)² if ε ≤ w/2.

        Raises:
            InputError: ε is not a number > 0.
        """
        require(math.isfinite(epsilon) and epsilon > 0, "epsilon (ε)", epsilon, "a number > 0")
        e = min(epsilon / self.width, 1.0)
        normalised = e**2 if e <= 0.5 else 2 * e**2 - 4 * e**3 / 3 - 1 / 12
        return self.amplitude**2 * normalised

    def wasserstein(self) -> float:
        r"""W₂(p_X, p_X̂), exactly; for a = 1, W₂² = w²/6 − w⁴/12 + w⁶/60.

        Folding the square along the kinks onto one cell, [0, w] × [0, 1], moves no two points
        apart, and a plan in the cell unfolds. So W₂ is the distance between the uniform
        distributions on the cell and on its diagonal. There ⟨x, x̂⟩ depends on x only through
        p = w x₁ + a x₂, and the optimal coupling is the monotone one of p and the position on the
        diagonal (see the book's chapter on Appendix C).
        """
        a, w = self.amplitude, self.width
        spread = mean_absolute_difference(w**2, a)
        return math.sqrt((1 + 2 * w**2 + a**2) / 12 - spread / 2)

    def transport_bound(self) -> float:
        """√E‖X − T₀(X)‖² = w/√6 = 1/(2√6 f), Eq. 14's upper bound of W₂, for a = 1."""
        return self.width / math.sqrt(6)

    def distance_bound(self) -> float:
        """√E dist²(X, zigzag) = w/√(6(1 + w²)) = 1/√(24f² + 6), a lower bound, for a = 1."""
        return self.width / math.sqrt(6 * (1 + self.width**2))


def mean_absolute_difference(a: float, b: float) -> float:
    """E|P − P′| of two independent copies of P = U[0, a] + U[0, b], for a, b ≥ 0."""
    a, b = min(a, b), max(a, b)
    return b / 3 + a**2 / (6 * b) - a**3 / (30 * b**2)


def horizontal_projection(x: Tensor, frequency: int) -> Tensor:
    """K_f(x₁, x₂) of Eq. 12: the abscissa where the zigzag crosses height x₂ in x₁'s segment.

    x (…, 2) → (…). At x₁ = 1, where Eq. 12 would leave the square, it uses the last segment.
    """
    segment = (2 * frequency * x[..., 0]).floor().clamp(0, 2 * frequency - 1)
    height = torch.where(segment % 2 == 0, x[..., 1], 1 - x[..., 1])
    return (segment + height) / (2 * frequency)


def horizontal_transport(x: Tensor, frequency: int) -> Tensor:
    """T₀(x) = (K_f(x₁, x₂), x₂) of Eq. 13, which pushes p_X onto p_X̂: (…, 2) → (…, 2)."""
    return torch.stack([horizontal_projection(x, frequency), x[..., 1]], dim=-1)


def optimal_transport(x: Tensor, frequency: int) -> Tensor:
    """The optimal map of Eq. 11, from p_X onto p_X̂: (…, 2) → (…, 2).

    In the cell of x, folded to [0, w] × [0, 1], x moves to the point (ws, s) of the diagonal,
    where s = F(w x₁ + x₂) and F is the distribution function of w X₁ + X₂, whose density is a
    trapezoid.
    """
    w = 1 / (2 * frequency)
    segment = (x[..., 0] / w).floor().clamp(0, 2 * frequency - 1)
    within = x[..., 0] - segment * w
    folded = torch.where(segment % 2 == 0, within, w - within)
    p, corner = w * folded + x[..., 1], w**2
    s = torch.where(
        p < corner,
        p**2 / (2 * corner),
        torch.where(p > 1, 1 - (1 + corner - p) ** 2 / (2 * corner), p - corner / 2),
    )
    back = torch.where(segment % 2 == 0, w * s, w - w * s)
    return torch.stack([segment * w + back, s], dim=-1)


def lipschitz_bound(slope: float) -> float:
    r"""A lower bound of W₂(p_X, p_X̂) for every deterministic X̂ = (Y, G(Y)) with G L-Lipschitz.

    .. math:: W_2(p_X, p_{X̂}) ≥ \frac{\sqrt{1 + 2L^2} − 1}{\sqrt{12}\, L^2}

    X is uniform on [0, 1]². The bound is attained at L = 0 (X̂ = (Y, ½), W₂ = 1/√12) and, in the
    limit L = 2f → ∞, by the zigzag: both are 1/(√6 L). The book's chapter on Appendix C proves it.

    Args:
        slope: L ≥ 0.

    Raises:
        InputError: L is negative or not a number.
    """
    require(math.isfinite(slope) and slope >= 0, "slope (L)", slope, "a number ≥ 0")
    # (√(1 + 2L²) − 1)/L² = 2/(√(1 + 2L²) + 1), which is defined at L = 0, too.
    return 2 / (math.sqrt(12) * (math.sqrt(1 + 2 * slope**2) + 1))


@dataclass(frozen=True)
class TwistedSampler(OneUniform):
    """A posterior sampler whose seed turns with y: the quantile level is z + rate·y (mod 1).

    The distribution of X̂ given y is the posterior for any rate. So Eq. 4–5 do not depend on the
    rate, but Eq. 6–7 do, because they keep the seed fixed while y moves (App. D).

    Args:
        problem: a toy problem with ``posterior_quantile``.
        rate: turns of the seed per unit of y; 0 gives the quantile coupling.
    """

    problem: ToyProblem
    rate: float

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 1), z (N, 1) → (y, quantile of the posterior at z + rate·y mod 1), (N, 2)."""
        level = (z + self.rate * y) % 1
        return torch.cat([y, self.problem.posterior_quantile(y, level)], dim=-1)
