"""Painting of many images at once: shapes by signed distance, edges one pixel wide.

Only +, −, ×, ÷, √, floor, minimum and maximum touch a pixel, one operation at a time: IEEE
arithmetic rounds each of them correctly, so that an image does not depend on the batch it is
drawn in.

Coordinates: x from −1 (left) to 1 (right), y from −1 (top) to 1 (bottom).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Length = Tensor | float  # one for each image, (N, 1, 1), or the same for all


@dataclass(frozen=True)
class Canvas:
    """A rectangle of the images, and its coordinates.

    Args:
        pixels: (N, 3, h, w), a view that painting changes.
        x, y: coordinates of the pixels' centres, (1, 1, w) and (1, h, 1).
        sharpness: pixels per unit of length, S/2.
    """

    pixels: Tensor
    x: Tensor
    y: Tensor
    sharpness: float

    @classmethod
    def of(cls, pixels: Tensor) -> Canvas:
        """All of the images (N, 3, S, S)."""
        size = pixels.shape[-1]
        centres = (2 * torch.arange(size, device=pixels.device) + 1) / size - 1
        return cls(pixels, centres[None, None, :], centres[None, :, None], size / 2)

    def rows(self, start: int, stop: int) -> Canvas:
        """Rows start … stop − 1, and nothing else can be painted there."""
        part = slice(start, stop)
        return Canvas(self.pixels[:, :, part], self.x, self.y[:, part], self.sharpness)

    def crop(self, left: float, right: float, top: float, bottom: float) -> Canvas:
        """The pixels that a shape within these bounds can touch: less to paint."""
        margin = 1 / self.sharpness
        xs = ((self.x > left - margin) & (self.x < right + margin)).flatten().nonzero().flatten()
        ys = ((self.y > top - margin) & (self.y < bottom + margin)).flatten().nonzero().flatten()
        column = slice(int(xs[0]), int(xs[-1]) + 1) if len(xs) else slice(0, 0)
        row = slice(int(ys[0]), int(ys[-1]) + 1) if len(ys) else slice(0, 0)
        return Canvas(
            self.pixels[:, :, row, column], self.x[:, :, column], self.y[:, row], self.sharpness
        )

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """Coverage in [0, 1] of pixels at a signed distance from a shape's edge.

        Args:
            distance: (N, h, w), negative inside.
            softness: width of a blurred edge; never under a pixel.
        """
        sharpness = min(self.sharpness, 1 / softness) if softness else self.sharpness
        return (0.5 - sharpness * distance).clamp(0, 1)

    def ellipse(self, cx: Length, cy: Length, rx: Length, ry: Length) -> Tensor:
        """Signed distance (approximate) from an ellipse, (N, h, w)."""
        return _radial((self.x - cx) / rx, (self.y - cy) / ry, rx, ry)

    def pair(self, cx: Length, gap: Length, cy: Length, rx: Length, ry: Length) -> Tensor:
        """Signed distance from two ellipses at cx ± gap."""
        return _radial(((self.x - cx).abs() - gap) / rx, (self.y - cy) / ry, rx, ry)

    def box(self, cx: Length, cy: Length, rx: Length, ry: Length, corner: float = 0.0) -> Tensor:
        """Signed distance from a box with rounded corners."""
        dx = (self.x - cx).abs() - rx + corner
        dy = (self.y - cy).abs() - ry + corner
        outside = (dx.clamp_min(0).square() + dy.clamp_min(0).square()).sqrt()
        return outside + torch.maximum(dx, dy).clamp_max(0) - corner

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Cover with a colour, (N, 3, 1 or h, 1 or w), by alpha, (N, h, w) in [0, 1]."""
        self.pixels.add_(alpha[:, None] * (colour - self.pixels))


def _radial(u: Tensor, v: Tensor, rx: Length, ry: Length) -> Tensor:
    """Distance from the unit circle in (u, v), in units of the smaller semi-axis."""
    scale = torch.minimum(torch.as_tensor(rx), torch.as_tensor(ry))
    return ((u * u + v * v).sqrt() - 1) * scale


def palette(rows: tuple[tuple[float, ...], ...], t: Tensor) -> Tensor:
    """Linear interpolation between colours at t in [0, 1), (N, 1, 1): (N, 3, 1, 1)."""
    table = torch.tensor(rows, device=t.device)
    place = t.flatten() * (len(rows) - 1)
    low = place.floor().long()
    mixed = table[low] + (place - low)[:, None] * (table[low + 1] - table[low])
    return mixed[:, :, None, None]


def hsv(hue: Tensor, saturation: Length, value: Length) -> Tensor:
    """RGB of a hue in turns: (N, 1, 1) each or numbers, to (N, 3, 1, 1)."""
    sixth = 6 * hue[:, None] + torch.tensor([0.0, 4.0, 2.0], device=hue.device)[:, None, None]
    sixth = sixth - 6 * (sixth / 6).floor()
    pure = ((sixth - 3).abs() - 1).clamp(0, 1)
    saturation, value = (v[:, None] if isinstance(v, Tensor) else v for v in (saturation, value))
    return value * (1 - saturation + saturation * pure)
