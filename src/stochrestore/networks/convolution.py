"""The 3×3 convolution of the image networks, as a product of matrices where images are tiny."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Up to this side, by kind of device, the product of matrices is the faster one.
TINY = {"cpu": 2}


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution that keeps the size, computed by :func:`conv3x3`.

    Args:
        fan_in: channels of the input.
        fan_out: channels of the output.
        bias: whether a constant for each channel is added.
    """

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = True) -> None:
        super().__init__(fan_in, fan_out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, fan_in, H, W) → (N, fan_out, H, W)."""
        return conv3x3(x, self.weight, self.bias)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3×3 convolution with a border of one zero.

    On one or on 2×2 pixels most of the nine taps meet the border alone, and the gradients of the
    weights take a processor several times as long as the product of matrices that the convolution
    is there. A GPU waits for the number of operations instead, and has the convolution everywhere.

    Args:
        x: (N, C, H, W).
        weight: (C', C, 3, 3).
        bias: (C',).

    Returns:
        (N, C', H, W).
    """
    side = x.shape[-1]
    if side > TINY.get(x.device.type, 0) or x.shape[-2] != side:
        return F.conv2d(x, weight, bias, padding=1)
    rows = x.permute(0, 2, 3, 1).flatten(1)
    y = F.linear(rows, dense(weight, side), None if bias is None else bias.repeat(side * side))
    return y.unflatten(1, (side, side, -1)).permute(0, 3, 1, 2)


@contextmanager
def as_on(device: torch.device) -> Iterator[None]:
    """Within the ``with`` block, a processor convolves as this kind of device does."""
    own = TINY["cpu"]
    TINY["cpu"] = TINY.get(device.type, 0)
    try:
        yield
    finally:
        TINY["cpu"] = own


def dense(weight: Tensor, side: int) -> Tensor:
    """The matrix of the 3×3 convolution of side × side pixels, for a side of 1 or 2.

    Its entry for output pixel (i, j) and input pixel (a, b) is the tap (a − i + 1, b − j + 1).

    Returns:
        (side² C', side² C), pixels before channels.
    """
    pixels = torch.arange(side, device=weight.device)
    tap = pixels - pixels[:, None] + 1
    number = 3 * tap[:, None, :, None] + tap[:, None, :]  # i, j, a, b
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1).index_select(0, number.flatten())
    return taps.unflatten(0, (side**2, side**2)).transpose(1, 2).flatten(2).flatten(0, 1)
