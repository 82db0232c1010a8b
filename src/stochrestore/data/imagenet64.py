"""ImageNet at 64×64 (Chrabaszcz et al., 2017) as it is distributed, pickled or as npz.

A folder holds ``train_data_batch_1`` … ``train_data_batch_10`` and ``val_data``, each with the
ending ``.npz`` or without. In each file, ``data`` is an array (N, 12288) of uint8; a row holds the
red, then the green, then the blue pixels of one image. The official files are in random order.

A pickle is a program that may call functions. Here it may call a few harmless stand-ins only, not
even NumPy's own functions, because a hostile file could choose their arguments.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stochrestore.data.resize import block_means
from stochrestore.data.splits import shuffled
from stochrestore.errors import InputError, require

SIDE = 64
VALUES = 3 * SIDE * SIDE
TRAINING_FILES = tuple(f"train_data_batch_{i}" for i in range(1, 11))
VALIDATION_FILE = "val_data"
TRAINING_IMAGES = 1_281_167
LAYOUT = f"{TRAINING_FILES[0]} … {TRAINING_FILES[-1]} and {VALIDATION_FILE}, or the same as .npz"
_CHUNK = 1024  # images whose means are in memory as floats at once


def imagenet64(
    root: Path, size: int, seed: int, training: int, validation: int
) -> tuple[Tensor, Tensor]:
    """The original training and validation images, (N, 3, S, S) each, uint8 (App. E.2).

    Files are read one after the other, and only as many as are needed. So memory holds the images
    asked for and one file, 1.6 GB. The images of each file come in random order.

    Args:
        root: the folder.
        size: S, a divisor of 64; where it is smaller, pixels are means of blocks, rounded.
        seed: decides the order.
        training: how many to train on, at most.
        validation: how many to keep for evaluation, at most.

    Raises:
        InputError: the size does not divide 64; a file is missing, damaged or of another layout;
            or a pickle holds anything but arrays, lists, numbers and text.
    """
    divides = 1 <= size <= SIDE and SIDE % size == 0
    require(divides, "imagenet64: size", size, f"a divisor of {SIDE}")
    first = [_existing(root, name) for name in (TRAINING_FILES[0], VALIDATION_FILE)]
    held_out = _shuffled_images(first[1], size, seed, validation)
    train = torch.empty(min(training, TRAINING_IMAGES), 3, size, size, dtype=torch.uint8)
    filled = 0
    for name in TRAINING_FILES:
        if filled == len(train):
            break
        images = _shuffled_images(_existing(root, name), size, seed, len(train) - filled)
        train[filled : filled + len(images)] = images
        filled += len(images)
    return train[:filled], held_out


def _existing(root: Path, name: str) -> Path:
    found = [path for path in (root / f"{name}.npz", root / name) if path.is_file()]
    if not found:
        raise InputError(f"imagenet64:{root}: {name} is missing; expected there: {LAYOUT}")
    return found[0]


def _shuffled_images(path: Path, size: int, seed: int, n: int) -> Tensor:
    """At most n of a file's images, in random order, (N, 3, S, S)."""
    rows = read_rows(path)
    chosen = shuffled(len(rows), seed)[:n]
    chunks = [chosen[i : i + _CHUNK] for i in range(0, len(chosen), _CHUNK)]
    return torch.cat([_images(rows[chunk], size) for chunk in chunks])


def _images(rows: NDArray[np.uint8], size: int) -> Tensor:
    """Rows (N, 12288) as images (N, 3, S, S)."""
    images = torch.from_numpy(rows.reshape(-1, 3, SIDE, SIDE))
    return images if size == SIDE else block_means(images, SIDE // size)


def read_rows(path: Path) -> NDArray[np.uint8]:
    """The array ``data`` of one file, (N, 12288), uint8.

    Raises:
        InputError: the file cannot be read, or its layout is another.
    """
    try:
        data = _npz(path) if path.suffix == ".npz" else _pickle(path)
    except InputError:
        raise
    except KeyError:
        raise InputError(f"{path}: no 'data' in it; expected data, labels and mean") from None
    except Exception as error:  # a damaged or hostile file may lead to any
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path}: truncated, damaged or of another kind ({reason})") from None
    if not isinstance(data, np.ndarray):
        raise InputError(f"{path}: data: got {type(data).__name__}; allowed: an array")
    right = data.ndim == 2 and data.shape[1] == VALUES and len(data) > 0 and data.dtype == np.uint8
    got = f"{data.dtype} {data.shape}"
    require(right, f"{path}: data", got, f"uint8 (N, {VALUES}), N ≥ 1")
    return data


def _npz(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["data"]
    except (zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged ({error})") from None


def _pickle(path: Path) -> Any:
    with path.open("rb") as file:
        content = _ArraysOnly(file, path).load()
    require(isinstance(content, dict), f"{path}", type(content).__name__, "a dict with 'data'")
    data = content["data"]
    return data.array() if isinstance(data, _Array) else data


class _StandIn:
    """What a pickle gets in place of a function or class of NumPy; it takes any arguments."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type(_StandIn):
    """Stands in for numpy.dtype, whose first argument is the name of the type."""

    def plain(self) -> np.dtype[Any]:
        """The NumPy type; a ValueError where it is not uint8, the type of all data here."""
        if not self.arguments or self.arguments[0] not in ("u1", "|u1"):
            raise ValueError(f"data of type {self.arguments[:1]}, where uint8 is expected")
        return np.dtype(np.uint8)


class _Array(_StandIn):
    """Stands in for NumPy's _reconstruct; its state is version, shape, type, order, bytes."""

    def array(self) -> NDArray[Any]:
        """The array of bytes."""
        _, shape, kind, fortran, content = self.state
        if isinstance(content, str):  # Python 2 wrote it
            content = content.encode("latin1")
        flat = np.frombuffer(content, kind.plain())
        return flat.reshape(shape, order="F" if fortran else "C")


class _FromBuffer(_Array):
    """Stands in for NumPy's _frombuffer (bytes, type, shape, order), of protocol 5."""

    def array(self) -> NDArray[Any]:
        """The array of bytes."""
        content, kind, shape, order = self.arguments
        return np.frombuffer(content, kind.plain()).reshape(shape, order=order)


class _Encoded(bytes):
    """Stands in for _codecs.encode, with which protocols 0 to 2 keep bytes as text."""

    def __new__(cls, text: str, encoding: str) -> _Encoded:
        """The bytes of a text in Latin 1."""
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"text encoded as {encoding!r}")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        raise ValueError("bytes with a state")


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _StandIn,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Encoded,
} | {
    (f"{core}.{module}", name): stand_in
    for core in ("numpy.core", "numpy._core")
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", _Array),
        ("multiarray", "scalar", _StandIn),
        ("numeric", "_frombuffer", _FromBuffer),
    )
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays, and what Python pickles without calling a function."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote its text and arrays
        self.path = path

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"{self.path}: refused: the pickle asks for {module}.{name}; allowed: arrays,"
                " lists, numbers and text"
            )
        return _ALLOWED[module, name]
