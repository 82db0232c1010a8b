"""The problem of App. C: X is uniform on the unit square, and Y is its first coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stochrestore.errors import require


@dataclass(frozen=True)
class Square:
    """X = (X⁽¹⁾, X⁽²⁾) is uniform on [0, 1]², and Y = X⁽¹⁾ (App. C).

    The posterior of X⁽²⁾ is uniform on [0, 1] whatever y is. So the posterior sampler is as robust
    as an estimator can be, while a deterministic one that imitates it must be erratic.
    """

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of X, (n, 2), float64."""
        require(n >= 1, "Square.sample: n", n, "an integer ≥ 1")
        return torch.rand(n, 2, generator=generator, dtype=torch.float64, device=generator.device)

    def contains(self, x: Tensor) -> Tensor:
        """Whether both coordinates of x (…, 2) lie in [0, 1]."""
        return ((x >= 0) & (x <= 1)).all(-1)

    def posterior_quantile(self, y: Tensor, u: Tensor) -> Tensor:
        """u itself, because X⁽²⁾ is uniform on [0, 1] and independent of Y."""
        return u

    def posterior_mean(self, y: Tensor) -> Tensor:
        """½, of y's shape."""
        return torch.full_like(y, 0.5)
