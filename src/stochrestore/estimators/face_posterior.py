"""The exact posterior sampler of procedural faces."""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import Latents


class FacePosterior:
    """X̂ ~ p(X | Y) for given faces: it keeps their visible latents and redraws the hidden ones.

    The known rows determine the visible latents. A trained estimator has to find them; this one
    is told them. So it works for the faces that it was made for, and for unperturbed y = D(x).

    Args:
        faces: the renderer.
        latents: the latents of the N faces to restore.
    """

    def __init__(self, faces: Faces, latents: Latents) -> None:
        self.faces, self.latents = faces, latents

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of the hidden latents for each of the N faces: (n, N, H), U[0, 1)."""
        shape = (n, *self.latents.hidden.shape)
        return torch.rand(shape, generator=generator, device=generator.device).to(y.device)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (n·N, …), the inputs repeated n times, z (n·N, H) → x̂ (n·N, 3, size, size)."""
        visible = self.latents.visible.to(z.device).repeat(len(z) // len(self.latents), 1)
        return self.faces.render(Latents(visible, z))
