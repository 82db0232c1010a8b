"""Image sets to train and evaluate on.

Built in: procedural faces, fashion, digits, natural patches. From disk: all of Fashion-MNIST,
CelebA, ImageNet64, any folder.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stochrestore.data import fashion
from stochrestore.data.files import read, rgb
from stochrestore.data.imagenet64 import LAYOUT as IMAGENET64_LAYOUT
from stochrestore.data.imagenet64 import imagenet64
from stochrestore.data.patches import natural_patches
from stochrestore.data.splits import CELEBA_LAYOUT, celeba_split, folder_split, shuffled
from stochrestore.errors import InputError, require
from stochrestore.problems.faces.distribution import Faces
from stochrestore.store import sha256

BUILT_IN = ("faces", "fashion", "digits", "patches")
WITH_PATH = {
    "fashion_mnist": f"fashion_mnist:PATH, a folder with {fashion.LAYOUT}, gzipped or not",
    "celeba": f"celeba:PATH, a folder with {CELEBA_LAYOUT}",
    "imagenet64": f"imagenet64:PATH, a folder with {IMAGENET64_LAYOUT}",
    "folder": "folder:PATH, a folder of images",
}
ALL_DATA = ", ".join([*BUILT_IN, *(f"{kind}:PATH" for kind in WITH_PATH)])
"""What :func:`load_images` takes, in words."""
TRAINING_DIGITS = 900  # of 1797
SELECTION_FACES = 1000
SELECTION_SEED = 2**32  # far from those of face_seeds


@dataclass(frozen=True)
class ByteImages:
    """Images kept as bytes, in a quarter of float32's memory; an index gives floats in [0, 1].

    Args:
        pixels: (N, C, S, S), uint8.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """The images at an index, float32 in [0, 1]."""
        return self.pixels[index].float() / 255

    @property
    def shape(self) -> torch.Size:
        """(N, C, S, S)."""
        return self.pixels.shape

    @property
    def device(self) -> torch.device:
        """The device that holds the bytes."""
        return self.pixels.device

    def to(self, device: torch.device | str) -> ByteImages:
        """The same images on another device."""
        return ByteImages(self.pixels.to(device))


Images = Tensor | ByteImages


@dataclass(frozen=True)
class ImageSet:
    """Images to train on and images to restore; none is in both parts.

    Args:
        name: the argument ``data`` of :func:`load_images`.
        train: (N, C, S, S); indexing gives float32 in [0, 1].
        validation: (M, C, S, S), likewise.
        skipped: the unreadable files that were left out, each with the reason.
        selection: (L, C, S, S), disjoint from both, to choose recipe and length by, so that no
            reported number is of images that a choice was made by; None where there are none.
        kinds: (M,), what the validation images show, where that is known.
    """

    name: str
    train: Images
    validation: Images
    skipped: tuple[str, ...] = ()
    selection: Images | None = None
    kinds: Tensor | None = None

    def shown(self, n: int) -> Tensor:
        """Validation images for a figure, (n, C, S, S): the first ones.

        Where kinds are known, the first of each kind come before the second of any, so that few
        images show what there is.
        """
        if self.kinds is None:
            return self.validation[:n]
        met: dict[int, int] = {}
        turns = []  # how many of the same kind came before
        for kind in self.kinds.tolist():
            turns.append(met.get(kind, 0))
            met[kind] = turns[-1] + 1
        order = sorted(range(len(turns)), key=turns.__getitem__)  # stable
        return self.validation[torch.tensor(order[:n])]


def load_images(
    data: str,
    size: int,
    *,
    seed: int,
    training_images: int,
    validation_images: int,
    skip_bad: int = 0,
) -> ImageSet:
    """The images that ``data`` names, preprocessed and split as in App. E.2.

    Args:
        data: ``faces`` (procedural, endless), ``fashion`` (24 000 + 5000 photographs of clothes,
            16×16), ``digits`` (scikit-learn's 1797, 8×8, whatever the size), ``patches`` (of
            photographs that come with packages, endless), ``fashion_mnist:PATH``,
            ``celeba:PATH``, ``imagenet64:PATH`` (the official layouts) or ``folder:PATH``
            (searched recursively).
        size: S, side of the images in pixels.
        seed: decides the split and its order, or the faces and patches that are drawn.
        training_images: how many to train on, at most.
        validation_images: how many to keep for evaluation, at most.
        skip_bad: how many missing or unreadable files may be left out.

    Raises:
        InputError: the data are unknown; a folder or list is missing; more files than
            ``skip_bad`` are missing or cannot be read; or one of the two parts is empty.
    """
    kind, _, path = data.partition(":")
    require(is_known(data), "data", data, WITH_PATH.get(kind, ALL_DATA))
    require(size >= 1, "load_images: size", size, "an integer ≥ 1")
    counts = (training_images, validation_images)
    require(min(counts) >= 1, "training_images, validation_images", counts, "integers ≥ 1")
    if kind == "faces":
        return faces(size, seed, training_images, validation_images)
    if kind == "fashion":
        allowed = f"{fashion.SHIPPED_SIZE}; fashion_mnist:PATH has others"
        require(size == fashion.SHIPPED_SIZE, "fashion: size", size, allowed)
        return _clothes(data, fashion.shipped(), *counts)
    if kind == "digits":
        return digits(seed, training_images, validation_images)
    if kind == "patches":
        return _of_bytes(data, *natural_patches(size, seed, *counts))
    root = Path(path).expanduser()
    require(root.is_dir(), "data", data, f"{kind}:PATH with PATH an existing folder")
    if kind == "fashion_mnist":
        return _clothes(data, fashion.official(root, size, seed), *counts)
    if kind == "imagenet64":
        return _of_bytes(data, *imagenet64(root, size, seed, *counts))
    split = celeba_split(root, seed) if kind == "celeba" else folder_split(root, seed)
    train, validation = split[0][:training_images], split[1][:validation_images]
    return _read(data, root, train, validation, size, skip_bad)


def _of_bytes(name: str, train: Tensor, validation: Tensor) -> ImageSet:
    return ImageSet(name, ByteImages(train), ByteImages(validation))


def _clothes(
    name: str, parts: dict[str, fashion.Part], training_images: int, validation_images: int
) -> ImageSet:
    return ImageSet(
        name,
        ByteImages(parts["train"].pixels[:training_images]),
        ByteImages(parts["validation"].pixels[:validation_images]),
        selection=ByteImages(parts["selection"].pixels),
        kinds=parts["validation"].labels[:validation_images],
    )


def is_known(data: str) -> bool:
    """Whether ``data`` has a form that :func:`load_images` takes; its folder may be missing."""
    kind, colon, path = data.partition(":")
    return kind in WITH_PATH and path != "" if colon else data in BUILT_IN


def faces(size: int, seed: int, training_images: int, validation_images: int) -> ImageSet:
    """Procedural faces; training and validation are the sequences of :func:`face_seeds`."""
    drawn = Faces(size)
    train, validation = face_seeds(seed)
    return ImageSet(
        "faces",
        train=drawn.images(train, 0, training_images),
        validation=drawn.images(validation, 0, validation_images),
        selection=drawn.images(SELECTION_SEED + seed, 0, SELECTION_FACES),
    )


def face_seeds(seed: int) -> tuple[int, int]:
    """The seeds of the training and the validation faces that belong to a seed of a data set."""
    return 2 * seed, 2 * seed + 1


def digits(seed: int, training_images: int, validation_images: int) -> ImageSet:
    """Scikit-learn's handwritten digits, (N, 1, 8, 8): 900 to train on, 897 for validation.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "digits: need scikit-learn; pip install 'stochrestore[notebooks]'"
        ) from None
    grey = load_digits().images  # whole numbers from 0 to 16
    order = shuffled(len(grey), seed)
    images = torch.from_numpy(grey[order].astype(np.float32) / 16)[:, None]
    train, validation = images[:TRAINING_DIGITS], images[TRAINING_DIGITS:]
    return ImageSet("digits", train[:training_images], validation[:validation_images])


def require_enough(images: ImageSet, least: int, purpose: str) -> None:
    """Raise :class:`InputError` if a part has fewer images than a purpose needs."""
    counts = {"training": len(images.train), "validation": len(images.validation)}
    where = f"data={images.name}: images for {' and '.join(counts)}"
    allowed = f"at least {least} of each, for {purpose}"
    require(min(counts.values()) >= least, where, tuple(counts.values()), allowed)


def preprocess(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The S×S centre of an image that is first resized to a square of side round(102/64·S).

    The resizing is bilinear and does not keep the aspect ratio; for S = 64 this is the
    preprocessing of App. E.2. Colours become RGB by :func:`files.rgb`.

    Returns:
        (3, S, S), uint8.

    Raises:
        ValueError: the pixels are floating-point numbers, whose range is not fixed.
    """
    resized = round(102 / 64 * size)
    margin = (resized - size) // 2
    square = rgb(image).resize((resized, resized), Image.Resampling.BILINEAR)
    centre = square.crop((margin, margin, margin + size, margin + size))
    return np.asarray(centre).transpose(2, 0, 1)


def digest(image_set: ImageSet) -> str:
    """The sha256 of the shapes and pixels, as bytes; the record of a training keeps it."""
    return sha256(_content(image_set))


def _content(image_set: ImageSet) -> Iterator[Any]:
    for part in (image_set.train, image_set.validation):
        yield repr(tuple(part.shape)).encode()
        for first in range(0, len(part), 1024):
            levels = (part[first : first + 1024] * 255).round().byte().cpu()
            yield levels.contiguous().numpy()


def _read(
    data: str, root: Path, train: list[Path], validation: list[Path], size: int, skip_bad: int
) -> ImageSet:
    """Both parts, decoded; missing files are found before any file is decoded."""
    files = train + validation
    present = {file for folder in {f.parent for f in files} for file in _listed(folder)}
    missing = [f for f in files if f not in present]
    if len(missing) > skip_bad:
        raise _too_many_bad(missing[0], "missing", len(missing), skip_bad)
    pixels = np.empty((len(files), 3, size, size), dtype=np.uint8)
    good, skipped = [0, 0], []
    with closing(_decode_all(files, size)) as images:
        for i, image in enumerate(images):
            if isinstance(image, str):
                skipped.append(f"{files[i].relative_to(root).as_posix()}: {image}")
                if len(skipped) > skip_bad:
                    raise _too_many_bad(files[i], image, len(skipped), skip_bad)
            else:
                pixels[sum(good)] = image
                good[i >= len(train)] += 1
    for name, n in zip(("training", "validation"), good, strict=True):
        require(n >= 1, f"{data}: readable {name} images", n, "at least 1")
    parts = torch.from_numpy(pixels[: sum(good)]).split(good)
    return ImageSet(data, ByteImages(parts[0]), ByteImages(parts[1]), tuple(skipped))


def _listed(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _too_many_bad(file: Path, why: str, bad: int, skip_bad: int) -> InputError:
    return InputError(
        f"{file}: {why}; repair or replace it, or leave bad files out with skip_bad={bad} or more"
        f" (now {skip_bad})"
    )


def _decode_all(files: Sequence[Path], size: int) -> Generator[NDArray[np.uint8] | str]:
    """The preprocessed images in order; for a file that cannot be read, the reason."""

    def decode(file: Path) -> NDArray[np.uint8] | str:
        try:
            return read(file, lambda image: preprocess(image, size))
        except ValueError as error:
            return str(error)

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes outside Python's lock
    try:
        decoded = pool.map(decode, files)
        yield from tqdm(decoded, "reading images", total=len(files), disable=None)
    finally:
        pool.shutdown(cancel_futures=True)
