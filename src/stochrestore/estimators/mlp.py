"""The fully connected estimator and critic of the toy experiments (Table 2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from stochrestore.degradations import FirstCoordinate
from stochrestore.estimators.base import no_seed, normal_seed, uniform_seed

SeedDistribution = Literal["uniform", "normal"]


def fully_connected(width: int) -> nn.Sequential:
    """Table 2: 2 → width → width → width → width → 1, ReLU between."""
    sizes = [2, width, width, width, width]
    hidden = [
        layer
        for fan_in, fan_out in pairwise(sizes)
        for layer in (nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


class MLPEstimator(nn.Module):
    """X̂ = (Y, g(Y, Z)) with the network g of Table 2; Z = 0 where deterministic.

    Args:
        width: units of each hidden layer (512 in the paper).
        stochastic: whether Z is drawn or fixed to 0; the network is the same.
        seed_distribution: Z ~ U[0, 1] (App. E.1) or N(0, 1) (Sec. 5).
    """

    def __init__(
        self,
        width: int = 512,
        *,
        stochastic: bool,
        seed_distribution: SeedDistribution = "uniform",
    ) -> None:
        super().__init__()
        self.net = fully_connected(width)
        self.stochastic = stochastic
        self.seed_distribution = seed_distribution
        self.degradation = FirstCoordinate()

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each y, (n, N, 1)."""
        if not self.stochastic:
            return no_seed(y, n)
        draw = uniform_seed if self.seed_distribution == "uniform" else normal_seed
        return draw(y, n, generator=generator)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 1), z (N, 1) → x̂ (N, 2), whose first coordinate is y."""
        second = self.net(torch.cat([y, z], dim=-1))
        return self.degradation.project(second.expand(-1, 2), y)


class MLPCritic(nn.Module):
    """Table 2 as a critic: x (N, 2) → one logit each, (N,); it does not see Y apart from x."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.net = fully_connected(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 2) → logits (N,)."""
        return self.net(x).squeeze(-1)
