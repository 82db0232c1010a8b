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


class LinearDegradation:
    r"""Any linear filter, then every s-th pixel: blur, with or without downsampling.

    .. math:: y_i = (A x)_i = \sum_j k_j\, x_{s i + j}

    Images are continued periodically. Then A Aᵀ is diagonal under the Fourier transform of y, and
    the projection of CEM, x̂ = x − A⁺(A x − y) with A⁺ = Aᵀ(A Aᵀ)⁺, is exact. The kernel is
    centred on the s×s block that its output stands for: a box of side s and stride s is
    :class:`Averaging`; where it cannot be centred, it lies half a pixel towards the top left.

    Frequencies of y that A all but deletes cannot be restored from y: A⁺ would magnify rounding,
    and any perturbation of y, without bound. Those with a singular value below ``threshold`` times
    the largest are removed from A itself, so that D(project(x, y)) = y holds for all y that D can
    give; what else y may hold there is left out. :attr:`rank` says how many frequencies stay.

    Gaussian blur of σ = 1.5 pixels, then every fourth pixel, for the U-Net of any chapter::

        g = torch.exp(-torch.arange(-6.0, 7.0).square() / (2 * 1.5**2))
        degradation = LinearDegradation(torch.outer(g, g) / g.sum() ** 2, stride=4, size=32)
        estimator = UNet(degradation, 32, stochastic=True)

    Args:
        kernel: k, (height, width), each at most ``size``; need not sum to 1.
        stride: s, which divides the size.
        size: S, side of the images.
        threshold: in (0, 1); its inverse bounds by how much A⁺ magnifies, relative to the
            strongest frequency.

    Raises:
        InputError: a kernel that is not a matrix, too large, zero or not finite; a stride that
            does not divide the size; a threshold out of range.
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
        """Frequencies of y that A keeps, of (S/s)²; all of them unless some are removed."""

    def degrade(self, x: Tensor) -> Tensor:
        """x (…, S, S) → y (…, S/s, S/s).

        Raises:
            InputError: other sides than the size.
        """
        sides, size = tuple(x.shape[-2:]), self.size
        require(
            sides == (size, size), "LinearDegradation: sides of the image", sides, f"{size}×{size}"
        )
        return torch.fft.ifft2(self._fold(torch.fft.fft2(x) * _like(self._forward, x))).real

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The consistent image nearest to x."""
        return x - self.lift(self.degrade(x) - y)

    def lift(self, y: Tensor) -> Tensor:
        """A⁺ y, the smallest of the consistent images; for a box of side s it is ``up``."""
        return torch.fft.ifft2(self._tile(torch.fft.fft2(y)) * _like(self._inverse, y)).real

    def _fold(self, spectrum: Tensor) -> Tensor:
        """What taking every s-th pixel does to a spectrum: the mean of its s×s aliases."""
        s = self.stride
        parts = spectrum.unflatten(-1, (s, -1)).unflatten(-3, (s, -1))
        return parts.mean((-4, -2))

    def _tile(self, spectrum: Tensor) -> Tensor:
        """What putting s − 1 zeros between pixels does to a spectrum: s×s copies of it."""
        return torch.cat([torch.cat([spectrum] * self.stride, -1)] * self.stride, -2)


def _like(spectrum: Tensor, x: Tensor) -> Tensor:
    """A spectrum, complex, in the precision and at the place of x."""
    return spectrum.to(device=x.device, dtype=x.dtype.to_complex())
