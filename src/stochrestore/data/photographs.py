"""The photographs that come with scikit-image and scikit-learn: natural images, no download.

Networks are trained on some of the photographs and evaluated on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from stochrestore.data.resize import low_resolution
from stochrestore.errors import require
from stochrestore.store import sha256

SCALE = 4
"""The factor of super-resolution."""


@dataclass(frozen=True)
class Source:
    """Where a photograph comes from, and under which licence."""

    package: str
    licence: str


PHOTOGRAPHS = {
    "astronaut": Source("skimage", "public domain (NASA)"),
    "brick": Source("skimage", "CC0 (CC0Textures)"),
    "camera": Source("skimage", "CC0 (Lav Varshney)"),
    "chelsea": Source("skimage", "CC0 (Stéfan van der Walt)"),
    "coffee": Source("skimage", "CC0 (Rachel Michetti)"),
    "coins": Source("skimage", "no known restrictions (Brooklyn Museum)"),
    "grass": Source("skimage", "CC0 (linolafett)"),
    "gravel": Source("skimage", "CC0 (CC0Textures)"),
    "hubble_deep_field": Source("skimage", "public domain (NASA)"),
    "rocket": Source("skimage", "public domain (SpaceX)"),
    "china.jpg": Source("sklearn", "CC BY 2.0 (danielbuechele)"),
    "flower.jpg": Source("sklearn", "CC BY 2.0 (vultilion)"),
}
"""All photographs by name, with their licences."""

HELD_OUT = ("chelsea", "coffee", "flower.jpg")
"""The photographs that networks are evaluated on."""

TRAINING = tuple(name for name in PHOTOGRAPHS if name not in HELD_OUT)
"""The photographs that networks are trained on."""


def photograph(name: str) -> Tensor:
    """One of :data:`PHOTOGRAPHS`, (3, H, W), uint8; a grey one has three equal channels."""
    require(name in PHOTOGRAPHS, "photograph", name, ", ".join(PHOTOGRAPHS))
    if PHOTOGRAPHS[name].package == "sklearn":
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(name)
    else:
        from skimage import data

        pixels = getattr(data, name)()
    pixels = np.atleast_3d(pixels)[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).expand(3, -1, -1).contiguous()


def held_out_crops(side: int, per_photograph: int) -> list[Tensor]:
    """Square crops of the held-out photographs, (3, side, side), in [0, 1].

    The centres of a photograph's crops are evenly spaced along its horizontal middle line.

    Args:
        side: of the crops, in pixels.
        per_photograph: how many crops are taken from each photograph.

    Raises:
        InputError: so many crops of this side do not fit beside each other.
    """
    crops = []
    for name in HELD_OUT:
        x = photograph(name).float() / 255
        _, height, width = x.shape
        most = min(height, width // per_photograph)
        require(side <= most, "held_out_crops: side", side, f"at most {most}")
        top = (height - side) // 2
        for number in range(per_photograph):
            centre = width * (2 * number + 1) // (2 * per_photograph)
            left = centre - side // 2
            crops.append(x[:, top : top + side, left : left + side])
    return crops


@dataclass(frozen=True)
class Pair:
    """An image and its low-resolution version, both in grey levels, uint8."""

    high: Tensor
    """(3, 4h, 4w)."""
    low: Tensor
    """(3, h, w)."""


@cache
def training_pairs() -> tuple[Pair, ...]:
    """The training photographs at full and at half size, each with its low-resolution version.

    They are made once in a process, and are not to be changed.
    """
    pairs = []
    for name in TRAINING:
        full = photograph(name)
        full = full[:, : full.shape[1] // 8 * 8, : full.shape[2] // 8 * 8]
        pairs += [Pair(x, low_resolution(x, SCALE)) for x in (full, low_resolution(full, 2))]
    return tuple(pairs)


def digest(pairs: Sequence[Pair]) -> str:
    """The sha256 of all pixels."""
    return sha256(x.contiguous().numpy() for pair in pairs for x in (pair.high, pair.low))


class Patches:
    """Random patches of photographs, turned by a multiple of 90° and mirrored at random.

    Args:
        pairs: the photographs; each is drawn in proportion to its area.
        side: of the low-resolution patches, in pixels.
        permute_colours: whether the three channels of each patch are put in a random order, so
            that few photographs show many colours.

    Raises:
        InputError: no photograph is as large as the patches.
    """

    def __init__(self, pairs: Sequence[Pair], side: int, *, permute_colours: bool = False) -> None:
        self.pairs = [pair for pair in pairs if min(pair.low.shape[1:]) >= side]
        require(bool(self.pairs), "Patches: side", side, "smaller than the photographs")
        self.side, self.permute_colours = side, permute_colours
        self.areas = torch.tensor([float(pair.low[0].numel()) for pair in self.pairs])

    def draw(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n patches x (n, 3, 4·side, 4·side) and their y (n, 3, side, side), in [0, 1]."""
        chosen = torch.multinomial(self.areas, n, replacement=True, generator=generator)
        drawn = [self._one(self.pairs[index], generator) for index in chosen.tolist()]
        x, y = (torch.stack(images).float() / 255 for images in zip(*drawn, strict=True))
        return x, y

    def _one(self, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        numbers = torch.rand(4, generator=generator)
        top, left = (
            int(share * (length - self.side + 1))
            for share, length in zip(numbers[:2].tolist(), pair.low.shape[1:], strict=True)
        )
        turns, mirror = int(4 * numbers[2]), bool(numbers[3] < 0.5)
        low = pair.low[:, top : top + self.side, left : left + self.side]
        size, top, left = SCALE * self.side, SCALE * top, SCALE * left
        high = pair.high[:, top : top + size, left : left + size]
        if self.permute_colours:
            order = torch.randperm(3, generator=generator)
            high, low = high[order], low[order]
        return _turned(high, turns, mirror), _turned(low, turns, mirror)


def _turned(x: Tensor, turns: int, mirror: bool) -> Tensor:
    x = torch.rot90(x, turns, (1, 2))
    return x.flip(2) if mirror else x
