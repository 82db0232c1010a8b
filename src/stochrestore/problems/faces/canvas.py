"""Painting of simple shapes on many images at once.

A shape is given by the signed distance of each pixel from its edge, and edges are one pixel wide.
Pixels are computed with +, −, ×, ÷, √, floor, minimum and maximum only, one operation after the
other. IEEE arithmetic rounds each of these correctly, so that an image does not depend on the
batch in which it is drawn.

The coordinate x runs from −1 (left) to 1 (right), y from −1 (top) to 1 (bottom).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Length = Tensor | float
"""A length in these coordinates: one for each image, (N, 1, 1), or one number for all."""


@dataclass(frozen=True)
class Canvas:
    """A rectangle in each of N images, and the coordinates of its pixels.

    Args:
        pixels: (N, 3, h, w), a view of the images, which painting changes.
        x, y: coordinates of the pixels' centres, (1, 1, w) and (1, h, 1).
        sharpness: pixels per unit of length, S/2.
    """

    pixels: Tensor
    x: Tensor
    y: Tensor
    sharpness: float

    @classmethod
    def of(cls, pixels: Tensor) -> Canvas:
        """The canvas that covers the images (N, 3, S, S)."""
        size = pixels.shape[-1]
        centres = (2 * torch.arange(size, device=pixels.device) + 1) / size - 1
        return cls(pixels, centres[None, None, :], centres[None, :, None], size / 2)

    def rows(self, start: int, stop: int) -> Canvas:
        """The canvas that covers rows start … stop − 1 only."""
        part = slice(start, stop)
        return Canvas(self.pixels[:, :, part], self.x, self.y[:, part], self.sharpness)

    def crop(self, left: float, right: float, top: float, bottom: float) -> Canvas:
        """The part of the canvas that a shape within these bounds can touch."""
        margin = 1 / self.sharpness
        xs = ((self.x > left - margin) & (self.x < right + margin)).flatten().nonzero().flatten()
        ys = ((self.y > top - margin) & (self.y < bottom + margin)).flatten().nonzero().flatten()
        column = slice(int(xs[0]), int(xs[-1]) + 1) if len(xs) else slice(0, 0)
        row = slice(int(ys[0]), int(ys[-1]) + 1) if len(ys) else slice(0, 0)
        return Canvas(
            self.pixels[:, :, row, column], self.x[:, :, column], self.y[:, row], self.sharpness
        )

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """How much of each pixel a shape covers, in [0, 1], (N, h, w).

        Args:
            distance: signed distance from the shape's edge, (N, h, w), negative inside.
            softness: width of a blurred edge; an edge is at least one pixel wide.
        """
        sharpness = min(self.sharpness, 1 / softness) if softness else self.sharpness
        return (0.5 - sharpness * distance).clamp(0, 1)

    def ellipse(self, cx: Length, cy: Length, rx: Length, ry: Length) -> Tensor:
        """Approximate signed distance from an ellipse, (N, h, w)."""
        return _radial((self.x - cx) / rx, (self.y - cy) / ry, rx, ry)

    def pair(self, cx: Length, gap: Length, cy: Length, rx: Length, ry: Length) -> Tensor:
        """Approximate signed distance from two ellipses with centres at cx ± gap, (N, h, w)."""
        return _radial(((self.x - cx).abs() - gap) / rx, (self.y - cy) / ry, rx, ry)

    def box(self, cx: Length, cy: Length, rx: Length, ry: Length, corner: float = 0.0) -> Tensor:
        """Signed distance from a box with rounded corners, (N, h, w)."""
        dx = (self.x - cx).abs() - rx + corner
        dy = (self.y - cy).abs() - ry + corner
        outside = (dx.clamp_min(0).square() + dy.clamp_min(0).square()).sqrt()
        return outside + torch.maximum(dx, dy).clamp_max(0) - corner

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Mix a colour, (N, 3, 1 or h, 1 or w), into the pixels; alpha, (N, h, w), is its share."""
        self.pixels.add_(alpha[:, None] * (colour - self.pixels))


def _radial(u: Tensor, v: Tensor, rx: Length, ry: Length) -> Tensor:
    """Distance from the unit circle in (u, v), times the smaller semi-axis."""
    scale = torch.minimum(torch.as_tensor(rx), torch.as_tensor(ry))
    return ((u * u + v * v).sqrt() - 1) * scale


def palette(rows: tuple[tuple[float, ...], ...], t: Tensor) -> Tensor:
    """Colours (N, 3, 1, 1) interpolated linearly between rows; t, (N, 1, 1), is in [0, 1)."""
    table = torch.tensor(rows, device=t.device)
    place = t.flatten() * (len(rows) - 1)
    low = place.floor().long()
    mixed = table[low] + (place - low)[:, None] * (table[low + 1] - table[low])
    return mixed[:, :, None, None]


def hsv(hue: Tensor, saturation: Length, value: Length) -> Tensor:
    """The RGB colour, (N, 3, 1, 1), of a hue in turns; arguments are (N, 1, 1) or numbers."""
    sixth = 6 * hue[:, None] + torch.tensor([0.0, 4.0, 2.0], device=hue.device)[:, None, None]
    sixth = sixth - 6 * (sixth / 6).floor()
    pure = ((sixth - 3).abs() - 1).clamp(0, 1)
    saturation, value = (v[:, None] if isinstance(v, Tensor) else v for v in (saturation, value))
    return value * (1 - saturation + saturation * pure)
