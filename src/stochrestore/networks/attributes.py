"""The network whose features faces are compared by: it recognises a face's attributes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 32
"""Side of the images that the network sees."""

DIMS = 96
"""Number of features."""


class AttributeNetwork(nn.Module):
    """Maps images to features from which the latents of a procedural face can be read.

    It is trained as the trunk of a classifier by :mod:`stochrestore.experiments.attributes`. The
    features are its last hidden layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *convolution_block(3, 16, stride=1),
            *convolution_block(16, 32, stride=2),
            *convolution_block(32, 64, stride=2),
            *convolution_block(64, 128, stride=2),
        )
        # Without batch normalisation, two thirds of the features become 0 for all images.
        self.hidden = nn.Sequential(
            nn.Linear(128 * (SIZE // 8) ** 2, DIMS, bias=False),
            nn.BatchNorm1d(DIMS),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1] → (N, 96); images of another size are resized to 32."""
        size = (SIZE, SIZE)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.hidden(self.convolutions(2 * images - 1).flatten(1))


def convolution_block(fan_in: int, fan_out: int, *, stride: int) -> tuple[nn.Module, ...]:
    """3×3 convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)
