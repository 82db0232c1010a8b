"""The network whose features clothes are compared by: it tells ten kinds of them apart."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.errors import require
from stochrestore.networks.attributes import convolution_block

SIZE = 16
"""Side of the images that the network sees."""

DIMS = 64
"""Number of features."""


class FashionNetwork(nn.Module):
    """Maps images to features by which ten kinds of clothes are told apart.

    It is trained as the trunk of a classifier by :mod:`stochrestore.experiments.fashion`. The
    features are its last hidden layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *convolution_block(1, 32, stride=1),
            *convolution_block(32, 32, stride=2),
            *convolution_block(32, 64, stride=1),
            *convolution_block(64, 64, stride=2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(64 * (SIZE // 4) ** 2, DIMS, bias=False), nn.BatchNorm1d(DIMS), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, S, S) in [0, 1] → (N, 64); colours are averaged, other sizes resized to 16.

        Raises:
            InputError: another number of channels.
        """
        channels = images.shape[1]
        require(channels in (1, 3), "features of a network: channels of images", channels, "1 or 3")
        images = images.mean(1, keepdim=True)
        if images.shape[2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.hidden(self.convolutions(2 * images - 1).flatten(1))
