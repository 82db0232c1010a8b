"""Natural patches: random crops of photographs, which stand in for ImageNet64.

Each photograph is divided into tiles like a chessboard. Patches of black tiles are for training,
those of white tiles for validation, and each patch lies within one tile. So no pixel serves both
parts, and both parts show the same scenes, as those of ImageNet do.

If whole photographs were kept for validation instead, the difference between scenes would hide the
difference between restorations. For 16×16 patches, and the central 8×8 pixels as features, the
Fréchet distance between the two parts would be 4.5 then. It is 0.1 with tiles, and 0.9 between
patches and the same patches with flat 4×4 blocks.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stochrestore.data.photographs import PHOTOGRAPHS, photograph
from stochrestore.data.resize import block_means
from stochrestore.errors import InputError, require

SOURCES = {
    name: PHOTOGRAPHS[name]
    for name in ("astronaut", "chelsea", "coffee", "rocket", "china.jpg", "flower.jpg")
}
"""The colour photographs of scenes that come with scikit-image and scikit-learn, with licences.

Hubble's deep field is left out, because almost all of it is black; so are textures and coins.
"""

TILE = 128
"""The least side of a tile, in pixels."""

REACH = TILE // 2
"""The most pixels of a photograph that the side of a patch spans; so each tile has many patches."""

REDUCTIONS = (1, 2, 4, 8)
"""Factors by which a photograph is made smaller before a patch is taken from it.

Of these, a patch has those at which it spans at most :data:`REACH` pixels of the photograph. Large
factors show objects, small ones show surfaces.
"""


def tiles(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The black tiles of a photograph (3, H, W), for training, and the white, for validation."""
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

    Photograph, factor of :data:`REDUCTIONS`, tile and place are drawn one after the other, each
    uniformly; then half of the patches are mirrored. The k-th patch of a part depends neither on
    the number of patches nor on the machine.

    Args:
        size: S, side of the patches in pixels, from 1 to 64.
        seed: decides all patches, in [0, 2⁶³).
        training: how many patches to train on.
        validation: how many to keep for evaluation.

    Raises:
        InputError: size or seed is out of range, or scikit-image or scikit-learn is not installed.
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
    """n patches, (n, 3, S, S); photographs are lists of tiles, and key decides the draws."""
    reductions = [r for r in REDUCTIONS if r * size <= REACH]
    drawn = np.random.Philox(key=key).random_raw(6 * n).reshape(n, 6)
    which, reduction = drawn[:, 0] % len(photographs), drawn[:, 1] % len(reductions)
    tile = drawn[:, 2] % np.array([len(p) for p in photographs], dtype=np.uint64)[which]
    patches = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for i, j in np.ndindex(len(photographs), len(reductions)):
        for k, pixels in enumerate(photographs[i]):
            chosen = np.flatnonzero((which == i) & (reduction == j) & (tile == k))
            if len(chosen):
                patches[chosen] = _crops(
                    block_means(pixels, reductions[j]), size, drawn[chosen, 3:]
                )
    return patches


def _crops(x: Tensor, size: int, drawn: NDArray[np.uint64]) -> Tensor:
    """Crops of x, one for each row of drawn numbers (top, left, mirrored): (n, 3, S, S)."""
    windows = x.unfold(1, size, 1).unfold(2, size, 1)  # (3, rows, columns, S, S)
    rows, columns = windows.shape[1:3]
    top, left = (
        torch.from_numpy((drawn[:, i] % m).astype(np.int64)) for i, m in ((0, rows), (1, columns))
    )
    crops = windows[:, top, left].transpose(0, 1)
    mirrored = torch.from_numpy(drawn[:, 2] % 2 == 1)
    return torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)
