"""EDSR (Lim et al., 2017): ×4 super-resolution by plain residual blocks, trained with L1.

Modules have the names that the officially published weights use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stochrestore.estimators.base import Deterministic
from stochrestore.networks.rrdb import conv3x3

RANGE = 255.0
"""The network computes in grey levels, from 0 to this number."""
MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the DIV2K photographs, as a fraction of the range."""


class EDSR(Deterministic, nn.Module):
    """×4 super-resolution; the network is deterministic, with Z = 0.

    Args:
        features: channels (64 in the baseline, 256 in the full network).
        blocks: residual blocks (16, 32).
        residual_scale: the factor of each block's residual (1, 0.1).
    """

    scale = 4

    def __init__(
        self, features: int = 64, blocks: int = 16, *, residual_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(conv3x3(3, features))
        body = (ResidualBlock(features, residual_scale) for _ in range(blocks))
        self.body = nn.Sequential(*body, conv3x3(features, features))
        doublings = (layer for _ in range(2) for layer in doubled(features))
        self.tail = nn.Sequential(nn.Sequential(*doublings), conv3x3(features, 3))
        self.add_mean = MeanShift(+1)

    def forward(self, y: Tensor, z: Tensor | None = None) -> Tensor:
        """y (N, 3, h, w) in [0, 1] → x̂ (N, 3, 4h, 4w), not clamped; z is not used."""
        h = self.head(self.sub_mean(RANGE * y))
        return self.add_mean(self.tail(h + self.body(h))) / RANGE


class ResidualBlock(nn.Module):
    """x + scale·conv(ReLU(conv(x)))."""

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(features, features), nn.ReLU(), conv3x3(features, features)
        )
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, h, w) → the same shape."""
        return x + self.scale * self.body(x)


class MeanShift(nn.Conv2d):
    """A 1×1 convolution that adds or subtracts the mean colour and is not trained."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias.copy_(sign * RANGE * torch.tensor(MEAN))  # type: ignore[union-attr]
        self.requires_grad_(False)


def doubled(features: int) -> tuple[nn.Module, nn.Module]:
    """A convolution to four times the channels and a pixel shuffle, which double both sides."""
    return conv3x3(features, 4 * features), nn.PixelShuffle(2)
