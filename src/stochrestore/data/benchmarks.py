"""Pairs of images for super-resolution ×4: from photographs, benchmarks or a folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stochrestore.data.downloads import BENCHMARKS, local_benchmark
from stochrestore.data.files import SUFFIXES, image_files, read, rgb
from stochrestore.data.photographs import SCALE, Pair, held_out_crops
from stochrestore.data.resize import low_resolution
from stochrestore.errors import InputError, require

PHOTOGRAPHS = "photographs"
_HIGH, _LOW = "_HR", "_LR"
_OF_SCALE = re.compile(r"_SRF_(\d+_.+)$")
_ALLOWED = f"{PHOTOGRAPHS}, {', '.join(BENCHMARKS)} or folder:PATH"


def load_pairs(data: str, *, crop: int, crops_each: int) -> dict[str, Pair]:
    """The images that ``data`` names, with their low-resolution versions.

    Args:
        data: ``photographs`` (crops of the held-out ones, see :mod:`data.photographs`), ``set5``,
            ``set14``, ``bsd100`` (which must have been fetched) or ``folder:PATH``.
        crop: side of the photographs' crops in pixels, a multiple of 4.
        crops_each: how many crops are taken of each photograph.

    Returns:
        The pairs by name.

    Raises:
        InputError: the data are unknown, or a folder or file is missing or cannot be read.
    """
    if data == PHOTOGRAPHS:
        require(crop % SCALE == 0, "crop", crop, f"a multiple of {SCALE}")
        crops = held_out_crops(crop, crops_each)
        images = [(255 * x).round().byte() for x in crops]
        return {f"photograph {i + 1}": _pair(x) for i, x in enumerate(images)}
    if data in BENCHMARKS:
        return folder_pairs(local_benchmark(data))
    kind, _, path = data.partition(":")
    require(kind == "folder" and path != "", "data", data, _ALLOWED)
    folder = Path(path).expanduser()
    require(folder.is_dir(), "data", data, "folder:PATH with PATH an existing folder")
    return folder_pairs(folder)


def folder_pairs(folder: Path) -> dict[str, Pair]:
    """All images below a folder, as pairs, in the order of their names.

    A file ``…_HR.png`` beside a file ``…_LR.png`` forms a pair with it, as the benchmarks are
    published. For any other image the low-resolution version is computed. Of benchmarks with
    several scales, ``…_SRF_2_HR.png`` and so on, only the pairs at ×4 are taken, and no results of
    other methods, such as ``…_SRF_4_bicubic.png``.

    Raises:
        InputError: there is no image, or none at ×4; an image cannot be read or is smaller than
            8×8; or the size of a low-resolution file is not a quarter of the other's.
    """
    found = image_files(folder)
    require(bool(found), f"{folder}: images found", 0, f"at least 1 ({', '.join(SUFFIXES)})")
    files = [path for path in found if _stands_alone(path)]
    allowed = f"at least 1 of …_SRF_{SCALE}_HR, beside those of other scales or methods"
    require(bool(files), f"{folder}: images at ×{SCALE}", 0, allowed)
    return {path.relative_to(folder).as_posix(): _pair_of(path) for path in files}


def _stands_alone(path: Path) -> bool:
    """Whether a file is no partner of another one, of no other scale and no method's result."""
    if named := _OF_SCALE.search(path.stem):
        return named[1] == f"{SCALE}{_HIGH}"
    return not (path.stem.endswith(_LOW) and _partner(path, _LOW, _HIGH).exists())


def _partner(path: Path, ending: str, other: str) -> Path:
    return path.with_name(f"{path.stem.removesuffix(ending)}{other}{path.suffix}")


def _pair_of(path: Path) -> Pair:
    high = read_image(path)
    partner = _partner(path, _HIGH, _LOW)
    if not (path.stem.endswith(_HIGH) and partner.exists()):
        return _pair(high, str(path))
    low = read_image(partner)
    sides = tuple(SCALE * side for side in low.shape[1:])
    require(sides == tuple(high.shape[1:]), f"{path}: size", tuple(high.shape[1:]), f"{sides}")
    return Pair(high, low)


def _pair(high: Tensor, where: str = "image") -> Pair:
    """An image, cut to sides that are multiples of four, and its low-resolution version."""
    height, width = (side // SCALE * SCALE for side in high.shape[1:])
    require(min(height, width) >= 2 * SCALE, f"{where}: size", (height, width), "at least 8×8")
    high = high[:, :height, :width]
    return Pair(high, low_resolution(high, SCALE))


def read_image(path: Path) -> Tensor:
    """An image file as RGB, (3, H, W), uint8; see :func:`files.rgb`.

    Raises:
        InputError: the file is not an image, is truncated or holds floating-point pixels.
    """
    try:
        pixels = read(path, lambda image: np.array(rgb(image)))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def as_tensors(pair: Pair) -> tuple[Tensor, Tensor]:
    """x (1, 3, 4h, 4w) and y (1, 3, h, w), float32 in [0, 1]."""
    return pair.high[None].float() / 255, pair.low[None].float() / 255
