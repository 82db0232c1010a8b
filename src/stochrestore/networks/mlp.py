"""Fully connected estimators and critics (Table 2), for the toy experiments and small images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from stochrestore.degradations import FirstCoordinate, ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import no_seed, normal_seed, uniform_seed

SeedDistribution = Literal["uniform", "normal"]


def fully_connected(width: int, fan_in: int = 2) -> nn.Sequential:
    """The network of Table 2: four hidden layers of ``width`` units, each followed by ReLU."""
    sizes = [fan_in, width, width, width, width]
    hidden = [
        layer
        for rows, columns in pairwise(sizes)
        for layer in (nn.Linear(rows, columns), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


class MLPEstimator(nn.Module):
    """X̂ = (Y, g(Y, Z)) with the network g of Table 2; Z = 0 in the deterministic estimator.

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


class ImageMLP(nn.Module):
    """X̂ = project(g(Y, Z), Y) for small images, with the network g of Table 2.

    Args:
        degradation: D, whose projection makes the output consistent.
        shape: (channels, size, size) of the images.
        width: units of each hidden layer.
        stochastic: whether Z ~ N(0, I) is drawn or fixed to 0; the network is the same.
        seed_dims: K, the length of Z.
        seed_layer: the number of the layer, 0 to 4, to whose input Z is appended.

    Raises:
        InputError: ``seed_layer`` or ``seed_dims`` is out of range.
    """

    def __init__(
        self,
        degradation: ImageDegradation,
        shape: tuple[int, int, int],
        width: int = 256,
        *,
        stochastic: bool,
        seed_dims: int = 16,
        seed_layer: int = 0,
    ) -> None:
        super().__init__()
        require(0 <= seed_layer <= 4, "ImageMLP: seed_layer", seed_layer, "0 to 4")
        require(seed_dims >= 1, "ImageMLP: seed_dims", seed_dims, "an integer ≥ 1")
        self.degradation, self.shape = degradation, shape
        self.stochastic, self.seed_dims, self.seed_layer = stochastic, seed_dims, seed_layer
        pixels = math.prod(shape)
        known = degradation.degrade(torch.empty(1, *shape)).numel()
        sizes = [known, width, width, width, width, pixels]
        sizes_in = [n + seed_dims * (i == seed_layer) for i, n in enumerate(sizes[:-1])]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(sizes_in, sizes[1:], strict=True)
        )

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each y, (n, N, K), or zeros (n, N, 1) where deterministic."""
        if not self.stochastic:
            return no_seed(y, n)
        return normal_seed(y, n, self.seed_dims, generator=generator)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, K) or zeros (N, 1) → x̂ (N, channels, size, size), D(x̂) = y."""
        h = y.flatten(1)
        for i, layer in enumerate(self.layers):
            h = torch.relu(h) if i else h
            if i == self.seed_layer:
                h = torch.cat([h, z.expand(-1, self.seed_dims)], 1)
            h = layer(h)
        return self.degradation.project(h.unflatten(1, self.shape), y)


class MLPCritic(nn.Module):
    """The network of Table 2 as a critic, which gives a logit for each x and does not see Y.

    Args:
        width: units of each hidden layer.
        dims: how many numbers one x has: 2 in the toy problems, the pixels of a small image.
    """

    def __init__(self, width: int = 512, dims: int = 2) -> None:
        super().__init__()
        self.net = fully_connected(width, dims)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, …) → logits (N,)."""
        return self.net(x.flatten(1)).squeeze(-1)
