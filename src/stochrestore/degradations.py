"""Degradations y = D(x), and the projections that make estimators consistent by construction.

Each degradation has two methods: ``degrade(x)`` gives the input y = D(x), and ``project(x, y)``
changes x into an image that is consistent with y, so that D(project(x, y)) = y and
project(x, D(x)) = x. Degradations of images also have ``lift(y)``, which makes an image of full
size from y; it is the input of a network.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from stochrestore.errors import require


class ImageDegradation(Protocol):
    """A degradation of images, as the networks use it."""

    def degrade(self, x: Tensor) -> Tensor:
        """y = D(x)."""
        ...

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """An image made from x that is consistent with y: D(project(x, y)) = y."""
        ...

    def lift(self, y: Tensor) -> Tensor:
        """y as an image of full size."""
        ...


class FirstCoordinate:
    """The toy problems' degradation (Sec. 4): Y = X⁽¹⁾, the first of two coordinates."""

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, 2) → its first coordinate, (…, 1)."""
        return x[..., :1]

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x (…, 2) with its first coordinate replaced by y (…, 1)."""
        return torch.cat([y, x[..., 1:]], dim=-1)


class Inpainting:
    """Only the lower rows of an image are known (Sec. 6.1: the lower quarter).

    y holds the known pixels only, so that a perturbation of y changes known pixels only.

    Args:
        size: number of rows of the image.
        known_rows: how many of the lowest rows are known; a quarter of all where not given.

    Raises:
        InputError: ``known_rows`` is not between 1 and size − 1.
    """

    def __init__(self, size: int, known_rows: int | None = None) -> None:
        self.size = size
        self.known_rows = size // 4 if known_rows is None else known_rows
        require(0 < self.known_rows < size, "Inpainting.known_rows", known_rows, f"1 to {size - 1}")

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, size, width) → its known rows, (…, known_rows, width)."""
        return x[..., -self.known_rows :, :]

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x with its known rows replaced by y, without any rounding."""
        return torch.cat([x[..., : -self.known_rows, :], y], dim=-2)

    def lift(self, y: Tensor) -> Tensor:
        """y with zeros for the unknown rows above it, (…, size, width)."""
        return F.pad(y, (0, 0, self.size - self.known_rows, 0))


class Averaging:
    """The mean of each block of s×s pixels, the degradation of super-resolution (Sec. 6.2).

    Because A Aᵀ = I/s², the projection of CEM has a closed form, x̂ = x − up(A x − y), where
    ``up`` repeats each pixel s×s times.

    Args:
        scale: s, which must divide the sides of the images.

    Raises:
        InputError: the scale is below 1.
    """

    def __init__(self, scale: int) -> None:
        require(scale >= 1, "Averaging.scale", scale, "an integer ≥ 1")
        self.scale = scale

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, H, W) → the means of its blocks, (…, H/s, W/s).

        Raises:
            InputError: s does not divide a side.
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
        """y with each pixel repeated s×s times (nearest neighbour), (…, s·h, s·w)."""
        return y.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


class LinearDegradation:
    r"""A linear filter of which every s-th pixel is kept: blur, with or without downsampling.

    .. math:: y_i = (A x)_i = \sum_j k_j\, x_{s i + j}

    Images are continued periodically. Then A Aᵀ is diagonal under the Fourier transform of y, and
    the projection of CEM, x̂ = x − A⁺(A x − y) with A⁺ = Aᵀ(A Aᵀ)⁺, is exact. The kernel is
    centred on the s×s block that belongs to its output; so a box of side s with stride s is
    :class:`Averaging`. A kernel that cannot be centred lies half a pixel towards the top left.

    A frequency of y that A almost deletes cannot be restored from y: A⁺ would magnify rounding,
    and any perturbation of y, without bound. So frequencies whose singular value is below
    ``threshold`` times the largest are removed from A itself. D(project(x, y)) = y then holds for
    every y in the range of D; other y lose the removed frequencies. :attr:`rank` counts those kept.

    For example, Gaussian blur of σ = 1.5 pixels, of which every fourth pixel is kept::

        g = torch.exp(-torch.arange(-6.0, 7.0).square() / (2 * 1.5**2))
        degradation = LinearDegradation(torch.outer(g, g) / g.sum() ** 2, stride=4, size=32)
        estimator = UNet(degradation, 32, stochastic=True)

    Args:
        kernel: k, (height, width), each at most ``size``; its sum need not be 1.
        stride: s, which must divide the size.
        size: S, side of the images.
        threshold: in (0, 1); A⁺ magnifies no frequency more than 1/threshold times as much as
            the strongest one.

    Raises:
        InputError: the kernel is not a matrix, is too large, is zero or is not finite; the stride
            does not divide the size; or the threshold is out of range.
    """

    def __init__(self, kernel: Tensor, stride: int, size: int, *, threshold: float = 1e-2) -> None:
        where, shape = "LinearDegradation", tuple(kernel.shape)
        fits = kernel.ndim == 2 and kernel.numel() > 0 and max(shape) <= size
        require(fits, f"{where}: shape of the kernel", shape, f"(h, w), each from 1 to {size}")
        usable = bool(kernel.isfinite().all()) and bool(kernel.any())
        require(usable, f"{where}: kernel", kernel.tolist(), "finite numbers, not all of them 0")
        divides = stride >= 1 and size % stride == 0
        require(divides, f"{where}: stride", stride, f"a divisor of the size, {size}")
        require(0 < threshold < 1, f"{where}: threshold", threshold, "between 0 and 1")
        self.size, self.stride = size, stride
        tap = torch.zeros(size, size, dtype=torch.float64)
        tap[: shape[0], : shape[1]] = kernel.double().cpu()
        tap = tap.roll([-((side - stride) // 2) for side in shape], (0, 1))
        transfer = torch.fft.fft2(tap).conj()
        power = self._fold(transfer.abs().square())  # eigenvalues of A Aᵀ
        kept = power >= threshold**2 * power.max()
        self._forward = transfer * self._tile(kept)
        self._inverse = self._forward.conj() / self._tile(torch.where(kept, power, 1.0))
        self.rank = int(kept.sum())
        """How many of the (S/s)² frequencies of y are kept in A."""

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, S, S) → y (…, S/s, S/s).

        Raises:
            InputError: the sides of x are not S.
        """
        sides, size, where = tuple(x.shape[-2:]), self.size, "LinearDegradation: sides of the image"
        require(sides == (size, size), where, sides, f"{size}×{size}")
        return torch.fft.ifft2(self._fold(torch.fft.fft2(x) * _like(self._forward, x))).real

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The consistent image nearest to x."""
        return x - self.lift(self.degrade(x) - y)

    def lift(self, y: Tensor) -> Tensor:
        """A⁺ y, the consistent image of least norm; for a box of side s it is ``up``."""
        return torch.fft.ifft2(self._tile(torch.fft.fft2(y)) * _like(self._inverse, y)).real

    def _fold(self, spectrum: Tensor) -> Tensor:
        """The spectrum after every s-th pixel is taken: the mean of its s×s aliases."""
        s = self.stride
        parts = spectrum.unflatten(-1, (s, -1)).unflatten(-3, (s, -1))
        return parts.mean((-4, -2))

    def _tile(self, spectrum: Tensor) -> Tensor:
        """The spectrum after s − 1 zeros are put between pixels: s×s copies of it."""
        return torch.cat([torch.cat([spectrum] * self.stride, -1)] * self.stride, -2)


def _like(spectrum: Tensor, x: Tensor) -> Tensor:
    """A complex spectrum in the precision of x, on its device."""
    return spectrum.to(device=x.device, dtype=x.dtype.to_complex())
