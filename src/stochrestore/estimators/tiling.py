"""Large images in bounded memory: a network applied to overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, restore

Window = tuple[slice, slice]


class Tiled:
    """An estimator that restores an image window by window.

    Each window is restored with a margin on all sides, which is then cut off. The result equals
    the restoration in one piece where the margin covers the network's receptive field, and differs
    little where it covers most of it. Where a gradient is taken, a window's activations are
    computed again when its gradient is, so that those of one window are held at a time.

    Args:
        estimator: with a scale, the factor from y to x̂ (4 unless it says so); one whose seed has
            a place cuts out a window's part by its method ``crop_seed(z, y, window)``.
        tile: side of the windows without margins, even, in pixels of y; images that are no larger
            are restored in one piece.
        margin: even, in pixels of y.

    Raises:
        InputError: an odd number, or one out of range.
    """

    def __init__(self, estimator: Estimator, *, tile: int = 64, margin: int = 16) -> None:
        for name, value, least in (("tile", tile, 2), ("margin", margin, 0)):
            allowed = value % 2 == 0 and value >= least
            require(allowed, f"Tiled: {name}", value, f"an even number ≥ {least}")
        self.estimator = estimator
        self.tile, self.margin = tile, margin
        self.scale: int = getattr(estimator, "scale", 4)

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """The estimator's own seeds, of whole images."""
        return self.estimator.seed(y, n, generator=generator)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 3, h, w), z (N, K) → x̂ (N, 3, scale·h, scale·w)."""
        return self.restore_seeds(y, z[None])[0]

    def restore_seeds(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 3, h, w), z (S, N, K) → all restorations, (S, N, 3, scale·h, scale·w)."""
        h, w = y.shape[-2:]
        if max(h, w) <= self.tile:
            return restore(self.estimator, y, z)
        return torch.cat(
            [
                torch.cat([self._part(y, z, rows, columns) for columns in _parts(w, self.tile)], -1)
                for rows in _parts(h, self.tile)
            ],
            -2,
        )

    def _part(self, y: Tensor, z: Tensor, rows: slice, columns: slice) -> Tensor:
        """The restoration of some rows and columns of y, by way of a larger window."""
        h, w = y.shape[-2:]
        window = (_widened(rows, self.margin, h), _widened(columns, self.margin, w))
        crop_seed: Any = getattr(self.estimator, "crop_seed", None)
        seed = z if crop_seed is None else crop_seed(z, y, window)
        inner_rows = _scaled(rows, self.scale, window[0].start)
        inner_columns = _scaled(columns, self.scale, window[1].start)

        def without_margin(y: Tensor) -> Tensor:
            return restore(self.estimator, y, seed)[..., inner_rows, inner_columns].contiguous()

        seen = y[..., window[0], window[1]]
        part: Tensor = checkpoint(without_margin, seen, use_reentrant=False)
        return part


def _parts(length: int, tile: int) -> Iterator[slice]:
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def _widened(part: slice, margin: int, length: int) -> slice:
    return slice(max(0, part.start - margin), min(length, part.stop + margin))


def _scaled(part: slice, scale: int, origin: int) -> slice:
    return slice(scale * (part.start - origin), scale * (part.stop - origin))
