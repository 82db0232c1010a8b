"""Imports piq, also if torch is built for CPUs and torchvision for CUDA.

The package index has one torchvision for Linux, which is linked to CUDA. With a CPU-only torch
its compiled operators cannot be loaded. Then ``import torchvision``, and so ``import piq``, fails
with "operator torchvision::nms does not exist", because torchvision describes the shapes of two
operators that are missing. The library does not call them, so it is enough to declare them.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

from stochrestore.errors import InputError

DECLARED = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def hub_file(name: str) -> Path:
    """Where torch.hub's cache keeps a file of weights, which piq's metrics read."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def import_piq() -> ModuleType:
    """The module ``piq``, which the paper's metrics come from, for any build of torch.

    Raises:
        InputError: piq or torchvision is not installed.
    """
    declare_missing_operators()
    return importlib.import_module("piq")


@cache
def declare_missing_operators() -> torch.library.Library | None:
    """Declare the operators that ``import torchvision`` looks up, if they are missing.

    Returns:
        The declarations, or None if torchvision's own operators work. The declarations last as
        long as something refers to them, which the cache does.

    Raises:
        InputError: torchvision is not installed.
    """
    if compiled_operators_work():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in DECLARED:
        library.define(name + _SIGNATURE)
    return library


def compiled_operators_work() -> bool:
    """Whether torchvision's compiled operators can be loaded into this torch.

    Raises:
        InputError: torchvision is not installed.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise InputError("torchvision: not installed; install the versions of requirements.lock")
    try:
        for compiled in Path(spec.origin).parent.glob("_C.*"):
            torch.ops.load_library(compiled)
    except (ImportError, OSError):
        return False
    return hasattr(torch.ops.torchvision, "nms")
