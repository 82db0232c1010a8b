"""How image files are divided into those to train on and those for validation (App. E.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stochrestore.data.files import SUFFIXES, image_files
from stochrestore.errors import InputError, require

CELEBA_LAYOUT = "img_align_celeba/000001.jpg … and list_eval_partition.txt"
_TABLES = (("", "txt"), ("Eval/", "txt"), ("", "csv"), ("Eval/", "csv"))
TRAINING_SHARE = (4, 5)
"""80 % of CelebA's training partition are trained on (App. E.2), and 80 % of a folder."""


def celeba_split(root: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """The paper's split of CelebA into training and validation images (App. E.2).

    A random 80 % of CelebA's training partition are for training; the other 20 % and CelebA's
    validation partition are for validation. Of the real 162 770 + 19 867 images, these are 130 216
    and 52 421. Both lists are in random order, so that their first images are random samples.
    The official layout is understood, and Kaggle's: a list as .csv, images one folder deeper.

    Raises:
        InputError: the folder of images or the list of partitions is missing, a line of the list
            is not understood, or a partition is empty.
    """
    inner = "img_align_celeba"
    folder = _first_existing(root, f"{inner}/{inner}", inner, f"Img/{inner}")
    table = _first_existing(root, *(f"{at}list_eval_partition.{kind}" for at, kind in _TABLES))
    parts: dict[str, list[Path]] = {"0": [], "1": [], "2": []}
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        match line.replace(",", " ").split():
            case [] | ["image_id", "partition"]:
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
    return train, [validation[i] for i in shuffled(len(validation), seed)]


def _first_existing(root: Path, *names: str) -> Path:
    existing = [root / name for name in names if (root / name).exists()]
    if not existing:
        name = Path(names[0]).name
        raise InputError(f"celeba:{root}: {name} is missing; expected there: {CELEBA_LAYOUT}")
    return existing[0]


def folder_split(root: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """All images below a folder: a random 80 % to train on, the others for validation.

    Raises:
        InputError: the folder holds fewer than two images.
    """
    files = image_files(root)
    allowed = f"at least 2, one for each part of the split ({', '.join(SUFFIXES)})"
    require(len(files) >= 2, f"{root}: images found", len(files), allowed)
    return _share(files, seed)


def _share(files: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    in_order = [files[i] for i in shuffled(len(files), seed)]
    cut = max(1, len(files) * TRAINING_SHARE[0] // TRAINING_SHARE[1])
    return in_order[:cut], in_order[cut:]


def shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """A random order of 0 … n − 1, which is the same with every version of NumPy."""
    require(0 <= seed < 2**64, "images: seed", seed, "an integer in [0, 2⁶⁴)")
    return np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")
