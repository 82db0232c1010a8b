"""The properties that are drawn for each procedural face, visible and hidden ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Latent:
    """One drawn property of a face.

    Args:
        name: the name of the property.
        classes: the names of the classes of a categorical latent; empty for a continuous one.
        weights: the probabilities of the classes, in the same order.
    """

    name: str
    classes: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


def _choice(name: str, **weights: float) -> Latent:
    return Latent(name, tuple(weights), tuple(weights.values()))


def _continuous(names: str) -> tuple[Latent, ...]:
    return tuple(Latent(name) for name in names.split())


VISIBLE: tuple[Latent, ...] = (
    *_continuous("skin undertone light position face_width chin jaw neck shoulders"),
    *_continuous("background background_tone background_shift background_slant"),
    *_continuous("clothes clothes_tone"),
    _choice("neckline", crew=0.25, v_neck=0.25, collar=0.25, turtleneck=0.25),
    _choice("pattern", plain=0.5, stripes=0.25, yoke=0.25),
)
"""The latents that the known rows show."""
HIDDEN: tuple[Latent, ...] = (
    _choice("hair", bald=0.06, balding=0.07, buzz=0.07, short=0.12, bowl=0.1, parted=0.12, bob=0.11,
            long=0.11, curly=0.09, mohawk=0.05, bun=0.05, pigtails=0.05),
    _choice("hair_colour", black=0.2, brown=0.17, chestnut=0.13, ginger=0.13, blond=0.17, grey=0.1,
            pink=0.05, blue=0.05),
    _choice("eye_colour", brown=0.3, green=0.25, blue=0.3, grey=0.15),
    _choice("glasses", none=0.55, round=0.17, square=0.15, sun=0.13),
    _choice("moustache", none=0.74, thin=0.13, bushy=0.13),
    _choice("whiskers", none=0.85, chops=0.15),
    _choice("hat", none=0.72, beanie=0.1, cap=0.09, band=0.09),
    _choice("backdrop", none=0.35, sun=0.2, picture=0.2, bokeh=0.25),
    _choice("skin_marks", none=0.75, freckles=0.25),
    _choice("earrings", none=0.8, gold=0.2),
    *_continuous("hair_shade volume hairline part eye_size eye_gap gaze_x gaze_y eyelid"),
    *_continuous("brow_angle brow_height brow_weight nose_width nose_length"),
    *_continuous("smile mouth_width mouth_open lip blush hat_colour frame_colour"),
    *_continuous("backdrop_x backdrop_y backdrop_colour"),
)  # fmt: skip
"""The latents that the known rows do not depend on."""


@dataclass(frozen=True)
class Latents:
    """The uniform numbers in [0, 1) from which N faces are drawn.

    Args:
        visible: (N, V), in the order of :data:`VISIBLE`.
        hidden: (N, H), in the order of :data:`HIDDEN`.
    """

    visible: Tensor
    hidden: Tensor

    def __len__(self) -> int:
        return len(self.visible)

    def __getitem__(self, index: slice | Tensor) -> Latents:
        return Latents(self.visible[index], self.hidden[index])


def class_index(latent: Latent, u: Tensor) -> Tensor:
    """The index of the class that belongs to each uniform number u (N,): (N,), int64."""
    edges = list(accumulate(latent.weights))[:-1]
    return (u[:, None] >= torch.tensor(edges, device=u.device)).sum(1)


class Values(dict[str, Tensor]):
    """Latents by name, each (N, 1, 1): a number in [0, 1) or the index of a class."""

    def between(self, name: str, low: float, high: float) -> Tensor:
        """A continuous latent, scaled to [low, high)."""
        return low + (high - low) * self[name]

    def chosen(self, name: str, label: str) -> Tensor:
        """1 where a categorical latent has the class ``label``, else 0; (N, 1, 1)."""
        latent = next(latent for latent in VISIBLE + HIDDEN if latent.name == name)
        return (self[name] == latent.classes.index(label)).float()

    def looked_up(self, name: str, rows: tuple[tuple[float, ...], ...]) -> Tensor:
        """The row that belongs to the class of a categorical latent, (N, columns, 1, 1)."""
        table = torch.tensor(rows, device=self[name].device)
        return table[self[name].flatten()][:, :, None, None]


def values(names: tuple[Latent, ...], uniforms: Tensor) -> Values:
    """The latents of given uniform numbers, (N, number of latents), by name."""
    columns = zip(names, uniforms.unbind(1), strict=True)
    value = {n.name: class_index(n, u) if n.classes else u for n, u in columns}
    return Values({name: u[:, None, None] for name, u in value.items()})
