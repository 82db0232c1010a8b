"""Resizing of images: bicubic, as the benchmarks of super-resolution are made, and by means.

The bicubic kernel is Keys' with a = −½. Where an image is made smaller, the kernel is stretched by
the factor, so that nothing aliases; beyond the border, the border's pixels are repeated. Rounded
to grey levels after the rows, and again after the columns, the result equals the published
low-resolution images of Set5 to the bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stochrestore.errors import require


def bicubic_downscale(x: Tensor, factor: int, *, axes: tuple[int, ...] = (-2, -1)) -> Tensor:
    """x (…, H, W) made smaller: (…, H/factor, W/factor), not clamped to a range.

    Raises:
        InputError: the factor does not divide a side.
    """
    for axis in axes:
        side = x.shape[axis]
        require(side % factor == 0, "bicubic_downscale: side", side, f"a multiple of {factor}")
        x = _along(x, axis, side // factor)
    return x


def bicubic_upscale(y: Tensor, factor: int) -> Tensor:
    """y (…, h, w) enlarged: (…, factor·h, factor·w), not clamped to a range."""
    for axis in (-2, -1):
        y = _along(y, axis, factor * y.shape[axis])
    return y


def low_resolution(high: Tensor, factor: int = 4) -> Tensor:
    """The low-resolution version of an image in grey levels, as the benchmarks publish it.

    Takes (…, H, W), uint8, and gives (…, H/factor, W/factor), uint8.
    """
    by_rows = to_levels(bicubic_downscale(high.double(), factor, axes=(-2,)))
    return to_levels(bicubic_downscale(by_rows.double(), factor, axes=(-1,)))


def block_means(x: Tensor, factor: int) -> Tensor:
    """The mean of each block of factor×factor pixels, rounded; what is left at the ends is cut.

    Takes (…, C, H, W), uint8, and gives (…, C, ⌊H/factor⌋, ⌊W/factor⌋), uint8. Sums of bytes are
    exact in float64, so that all machines round alike.
    """
    return to_levels(F.avg_pool2d(x.double(), factor))


def to_levels(x: Tensor) -> Tensor:
    """x rounded to grey levels, uint8."""
    return (x + 0.5).floor().clamp(0, 255).byte()


def _along(x: Tensor, axis: int, length: int) -> Tensor:
    """x with one axis, −2 or −1, resized to a length."""
    matrix = _matrix(x.shape[axis], length).to(x)
    return matrix @ x if axis == -2 else x @ matrix.T


def _matrix(before: int, after: int) -> Tensor:
    """The matrix that resizes one axis, (after, before), float64."""
    ratio = before / after
    stretch = max(1.0, ratio)
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * ratio - 0.5
    reach = int(2 * stretch) + 2
    index = centre.floor().long()[:, None] + torch.arange(-reach, reach + 1)
    weight = _keys((centre[:, None] - index) / stretch)
    weight = weight / weight.sum(1, keepdim=True)
    matrix = torch.zeros(after, before, dtype=torch.float64)
    return matrix.scatter_add_(1, index.clamp(0, before - 1), weight)


def _keys(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = −½."""
    t = t.abs()
    inner = 1.5 * t**3 - 2.5 * t**2 + 1
    outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, torch.zeros_like(t)))
