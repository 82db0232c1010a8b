"""Image files in a folder: which there are, and how one is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The endings of image files, in lower case; a file may have them in upper case too."""


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by their paths; hidden files are left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    files = (p for p in found if p.is_file())
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def rgb(image: Image.Image) -> Image.Image:
    """The image upright, in RGB, with 8 bits a channel.

    The rotation that a camera notes is applied. Greyscale becomes grey RGB, transparent pixels
    become white, and 16 bits are scaled to 8.

    Raises:
        ValueError: the pixels are floating-point numbers, whose range is not fixed.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip
        levels = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
