"""Degradations y = D(x), and how an estimator is made consistent with them by construction.

Each degradation has ``degrade(x)``, the input y = D(x), and ``project(x, y)``, the change of x
that makes it consistent: D(project(x, y)) = y, and project(x, D(x)) = x. Those of images also
have ``lift(y)``, an image of full size made from y, which is what a network is fed.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from stochrestore.errors import require


class ImageDegradation(Protocol):
    """What the networks for images need to know of a degradation."""

    def degrade(self, x: Tensor) -> Tensor:
        """y = D(x)."""
        ...

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The consistent image made from x: D(project(x, y)) = y."""
        ...

    def lift(self, y: Tensor) -> Tensor:
        """y as an image of full size."""
        ...


class FirstCoordinate:
    """The toy problems' degradation (Sec. 4): Y = X⁽¹⁾, the first of two coordinates."""

    def degrade(self, x: Tensor) -> Tensor:
        """(…, 2) → (…, 1)."""
        return x[..., :1]

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x (…, 2) with its first coordinate replaced by y (…, 1)."""
        return torch.cat([y, x[..., 1:]], dim=-1)


class Inpainting:
    """Only the lower rows of an image are known (Sec. 6.1: the lower quarter).

    y holds the known pixels and nothing else, so that a perturbation of y, and its norm, are
    those of the known pixels.

    Args:
        size: rows of the image.
        known_rows: how many of them, from the bottom, are known; a quarter unless given.
    """

    def __init__(self, size: int, known_rows: int | None = None) -> None:
        self.size = size
        self.known_rows = size // 4 if known_rows is None else known_rows
        require(0 < self.known_rows < size, "Inpainting.known_rows", known_rows, f"1 to {size - 1}")

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, size, width) → its known rows, (…, known_rows, width)."""
        return x[..., -self.known_rows :, :]

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x with its known rows replaced by y, to the bit."""
        return torch.cat([x[..., : -self.known_rows, :], y], dim=-2)

    def lift(self, y: Tensor) -> Tensor:
        """y below zeros, (…, size, width)."""
        return F.pad(y, (0, 0, self.size - self.known_rows, 0))


class Averaging:
    """Plain averaging over s×s blocks, the degradation of super-resolution (Sec. 6.2).

    Its CEM projection is in closed form: A Aᵀ = I/s², so x̂ = x − up(A x − y), where ``up``
    repeats each pixel s×s times.

    Args:
        scale: s, which divides the sides of the images.
    """

    def __init__(self, scale: int) -> None:
        require(scale >= 1, "Averaging.scale", scale, "an integer ≥ 1")
        self.scale = scale

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, H, W) → the means of its blocks, (…, H/s, W/s).

        Raises:
            InputError: a side that s does not divide.
        """
        height, width = x.shape[-2:]
        s = self.scale
        fits = height % s == 0 and width % s == 0
        require(fits, "Averaging: sides of the image", (height, width), f"multiples of {s}")
        return x.unflatten(-1, (width // s, s)).unflatten(-3, (height // s, s)).mean((-3, -1))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The consistent image nearest to x."""
        return x - self.lift(self.degrade(x) - y)

    def lift(self, y: Tensor) -> Tensor:
        """y enlarged s-fold, nearest neighbour."""
        return y.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)
