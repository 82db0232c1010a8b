"""LPIPS (Zhang et al., 2018): distances of images in the features of a photograph classifier.

The two files of weights are not shipped. They are read from torch.hub's cache, and nothing is
downloaded.
"""

from __future__ import annotations

import pickle
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stochrestore.errors import InputError, require
from stochrestore.metrics.images import check_images
from stochrestore.metrics.torchvision_ops import hub_file, import_piq
from stochrestore.store import sha256_of

VGG_FILE = "vgg16-397923af.pth"
"""The weights of torchvision's VGG16; the name ends in the first digits of the sha256."""
LINEAR_FILE = "lpips_weights.pt"
"""The weights of the layers, as piq publishes them."""
LAYERS = ("3", "8", "15", "22", "29")
"""The indices of ReLU 1_2, 2_2, 3_3, 4_3 and 5_3 in VGG16's features."""
LEAST_SIDE = 16
"""Images must be this large, so that a pixel is left after four poolings."""


def missing_weights() -> tuple[str, ...]:
    """The names of those of the two files that are not in the cache."""
    return tuple(name for name in (VGG_FILE, LINEAR_FILE) if not hub_file(name).is_file())


@torch.no_grad()
def lpips(a: Tensor, b: Tensor) -> Tensor:
    """LPIPS with VGG16, computed by piq: 0 for equal images, larger for less similar ones.

    Args:
        a: images (N, 3, H, W), in [0, 1], H and W at least 16.
        b: as a.

    Returns:
        (N,).

    Raises:
        InputError: weights that are missing or are other weights, or smaller images.
    """
    side = min(a.shape[-2:])
    require(side >= LEAST_SIDE, "lpips: side", side, f"at least {LEAST_SIDE}")
    for images in (a, b):
        check_images("lpips", images)
    found: Tensor = _metric(hub_file(VGG_FILE), hub_file(LINEAR_FILE))(a, b)
    return found


@cache
def _metric(vgg: Path, linear: Path) -> Any:
    """piq's metric from two files; its own constructor would download them."""
    digest = VGG_FILE.partition("-")[2].partition(".")[0]
    if not sha256_of(vgg, f"LPIPS weights {vgg.name}").startswith(digest):
        raise InputError(f"LPIPS weights {vgg.name}: sha256 does not begin with {digest}")
    weights = _read(linear)
    if not (isinstance(weights, list) and len(weights) == len(LAYERS)):
        raise InputError(f"LPIPS weights {linear.name}: allowed: a list of {len(LAYERS)} tensors")
    piq = import_piq()
    models = import_module("torchvision.models.vgg")
    features: nn.Module = models.make_layers(models.cfgs["D"])[:-1]  # the last pooling is not used
    state = {
        name.removeprefix("features."): tensor
        for name, tensor in _read(vgg).items()
        if name.startswith("features.")
    }
    features.load_state_dict(state)
    return piq.ContentLoss(features, LAYERS, weights, reduction="none", normalize_features=True)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise InputError(f"LPIPS weights {path.name}: cannot be read; truncated?") from None
