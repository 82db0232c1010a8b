"""The interface of all estimators: functions of a degraded input y and a random seed z."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Estimator(Protocol):
    """A restoration X̂ = G(y, z), consistent with y by construction.

    Attacks, losses, metrics and figures use these two calls only.
    """

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each of the N inputs, (n, N, K); all zeros if it is deterministic."""
        ...

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """The restoration of y (N, …) with the seed z (N, K)."""
        ...


class Deterministic:
    """Gives an estimator its seed, Z = 0."""

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """All zeros, (n, N, 1)."""
        return no_seed(y, n)


class OneUniform:
    """Gives an estimator its seed, Z ~ U[0, 1]."""

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each y, (n, N, 1), uniform on [0, 1]."""
        return uniform_seed(y, n, generator=generator)


class SecondCoordinate:
    """The estimated coordinate X̂⁽²⁾ of a toy estimator, without the known X̂⁽¹⁾ = Y.

    Table 3 measures this coordinate alone: with the known one, no √R̃ could be below ε, but three
    of the table's four values are.
    """

    def __init__(self, estimator: Estimator) -> None:
        self.estimator = estimator

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """The estimator's own seeds."""
        return self.estimator.seed(y, n, generator=generator)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 1), z (N, K) → X̂⁽²⁾, (N, 1)."""
        return self.estimator(y, z)[:, 1:]


class WithSeed:
    """An estimator whose every input gets the same seed: it is deterministic.

    Args:
        z: the seed, (K,).
    """

    def __init__(self, estimator: Estimator, z: Tensor) -> None:
        self.estimator, self.z = estimator, z

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """All zeros, (n, N, 1)."""
        return no_seed(y, n)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """The restoration of y (N, …) with the seed that is kept."""
        return self.estimator(y, self.z.to(y).expand(len(y), -1))


class AtHeat:
    """An estimator with normal seeds, which are multiplied by a heat.

    Args:
        heat: 1 for the estimator as it is, 0 for the seed's mean.
    """

    def __init__(self, estimator: Estimator, heat: float) -> None:
        self.estimator, self.heat = estimator, heat

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """The estimator's seeds times the heat."""
        return self.heat * self.estimator.seed(y, n, generator=generator)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """The estimator's restoration of y (N, …) with z (N, K)."""
        return self.estimator(y, z)


def restore(
    estimator: Estimator, y: Tensor, z: Tensor, *, seeds_at_once: int | None = None
) -> Tensor:
    """All restorations of y (N, …) with seeds z (S, N, K): (S, N, …), in one batch.

    ``seeds_at_once`` divides the seeds into batches of this size. For a gradient, each batch is
    then computed again, so that memory holds the activations of one batch at a time.
    """
    if seeds_at_once is not None and seeds_at_once < len(z):
        parts = z.split(seeds_at_once)
        return torch.cat([checkpoint(restore, estimator, y, z, use_reentrant=False) for z in parts])
    seeds = z.shape[0]
    if seeds == 1:
        return estimator(y, z[0])[None]
    shared = getattr(estimator, "restore_seeds", None)  # computes once what depends on y alone
    if shared is not None:
        restored: Tensor = shared(y, z)
        return restored
    tiled = y.expand(seeds, *y.shape).flatten(0, 1)
    return estimator(tiled, z.flatten(0, 1)).unflatten(0, (seeds, y.shape[0]))


def sample(estimator: Estimator, y: Tensor, *, generator: torch.Generator) -> Tensor:
    """One restoration X̂ of each y, each with a fresh seed: (N, …)."""
    return estimator(y, estimator.seed(y, 1, generator=generator)[0])


def on_device(x: Tensor, device: torch.device) -> Tensor:
    """x on a device. A GPU fetches it from locked memory, so that the host does not wait."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖₂² of each restoration: (S, N, …) → (S, N)."""
    return (a - b).flatten(2).square().sum(2)


def no_seed(y: Tensor, n: int) -> Tensor:
    """The seed of a deterministic estimator, Z = 0: (n, N, 1)."""
    return y.new_zeros(n, y.shape[0], 1)


def uniform_seed(y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
    """n seeds Z ~ U[0, 1] for each input, (n, N, 1)."""
    z = torch.rand(n, y.shape[0], 1, generator=generator, dtype=y.dtype, device=generator.device)
    return on_device(z, y.device)


def normal_seed(y: Tensor, n: int, dims: int = 1, *, generator: torch.Generator) -> Tensor:
    """n seeds Z ~ N(0, I) for each input, (n, N, dims)."""
    shape = (n, y.shape[0], dims)
    z = torch.randn(shape, generator=generator, dtype=y.dtype, device=generator.device)
    return on_device(z, y.device)
