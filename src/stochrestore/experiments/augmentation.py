"""Noise and blur for the training images of a feature network.

A network that never saw an artefact is thrown far off by it: noise that the eye hardly sees moves
its features as far as another class does, and a Fréchet distance measures little else then.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_NOISE = 0.1
"""Largest standard deviation of the noise, for images in [0, 1]."""


def noise_and_blur(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Images (N, C, S, S), each blurred with probability ½, and with noise with probability ½.

    The blur mixes an image with its 3×3 means, the noise is normal; how strong each is, is
    uniform between nothing and all, and drawn for each image by itself.
    """
    blur, noise = (_strength(len(images), generator=generator) for _ in range(2))
    mixed = images.lerp(blurred(images), blur)
    normal = torch.randn(images.shape, generator=generator)
    return mixed + MOST_NOISE * noise * normal


def blurred(images: Tensor) -> Tensor:
    """The means over 3×3 pixels, (N, C, S, S); the border is repeated."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _strength(n: int, *, generator: torch.Generator) -> Tensor:
    """Uniform in [0, 1] for a random half, 0 for the others, (n, 1, 1, 1)."""
    chosen = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    return chosen * torch.rand(n, 1, 1, 1, generator=generator)
