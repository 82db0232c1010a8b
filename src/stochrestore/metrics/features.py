"""What images are compared by: pixels, all or central, Inception's features, or faces' attributes.

Distances of different features are not comparable, so an extractor has a name, and whatever is
measured through it carries the name along.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from stochrestore import store
from stochrestore.errors import InputError, require
from stochrestore.metrics.torchvision_ops import import_piq
from stochrestore.networks.attributes import AttributeNetwork

FeatureName = Literal["pixels", "centre", "inception", "attributes"]

CENTRE = 8
"""Side of the square whose pixels are the features ``"centre"``."""

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_ADDRESS = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}"
)
INCEPTION_SHA256 = "6726825d"
"""The first digits, as the file's name gives them."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A map from images to the features they are compared by.

    Args:
        name: what every number measured through it is labelled with.
        network: a batch of images (n, C, S, S) in [0, 1] → (n, D).
        device: where the network computes.
        batch: images that pass at once.
    """

    name: FeatureName
    network: Callable[[Tensor], Tensor]
    device: torch.device | str = "cpu"
    batch: int = 256

    @torch.no_grad()
    def __call__(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """Features, (N, D), float32, on the CPU.

        Restorations may leave [0, 1] by a little; they are clamped, as a file of them would be.

        Args:
            images: (N, C, S, S), or batches of such.

        Raises:
            InputError: no images, another number of dimensions or channels, NaN.
        """
        batches = images.split(self.batch) if isinstance(images, Tensor) else images
        features = [self._features(batch) for batch in batches]
        require(len(features) > 0, f"{self.name}: batches of images", 0, "at least 1")
        return torch.cat(features)

    def _features(self, images: Tensor) -> Tensor:
        shaped = images.ndim == 4 and images.numel() > 0
        where = f"{self.name}: shape of images"
        require(shaped, where, tuple(images.shape), "(N, C, S, S), not empty")
        wrong = int((~images.isfinite()).flatten(1).any(1).sum())
        require(wrong == 0, f"{self.name}: images with NaN or infinity", wrong, "none")
        return self.network(images.to(self.device).float().clamp(0, 1)).cpu()


def feature_extractor(
    name: FeatureName,
    *,
    inception_weights: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> FeatureExtractor:
    """The extractor of a name.

    Args:
        name: ``"pixels"``: (N, C·S·S), as they are; ``"centre"``: (N, C·8·8), those of the
            central 8×8 square; ``"attributes"``: (N, 96), from
            :class:`~stochrestore.networks.attributes.AttributeNetwork` as shipped;
            ``"inception"``: (N, 2048), the paper's, from piq's InceptionV3.
        inception_weights: the file with the weights of ``"inception"``; the one in torch.hub's
            cache unless given. Nothing is downloaded.
        device: where the network computes.

    Raises:
        InputError: another name, or weights that are missing or not the ones meant.
    """
    if name == "pixels":
        return FeatureExtractor(name, lambda images: images.flatten(1), device)
    if name == "centre":
        return FeatureExtractor(name, lambda images: _centre(images).flatten(1), device)
    if name == "attributes":
        attributes = AttributeNetwork()
        store.load(attributes, store.shipped("features") / "attributes.safetensors")
        attributes = attributes.to(device).eval()
        return FeatureExtractor(name, lambda images: attributes(_rgb(images)), device)
    require(
        name == "inception", "features", name, "'pixels', 'centre', 'inception' or 'attributes'"
    )
    inception = load_inception(inception_weights).to(device).eval()
    return FeatureExtractor(
        name, lambda images: inception(_rgb(images))[0].flatten(1), device, batch=64
    )


def load_inception(path: Path | str | None = None) -> nn.Module:
    """piq's InceptionV3 with the weights that FID is defined by; it resizes images to 299 × 299.

    Args:
        path: of the weights; torch.hub's cache unless given.

    Raises:
        InputError: a missing file, with the address to fetch it from, or another one (sha256).
    """
    path = Path(path) if path else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = f"{error.strerror}; fetch {INCEPTION_ADDRESS} and put it there"
        raise InputError(f"inception weights {path}: {reason}") from None
    if not digest.startswith(INCEPTION_SHA256):
        reason = (
            f"sha256 is {digest[:8]}…, not {INCEPTION_SHA256}…; fetch {INCEPTION_ADDRESS} again"
        )
        raise InputError(f"inception weights {path}: {reason}")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    piq: Any = import_piq()
    module = import_module(piq.feature_extractors.InceptionV3.__module__)
    # piq's constructor fetches the weights itself; here it is handed those of the file.
    with (
        warnings.catch_warnings(),
        patch.object(module, "load_state_dict_from_url", lambda *_, **__: weights),
    ):
        warnings.simplefilter("ignore")  # of torchvision, about how piq calls it
        network: nn.Module = piq.feature_extractors.InceptionV3()
    return network


def _centre(images: Tensor) -> Tensor:
    """(N, C, S, S) → (N, C, 8, 8): textures are alike everywhere, so that a window stands for all.

    It is as fast as a mean of the image over 8×8 blocks, and sees what that is blind to: with
    D = s×s averaging and 32×32 pixels, such means would be y itself at s = 4, the same for all
    that is consistent.
    """
    first = [max(0, (side - CENTRE) // 2) for side in images.shape[2:]]
    return images[:, :, first[0] : first[0] + CENTRE, first[1] : first[1] + CENTRE]


def _rgb(images: Tensor) -> Tensor:
    """(N, 3, S, S) from (N, 1 or 3, S, S)."""
    channels = images.shape[1]
    require(channels in (1, 3), "features of a network: channels of images", channels, "1 or 3")
    return images.expand(-1, 3, -1, -1)
