"""Adversarial perturbations of an estimator's input.

Attacks use an estimator only as a function of (y, z). So the same code attacks closed forms,
networks and exact posterior samplers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, on_device, restore, squared_distance
from stochrestore.estimators.batches import SeedBatches, SeedsAtOnce


@dataclass(frozen=True)
class Attack:
    """Settings of projected Adam, which approximates the maximum over δ in Eq. 2 and Eq. 6.

    Args:
        radius: ε > 0, the largest ‖δ‖₂, in the units of y.
        steps: the number of Adam's ascent steps, ≥ 1.
        lr: Adam's step size, in the units of y.
        betas: Adam's two decay rates.
        start: ``"random"`` draws δ uniformly from the ball; ``"zero"`` starts at δ = 0, where
            the objective's gradient vanishes, so that Adam never moves (see the book's page
            on reading the paper closely).
        seeds_at_once: how many seeds pass through the estimator together; None for all,
            ``"auto"`` for as many as fit into memory. Fewer seeds need less memory and change the
            result by rounding only.
    """

    radius: float
    steps: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    start: Literal["random", "zero"] = "random"
    seeds_at_once: SeedsAtOnce = None

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.radius) and self.radius > 0,
            "Attack.radius (ε)",
            self.radius,
            "a finite number > 0",
        )
        require(self.steps >= 1, "Attack.steps", self.steps, "an integer ≥ 1")
        require(math.isfinite(self.lr) and self.lr > 0, "Attack.lr", self.lr, "a number > 0")
        require(self.start in ("random", "zero"), "Attack.start", self.start, "'random' or 'zero'")
        _require_seeds(self.seeds_at_once, "Attack.seeds_at_once")


def worst_perturbation(
    estimator: Estimator,
    y: Tensor,
    z: Tensor,
    attack: Attack,
    *,
    generator: torch.Generator,
    clean: Tensor | None = None,
) -> Tensor:
    r"""δ* of Eq. 6 (of Eq. 2 for one seed z = 0), for all inputs at once.

    .. math:: δ^*(y) ≈ \arg\max_{‖δ‖_2 ≤ ε} E‖G(y, Z) − G(y + δ, Z)‖_2^2

    The mean over Z is over the given seeds, which are the same on both sides. δ is projected on
    the ε-ball after each Adam step, and the optimiser starts anew at every call (App. E.2.3). No
    gradient is taken with respect to the estimator's weights. Adam scales each coordinate
    separately. So for inputs of several dimensions the result may stay below the maximum, however
    many steps are taken.

    Args:
        y: inputs, (N, …).
        z: seeds, (S, N, K).
        clean: G(y, z), (S, N, …), if the caller has it already.

    Returns:
        δ, of y's shape.
    """
    batches = SeedBatches(estimator, y, z, attack.seeds_at_once)
    if clean is None:
        clean = _clean(estimator, y, z, batches)
    clean = clean.detach()
    delta = initial_perturbation(y, attack, generator=generator)
    mean, variance = torch.zeros_like(y), torch.zeros_like(y)
    beta1, beta2 = attack.betas
    for step in range(1, attack.steps + 1):
        gradient = _ascent_direction(estimator, y, delta, z, clean, batches)
        mean = beta1 * mean + (1 - beta1) * gradient
        variance = beta2 * variance + (1 - beta2) * gradient.square()
        mean_hat, variance_hat = mean / (1 - beta1**step), variance / (1 - beta2**step)
        ascent = attack.lr * mean_hat / (variance_hat.sqrt() + 1e-8)
        delta = project_on_ball(delta + ascent, attack.radius)
    return delta


def _require_seeds(at_once: SeedsAtOnce, where: str) -> None:
    fits = at_once >= 1 if isinstance(at_once, int) else at_once in (None, "auto")
    require(fits, where, at_once, "None, 'auto' or ≥ 1")


@torch.no_grad()
def _clean(estimator: Estimator, y: Tensor, z: Tensor, batches: SeedBatches) -> Tensor:
    """G(y, z), (S, N, …)."""
    return batches.run(lambda n: restore(estimator, y, z, seeds_at_once=n))


def _ascent_direction(
    estimator: Estimator,
    y: Tensor,
    delta: Tensor,
    z: Tensor,
    clean: Tensor,
    batches: SeedBatches,
) -> Tensor:
    """The gradient in δ of the mean over seeds of ‖G(y, z) − G(y + δ, z)‖₂², of δ's shape."""
    delta = delta.detach().requires_grad_(True)

    def direction(at_once: int) -> Tensor:
        total = torch.zeros_like(y)
        for some, target in zip(z.split(at_once), clean.split(at_once), strict=True):
            moved = restore(estimator, y + delta, some)
            objective = squared_distance(moved, target).sum() / len(z)
            total += torch.autograd.grad(objective, delta)[0]
        return total

    return batches.run(direction)


def initial_perturbation(y: Tensor, attack: Attack, *, generator: torch.Generator) -> Tensor:
    """The attack's starting δ, of y's shape: zero, or uniform in the ε-ball."""
    if attack.start == "zero":
        return torch.zeros_like(y)
    rows, dims = y.shape[0], y[0].numel()
    options = {"generator": generator, "dtype": y.dtype, "device": generator.device}
    direction = torch.randn((rows, dims), **options)  # type: ignore[call-overload]
    direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-30)
    radius = attack.radius * torch.rand((rows, 1), **options) ** (1 / dims)  # type: ignore[call-overload]
    return on_device((radius * direction).reshape(y.shape), y.device)


def project_on_ball(delta: Tensor, radius: float) -> Tensor:
    """The nearest point of the ball ‖δ‖₂ ≤ radius to each row of δ, (N, …)."""
    norm = delta.flatten(1).norm(dim=1).clamp_min(1e-30)
    shrink = (radius / norm).clamp_max(1.0)
    return delta * shrink.reshape(-1, *[1] * (delta.ndim - 1))


@dataclass(frozen=True)
class SignAttack:
    """Settings of I-FGSM (Kurakin et al., 2017), as Choi et al. (2019) attack super-resolution.

    Args:
        radius: α ≥ 0, the largest |δ| of a pixel, in the units of y.
        steps: T, the number of steps of size α/T (50 in App. G).
        start: ``"random"`` draws δ uniformly from [−α, α]; ``"zero"`` starts at δ = 0, where the
            gradient of the distance to the clean output is 0, so that the attack never moves.
        low, high: the range of y.
        seeds_at_once: how many seeds pass through the estimator together; None for all,
            ``"auto"`` for as many as fit into memory.
        images_at_once: how many inputs pass together; None for all. Both change the result by
            rounding only.
    """

    radius: float
    steps: int = 50
    start: Literal["random", "zero"] = "random"
    low: float = 0.0
    high: float = 1.0
    seeds_at_once: SeedsAtOnce = None
    images_at_once: int | None = None

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.radius) and self.radius >= 0,
            "SignAttack.radius (α)",
            self.radius,
            "a finite number ≥ 0",
        )
        require(self.steps >= 1, "SignAttack.steps", self.steps, "an integer ≥ 1")
        require(
            self.start in ("random", "zero"), "SignAttack.start", self.start, "'random' or 'zero'"
        )
        _require_seeds(self.seeds_at_once, "SignAttack.seeds_at_once")
        at_once = self.images_at_once
        require(
            at_once is None or at_once >= 1, "SignAttack.images_at_once", at_once, "None or ≥ 1"
        )


def sign_attack(
    estimator: Estimator,
    y: Tensor,
    z: Tensor,
    attack: SignAttack,
    *,
    generator: torch.Generator,
    reference: Tensor | None = None,
) -> Tensor:
    r"""The perturbed inputs ỹ of App. G, all inputs at once.

    .. math:: ỹ &← y + \text{clip}_{±α}(ỹ − y + \tfrac{α}{T} \text{sign} ∇_{ỹ} L), \\
              L &= E_Z‖G(ỹ, Z) − G(y, Z)‖_2^2

    and then ỹ is clipped to the range of y. The mean over Z is over the given seeds, which are
    the same for the clean and the attacked input.

    Args:
        y: inputs, (N, …), within the range.
        z: seeds, (S, N, K).
        reference: an image (N, …) that replaces G(y, z) in L. Choi et al.'s code uses the true
            image.

    Returns:
        ỹ, of y's shape.
    """
    inside = bool((y >= attack.low).all() and (y <= attack.high).all())
    require(inside, "sign_attack: y", _range(y), f"{attack.low} to {attack.high}")
    delta = torch.zeros_like(y)
    if attack.start == "random":
        unit = torch.rand(y.shape, generator=generator, dtype=y.dtype, device=generator.device)
        delta = attack.radius * (2 * on_device(unit, y.device) - 1)
    at_once = attack.images_at_once or len(y)
    groups = torch.arange(len(y), device=y.device).split(at_once)
    if reference is not None:
        reference = reference.expand(len(z), *reference.shape)
    parts = []
    for rows in groups:
        target = None if reference is None else reference[:, rows]
        parts.append(_sign_steps(estimator, y[rows], z[:, rows], delta[rows], target, attack))
    return torch.cat(parts)


def _sign_steps(
    estimator: Estimator,
    y: Tensor,
    z: Tensor,
    delta: Tensor,
    target: Tensor | None,
    attack: SignAttack,
) -> Tensor:
    """The perturbed inputs after all steps that follow the first δ."""
    batches = SeedBatches(estimator, y, z, attack.seeds_at_once)
    if target is None:
        target = _clean(estimator, y, z, batches)
    low, high = attack.low - y, attack.high - y
    for _ in range(attack.steps):
        delta = delta.clamp(low, high)
        gradient = _ascent_direction(estimator, y, delta, z, target, batches)
        moved = delta + attack.radius / attack.steps * gradient.sign()
        delta = moved.clamp(-attack.radius, attack.radius)
    return (y + delta).clamp(attack.low, attack.high)


def _range(y: Tensor) -> str:
    return f"{y.min().item():.3g} to {y.max().item():.3g}"
