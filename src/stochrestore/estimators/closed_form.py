"""Toy estimators in closed form, which are consistent by construction: X̂ = (Y, ·)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stochrestore.estimators.base import Deterministic, OneUniform
from stochrestore.problems.toy import Disk, Ring, ToyProblem, half_chord, triangle_wave


class DeterministicToyEstimator(Deterministic, ABC):
    """A curve over y, whose second coordinate ``curve(y)`` subclasses define."""

    @abstractmethod
    def curve(self, y: Tensor) -> Tensor:
        """The second coordinate of X̂, of y's shape."""

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 1) → (y, curve(y)), (N, 2); z is ignored."""
        return torch.cat([y, self.curve(y)], dim=-1)


@dataclass(frozen=True)
class Sine(DeterministicToyEstimator):
    """X̂_α = (Y, √(1 − Y²)·sin(αY)) of Sec. 4: robust for α = 1, erratic for α = 50."""

    alpha: float

    def curve(self, y: Tensor) -> Tensor:
        """√(1 − y²)·sin(αy)."""
        return half_chord(y) * torch.sin(self.alpha * y)


@dataclass(frozen=True)
class PosteriorMean(DeterministicToyEstimator):
    """The MMSE estimator E[X | Y] (App. B.2), which is the most robust one, but blurred."""

    problem: ToyProblem = field(default_factory=Disk)

    def curve(self, y: Tensor) -> Tensor:
        """E[X⁽²⁾ | Y = y]."""
        return self.problem.posterior_mean(y)


@dataclass(frozen=True)
class PosteriorSampler(OneUniform):
    """The exact sampler of p_{X|Y}, the only estimator that Theorem 3.1 allows.

    The seed is the quantile level. So equal seeds couple the posteriors at neighbouring y
    optimally, and Eq. 7 equals Eq. 5.
    """

    problem: ToyProblem = field(default_factory=Disk)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 1), z (N, 1) in [0, 1] → (y, z-quantile of the posterior), (N, 2)."""
        return torch.cat([y, self.problem.posterior_quantile(y, z)], dim=-1)


@dataclass(frozen=True)
class RingAvoidingHole(DeterministicToyEstimator):
    """X̂₁ of Fig. 5: a zigzag over the ring that stays on one side of the hole.

    Above and below the hole it runs from edge to edge. Beside the hole it begins at the outer
    edge, so that the curve is continuous.

    Args:
        frequency: zigzags per unit of y, > 0.
        overshoot: how far the zigzag runs into the hole, as a share of the hole's half-chord.
    """

    frequency: float = 15.0
    overshoot: float = 0.2
    ring: Ring = field(default_factory=Ring)

    def curve(self, y: Tensor) -> Tensor:
        """The second coordinate, between the outer edge and the hole's, or the far edge."""
        inner, outer = self.ring.bounds(y)
        hole_height = self.ring.inner[0]
        beside = outer - (1 - self.overshoot) * inner
        depth = torch.where(y.abs() < hole_height, beside, 2 * outer)
        return outer - depth * triangle_wave(self.frequency * (y.abs() - hole_height))


@dataclass(frozen=True)
class RingCrossingHole(DeterministicToyEstimator):
    """X̂₂ of Fig. 5: a zigzag from edge to edge of the outer ellipse, through the hole.

    Args:
        frequency: zigzags per unit of y, > 0.
    """

    frequency: float = 8.25
    ring: Ring = field(default_factory=Ring)

    def curve(self, y: Tensor) -> Tensor:
        """outer·(1 − 2·triangle wave)."""
        _, outer = self.ring.bounds(y)
        return outer * (1 - 2 * triangle_wave(self.frequency * y))
