"""The terms of the training objective of Eq. 8, L_GAN + λ_R L_R."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stochrestore.attacks import Attack, worst_perturbation
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, squared_distance
from stochrestore.estimators.batches import restore_in_batches

Critic = Callable[[Tensor], Tensor]
R1Convention = Literal["half", "full"]
RobustnessScale = Literal["sum", "mean", "slope"]


def estimator_gan_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of the estimator, −E log σ(D(X̂)); logits (N,) → scalar."""
    return F.softplus(-fake_logits).mean()


def critic_gan_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The critic's loss, −E log σ(D(X)) − E log(1 − σ(D(X̂))); logits (N,) → scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(
    critic: Critic, real: Tensor, *, gamma: float, convention: R1Convention = "half"
) -> Tensor:
    """R1 = c·γ·E‖∇D(X)‖₂² on real data (Mescheder et al., 2018).

    The paper gives γ but not c. Mescheder et al. define R1 with c = ½ (``"half"``); their
    published code has c = 1 (``"full"``).

    Args:
        real: data, (N, …).
        gamma: γ ≥ 0; 10 for the toy and 1 for images in the paper.
    """
    return r1_penalty_and_logits(critic, real, gamma=gamma, convention=convention)[0]


def r1_penalty_and_logits(
    critic: Critic, real: Tensor, *, gamma: float, convention: R1Convention = "half"
) -> tuple[Tensor, Tensor]:
    """As :func:`r1_penalty`, and the logits D(X), (N,), that it comes from: one pass for both."""
    require(gamma >= 0, "r1_penalty: gamma", gamma, "a number ≥ 0")
    real = real.detach().requires_grad_(True)
    logits = critic(real)
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    factor = 0.5 if convention == "half" else 1.0
    return factor * gamma * gradient.flatten(1).square().sum(1).mean(), logits


def robustness_loss(
    estimator: Estimator,
    y: Tensor,
    z: Tensor,
    attack: Attack,
    *,
    generator: torch.Generator,
    scale: RobustnessScale = "sum",
) -> Tensor:
    r"""The loss L_R: the sensitivity R̃ of Eq. 7 (of Eq. 3 for one seed z = 0) on a batch.

    .. math:: L_R = E_Y \max_{‖δ‖≤ε} E_Z‖G(Y, Z) − G(Y + δ, Z)‖_2^2 \,/\, c

    The maximiser δ is found without gradients with respect to the weights, and then kept fixed.
    The clean output is computed once, for both the attack and the loss.

    Args:
        y: inputs, (N, …).
        z: seeds, (S, N, K).
        scale: c = 1 (``"sum"``, as Eq. 7 is printed), the number of output dimensions
            (``"mean"``), or ε² (``"slope"``, a mean squared slope).

    Returns:
        A scalar.
    """
    at_once = attack.seeds_at_once
    clean = restore_in_batches(estimator, y, z, at_once)
    delta = worst_perturbation(estimator, y, z, attack, generator=generator, clean=clean)
    moved = restore_in_batches(estimator, y + delta, z, at_once)
    sensitivity = squared_distance(clean, moved).mean()
    divisor = {"sum": 1.0, "mean": float(clean[0, 0].numel()), "slope": attack.radius**2}
    require(scale in divisor, "robustness_loss: scale", scale, ", ".join(divisor))
    return sensitivity / divisor[scale]
