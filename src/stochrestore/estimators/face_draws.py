"""A posterior sampler of procedural faces that answers with draws which were made before."""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.degradations import ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import OneUniform
from stochrestore.estimators.metropolis import Energy, effective_sample_sizes
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import VISIBLE, Latents

NEAR = 1e-4
"""Distance of an input from the one that it is taken for, at most; rounding is far below."""
BATCH = 256
"""Faces that are rendered together."""


class FaceDraws(OneUniform):
    """X̂: one of the draws kept for this y, each as likely as the others, and made consistent.

    It answers the inputs that draws were made for, and no others, also none that an attack moved.

    Args:
        faces: the renderer.
        degradation: D, whose projection makes the chosen face consistent.
        inputs: the N inputs, (N, …).
        counts: how many draws each has, (N,), at least one.
        uniforms: the latents of all draws, those of the first input first, (sum of counts, K).
        chains: how many chains the draws of an input are of, where it has several: those of each
            chain in their order, as many of each.

    Raises:
        InputError: the counts do not fit the inputs, the draws or the chains, or an input has no
            draw.
    """

    def __init__(
        self,
        faces: Faces,
        degradation: ImageDegradation,
        inputs: Tensor,
        counts: Tensor,
        uniforms: Tensor,
        *,
        chains: int = 1,
    ) -> None:
        numbers = (len(inputs), len(counts), int(counts.sum()), len(uniforms))
        fits = numbers[0] == numbers[1] and numbers[2] == numbers[3] and bool((counts > 0).all())
        allowed = "as many counts, each ≥ 1, as inputs, and draws as their sum"
        require(fits, "FaceDraws: inputs, counts, their sum, draws", numbers, allowed)
        several = counts[counts > 1]
        equal = not bool((several % chains).any())
        require(equal, "FaceDraws: counts", several.tolist(), f"1, or multiples of {chains} chains")
        self.faces, self.degradation = faces, degradation
        self.inputs, self.counts, self.uniforms = inputs.flatten(1), counts, uniforms
        self.first, self.chains = counts.cumsum(0) - counts, chains

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, 1) → x̂ (N, C, H, W): of K draws the one numbered ⌊z·K⌋.

        Raises:
            InputError: draws were made for other inputs only.
        """
        known, distance = self._nearest(y)
        farthest = distance.max().item()
        allowed = f"at most {NEAR}: those that draws were made for"
        require(farthest <= NEAR, "FaceDraws: distance from a known input", farthest, allowed)
        count = self.counts[known]
        turn = (z.squeeze(1).double().cpu() * count).long().minimum(count - 1)
        chosen = self._render(self.uniforms[self.first[known] + turn])
        return self.degradation.project(chosen.to(y.device), y)

    def knows(self, y: Tensor) -> Tensor:
        """Whether there are draws for each input, (N,), bool."""
        return self._nearest(y)[1] <= NEAR

    def effective_sample_sizes(self, y: Tensor) -> Tensor:
        """How many independent draws those of each input are worth, (N,), float64.

        All pixels count alike, see
        :func:`~stochrestore.estimators.metropolis.effective_sample_sizes`. 1 where there is one
        draw; 0 where there is none.
        """
        known, distance = self._nearest(y)
        sizes = torch.zeros(len(y), dtype=torch.float64)
        for row in (distance <= NEAR).nonzero().flatten().tolist():
            sizes[row] = self._worth(int(known[row]))
        return sizes

    def _worth(self, known: int) -> float:
        first, count = int(self.first[known]), int(self.counts[known])
        if count == 1:
            return 1.0
        draws = self._render(self.uniforms[first : first + count])
        series = draws.flatten(1).unflatten(0, (self.chains, -1))
        return effective_sample_sizes(series[None]).item()

    def _nearest(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """For each y, which known input is the nearest, and how far it is; both (N,)."""
        gap = torch.cdist(y.flatten(1).cpu().double(), self.inputs.cpu().double())
        distance, known = gap.min(1)
        return known, distance

    def _render(self, uniforms: Tensor) -> Tensor:
        parts = [rendered(self.faces, part) for part in uniforms.split(BATCH)]
        return torch.cat(parts)


def rendered(faces: Faces, uniforms: Tensor) -> Tensor:
    """The faces of uniform numbers (N, K), the visible latents' first: (N, 3, size, size)."""
    return faces.render(Latents(*uniforms.tensor_split([len(VISIBLE)], dim=1)))


def misfit(faces: Faces, degradation: ImageDegradation, y: Tensor, width: float) -> Energy:
    r"""The energy of latents whose posterior is wanted, of the first n of N inputs.

    .. math:: ‖y − D(x)‖_2^2 / 2h^2

    With it :class:`~stochrestore.estimators.metropolis.Chains` have the distribution that
    :class:`~stochrestore.estimators.weighted_posterior.WeightedPosterior` weighs the prior by:
    p(X | Y + noise of width h = y).

    Args:
        faces: the renderer.
        degradation: D.
        y: inputs, (N, …).
        width: h, in units of y's pixels.

    Raises:
        InputError: the width is not positive.
    """
    require(width > 0, "misfit: width", width, "a number > 0")
    wanted = y.flatten(1)

    def energy(uniforms: Tensor) -> Tensor:
        found = degradation.degrade(rendered(faces, uniforms)).flatten(1)
        return (found - wanted[: len(found)]).square().sum(1) / (2 * width**2)

    return energy
