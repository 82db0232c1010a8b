"""How far an estimator's output moves if its input is moved: Eq. 2–7.

Each function returns a mean over inputs, R or R̃; tables show its square root. ``sensitivity``
approximates the maximum over δ by an attack, for any estimator. ``scalar_sensitivity`` is for the
toy problems, whose inputs and estimates are scalars: it needs no attack, because δ takes all
values of a grid in [−ε, ε], and the W2 distance is exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stochrestore.attacks import Attack, worst_perturbation
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, restore, squared_distance
from stochrestore.estimators.batches import restore_in_batches


@torch.no_grad()
def sensitivity(
    estimator: Estimator, y: Tensor, z: Tensor, attack: Attack, *, generator: torch.Generator
) -> float:
    """R̃ of Eq. 7 (Eq. 3 for one seed z = 0); ``attack`` approximates the maximum over δ.

    Args:
        y: inputs, (N, …).
        z: seeds, (S, N, K).
    """
    at_once = attack.seeds_at_once
    clean = restore_in_batches(estimator, y, z, at_once)
    with torch.enable_grad():
        delta = worst_perturbation(estimator, y, z, attack, generator=generator, clean=clean)
    moved = restore_in_batches(estimator, y + delta, z, at_once)
    return squared_distance(moved, clean).mean().item()


class ScalarSensitivity(NamedTuple):
    """R̃ and R of one estimator, in squared units of the output."""

    shared_seed: float
    """R̃ of Eq. 7, or of Eq. 3 for a deterministic estimator."""
    wasserstein: float
    """R of Eq. 5."""


@torch.no_grad()
def scalar_sensitivity(
    estimator: Estimator, y: Tensor, z: Tensor, epsilon: float, *, half_grid: int = 2
) -> ScalarSensitivity:
    r"""R̃ (Eq. 7) and R (Eq. 5) of a scalar estimate of a scalar input, δ on a grid.

    .. math:: R = E_Y \max_{|δ| ≤ ε} W_2^2(p_{X̂|Y}(·|Y), p_{X̂|Y}(·|Y + δ))

    Both conditional distributions are those of the outputs for the given seeds. In one dimension,
    W2 is the distance of the sorted outputs, so R ≤ R̃ (App. D) holds for any seeds. Distances are
    summed in float64, because R and R̃ are often equal.

    Args:
        y: inputs, (N, 1).
        z: seeds, (S, N, K); with evenly spaced quantiles of Z, both integrals are quadratures.
        epsilon: ε > 0.
        half_grid: δ takes the values ±ε·j/half_grid, j = 1 … half_grid.
    """
    require(math.isfinite(epsilon) and epsilon > 0, "scalar_sensitivity: ε", epsilon, "> 0")
    require(half_grid >= 1, "scalar_sensitivity: half_grid", half_grid, "an integer ≥ 1")
    clean = restore(estimator, y, z).double()
    ordered = clean.sort(dim=0).values
    worst_shared = worst_ordered = clean.new_zeros(len(y))
    for delta in epsilon * torch.arange(-half_grid, half_grid + 1) / half_grid:
        moved = restore(estimator, y + delta.item(), z).double()
        shared = squared_distance(moved, clean).mean(0)
        optimal = squared_distance(moved.sort(dim=0).values, ordered).mean(0)
        worst_shared = torch.maximum(worst_shared, shared)
        worst_ordered = torch.maximum(worst_ordered, optimal)
    return ScalarSensitivity(worst_shared.mean().item(), worst_ordered.mean().item())
