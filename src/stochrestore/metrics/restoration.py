"""Variability, robustness and consistency of an estimator's outputs, image by image.

Every function returns one number per image, so that a mean can be shown with its interval
(:func:`stochrestore.metrics.intervals.mean_interval`). Inputs pass in batches. Another batch size
gives other random draws, from the same distribution.
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
"""The number of inputs that pass through an estimator together."""


@torch.no_grad()
def per_pixel_std(
    estimator: Estimator, y: Tensor, *, samples: int = 32, generator: torch.Generator
) -> Tensor:
    r"""Standard deviation over samples of each output pixel, averaged over pixels (Sec. 6.1).

    .. math:: \frac1P \sum_{p ≤ P} \operatorname{std}_{z_1 … z_S} G(y, z_s)_p

    with divisor S − 1, over all pixels and channels, including the known ones. Samples are drawn
    one after the other and not kept; none are where the seed is always 0.

    Args:
        y: inputs, (N, …).
        samples: S ≥ 2; 32 in the paper.

    Returns:
        (N,), float64; 0 for a deterministic estimator.

    Raises:
        InputError: fewer than two samples.
    """
    require(samples >= 2, "per_pixel_std: samples", samples, "an integer ≥ 2")
    if not estimator.seed(y[:1], 1, generator=torch.Generator(generator.device)).any():
        return torch.zeros(len(y), dtype=torch.float64, device=y.device)  # deterministic
    parts = [_deviation(estimator, part, samples, generator) for part in y.split(BATCH)]
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
    """The effect of the attack on each image, (N,) each."""

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
) -> Robustness:
    """The robustness of each restoration (Eq. 9), and the size of the perturbation.

    δ* is found as in training, with ``seeds`` seeds per input (App. E.2.3) or, if the estimator
    is deterministic, with one. Its effect is then measured with another, fresh seed, which is
    the same for the clean and the perturbed input.

    Args:
        y: inputs, (N, …).
        attack: the search for δ*.
        input_dims: d in the AI-PSNR −10·log₁₀(‖δ*‖²/d). In inpainting δ changes the known pixels
            only, but the paper's d is that of the whole image, 3·64·64: otherwise ε = 2.5 would
            not be its 32.9 dB. In super-resolution d is the dimension of y.

    Raises:
        InputError: seeds or input_dims below 1.
    """
    require(seeds >= 1, "robustness: seeds", seeds, "an integer ≥ 1")
    require(input_dims >= 1, "robustness: input_dims", input_dims, "an integer ≥ 1")
    output, norms = [], []
    for part in y.split(BATCH):
        delta = _attacked(estimator, part, attack, seeds, generator)
        output.append(_output_psnr(estimator, part, delta, generator))
        norms.append(delta.flatten(1).double().norm(dim=1))
    norm = torch.cat(norms)
    ai_psnr = -10 * (norm.square() / input_dims).log10()
    return Robustness(torch.cat(output), ai_psnr, norm / attack.radius)


class AttackChecks(NamedTuple):
    """Output PSNR under the attack and under weaker and stronger ones, dB, (N,) each."""

    attack: Tensor
    noise: Tensor
    """Random perturbations with the attack's norm, which should do less harm."""
    larger_ball: Tensor
    """An attack with twice the radius, which should do no less harm."""
    more_steps: Tensor
    """An attack with four times the steps, which should do no less harm."""

    def credible(self) -> bool:
        """Whether noise does less harm, beyond chance, and the stronger attacks do no less.

        The mean PSNR under the stronger attacks may be higher by a tenth of a dB.
        """
        ahead = self.noise - self.attack
        standard_error = ahead.std() / len(ahead) ** 0.5
        no_less = max(self.larger_ball.mean().item(), self.more_steps.mean().item())
        stronger_than_noise = bool(ahead.mean() > 2 * standard_error)
        return stronger_than_noise and no_less <= self.attack.mean().item() + 0.1


@torch.no_grad()
def attack_checks(
    estimator: Estimator,
    y: Tensor,
    attack: Attack,
    *,
    seeds: int = 10,
    generator: torch.Generator,
) -> AttackChecks:
    """The attack beside weaker and stronger ones: a weak attack makes any estimator look robust.

    All four start from the same random draws, and are measured with the same fresh seeds.

    Args:
        y: inputs, (N, …).
        attack, seeds: as in :func:`robustness`.
    """
    larger = replace(attack, radius=2 * attack.radius)
    longer = replace(attack, steps=4 * attack.steps)
    columns: list[list[Tensor]] = [[], [], [], []]
    for part in y.split(BATCH):
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
    """PSNR(D(x̂), y) of each restoration, dB, (N,); infinite if D(x̂) equals y exactly.

    The paper calls an image consistent if this is at least 45 dB. Tables show the smallest value,
    because a mean may be infinite.

    Args:
        x: restorations, (N, C, S, S), of the inputs y, (N, …).
    """
    return psnr(degradation.degrade(x), y)


def _attacked(
    estimator: Estimator, y: Tensor, attack: Attack, seeds: int, generator: torch.Generator
) -> Tensor:
    """δ* of each input, (N, …). A deterministic estimator needs one seed only."""
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
    """Perturbations with the norms of δ and uniform directions, (N, …)."""
    noise = torch.randn(
        delta.shape, generator=generator, dtype=delta.dtype, device=generator.device
    ).to(delta.device)
    ratio = delta.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return noise * ratio.reshape(-1, *[1] * (delta.ndim - 1))
