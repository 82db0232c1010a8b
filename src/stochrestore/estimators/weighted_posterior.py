"""A posterior sampler for any prior with samples, by importance sampling and projection."""

from __future__ import annotations

import torch
from torch import Tensor

from stochrestore.degradations import ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import OneUniform


class WeightedPosterior(OneUniform):
    r"""X̂: one of M samples of the prior, drawn with the weights below and made consistent.

    .. math:: w_m ∝ \exp(−‖y − D(x_m)‖_2^2 / 2h^2)

    This samples p(X | Y + noise of width h); the projection removes the remaining inconsistency.
    The result is close to p(X | Y) if many images have weight. The effective sample size 1/Σ w²
    tells how many; with a handful, the result means little.

    Args:
        prior: x_m, (M, C, H, W).
        degradation: D, whose projection makes the chosen image consistent.
        width: h, in units of y's pixels.
    """

    def __init__(self, prior: Tensor, degradation: ImageDegradation, width: float) -> None:
        require(width > 0, "WeightedPosterior: width", width, "a number > 0")
        self.prior, self.degradation, self.width = prior, degradation, width
        self.explained = degradation.degrade(prior).flatten(1)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, 1) → x̂ (N, C, H, W): the image at the quantile z of the weights."""
        cumulative = self.weights(y).cumsum(1)
        chosen = torch.searchsorted(cumulative, z.double() * cumulative[:, -1:])
        chosen = chosen.squeeze(1).clamp_max(len(self.prior) - 1).to(self.prior.device)
        return self.degradation.project(self.prior[chosen].to(y.device), y)

    def weights(self, y: Tensor) -> Tensor:
        """The weights w, (N, M), float64; rows sum to 1."""
        distance = torch.cdist(y.flatten(1).double(), self.explained.to(y.device).double())
        return torch.softmax(-distance.square() / (2 * self.width**2), dim=1)

    def effective_sample_sizes(self, y: Tensor) -> Tensor:
        """1/Σ w² for each y, (N,), from 1 to M."""
        return 1 / self.weights(y).square().sum(1)
