"""What images are compared by: pixels, all or central, or features of a network.

Inception's, or those of small networks for faces (attributes) and for clothes (fashion).

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
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.errors import InputError, require
from stochrestore.estimators import pretrained
from stochrestore.torchvision_ops import import_piq

FeatureName = Literal["pixels", "centre", "inception", "attributes", "fashion"]

CENTRE = 8
"""Side of the square whose pixels are the features ``"centre"``."""

ATTRIBUTE_SIZE = 32
"""Side of the images that the attribute network sees."""

ATTRIBUTE_DIMS = 96
"""Features of the attribute network."""

FASHION_SIZE = 16
"""Side of the images that the classifier of clothes sees."""

FASHION_DIMS = 64
"""Features of the classifier of clothes."""

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
            :class:`AttributeNetwork` as shipped; ``"fashion"``: (N, 64), from
            :class:`FashionNetwork` as shipped; ``"inception"``: (N, 2048), the paper's, from
            piq's InceptionV3.
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
        pretrained.load(attributes, pretrained.shipped("features") / "attributes.safetensors")
        attributes = attributes.to(device).eval()
        return FeatureExtractor(name, lambda images: attributes(_rgb(images)), device)
    if name == "fashion":
        clothes = FashionNetwork()
        pretrained.load(clothes, pretrained.shipped("features") / "fashion.safetensors")
        return FeatureExtractor(name, clothes.to(device).eval(), device)
    allowed = "'pixels', 'centre', 'inception', 'attributes' or 'fashion'"
    require(name == "inception", "features", name, allowed)
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


class AttributeNetwork(nn.Module):
    """Features from which the latents of a procedural face can be read.

    Trained as the trunk of a classifier by :mod:`stochrestore.experiments._attributes`; the
    features are its last hidden layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(3, 16, stride=1),
            *_convolution(16, 32, stride=2),
            *_convolution(32, 64, stride=2),
            *_convolution(64, 128, stride=2),
        )
        # Without normalisation, two features of three fall silent in training.
        self.hidden = nn.Sequential(
            nn.Linear(128 * (ATTRIBUTE_SIZE // 8) ** 2, ATTRIBUTE_DIMS, bias=False),
            nn.BatchNorm1d(ATTRIBUTE_DIMS),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1] → (N, 96); images of another size are resized to 32."""
        size = (ATTRIBUTE_SIZE, ATTRIBUTE_SIZE)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.hidden(self.convolutions(2 * images - 1).flatten(1))


class FashionNetwork(nn.Module):
    """Features by which ten kinds of clothes are told apart.

    Trained as the trunk of a classifier by :mod:`stochrestore.experiments._fashion_classifier`; the
    features are its last hidden layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(1, 32, stride=1),
            *_convolution(32, 32, stride=2),
            *_convolution(32, 64, stride=1),
            *_convolution(64, 64, stride=2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(64 * (FASHION_SIZE // 4) ** 2, FASHION_DIMS, bias=False),
            nn.BatchNorm1d(FASHION_DIMS),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, S, S) in [0, 1] → (N, 64); colours are averaged, other sizes resized to 16.

        Raises:
            InputError: another number of channels.
        """
        channels = images.shape[1]
        require(channels in (1, 3), "features of a network: channels of images", channels, "1 or 3")
        images = images.mean(1, keepdim=True)
        size = (FASHION_SIZE, FASHION_SIZE)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.hidden(self.convolutions(2 * images - 1).flatten(1))


def _convolution(fan_in: int, fan_out: int, *, stride: int) -> tuple[nn.Module, ...]:
    """3×3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)
