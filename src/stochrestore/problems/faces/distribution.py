"""Procedural faces: an endless, machine-independent image distribution whose posterior is known.

Each face is drawn from *visible* latents, all of which show in the lower rows that inpainting
keeps (skin, jaw, neck, clothes, background, light), and *hidden* ones (hair, eyes, glasses, mouth,
…) that never touch those rows and are independent of the visible ones. The visible latents can be
read off the known rows, so p(X | Y) (Sec. 2) is: keep them, redraw the hidden ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stochrestore.errors import require
from stochrestore.problems.faces.canvas import Canvas
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE, Latents, class_index, values
from stochrestore.problems.faces.parts import paint_face

__all__ = ["HIDDEN", "VISIBLE", "Faces", "Latents"]

_DRAWS = len(VISIBLE) + len(HIDDEN)
_BLOCKS = -(-_DRAWS // 4)  # Philox gives four 64-bit words a counter value


class Faces:
    """The distribution of procedural faces at one size.

    Args:
        size: S, side of the image in pixels, a multiple of 4, at least 8.
        known_rows: how many of the lower rows the visible latents alone determine; S/4 unless
            given.

    Raises:
        InputError: size not such a multiple, or known_rows outside [1, S − 1].
    """

    def __init__(self, size: int = 64, known_rows: int | None = None) -> None:
        require(size >= 8 and size % 4 == 0, "Faces: size", size, "a multiple of 4, at least 8")
        self.size = size
        self.known_rows = size // 4 if known_rows is None else known_rows
        allowed = f"an integer in [1, {size - 1}]"
        require(0 < self.known_rows < size, "Faces: known_rows", known_rows, allowed)

    def latents(self, seed: int, start: int, stop: int) -> Latents:
        """Latents of images start … stop − 1 of a seed's endless sequence.

        They come from a counter (Philox), so that image i is the same on every machine, whatever
        else is drawn with it.

        Raises:
            InputError: seed outside [0, 2⁶⁴), or not 0 ≤ start ≤ stop.
        """
        require(0 <= seed < 2**64, "Faces.latents: seed", seed, "an integer in [0, 2⁶⁴)")
        interval = (start, stop)
        require(0 <= start <= stop, "Faces.latents: (start, stop)", interval, "0 ≤ start ≤ stop")
        words = np.random.Philox(key=seed, counter=start * _BLOCKS)
        raw = words.random_raw((stop - start) * _BLOCKS * 4).reshape(-1, _BLOCKS * 4)[:, :_DRAWS]
        uniform = torch.from_numpy((raw >> 40).astype(np.float32) / np.float32(2**24))
        return Latents(*uniform.split([len(VISIBLE), len(HIDDEN)], dim=1))

    def render(self, latents: Latents) -> Tensor:
        """The faces, (N, 3, S, S), float32 in [0, 1], on the latents' device."""
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

    def posterior(self, latents: Latents, n: int, *, generator: torch.Generator) -> Tensor:
        """n exact samples of p(X | Y) for each face: (n, N, 3, S, S).

        The visible latents are kept, the hidden ones redrawn.
        """
        require(n >= 1, "Faces.posterior: n", n, "an integer ≥ 1")
        shape = (n, *latents.hidden.shape)
        hidden = torch.rand(shape, generator=generator, device=generator.device)
        draws = [Latents(latents.visible, h.to(latents.hidden.device)) for h in hidden]
        return torch.stack([self.render(draw) for draw in draws])

    def targets(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """What a network may be trained to read off the images.

        Returns:
            Continuous latents, (N, C), in [0, 1); class indices, (N, K), int64: visible ones
            first, each in the order of :data:`VISIBLE` and :data:`HIDDEN`.
        """
        table = torch.cat([latents.visible, latents.hidden], dim=1)
        columns = list(zip(VISIBLE + HIDDEN, table.unbind(1), strict=True))
        continuous = [u for latent, u in columns if not latent.classes]
        classes = [class_index(latent, u) for latent, u in columns if latent.classes]
        return torch.stack(continuous, dim=1), torch.stack(classes, dim=1)
