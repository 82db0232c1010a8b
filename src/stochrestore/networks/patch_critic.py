"""A critic of image patches, for the GAN training of super-resolution networks."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class PatchCritic(nn.Module):
    """A logit for each overlapping patch of an image: x (N, 3, H, W) → (N, H/8, W/8)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.halving = nn.ModuleList(
            nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1)
            for fan_in, fan_out in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → logits (N, H/8, W/8)."""
        for convolution in self.halving:
            x = F.leaky_relu(convolution(x), 0.2)
        return self.last(x).squeeze(1)
