"""Small networks by whose features images are compared: one knows faces, one knows clothes."""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.errors import require


class FeatureNetwork(nn.Module):
    """Maps images to features, from which can be read what it was trained to recognise.

    It is trained as the trunk of a classifier by :mod:`stochrestore.experiments.attributes` or
    :mod:`~stochrestore.experiments.fashion`. The features are its last hidden layer.

    Args:
        size: S, side of the images that it sees.
        widths: channels of the images, 1 or 3, and of each 3×3 convolution.
        strides: of the convolutions.
        dims: D, number of features.
    """

    def __init__(
        self, size: int, widths: tuple[int, ...], strides: tuple[int, ...], dims: int
    ) -> None:
        super().__init__()
        self.size, self.channels, self.dims = size, widths[0], dims
        blocks: list[nn.Module] = []
        for (fan_in, fan_out), stride in zip(pairwise(widths), strides, strict=True):
            blocks.append(nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False))
            blocks += [nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*blocks)
        pixels = (size // math.prod(strides)) ** 2
        # Without batch normalisation, two thirds of the features become 0 for all images.
        self.hidden = nn.Sequential(
            nn.Linear(widths[-1] * pixels, dims, bias=False), nn.BatchNorm1d(dims), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, …) in [0, 1] → (N, D); images of another size are resized to S×S.

        Raises:
            InputError: another number of channels.
        """
        images = with_channels(images, self.channels)
        size = (self.size, self.size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.hidden(self.convolutions(2 * images - 1).flatten(1))


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images (N, 1 or 3, …) with 1 or 3 channels: colours are averaged, grey is repeated.

    Raises:
        InputError: the images have another number of channels.
    """
    found = images.shape[1]
    require(found in (1, 3), "features of a network: channels of images", found, "1 or 3")
    return images.mean(1, keepdim=True) if channels == 1 else images.expand(-1, channels, -1, -1)


def attribute_network() -> FeatureNetwork:
    """The network that reads the latents of procedural faces off 32×32 pixels; D = 96."""
    return FeatureNetwork(32, (3, 16, 32, 64, 128), (1, 2, 2, 2), 96)


def fashion_network() -> FeatureNetwork:
    """The network that tells ten kinds of clothes apart at 16×16 pixels; D = 64."""
    return FeatureNetwork(16, (1, 32, 32, 64, 64), (1, 2, 1, 2), 64)


NETWORKS = {"attributes": attribute_network, "fashion": fashion_network}
"""The feature networks by the names of their features."""
