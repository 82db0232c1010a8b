"""The features that images are compared by: pixels, Inception's, or those of small networks.

The small networks know faces (attributes) or clothes (fashion).

Distances in different features are not comparable. So every extractor has a name, and every
number that is measured through it is shown with this name.
"""

from __future__ import annotations

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
from stochrestore.metrics.images import check_images
from stochrestore.metrics.torchvision_ops import hub_file, import_piq
from stochrestore.networks.features import NETWORKS, with_channels

FeatureName = Literal["pixels", "centre", "inception", "attributes", "fashion"]

CENTRE = 8
"""The features ``"centre"`` are the pixels of a central square with this side."""

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_ADDRESS = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}"
)
INCEPTION_SHA256 = "6726825d"
"""The first digits of the file's sha256, which its name ends with."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A map from images to the features that they are compared by.

    Args:
        name: the label of every number that is measured through it.
        network: maps a batch of images (n, C, S, S) in [0, 1] to features (n, D).
        device: the device on which the network computes.
        batch: the number of images that pass through the network together.
    """

    name: FeatureName
    network: Callable[[Tensor], Tensor]
    device: torch.device | str = "cpu"
    batch: int = 256

    @torch.no_grad()
    def __call__(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """The features of images: (N, D), float32, on the CPU.

        Values outside [0, 1], which a restoration may have, are clamped, as in an image file.

        Args:
            images: (N, C, S, S), or an iterable of such batches.

        Raises:
            InputError: no images, another number of dimensions or channels, NaN, or a dtype or
                range that is not that of images in [0, 1].
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
        check_images(self.name, images)
        return self.network(images.to(self.device).float().clamp(0, 1)).cpu()


def feature_extractor(
    name: FeatureName,
    *,
    inception_weights: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> FeatureExtractor:
    """The feature extractor with a given name.

    Args:
        name: ``"pixels"``: all pixels, (N, C·S·S); ``"centre"``: the pixels of the central 8×8
            square, (N, C·8·8); ``"attributes"``, (N, 96), and ``"fashion"``, (N, 64): the output
            of the shipped :class:`~stochrestore.networks.features.FeatureNetwork`;
            ``"inception"``: the output of piq's InceptionV3, which the paper uses, (N, 2048).
        inception_weights: the file with the weights of ``"inception"``. Without it, the file in
            torch.hub's cache is read. Nothing is downloaded.
        device: the device on which the network computes.

    Raises:
        InputError: an unknown name, or weights that are missing or are other weights.
    """
    if name == "pixels":
        return FeatureExtractor(name, lambda images: images.flatten(1), device)
    if name == "centre":
        return FeatureExtractor(name, lambda images: _centre(images).flatten(1), device)
    if name in NETWORKS:
        network = NETWORKS[name]()
        store.load(network, store.shipped("features") / f"{name}.safetensors")
        return FeatureExtractor(name, network.to(device).eval(), device)
    allowed = "'pixels', 'centre', 'inception', 'attributes' or 'fashion'"
    require(name == "inception", "features", name, allowed)
    inception = load_inception(inception_weights).to(device).eval()
    return FeatureExtractor(
        name, lambda images: inception(with_channels(images, 3))[0].flatten(1), device, batch=64
    )


def load_inception(path: Path | str | None = None) -> nn.Module:
    """piq's InceptionV3 with the weights that define the FID; it resizes images to 299 × 299.

    Args:
        path: the file with the weights; in torch.hub's cache unless given.

    Raises:
        InputError: the file is missing, or its sha256 is wrong. The message has the address from
            which the file can be fetched.
    """
    path = Path(path) if path else hub_file(INCEPTION_FILE)
    what, advice = f"inception weights {path}", f"fetch {INCEPTION_ADDRESS} and put it there"
    try:
        digest = store.sha256_of(path, what)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None
    if not digest.startswith(INCEPTION_SHA256):
        raise InputError(f"{what}: sha256 is {digest[:8]}…, not {INCEPTION_SHA256}…; {advice}")
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
    """(N, C, S, S) → (N, C, 8, 8): in textures, one window represents the whole image.

    Means over 8×8 blocks would be as fast, but they do not see fine detail: with s = 4 and 32×32
    pixels they are y itself, which all consistent restorations share.
    """
    first = [max(0, (side - CENTRE) // 2) for side in images.shape[2:]]
    return images[:, :, first[0] : first[0] + CENTRE, first[1] : first[1] + CENTRE]
