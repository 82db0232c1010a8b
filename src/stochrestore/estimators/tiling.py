"""Large images in bounded memory: a network applied to overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stochrestore.errors import require
from stochrestore.estimators.base import Estimator

Window = tuple[slice, slice]


@torch.no_grad()
def restore_in_tiles(
    estimator: Estimator, y: Tensor, z: Tensor, *, tile: int = 64, margin: int = 16, scale: int = 4
) -> Tensor:
    """The restoration of y with the seed z, computed window by window.

    Each window is restored with a margin on all sides, which is then cut off. It equals the
    restoration in one piece where the margin covers the network's receptive field, and differs
    little where it covers most of it.

    Args:
        y: (N, 3, h, w).
        z: (N, K), of the whole image; a network whose seed has a place cuts out a window's part
            by its method ``crop_seed(z, y, window)``.
        tile: side of the windows without margins, even, in pixels of y.
        margin: even, in pixels of y.

    Returns:
        x̂ (N, 3, scale·h, scale·w).
    """
    for name, value in (("tile", tile), ("margin", margin)):
        allowed = value % 2 == 0 and value >= (2 if name == "tile" else 0)
        require(allowed, f"restore_in_tiles: {name}", value, "an even number, a tile at least 2")
    h, w = y.shape[-2:]
    x = y.new_empty(*y.shape[:-2], scale * h, scale * w)
    crop_seed = getattr(estimator, "crop_seed", None)
    for rows in _windows(h, tile):
        for columns in _windows(w, tile):
            window = (_widened(rows, margin, h), _widened(columns, margin, w))
            seed = z if crop_seed is None else crop_seed(z, y, window)
            part = estimator(y[..., window[0], window[1]], seed)
            x[..., _scaled(rows, scale), _scaled(columns, scale)] = part[
                ...,
                _scaled(rows, scale, window[0].start),
                _scaled(columns, scale, window[1].start),
            ]
    return x


def _windows(length: int, tile: int) -> Iterator[slice]:
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def _widened(part: slice, margin: int, length: int) -> slice:
    return slice(max(0, part.start - margin), min(length, part.stop + margin))


def _scaled(part: slice, scale: int, origin: int = 0) -> slice:
    return slice(scale * (part.start - origin), scale * (part.stop - origin))
