"""Metropolis chains of uniform numbers, many side by side, and what their draws are worth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stochrestore.errors import require
from stochrestore.estimators.base import on_device

LEVELS = 2**16
"""A uniform number is one of this many equally likely places, so that two bytes keep it."""
MOST_MOVED = 4
"""Numbers of one chain that a step moves, at most."""
SMALLEST_MOVE = 6
"""The widths of small moves are ½, ¼, … down to 2 to the minus this."""

Energy = Callable[[Tensor], Tensor]
"""From the uniform numbers of n chains, (n, K) in [0, 1), to minus the logarithm of their
likelihood, (n,)."""


def places(uniform: Tensor) -> Tensor:
    """The places of uniform numbers in [0, 1): int32 in [0, :data:`LEVELS`)."""
    return (uniform * LEVELS).int()


def uniforms(place: Tensor) -> Tensor:
    """The uniform numbers that places stand for, float32, each the middle of its interval."""
    return (place.float() + 0.5) / LEVELS


class Chains(nn.Module):
    """N chains in K uniform numbers, whose distribution has a density proportional to exp(−energy).

    A step moves one to four numbers of each chain, chosen at random. Each is drawn anew, or moves
    by a normal number of random width and is reflected at 0 and at 1. Both are as likely the other
    way, so a move is accepted with the chance min(1, exp(energy before − energy after)).

    Args:
        start: the numbers at first, (N, K), in [0, 1).
        energy: of all N chains.

    Raises:
        InputError: a number outside [0, 1).
    """

    def __init__(self, start: Tensor, energy: Energy) -> None:
        super().__init__()
        ends = [start.min().item(), start.max().item()]
        require(ends[0] >= 0 and ends[1] < 1, "Chains: start, from … to", ends, "within [0, 1)")
        self.place: Tensor
        self.energy: Tensor
        self.accepted: Tensor
        self.register_buffer("place", places(start))
        self.register_buffer("energy", energy(uniforms(self.place)))
        self.register_buffer("accepted", torch.zeros_like(self.energy))

    @torch.no_grad()
    def step(self, energy: Energy, n: int, *, generator: torch.Generator) -> None:
        """One step of the first n chains; ``accepted`` counts those that moved."""
        before, device = self.place[:n], self.place.device
        proposed = moved(before, generator=generator)
        after = energy(uniforms(proposed))
        chance = (self.energy[:n] - after).exp()
        taken = on_device(torch.rand(n, generator=generator), device) < chance
        self.place[:n] = torch.where(taken[:, None], proposed, before)
        self.energy[:n] = torch.where(taken, after, self.energy[:n])
        self.accepted[:n] += taken


def moved(place: Tensor, *, generator: torch.Generator) -> Tensor:
    """A move of each chain's places (N, K), as likely as the move back; see :class:`Chains`."""
    shape, device = place.shape, place.device
    most = min(MOST_MOVED, shape[1])
    count = torch.randint(1, most + 1, (len(place), 1), generator=generator)
    chosen = torch.rand(shape, generator=generator).argsort(1).argsort(1) < count
    anew = torch.rand(shape, generator=generator) < 0.5
    fresh = torch.randint(LEVELS, shape, generator=generator, dtype=torch.int32)
    width = 0.5 ** torch.randint(1, SMALLEST_MOVE + 1, (len(place), 1), generator=generator)
    shift = (LEVELS * width * torch.randn(shape, generator=generator)).round().int()
    chosen, anew, fresh, shift = (on_device(t, device) for t in (chosen, anew, fresh, shift))
    return torch.where(chosen, torch.where(anew, fresh, reflected(place + shift)), place)


def reflected(place: Tensor) -> Tensor:
    """Places outside [0, :data:`LEVELS`) mirrored at its ends until they are within."""
    around = place.remainder(2 * LEVELS)
    return torch.minimum(around, 2 * LEVELS - 1 - around)


def effective_sample_sizes(series: Tensor) -> Tensor:
    r"""How many independent draws give a mean as exact as that of T successive states of C chains.

    .. math:: CT \Big/ \Big(1 + 2\sum_{k≥1} ρ_k\Big), \quad
        ρ_k ∝ \sum_{c,t} ⟨x_{c,t} − \bar x, x_{c,t+k} − \bar x⟩

    The mean is that of all chains, so that chains which stay apart are worth little. The sum ends
    before the first pair ρ₂ⱼ + ρ₂ⱼ₊₁ that is not positive, as pairs of a reversible chain are
    (Geyer, 1992: the initial positive sequence). States that are all the same are worth one draw,
    and none are said to be worth more than their number. The mean is estimated from the same
    states, which makes short chains seem worth a few per cent more than they are.

    Args:
        series: (N, C, T, P): for each of N distributions the chains' states, each of P numbers,
            all in one unit.

    Returns:
        (N,), float64, from 1 to C·T.

    Raises:
        InputError: fewer than two states.
    """
    chains, steps = series.shape[1:3]
    require(steps >= 2, "effective_sample_sizes: states", steps, "an integer ≥ 2")
    x = series.double()
    spectrum = torch.fft.rfft(x - x.mean((1, 2), keepdim=True), n=2 * steps, dim=2)
    power = spectrum.abs().square().sum((1, 3))
    covariance = torch.fft.irfft(power, n=2 * steps, dim=1)[:, :steps]
    still = covariance[:, 0] <= 0
    correlation = covariance / covariance[:, :1].masked_fill(still[:, None], 1.0)
    pairs = correlation[:, : steps // 2 * 2].unflatten(1, (-1, 2)).sum(2)
    summed = (pairs * (pairs > 0).long().cumprod(1)).sum(1)
    return (chains * steps / (2 * summed - 1).clamp_min(1.0)).masked_fill(still, 1.0)
