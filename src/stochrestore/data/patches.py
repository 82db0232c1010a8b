"""Natural patches: random crops of photographs, in the role of ImageNet64.

Each photograph is cut into tiles, like a chessboard; the black ones are for training, the white
ones for validation, and a patch lies in one tile. So no pixel serves both, and both show the same
scenes, as the two parts of ImageNet do. With whole photographs for validation instead, what the
scenes differ in would hide what restorations differ in: for 16×16 patches the Fréchet distance of
the central 8×8 pixels is 4.5 between the parts then, 0.1 now, and 0.9 between patches and the same
with flat 4×4 blocks.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stochrestore.data.photographs import PHOTOGRAPHS, photograph
from stochrestore.errors import InputError, require

SOURCES = {
    name: PHOTOGRAPHS[name]
    for name in ("astronaut", "chelsea", "coffee", "rocket", "china.jpg", "flower.jpg")
}
"""The colour photographs of scenes that come with scikit-image and scikit-learn, with licences.

Left out are Hubble's deep field, almost all black, and images that are none of scenes.
"""

TILE = 128
"""Least side of the tiles, pixels."""

REACH = TILE // 2
"""Most pixels of a photograph that a side of a patch spans, so that each tile has many patches."""

REDUCTIONS = (1, 2, 4, 8)
"""By how much a photograph is reduced, by area, before a patch is taken: those at which the patch
spans no more than the reach. The larger ones show objects where the smaller ones show surfaces."""


def tiles(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The black and the white tiles of a photograph (3, H, W): for training, for validation."""
    rows, columns = (
        np.linspace(0, side, side // TILE + 1).astype(int).tolist() for side in x.shape[1:]
    )
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, (left, right) in enumerate(pairwise(columns)):
            parts[(i + j) % 2].append(x[:, top:bottom, left:right])
    return parts


def natural_patches(size: int, seed: int, training: int, validation: int) -> tuple[Tensor, Tensor]:
    """Patches for training and for validation, (N, 3, S, S) each, uint8.

    A patch is drawn in four steps, each uniform: photograph, reduction, tile, place; half of them
    are mirrored. The k-th patch of a part does not depend on how many are drawn, nor on the
    machine.

    Args:
        size: S, from 1 to 64.
        seed: in [0, 2⁶³).

    Raises:
        InputError: size or seed out of range; scikit-image or scikit-learn is not installed.
    """
    require(1 <= size <= REACH, "patches: size", size, f"1 to {REACH}")
    require(0 <= seed < 2**63, "patches: seed", seed, "an integer in [0, 2⁶³)")
    try:
        parts = [tiles(photograph(name)) for name in SOURCES]
    except ImportError:
        raise InputError(
            "patches: need scikit-image and scikit-learn; pip install 'stochrestore[notebooks]'"
        ) from None
    train, held_out = ([part[which] for part in parts] for which in range(2))
    return _draw(train, size, 2 * seed, training), _draw(held_out, size, 2 * seed + 1, validation)


def _draw(photographs: list[list[Tensor]], size: int, key: int, n: int) -> Tensor:
    """n patches of the tiles of each photograph."""
    reductions = [r for r in REDUCTIONS if r * size <= REACH]
    drawn = np.random.Philox(key=key).random_raw(6 * n).reshape(n, 6)
    which, reduction = drawn[:, 0] % len(photographs), drawn[:, 1] % len(reductions)
    tile = drawn[:, 2] % np.array([len(p) for p in photographs], dtype=np.uint64)[which]
    patches = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for i, j in np.ndindex(len(photographs), len(reductions)):
        for k, pixels in enumerate(photographs[i]):
            chosen = np.flatnonzero((which == i) & (reduction == j) & (tile == k))
            if len(chosen):
                patches[chosen] = _crops(_reduced(pixels, reductions[j]), size, drawn[chosen, 3:])
    return patches


def _reduced(x: Tensor, factor: int) -> Tensor:
    """(3, H, W) uint8 → (3, ⌊H/r⌋, ⌊W/r⌋) uint8: the mean of each r×r block, rounded.

    Sums of bytes are exact, so all machines round alike.
    """
    return (F.avg_pool2d(x.double(), factor) + 0.5).floor().byte()


def _crops(x: Tensor, size: int, drawn: NDArray[np.uint64]) -> Tensor:
    """A crop (3, S, S) of x for each row of numbers: top, left, mirrored."""
    windows = x.unfold(1, size, 1).unfold(2, size, 1)  # (3, rows, columns, S, S)
    rows, columns = windows.shape[1:3]
    top, left = (
        torch.from_numpy((drawn[:, i] % m).astype(np.int64)) for i, m in ((0, rows), (1, columns))
    )
    crops = windows[:, top, left].transpose(0, 1)
    mirrored = torch.from_numpy(drawn[:, 2] % 2 == 1)
    return torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)
