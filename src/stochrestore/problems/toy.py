"""Two-dimensional toy problems with known posteriors: the disk and the elliptic ring.

In both of them X = (X⁽¹⁾, X⁽²⁾) is uniform on its support and Y = X⁽¹⁾. So the posterior of X⁽²⁾
is uniform on the chord of the support at x₁ = y, and its quantile function is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stochrestore.errors import require


class ToyProblem(Protocol):
    """A uniform distribution on a planar support, degraded to its first coordinate."""

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of X, (n, 2), float64."""
        ...

    def contains(self, x: Tensor) -> Tensor:
        """Whether each x (…, 2) lies in the support of p_X: (…) of bool."""
        ...

    def input_quantile(self, u: Tensor) -> Tensor:
        """The u-quantile of Y, for u in (0, 1), of u's shape."""
        ...

    def posterior_quantile(self, y: Tensor, u: Tensor) -> Tensor:
        """The u-quantile of p_{X⁽²⁾|Y}(·∣y); y and u have equal shapes, and u is in [0, 1]."""
        ...

    def posterior_mean(self, y: Tensor) -> Tensor:
        """E[X⁽²⁾ | Y = y], of y's shape."""
        ...


def half_chord(y: Tensor, semi_axis_1: float = 1.0, semi_axis_2: float = 1.0) -> Tensor:
    """Half the length of the chord of the ellipse x₁²/a₁² + x₂²/a₂² ≤ 1 at x₁ = y; 0 outside.

    The gradient is finite everywhere, so that an attack may step across the edge.
    """
    inside = 1 - (y / semi_axis_1).square()
    safe = torch.where(inside > 0, inside, torch.ones_like(inside))
    return torch.where(inside > 0, semi_axis_2 * safe.sqrt(), torch.zeros_like(inside))


def _share_below(y: Tensor) -> Tensor:
    """The share of the unit disk's area where x₁ ≤ y."""
    y = y.clamp(-1, 1)
    return 0.5 + (y * (1 - y.square()).sqrt() + y.asin()) / math.pi


def _rand(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64, device=generator.device)


@dataclass(frozen=True)
class Disk:
    """X is uniform on the unit disk (Sec. 4, Fig. 3)."""

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of X, (n, 2), float64."""
        require(n >= 1, "Disk.sample: n", n, "an integer ≥ 1")
        radius, angle = _rand(2, n, generator=generator)
        angle = 2 * math.pi * angle
        return radius.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)

    def contains(self, x: Tensor) -> Tensor:
        """Whether ‖x‖ ≤ 1, for x (…, 2)."""
        return x.square().sum(-1) <= 1

    def input_quantile(self, u: Tensor) -> Tensor:
        """The y with P(Y ≤ y) = ½ + (y√(1 − y²) + arcsin y)/π = u, by Newton's method."""
        angle = math.pi * (u - 0.5)  # y = sin(φ/2) turns it into Kepler's φ + sin φ = 2·angle
        phi = angle.clone()
        for _ in range(50):
            phi = phi - (phi + phi.sin() - 2 * angle) / (1 + phi.cos()).clamp_min(1e-12)
            phi = phi.clamp(-math.pi, math.pi)
        return torch.sin(phi / 2)

    def posterior_quantile(self, y: Tensor, u: Tensor) -> Tensor:
        """(2u − 1)·√(1 − y²), because X⁽²⁾ is uniform on the chord given y."""
        return (2 * u - 1) * half_chord(y)

    def posterior_mean(self, y: Tensor) -> Tensor:
        """0, because the chord is symmetric."""
        return torch.zeros_like(y)


@dataclass(frozen=True)
class Ring:
    """X is uniform between two concentric ellipses (App. B.1, Fig. 5).

    The paper prints a picture and no semi-axes. Here the outer ellipse is read off the axes of
    Fig. 5, and the hole is chosen such that an estimator that crosses it has the precision
    printed there.

    Args:
        outer: semi-axes (along x₁, along x₂) of the outer ellipse.
        inner: semi-axes of the hole, each smaller than the outer one.

    Raises:
        InputError: the hole does not lie within the outer ellipse.
    """

    outer: tuple[float, float] = (0.7, 1.0)
    inner: tuple[float, float] = (0.44, 0.6)

    def __post_init__(self) -> None:
        inside = all(0 < i < o < math.inf for i, o in zip(self.inner, self.outer, strict=True))
        allowed = "semi-axes with 0 < inner < outer along both coordinates"
        require(inside, "Ring.inner, Ring.outer", (self.inner, self.outer), allowed)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of X, (n, 2), float64, by rejection of points in the hole."""
        require(n >= 1, "Ring.sample: n", n, "an integer ≥ 1")
        axes = torch.tensor(self.outer, dtype=torch.float64, device=generator.device)
        kept = torch.empty(0, 2, dtype=torch.float64, device=generator.device)
        while len(kept) < n:
            x = Disk().sample(2 * n, generator=generator) * axes
            kept = torch.cat([kept, x[self.contains(x)]])
        return kept[:n]

    def contains(self, x: Tensor) -> Tensor:
        """Whether each x (…, 2) lies between the two ellipses."""
        within = [
            (x[..., 0] / a).square() + (x[..., 1] / b).square() <= 1
            for a, b in (self.outer, self.inner)
        ]
        return within[0] & ~within[1]

    def input_quantile(self, u: Tensor) -> Tensor:
        """The y with P(Y ≤ y) = u, by bisection of the difference of two ellipses' areas."""
        (a, area), (b, hole) = ((axes[0], math.prod(axes)) for axes in (self.outer, self.inner))
        low, high = torch.full_like(u, -a), torch.full_like(u, a)
        for _ in range(60):
            y = (low + high) / 2
            share = (area * _share_below(y / a) - hole * _share_below(y / b)) / (area - hole)
            low, high = torch.where(share < u, y, low), torch.where(share < u, high, y)
        return (low + high) / 2

    def bounds(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Half the chords of the hole and of the outer ellipse at x₁ = y, each of y's shape."""
        return half_chord(y, *self.inner), half_chord(y, *self.outer)

    def posterior_quantile(self, y: Tensor, u: Tensor) -> Tensor:
        """The u-quantile of the uniform distribution on [−outer, −inner] ∪ [inner, outer]."""
        inner, outer = self.bounds(y)
        side = 2 * u - 1
        return torch.sign(side) * inner + side * (outer - inner)

    def posterior_mean(self, y: Tensor) -> Tensor:
        """0, by symmetry; it lies in the hole, outside the support of p_X."""
        return torch.zeros_like(y)


TOYS: dict[str, ToyProblem] = {"disk": Disk(), "ring": Ring()}
"""The toy problems by the names that settings have for them."""


def midpoints(n: int) -> Tensor:
    """(i + ½)/n, i < n: the middles of n equal parts of [0, 1], float64."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def triangle_wave(phase: Tensor) -> Tensor:
    """∣2·(t − round(t))∣, of period 1: 0 at the integers and 1 half-way between them."""
    return 2 * (phase - phase.round()).abs()
