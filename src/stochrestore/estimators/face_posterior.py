"""The exact posterior sampler of procedural faces."""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import Latents


class FacePosterior:
    """X̂ ~ p(X | Y) for given faces: their visible latents are kept, the hidden ones redrawn.

    The known rows determine the visible latents, which an estimator would have to read off; this
    one is told them, so it serves for the faces it was made for, and only for y = D(x) as it is.

    Args:
        faces: the renderer.
        latents: of the N faces to restore.
    """

    def __init__(self, faces: Faces, latents: Latents) -> None:
        self.faces, self.latents = faces, latents

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of the hidden latents for each of the N faces: (n, N, H), U[0, 1)."""
        return torch.rand(n, *self.latents.hidden.shape, generator=generator)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (n·N, …) of the N faces n times over, z (n·N, H) → x̂ (n·N, 3, size, size)."""
        visible = self.latents.visible.repeat(len(z) // len(self.latents), 1)
        return self.faces.render(Latents(visible, z))
