"""RRDBNet, the network of ESRGAN (Wang et al., 2018) and the encoder of SRFlow.

Modules have the names that the officially published weights use.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.estimators.base import Deterministic

RESIDUAL_SCALE = 0.2
"""The factor of each residual."""
NEGATIVE_SLOPE = 0.2


class RRDBNet(Deterministic, nn.Module):
    """×4 super-resolution by residual-in-residual dense blocks (RRDBs); deterministic, Z = 0.

    Args:
        features: channels of the trunk (64 in ESRGAN).
        blocks: RRDBs in the trunk (23).
        growth: channels that each convolution of a dense block adds (32).
    """

    scale = 4

    def __init__(self, features: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = conv3x3(3, features)
        self.RRDB_trunk = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.trunk_conv = conv3x3(features, features)
        self.upconv1 = conv3x3(features, features)
        self.upconv2 = conv3x3(features, features)
        self.HRconv = conv3x3(features, features)
        self.conv_last = conv3x3(features, 3)

    def forward(self, y: Tensor, z: Tensor | None = None) -> Tensor:
        """y (N, 3, h, w) in [0, 1] → x̂ (N, 3, 4h, 4w), not clamped; z is not used."""
        first = self.conv_first(y)
        features = first + self.trunk_conv(self.RRDB_trunk(first))
        features = self.upsample(self.upconv2, self.upsample(self.upconv1, features))
        return self.conv_last(leaky(self.HRconv(features)))

    def block_outputs(self, y: Tensor) -> list[Tensor]:
        """The output of each RRDB of the trunk, (N, features, h, w) each."""
        outputs = [self.conv_first(y)]
        for block in self.RRDB_trunk:
            outputs.append(block(outputs[-1]))
        return outputs[1:]

    @staticmethod
    def upsample(conv: nn.Module, features: Tensor) -> Tensor:
        """Features at twice the resolution: nearest neighbour, convolution, leaky ReLU."""
        return leaky(conv(F.interpolate(features, scale_factor=2.0, mode="nearest")))


class RRDB(nn.Module):
    """x + 0.2·d(x), where d is three dense blocks after each other."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(features, growth)
        self.RDB2 = DenseBlock(features, growth)
        self.RDB3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, h, w) → the same shape."""
        return x + RESIDUAL_SCALE * self.RDB3(self.RDB2(self.RDB1(x)))


class DenseBlock(nn.Module):
    """x + 0.2·c(x), where c is five convolutions, each of x and all outputs before it."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(features, growth)
        self.conv2 = conv3x3(features + growth, growth)
        self.conv3 = conv3x3(features + 2 * growth, growth)
        self.conv4 = conv3x3(features + 3 * growth, growth)
        self.conv5 = conv3x3(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, h, w) → the same shape."""
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, leaky(conv(seen))], 1)
        return x + RESIDUAL_SCALE * self.conv5(seen)


def conv3x3(fan_in: int, fan_out: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps the resolution."""
    return nn.Conv2d(fan_in, fan_out, 3, padding=1)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2 below zero."""
    return F.leaky_relu(x, NEGATIVE_SLOPE)
