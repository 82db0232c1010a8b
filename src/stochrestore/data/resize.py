"""Bicubic resizing of images, as the benchmarks of super-resolution are made.

Keys' kernel (a = −½), stretched by the factor where an image is made smaller so that nothing
aliases, and border pixels repeated beyond the border. With rounding to grey levels after the rows
and again after the columns, this gives the published low-resolution images of Set5 to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.errors import require


def bicubic_downscale(x: Tensor, factor: int, *, axes: tuple[int, ...] = (-2, -1)) -> Tensor:
    """x (…, H, W), sides multiples of the factor → (…, H/factor, W/factor); not clamped."""
    for axis in axes:
        side = x.shape[axis]
        require(side % factor == 0, "bicubic_downscale: side", side, f"a multiple of {factor}")
        x = _along(x, axis, side // factor)
    return x


def bicubic_upscale(y: Tensor, factor: int) -> Tensor:
    """y (…, h, w) → (…, factor·h, factor·w); not clamped."""
    for axis in (-2, -1):
        y = _along(y, axis, factor * y.shape[axis])
    return y


def low_resolution(high: Tensor, factor: int = 4) -> Tensor:
    """The low-resolution version of an image in grey levels as the benchmarks publish it.

    (…, H, W) uint8 → (…, H/factor, W/factor) uint8.
    """
    by_rows = _to_levels(bicubic_downscale(high.double(), factor, axes=(-2,)))
    return _to_levels(bicubic_downscale(by_rows.double(), factor, axes=(-1,)))


def _to_levels(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255).byte()


def _along(x: Tensor, axis: int, length: int) -> Tensor:
    """One axis, −2 or −1, resized."""
    matrix = _matrix(x.shape[axis], length).to(x)
    return matrix @ x if axis == -2 else x @ matrix.T


def _matrix(before: int, after: int) -> Tensor:
    """The linear map of one axis, (after, before), float64."""
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
