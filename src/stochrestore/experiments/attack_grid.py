"""Restorations for several seeds and strengths of attack, to be browsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stochrestore.attacks import Attack, worst_perturbation
from stochrestore.estimators.base import Estimator, restore
from stochrestore.training.loop import float32_as


class AttackGrid(NamedTuple):
    """What attacks of several strengths do.

    Args:
        outputs: key → restorations, (factors, seeds, n, C, S, S), on the CPU.
        inputs: estimator's key → attacked inputs y + δ*, (factors, n, …), on the CPU; the same for
            all seeds.
    """

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]


@float32_as()
def attack_grid(
    estimators: Mapping[str, Estimator],
    y: Tensor,
    attack: Attack,
    factors: Sequence[float],
    *,
    seeds: int,
    generator: torch.Generator,
) -> AttackGrid:
    """Every estimator's restorations of y + δ*, δ* the worst of each radius (Eq. 6).

    Args:
        estimators: key → estimator.
        y: inputs, (n, …).
        attack: its radius is ε, and its step grows with the radius.
        factors: radii in units of ε, ≥ 0; 0 is the input itself.
        seeds: seeds of each input, the same for every radius; the attack averages over them.
        generator: draws seeds and the attack's start.
    """
    grid = AttackGrid({}, {})
    for name, estimator in estimators.items():
        z = estimator.seed(y, seeds, generator=generator)
        moved, inputs = [], []
        for factor in factors:
            delta = torch.zeros_like(y)
            if factor:
                scaled = replace(attack, radius=factor * attack.radius, lr=factor * attack.lr)
                delta = worst_perturbation(estimator, y, z, scaled, generator=generator)
            inputs.append((y + delta).cpu())
            with torch.no_grad():
                moved.append(restore(estimator, y + delta, z).cpu())
        grid.outputs[name], grid.inputs[name] = torch.stack(moved), torch.stack(inputs)
    return grid
