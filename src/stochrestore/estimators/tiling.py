"""Large images in bounded memory: a network is applied to overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, restore


class Tiled:
    """An estimator that restores an image window by window.

    Each window is restored with a margin on all sides, which is then cut off. The result equals
    the restoration in one piece if the margin covers the network's receptive field, and differs
    little if it covers most of it. For a gradient, each window is computed again, so that memory
    holds the activations of one window at a time.

    Args:
        estimator: its attribute ``scale`` is the factor from y to x̂, 4 without one. If its seed
            depends on the position, its method ``crop_seed(z, y, window)`` gives a window's part.
        tile: the side of the windows without margins, an even number of pixels of y. Images that
            are not larger are restored in one piece.
        margin: an even number of pixels of y.

    Raises:
        InputError: tile or margin is odd or out of range.
    """

    def __init__(self, estimator: Estimator, *, tile: int = 64, margin: int = 16) -> None:
        for name, value, least in (("tile", tile, 2), ("margin", margin, 0)):
            allowed = value % 2 == 0 and value >= least
            require(allowed, f"Tiled: {name}", value, f"an even number ≥ {least}")
        self.estimator = estimator
        self.tile, self.margin = tile, margin
        self.scale: int = getattr(estimator, "scale", 4)

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """The estimator's own seeds for whole images."""
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
        """The restoration of some rows and columns of y, computed from a larger window."""
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
