"""Image files in a folder: which there are, and how one is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from stochrestore.errors import InputError

T = TypeVar("T")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The endings of image files, in lower case; a file may have them in upper case too."""

_UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by their paths.

    Hidden files and folders are left out. Links to folders are followed, each folder once.

    Raises:
        InputError: a folder cannot be read.
    """
    found, seen = [], {folder.resolve()}
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        files = (Path(place, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
        inner = {name: Path(place, name).resolve() for name in folders if name[0] != "."}
        real_first = sorted(inner, key=lambda name: (Path(place, name).is_symlink(), name))
        folders[:] = []
        for name in real_first:
            if inner[name] not in seen:
                seen.add(inner[name])
                folders.append(name)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}")


def read(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What a function, such as :func:`rgb`, makes of an image file.

    Raises:
        ValueError: the reason why the file cannot be read, in one line.
    """
    try:
        with Image.open(path) as image:
            return use(image)
    except FileNotFoundError:
        raise ValueError("missing") from None
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = str(error or type(error).__name__).split("\n")[0]
        raise ValueError(f"cannot be read as an image ({reason})") from None


def rgb(image: Image.Image) -> Image.Image:
    """The image upright, in RGB, with 8 bits a channel.

    The rotation that a camera notes is applied. Greyscale becomes grey RGB, transparent pixels
    become white, and 16 bits are scaled to 8.

    Raises:
        ValueError: the pixels are floating-point numbers, whose range is not fixed.
    """
    turn = _UPRIGHT.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _orientation(image: Image.Image) -> object:
    """What the camera notes; nothing where its notes are damaged, which the pixels are not."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
