"""What an estimator's outputs are like, image by image: variability, robustness, consistency.

Every function gives one number an image, so that a mean comes with its interval
(:func:`stochrestore.metrics.intervals.mean_interval`). Inputs pass in batches; the batch decides
how the random draws are shared out, so other sizes give other draws of the same distribution.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stochrestore.attacks import Attack, worst_perturbation
from stochrestore.degradations import ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, restore, sample
from stochrestore.metrics.psnr import psnr

BATCH = 128
"""Inputs that pass through an estimator together, unless given."""


@torch.no_grad()
def per_pixel_std(
    estimator: Estimator,
    y: Tensor,
    *,
    samples: int = 32,
    generator: torch.Generator,
    batch: int = BATCH,
) -> Tensor:
    r"""Standard deviation over samples of each output pixel, averaged over pixels (Sec. 6.1).

    .. math:: \frac1P \sum_{p ≤ P} \operatorname{std}_{z_1 … z_S} G(y, z_s)_p

    with the divisor S − 1, over all pixels and channels, the known ones included. Samples are
    taken one after the other and not kept.

    Args:
        y: inputs, (N, …).
        samples: S ≥ 2; the paper takes 32.

    Returns:
        (N,), float64; 0 for a deterministic estimator.

    Raises:
        InputError: fewer than two samples.
    """
    require(samples >= 2, "per_pixel_std: samples", samples, "an integer ≥ 2")
    parts = [_deviation(estimator, part, samples, generator) for part in y.split(batch)]
    return torch.cat(parts)


def _deviation(estimator: Estimator, y: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """As :func:`per_pixel_std`, of one batch: Welford's recurrence over samples."""
    mean = squares = torch.zeros((), dtype=torch.float64, device=y.device)
    for count in range(1, samples + 1):
        x = sample(estimator, y, generator=generator).double()
        step = x - mean
        mean = mean + step / count
        squares = squares + step * (x - mean)
    return (squares / (samples - 1)).sqrt().flatten(1).mean(1)


class Robustness(NamedTuple):
    """What the attack did to each image, (N,) each."""

    psnr: Tensor
    """PSNR(G(y, z), G(y + δ*, z)) of Eq. 9, dB."""
    ai_psnr: Tensor
    """PSNR(y + δ*, y), the adversarial-input PSNR, dB."""
    ball_used: Tensor
    """‖δ*‖₂ / ε, at most 1."""


@torch.no_grad()
def robustness(
    estimator: Estimator,
    y: Tensor,
    attack: Attack,
    *,
    input_dims: int,
    seeds: int = 10,
    generator: torch.Generator,
    batch: int = BATCH,
) -> Robustness:
    """Robustness of each restoration (Eq. 9) beside the size of what moved it.

    δ* is found as in training, on ``seeds`` seeds an input (App. E.2.3), one where the estimator
    is deterministic; it is then judged on another, fresh seed, the same on both sides.

    Args:
        y: inputs, (N, …).
        attack: how δ* is searched for.
        input_dims: d, over which the AI-PSNR −10·log₁₀(‖δ*‖²/d) is taken. In inpainting δ lives
            on the known pixels and the paper's d is the whole image, 3·64·64: only so is
            ε = 2.5 its 32.9 dB. In super-resolution it is that of y.

    Raises:
        InputError: seeds or input_dims below 1.
    """
    require(seeds >= 1, "robustness: seeds", seeds, "an integer ≥ 1")
    require(input_dims >= 1, "robustness: input_dims", input_dims, "an integer ≥ 1")
    output, norms = [], []
    for part in y.split(batch):
        delta = _attacked(estimator, part, attack, seeds, generator)
        output.append(_output_psnr(estimator, part, delta, generator))
        norms.append(delta.flatten(1).double().norm(dim=1))
    norm = torch.cat(norms)
    ai_psnr = -10 * (norm.square() / input_dims).log10()
    return Robustness(torch.cat(output), ai_psnr, norm / attack.radius)


class AttackChecks(NamedTuple):
    """Output PSNR under the attack and under others of known rank, dB, (N,) each."""

    attack: Tensor
    noise: Tensor
    """Random directions of the attack's norm: should harm less."""
    larger_ball: Tensor
    """Twice the radius: should harm no less."""
    more_steps: Tensor
    """Four times the steps: should harm no less."""

    def credible(self, *, tolerance: float = 0.1) -> bool:
        """Whether noise is weaker, by more than chance, and the others are not.

        Args:
            tolerance: dB by which the means of the others may be higher.
        """
        ahead = self.noise - self.attack
        standard_error = ahead.std() / len(ahead) ** 0.5
        no_less = max(self.larger_ball.mean().item(), self.more_steps.mean().item())
        stronger_than_noise = bool(ahead.mean() > 2 * standard_error)
        return stronger_than_noise and no_less <= self.attack.mean().item() + tolerance


@torch.no_grad()
def attack_checks(
    estimator: Estimator,
    y: Tensor,
    attack: Attack,
    *,
    seeds: int = 10,
    generator: torch.Generator,
    batch: int = BATCH,
) -> AttackChecks:
    """Whether an attack can be believed: an attack too weak makes any estimator look robust.

    All four start from the same random draws, and are judged on the same fresh seeds.

    Args:
        y: inputs, (N, …).
        attack, seeds: as in :func:`robustness`.
    """
    larger = replace(attack, radius=2 * attack.radius)
    longer = replace(attack, steps=4 * attack.steps)
    columns: list[list[Tensor]] = [[], [], [], []]
    for part in y.split(batch):
        draws = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        again = torch.Generator(generator.device)
        deltas = [
            _attacked(estimator, part, kind, seeds, again.manual_seed(draws))
            for kind in (attack, larger, longer)
        ]
        deltas.insert(1, _noise_like(deltas[0], again.manual_seed(draws + 1)))
        for column, delta in zip(columns, deltas, strict=True):
            judge = again.manual_seed(draws + 2)
            column.append(_output_psnr(estimator, part, delta, judge))
    return AttackChecks(*(torch.cat(column) for column in columns))


def consistency_psnr(degradation: ImageDegradation, x: Tensor, y: Tensor) -> Tensor:
    """PSNR(D(x̂), y) of each restoration, dB, (N,); infinite where it is consistent to the bit.

    The paper calls an image consistent from 45 dB on. A table shows the smallest: a mean of
    infinities says nothing.

    Args:
        x: restorations, (N, C, S, S), of the inputs y, (N, …).
    """
    return psnr(degradation.degrade(x), y)


def _attacked(
    estimator: Estimator, y: Tensor, attack: Attack, seeds: int, generator: torch.Generator
) -> Tensor:
    """δ* of each input; a deterministic estimator's seeds are all the same one."""
    z = estimator.seed(y, seeds, generator=generator)
    if not z.any():
        z = z[:1]
    with torch.enable_grad():
        return worst_perturbation(estimator, y, z, attack, generator=generator)


def _output_psnr(
    estimator: Estimator, y: Tensor, delta: Tensor, generator: torch.Generator
) -> Tensor:
    """PSNR(G(y, z), G(y + δ, z)) for one fresh seed an input, (N,)."""
    z = estimator.seed(y, 1, generator=generator)
    return psnr(restore(estimator, y, z)[0], restore(estimator, y + delta, z)[0])


def _noise_like(delta: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform directions of the norms of δ, (N, …)."""
    noise = torch.randn(
        delta.shape, generator=generator, dtype=delta.dtype, device=generator.device
    ).to(delta.device)
    ratio = delta.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return noise * ratio.reshape(-1, *[1] * (delta.ndim - 1))
