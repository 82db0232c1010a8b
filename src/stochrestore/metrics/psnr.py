"""The PSNR that publications on super-resolution report."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stochrestore.metrics.images import check_images

Channels = Literal["rgb", "y"]

MOST_PSNR = 99.0
"""dB that stand for an infinite PSNR, of equal images, where means are taken."""


def psnr(a: Tensor, b: Tensor, *, channels: Channels = "rgb", border: int = 0) -> Tensor:
    """The peak signal-to-noise ratio −10·log₁₀(mean squared difference) for images of peak 1.

    Args:
        a: images (…, 3, H, W), in [0, 1].
        b: as a.
        channels: ``"rgb"``, or ``"y"`` for the luma of BT.601, which publications on
            super-resolution use.
        border: the pixels left out at each side; publications on ×4 leave out 4.

    Returns:
        dB, (…); infinite where a = b.

    Raises:
        InputError: another dtype or range, such as bytes or images in [−1, 1].
    """
    for name, images in (("a", a), ("b", b)):
        check_images(f"psnr: {name}", images)
    difference = (a - b).double()
    if border:
        difference = difference[..., border:-border, border:-border]
    if channels == "y":
        difference = luma(difference)
    return -10 * difference.square().flatten(-3).mean(-1).log10()


def luma(x: Tensor) -> Tensor:
    """The linear part of BT.601's luma in fractions of the range: (…, 3, H, W) → (…, 1, H, W)."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=x.dtype, device=x.device) / 255
    return (x * weights[:, None, None]).sum(-3, keepdim=True)
