"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70 000 grey photographs of ten kinds of clothes.

A subset at 16×16 pixels comes with the library, in ``fashion.npz``, which

    python -m stochrestore.data.fashion FOLDER

makes from the four official files. The images are © 2017 Zalando SE, under the MIT licence, whose
text stands in ``fashion_license.txt`` beside them; https://github.com/zalandoresearch/fashion-mnist.

There are three parts. Training images and *selection* images come from the official training set,
validation images from the official test set. Recipe, length and λ_R are chosen by what the
selection images say, along the trainings; every number that a page reports is of validation
images, compared with training images. So no reported number is of images that a choice was made by.
"""

from __future__ import annotations

import gzip
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stochrestore.data.resize import bicubic_upscale, block_means, to_levels
from stochrestore.data.splits import shuffled
from stochrestore.errors import InputError, require
from stochrestore.store import sha256

CLASSES = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""What the labels 0 … 9 stand for."""

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The official files and the sha256 of their decompressed contents."""

LAYOUT = ", ".join(SHA256)
SHIPPED_SIZE = 16
SHIPPED = {"train": 24_000, "selection": 3000, "validation": 5000}
"""Images of each part that come with the library."""

SELECTION = 3000
"""Images of the official training set that are kept for choices and never trained on."""

SIZES = (16, 32, 64)
"""Sides that the official 28×28 images are brought to."""

_FILE = Path(__file__).with_name("fashion.npz")


@dataclass(frozen=True)
class Part:
    """Images with their labels.

    Args:
        pixels: (N, 1, S, S), uint8.
        labels: (N,), int64, places in :data:`CLASSES`.
    """

    pixels: Tensor
    labels: Tensor


@cache
def shipped() -> dict[str, Part]:
    """The parts that come with the library: train, selection and validation, at 16×16.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(_FILE, allow_pickle=False) as file:
            return {
                name: Part(
                    torch.from_numpy(file[f"{name}_images"])[:, None],
                    torch.from_numpy(file[f"{name}_labels"].astype(np.int64)),
                )
                for name in SHIPPED
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{_FILE}: cannot be read: install the library again") from None


def official(root: Path, size: int, seed: int = 0) -> dict[str, Part]:
    """All 70 000 images from the official files, gzipped or not, in a random order.

    Args:
        root: the folder; that of Debian's package ``dataset-fashion-mnist`` is one.
        size: 32: padded with black from 28×28; 16: means of 2×2 blocks of that, rounded; 64: that
            enlarged twice, bicubic.
        seed: decides the order, and which training images are kept for selection.

    Raises:
        InputError: another size; a file that is missing or not the official one (sha256).
    """
    require(size in SIZES, "fashion_mnist: size", size, "16, 32 or 64")
    pools = []
    for prefix in ("train", "t10k"):
        grey = _contents(root, f"{prefix}-images-idx3-ubyte")[16:].reshape(-1, 28, 28)
        classes = _contents(root, f"{prefix}-labels-idx1-ubyte")[8:].astype(np.int64)
        order = shuffled(len(grey), seed)
        pools.append((torch.from_numpy(grey[order])[:, None], torch.from_numpy(classes[order])))
    (images, labels), (test_images, test_labels) = pools
    return {
        "train": Part(_resized(images[:-SELECTION], size), labels[:-SELECTION]),
        "selection": Part(_resized(images[-SELECTION:], size), labels[-SELECTION:]),
        "validation": Part(_resized(test_images, size), test_labels),
    }


def _contents(root: Path, name: str) -> NDArray[np.uint8]:
    """The bytes of an official file."""
    plain, packed = root / name, root / f"{name}.gz"
    try:
        found = plain if plain.is_file() else packed
        data = found.read_bytes()
    except FileNotFoundError:
        expected = f"expected there, gzipped or not: {LAYOUT}"
        raise InputError(f"fashion_mnist:{root}: {name} is missing; {expected}") from None
    except OSError as error:
        reason = error.strerror
        raise InputError(f"fashion_mnist:{root}: {name} cannot be read: {reason}") from None
    return np.frombuffer(checked(data, name, str(root), packed=found == packed), np.uint8)


def checked(data: bytes, name: str, root: str, *, packed: bool) -> bytes:
    """The contents of an official file, unpacked.

    Raises:
        InputError: they are damaged, or not the official ones.
    """
    try:
        contents = gzip.decompress(data) if packed else data
    except (OSError, EOFError, zlib.error):
        raise InputError(f"fashion_mnist:{root}: {name} cannot be read: damaged") from None
    digest = sha256([contents])
    if digest != SHA256[name]:
        raise InputError(
            f"fashion_mnist:{root}: {name}: sha256 is {digest[:12]}…, the official file's is "
            f"{SHA256[name][:12]}…; fetch it again"
        )
    return contents


def _resized(images: Tensor, size: int) -> Tensor:
    """(N, 1, 28, 28) uint8 → (N, 1, S, S) uint8, S of :data:`SIZES`; all machines round alike."""
    padded = F.pad(images, (2, 2, 2, 2))
    if size == 32:
        return padded
    parts = padded.split(4096)
    if size == 16:
        return torch.cat([block_means(part, 2) for part in parts])
    return torch.cat([to_levels(bicubic_upscale(part.double(), 2)) for part in parts])


def make_shipped(root: Path, target: Path = _FILE) -> Path:
    """Write the file that comes with the library: the first images of each part, at 16×16.

    Args:
        root: the folder of the official files.

    Returns:
        ``target``.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, part in official(root, SHIPPED_SIZE).items():
        n = SHIPPED[name]
        arrays[f"{name}_images"] = part.pixels[:n, 0].numpy()
        arrays[f"{name}_labels"] = part.labels[:n].numpy().astype(np.uint8)
    with target.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return target


if __name__ == "__main__":
    print(make_shipped(Path(sys.argv[1])))
