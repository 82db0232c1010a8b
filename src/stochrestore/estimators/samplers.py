"""How flows and diffusions turn noise into a sample: a free function for each algorithm.

All diffusions here preserve variance. Their time is an angle φ from 0 (data) to π/2 (noise),
u_φ = cos φ·u₀ + sin φ·n, and a network predicts v = cos φ·n − sin φ·u₀ (Salimans and Ho, 2022,
App. D), from which u₀ = cos φ·u_φ − sin φ·v and n = sin φ·u_φ + cos φ·v.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Field = Callable[[Tensor, float], Tensor]
"""From points (N, m) and a time to vectors (N, m)."""


def flow_ode(velocity: Field, start: Tensor, steps: int) -> Tensor:
    """The end at t = 1 of du/dt = v(u, t) from u at t = 0, by the midpoint rule.

    Rectified flow (Liu et al., 2023) and flow matching (Lipman et al., 2023) sample so. Each step
    evaluates the velocity twice; the error falls as 1/steps².

    Args:
        velocity: v.
        start: u at t = 0, (N, m).
        steps: ≥ 1.
    """
    u, width = start, 1 / steps
    for i in range(steps):
        half = u + 0.5 * width * velocity(u, i * width)
        u = u + width * velocity(half, (i + 0.5) * width)
    return u


def angles(steps: int) -> list[tuple[float, float]]:
    """The steps of a sampler from φ = π/2 down to 0: where each begins and ends."""
    return list(pairwise(math.pi / 2 * (1 - i / steps) for i in range(steps + 1)))


def ddim(predict: Field, noise: Tensor, steps: int) -> Tensor:
    """The deterministic sampler of Song et al. (2021), their equation 12 with σ = 0.

    With angles it is a rotation: u_s = cos(φ − s)·u_φ − sin(φ − s)·v.

    Args:
        predict: v of points at an angle.
        noise: u at φ = π/2, (N, m).
        steps: evaluations, ≥ 1.
    """
    u = noise
    for now, later in angles(steps):
        u = math.cos(now - later) * u - math.sin(now - later) * predict(u, now)
    return u


def ancestral(predict: Field, noise: Tensor, steps: int) -> Tensor:
    """The sampler of Ho et al. (2020), with fresh noise at each step; its path is its seed.

    Args:
        predict: v of points at an angle.
        noise: (steps, N, m): u at φ = π/2, and then what is added after each step but the last.
        steps: evaluations, ≥ 1.
    """
    u = noise[0]
    for i, (now, later) in enumerate(angles(steps)):
        data, there = _denoised(predict, u, now)
        u = math.cos(later) * data
        if later > 0:
            added = posterior_width(now, later)
            kept = math.sqrt(math.sin(later) ** 2 - added**2)
            u = u + kept * there + added * noise[i + 1]
    return u


def posterior_width(now: float, later: float) -> float:
    """The standard deviation of u at the angle ``later``, given u at ``now`` and u₀."""
    share = (math.cos(now) / math.cos(later)) ** 2
    return math.sin(later) / math.sin(now) * math.sqrt(1 - share)


def ddrm(predict: Field, told: Tensor, noise: Tensor, steps: int, *, churn: float = 0.85) -> Tensor:
    """Restoration by an unconditional diffusion: DDRM (Kawar et al., 2022), without noise in y.

    Coordinates that y tells are set to their values at the noise level of each step. The others
    follow DDIM with a share of fresh noise.

    Args:
        predict: v of the coordinates of whole images, (N, known + open), at an angle.
        told: what y tells, (N, known): the first coordinates.
        noise: (steps, N, known + open).
        churn: η, the share of fresh noise in the open coordinates; η_b = 1 in the others.

    Returns:
        The open coordinates, (N, open).
    """
    known = told.shape[1]
    u = noise[0]
    for i, (now, later) in enumerate(angles(steps)):
        data, there = _denoised(predict, u, now)
        fresh = noise[i + 1] if later > 0 else torch.zeros_like(u)
        open_part = math.cos(later) * data + math.sin(later) * (
            math.sqrt(1 - churn**2) * there + churn * fresh
        )
        known_part = math.cos(later) * told + math.sin(later) * fresh[:, :known]
        u = torch.cat([known_part, open_part[:, known:]], 1)
    return u[:, known:]


def _denoised(predict: Field, u: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """The data and the noise that the prediction at u stands for."""
    v = predict(u, angle)
    data = math.cos(angle) * u - math.sin(angle) * v
    return data, math.sin(angle) * u + math.cos(angle) * v
