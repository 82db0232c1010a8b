"""Image sets to train and evaluate on.

Built in: procedural faces, fashion, digits, natural patches. From disk: all of Fashion-MNIST,
CelebA, ImageNet64, any folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from stochrestore.errors import InputError, require
from stochrestore.problems import fashion
from stochrestore.problems.faces import Faces
from stochrestore.problems.imagenet64 import LAYOUT as IMAGENET64_LAYOUT
from stochrestore.problems.imagenet64 import imagenet64
from stochrestore.problems.patches import natural_patches

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
CELEBA_LAYOUT = "img_align_celeba/000001.jpg … and list_eval_partition.txt"
BUILT_IN = ("faces", "fashion", "digits", "patches")
WITH_PATH = {
    "fashion_mnist": f"fashion_mnist:PATH, a folder with {fashion.LAYOUT}, gzipped or not",
    "celeba": f"celeba:PATH, a folder with {CELEBA_LAYOUT}",
    "imagenet64": f"imagenet64:PATH, a folder with {IMAGENET64_LAYOUT}",
    "folder": "folder:PATH, a folder of images",
}
ALL_DATA = ", ".join([*BUILT_IN, *(f"{kind}:PATH" for kind in WITH_PATH)])
"""What :func:`load_images` takes, in words."""
TRAINING_SHARE = (4, 5)  # a random 80 % of CelebA's training partition trains (App. E.2)
TRAINING_DIGITS = 900  # of 1797
SELECTION_FACES = 1000
SELECTION_SEED = 2**32  # far from those of face_seeds


@dataclass(frozen=True)
class ByteImages:
    """Images kept as bytes, a quarter of float32's memory, and given out in [0, 1].

    Args:
        pixels: (N, C, S, S), uint8.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """What the index picks of the images, float32 in [0, 1]."""
        return self.pixels[index].float() / 255

    @property
    def shape(self) -> torch.Size:
        """(N, C, S, S)."""
        return self.pixels.shape

    @property
    def device(self) -> torch.device:
        """Where the bytes are."""
        return self.pixels.device

    def to(self, device: torch.device | str) -> ByteImages:
        """The same images on another device."""
        return ByteImages(self.pixels.to(device))


Images = Tensor | ByteImages


@dataclass(frozen=True)
class ImageSet:
    """Images to train on and images to restore, disjoint.

    Args:
        name: what ``load_images`` was asked for.
        train: (N, C, S, S); indexing gives float32 in [0, 1].
        validation: (M, C, S, S), likewise.
        skipped: the bad files that were left out, each with the reason.
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
        seed: decides the split or order, and the faces and patches.
        training_images: how many to train on, at most.
        validation_images: how many to keep for evaluation, at most.
        skip_bad: how many missing or unreadable files to leave out before giving up.

    Raises:
        InputError: unknown data; a folder, list or image that is missing or cannot be read, more
            often than ``skip_bad`` allows; an empty split.
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
    """Whether ``data`` has the form of something that :func:`load_images` takes."""
    kind, colon, path = data.partition(":")
    return kind in WITH_PATH and path != "" if colon else data in BUILT_IN


def faces(size: int, seed: int, training_images: int, validation_images: int) -> ImageSet:
    """Procedural faces: training and validation are two endless sequences, see face_seeds."""
    drawn = Faces(size)
    train, validation = face_seeds(seed)
    return ImageSet(
        "faces",
        train=drawn.images(train, 0, training_images),
        validation=drawn.images(validation, 0, validation_images),
        selection=drawn.images(SELECTION_SEED + seed, 0, SELECTION_FACES),
    )


def face_seeds(seed: int) -> tuple[int, int]:
    """Seeds of :class:`Faces` for the training and the validation images of ``seed``."""
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
    order = _shuffled(len(grey), seed)
    images = torch.from_numpy(grey[order].astype(np.float32) / 16)[:, None]
    train, validation = images[:TRAINING_DIGITS], images[TRAINING_DIGITS:]
    return ImageSet("digits", train[:training_images], validation[:validation_images])


def celeba_split(root: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """The paper's split: 80 % of CelebA's training partition, against the rest and validation.

    Of the real 162 770 + 19 867 images, 130 216 train and 52 421 validate (App. E.2). Both lists
    come shuffled, so that a part of them stands for the whole.

    Raises:
        InputError: a folder or the list of partitions missing or damaged; an empty partition.
    """
    folder = _first_existing(root, "img_align_celeba", "Img/img_align_celeba")
    table = _first_existing(root, "list_eval_partition.txt", "Eval/list_eval_partition.txt")
    parts: dict[str, list[Path]] = {"0": [], "1": [], "2": []}
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        match line.split():
            case []:
                continue
            case [name, ("0" | "1" | "2") as part]:
                parts[part].append(folder / name)
            case _:
                raise InputError(
                    f"{table}, line {number}: got {line!r}; allowed: a file name and 0, 1 or 2"
                )
    for part, meaning in (("0", "training"), ("1", "validation")):
        require(bool(parts[part]), f"{table}: {meaning} images ({part})", 0, "at least 1")
    train, rest = _share(parts["0"], seed)
    validation = rest + parts["1"]
    return train, [validation[i] for i in _shuffled(len(validation), seed)]


def folder_split(root: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """All images below a folder: a random 80 % to train on, the others for validation.

    Raises:
        InputError: fewer than two images.
    """
    found = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    files = sorted((p for p in found if p.is_file()), key=lambda p: p.relative_to(root).as_posix())
    allowed = f"at least 2, one for each part of the split ({', '.join(SUFFIXES)})"
    require(len(files) >= 2, f"{root}: images found", len(files), allowed)
    return _share(files, seed)


def preprocess(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resized to round(102/64·S) square, bilinear, whatever its shape was; its S×S centre.

    Greyscale becomes grey RGB, transparency white, 16 bits 8; for S = 64 this is App. E.2's.

    Returns:
        (3, S, S).

    Raises:
        ValueError: an image of a mode without a fixed range (floating point).
    """
    resized = round(102 / 64 * size)
    margin = (resized - size) // 2
    upright = rgb(ImageOps.exif_transpose(image))
    square = upright.resize((resized, resized), Image.Resampling.BILINEAR)
    centre = square.crop((margin, margin, margin + size, margin + size))
    return np.asarray(centre).transpose(2, 0, 1)


def digest(image_set: ImageSet) -> str:
    """sha256 of all pixels, as bytes, and of the shapes: what a training's record names."""
    total = hashlib.sha256()
    for part in (image_set.train, image_set.validation):
        total.update(repr(tuple(part.shape)).encode())
        for first in range(0, len(part), 1024):
            levels = (part[first : first + 1024] * 255).round().byte().cpu()
            total.update(levels.contiguous().numpy().tobytes())
    return total.hexdigest()


def rgb(image: Image.Image) -> Image.Image:
    """RGB with 8 bits; transparency over white."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """A random order of 0 … n − 1, the same with every version of NumPy."""
    require(0 <= seed < 2**64, "load_images: seed", seed, "an integer in [0, 2⁶⁴)")
    return np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")


def _share(files: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    shuffled = [files[i] for i in _shuffled(len(files), seed)]
    cut = max(1, len(files) * TRAINING_SHARE[0] // TRAINING_SHARE[1])
    return shuffled[:cut], shuffled[cut:]


def _first_existing(root: Path, *names: str) -> Path:
    existing = [root / name for name in names if (root / name).exists()]
    if not existing:
        raise InputError(f"celeba:{root}: {names[0]} is missing; expected there: {CELEBA_LAYOUT}")
    return existing[0]


def _read(
    data: str, root: Path, train: list[Path], validation: list[Path], size: int, skip_bad: int
) -> ImageSet:
    """Both parts decoded; missing files are found before the first is."""
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
    """The preprocessed images in order, or why one could not be read."""

    def decode(file: Path) -> NDArray[np.uint8] | str:
        try:
            with Image.open(file) as image:
                return preprocess(image, size)
        except FileNotFoundError:
            return "missing"
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            return f"cannot be read as an image ({error or type(error).__name__})".split("\n")[0]

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes outside Python's lock
    try:
        decoded = pool.map(decode, files)
        yield from tqdm(decoded, "reading images", total=len(files), disable=None)
    finally:
        pool.shutdown(cancel_futures=True)
