"""The ResNet critic of the image experiments (Table 4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.errors import require
from stochrestore.networks.convolution import Conv3x3


class ResNetCritic(nn.Module):
    """Table 4: x (N, channels, size, size) → one logit each; it does not see Y apart from x.

    Stages of two pre-activation residual blocks, with average pooling between, until 2×2
    pixels are left: six stages at 64×64, as in the paper, five at 32×32, four at 16×16.

    Args:
        size: side of the images, a power of 2, at least 16.
        width: f, channels of the first block (16 for CelebA, 32 for ImageNet).
        channels: of the images.
        residual: what the residual branches are multiplied by; 0.1 in Table 4.
        centred: whether the network sees 2x − 1 in place of x. Gradients, and so R1, are with
            respect to x in any case: the same γ weighs four times as much on a function of 2x − 1.

    Raises:
        InputError: another size.
    """

    def __init__(
        self,
        size: int,
        width: int = 16,
        *,
        channels: int = 3,
        residual: float = 0.1,
        centred: bool = False,
    ) -> None:
        super().__init__()
        fits = size >= 16 and size & (size - 1) == 0
        require(fits, "ResNetCritic: size", size, "a power of 2, at least 16")
        self.centred = centred
        stages = int(math.log2(size))
        widths = [width * min(2**stage, 16) for stage in range(stages)]
        self.first = Conv3x3(channels, width)
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(a, a, residual), ResidualBlock(a, b, residual))
            for a, b in zip(widths, [*widths[1:], widths[-1]], strict=True)
        )
        self.last = nn.Linear(widths[-1] * 4, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """x (N, channels, size, size) → logits (N,)."""
        h = self.first(2 * x - 1 if self.centred else x)
        for stage, blocks in enumerate(self.stages):
            if stage:
                h = F.avg_pool2d(h, 3, stride=2, padding=1)
            h = blocks(h)
        return self.last(F.leaky_relu(h, 0.2).flatten(1)).squeeze(1)


class ResidualBlock(nn.Module):
    """shortcut(x) + residual·conv(act(conv(act(x)))), 3×3, leaky ReLU 0.2."""

    def __init__(self, fan_in: int, fan_out: int, residual: float = 0.1) -> None:
        super().__init__()
        self.residual = residual
        self.conv_0 = Conv3x3(fan_in, fan_in)
        self.conv_1 = Conv3x3(fan_in, fan_out)
        same = fan_in == fan_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(fan_in, fan_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, fan_in, H, W) → (N, fan_out, H, W)."""
        h = self.conv_0(F.leaky_relu(x, 0.2))
        h = self.conv_1(F.leaky_relu(h, 0.2))
        return self.shortcut(x) + self.residual * h
