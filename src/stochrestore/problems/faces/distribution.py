"""The distribution of procedural faces, the same on every machine, and its posterior.

Each face is drawn from latents of two kinds. The *visible* ones (skin, jaw, neck, clothes,
background, light) all show in the lower rows, which inpainting keeps. The *hidden* ones (hair,
eyes, glasses, mouth, …) never touch those rows and are independent of the visible ones. The
visible latents can be read off the known rows. So a sample of p(X | Y) (Sec. 2) keeps the visible
latents of a face and draws its hidden ones anew.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stochrestore.errors import require
from stochrestore.problems.faces.canvas import Canvas
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE, Latents, class_index, values
from stochrestore.problems.faces.parts import paint_face

_DRAWS = len(VISIBLE) + len(HIDDEN)
_BLOCKS = -(-_DRAWS // 4)  # Philox gives four 64-bit words a counter value


class Faces:
    """The distribution of procedural faces at one size.

    Args:
        size: S, side of the image in pixels, a multiple of 4, at least 8.
        known_rows: how many of the lowest rows depend on the visible latents only; S/4 where it
            is not given.

    Raises:
        InputError: the size is not such a multiple, or ``known_rows`` is outside [1, S − 1].
    """

    def __init__(self, size: int = 64, known_rows: int | None = None) -> None:
        require(size >= 8 and size % 4 == 0, "Faces: size", size, "a multiple of 4, at least 8")
        self.size = size
        self.known_rows = size // 4 if known_rows is None else known_rows
        allowed = f"an integer in [1, {size - 1}]"
        require(0 < self.known_rows < size, "Faces: known_rows", known_rows, allowed)

    def latents(self, seed: int, start: int, stop: int) -> Latents:
        """Latents of images start … stop − 1 of a seed's endless sequence.

        A counter-based generator (Philox) draws them, so that image i is the same on every
        machine and does not depend on the range asked for.

        Raises:
            InputError: the seed is outside [0, 2⁶⁴), or 0 ≤ start ≤ stop does not hold.
        """
        require(0 <= seed < 2**64, "Faces.latents: seed", seed, "an integer in [0, 2⁶⁴)")
        interval = (start, stop)
        require(0 <= start <= stop, "Faces.latents: (start, stop)", interval, "0 ≤ start ≤ stop")
        words = np.random.Philox(key=seed, counter=start * _BLOCKS)
        raw = words.random_raw((stop - start) * _BLOCKS * 4).reshape(-1, _BLOCKS * 4)[:, :_DRAWS]
        uniform = torch.from_numpy((raw >> 40).astype(np.float32) / np.float32(2**24))
        return Latents(*uniform.split([len(VISIBLE), len(HIDDEN)], dim=1))

    def render(self, latents: Latents) -> Tensor:
        """The faces of given latents, (N, 3, S, S), float32 in [0, 1], on the latents' device."""
        pixels = latents.visible.new_zeros(len(latents), 3, self.size, self.size)
        canvas = Canvas.of(pixels)
        unknown = canvas.rows(0, self.size - self.known_rows)
        visible, hidden = values(VISIBLE, latents.visible), values(HIDDEN, latents.hidden)
        paint_face(canvas, unknown, visible, hidden)
        return pixels.clamp_(0, 1)

    def images(self, seed: int, start: int, stop: int, *, batch: int = 256) -> Tensor:
        """Images start … stop − 1 of a seed's sequence, (stop − start, 3, S, S), in [0, 1]."""
        require(batch >= 1, "Faces.images: batch", batch, "an integer ≥ 1")
        latents = self.latents(seed, start, stop)
        images = torch.empty(stop - start, 3, self.size, self.size)
        for first in range(0, stop - start, batch):
            part = slice(first, first + batch)
            images[part] = self.render(latents[part])
        return images

    def targets(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """The latents as targets for a network that recognises them in the images.

        Returns:
            The continuous latents, (N, C), in [0, 1), and the class indices of the others,
            (N, K), int64. Both list visible latents first, in the order of
            :data:`~stochrestore.problems.faces.latents.VISIBLE` and ``HIDDEN``.
        """
        table = torch.cat([latents.visible, latents.hidden], dim=1)
        columns = list(zip(VISIBLE + HIDDEN, table.unbind(1), strict=True))
        continuous = [u for latent, u in columns if not latent.classes]
        classes = [class_index(latent, u) for latent, u in columns if latent.classes]
        return torch.stack(continuous, dim=1), torch.stack(classes, dim=1)
