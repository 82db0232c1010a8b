"""One small network for each family of stochastic estimators, all on the fibre of y.

Each is an estimator (y, z) → x̂ with Z ~ N(0, I), and has the loss that its family is trained by.
What they choose is u, the part of x that y leaves open; a is what y tells (see
:class:`~stochrestore.estimators.fibre.Fibre`). Losses are means over the numbers of u, so that
one λ_R means about the same to all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.estimators import samplers
from stochrestore.estimators.base import no_seed, normal_seed, on_device
from stochrestore.estimators.fibre import Fibre

FREQUENCIES = 6
"""Cosines and sines that tell a network the time."""


def mlp(inputs: int, outputs: int, width: int) -> nn.Sequential:
    """Three hidden layers of ``width`` units, each followed by SiLU, which is smooth in y."""
    sizes = [inputs, width, width, width]
    hidden = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class TimedMLP(nn.Module):
    """An MLP of vectors and a time in [0, 1]."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.net = mlp(inputs + 2 * FREQUENCIES, outputs, width)

    def forward(self, *vectors: Tensor, t: Tensor) -> Tensor:
        """Vectors (N, …) and times (N, 1) or (1, 1) → (N, outputs)."""
        phase = math.pi * t * torch.arange(1, FREQUENCIES + 1, device=t.device)
        times = torch.cat([phase.cos(), phase.sin()], 1).expand(len(vectors[0]), -1)
        return self.net(torch.cat([*vectors, times], 1))


class FibreEstimator(nn.Module, ABC):
    """An estimator that chooses u from a and z."""

    def __init__(self, fibre: Fibre, *, seed_dims: int, evaluations: int) -> None:
        super().__init__()
        self.fibre, self.seed_dims = fibre, seed_dims
        self.evaluations = evaluations  # of its networks for one restoration

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds Z ~ N(0, I) for each y, (n, N, K)."""
        return normal_seed(y, n, self.seed_dims, generator=generator)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, K) → x̂ (N, …), D(x̂) = y."""
        return self.fibre.assemble(y, self.choose(self.fibre.told(y), z))

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """The training loss of a batch of data, (N, …) → scalar."""
        return self.fit(*self.fibre.split(x), generator)

    @abstractmethod
    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """a (N, known), z (N, K) → u (N, open)."""

    @abstractmethod
    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of pairs a (N, known), u (N, open)."""


class RectifiedFlow(FibreEstimator):
    """Conditional flow matching with straight paths (Liu et al., 2023; Lipman et al., 2023).

    The velocity v(a, u_t, t) is trained on u_t = (1 − t)·z + t·u, whose derivative is u − z.
    """

    def __init__(self, fibre: Fibre, width: int, steps: int) -> None:
        super().__init__(fibre, seed_dims=fibre.open, evaluations=2 * steps)
        self.steps = steps
        self.velocity = TimedMLP(fibre.known + fibre.open, fibre.open, width)

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """The end of the flow that starts at z."""
        return self.flow(a, z)

    def flow(self, a: Tensor, start: Tensor) -> Tensor:
        """The end of the flow that starts at u = ``start``."""
        return samplers.flow_ode(
            lambda u, t: self.velocity(a, u, t=u.new_full((1, 1), t)), start, self.steps
        )

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of the velocity."""
        return self.fit_from(a, _noise(u, generator), u, generator)

    def fit_from(self, a: Tensor, start: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of the velocity between given starts and ends."""
        t = _uniform(u, generator)
        return F.mse_loss(self.velocity(a, torch.lerp(start, u, t), t=t), u - start)


class PMRF(RectifiedFlow):
    """The posterior mean, then a rectified flow (PMRF; Ohayon et al., 2025).

    The flow starts at the mean and a little noise of standard deviation σ_s. So z may do little.
    """

    def __init__(self, fibre: Fibre, width: int, steps: int, source_noise: float) -> None:
        super().__init__(fibre, width, steps)
        self.evaluations += 1
        self.source_noise = source_noise
        self.mean = mlp(fibre.known, fibre.open, width)

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """The end of the flow that starts beside the mean."""
        return self.flow(a, self.mean(a) + self.source_noise * z)

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The squared errors of the mean, and of the velocity from there."""
        mean = self.mean(a)
        start = mean.detach() + self.source_noise * _noise(u, generator)
        return F.mse_loss(mean, u) + self.fit_from(a, start, u, generator)


class PosteriorMeanOf(FibreEstimator):
    """The mean that a :class:`PMRF` starts from, as an estimator: deterministic."""

    def __init__(self, pmrf: PMRF) -> None:
        super().__init__(pmrf.fibre, seed_dims=1, evaluations=1)
        self.mean = pmrf.mean

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """All zeros, (n, N, 1)."""
        return no_seed(y, n)

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """E[u | a]."""
        return self.mean(a)

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error."""
        return F.mse_loss(self.mean(a), u)


class Diffusion(FibreEstimator):
    """A conditional diffusion (Ho et al., 2020), sampled by DDIM or step by step.

    Args:
        path: whether fresh noise enters at each step, and the whole path is z.
    """

    def __init__(self, fibre: Fibre, width: int, steps: int, *, path: bool) -> None:
        seed_dims = fibre.open * (steps if path else 1)
        super().__init__(fibre, seed_dims=seed_dims, evaluations=steps)
        self.steps, self.path = steps, path
        self.predictor = TimedMLP(fibre.known + fibre.open, fibre.open, width)

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """The end of the sampler's path."""

        def predict(u: Tensor, angle: float) -> Tensor:
            return self.predictor(a, u, t=_angle(angle, u))

        if self.path:
            return samplers.ancestral(predict, _path(z, self.steps), self.steps)
        return samplers.ddim(predict, z, self.steps)

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of v."""
        noisy, v, t = _diffused(u, generator)
        return F.mse_loss(self.predictor(a, noisy, t=t), v)


class PosteriorDiffusion(FibreEstimator):
    """A diffusion that never saw y in training, and restores by DDRM (Kawar et al., 2022)."""

    def __init__(self, fibre: Fibre, width: int, steps: int) -> None:
        dims = fibre.known + fibre.open
        super().__init__(fibre, seed_dims=dims * steps, evaluations=steps)
        self.steps = steps
        self.predictor = TimedMLP(dims, dims, width)

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """The open coordinates at the end of DDRM's path."""

        def predict(u: Tensor, angle: float) -> Tensor:
            return self.predictor(u, t=_angle(angle, u))

        return samplers.ddrm(predict, a, _path(z, self.steps), self.steps)

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error of v of whole images."""
        noisy, v, t = _diffused(torch.cat([a, u], 1), generator)
        return F.mse_loss(self.predictor(noisy, t=t), v)


class ConditionalVAE(FibreEstimator):
    """A conditional variational autoencoder (Sohn et al., 2015), restored by its decoder's mean.

    Args:
        latent: length of z.
        decoder_noise: standard deviation of the decoder's Gaussian, in units of u. It is fixed:
            where it is learned, it begins wide, and z is never used (posterior collapse).
    """

    def __init__(self, fibre: Fibre, width: int, latent: int, decoder_noise: float) -> None:
        super().__init__(fibre, seed_dims=latent, evaluations=1)
        self.encoder = mlp(fibre.known + fibre.open, 2 * latent, width)
        self.decoder = mlp(fibre.known + latent, fibre.open, width)
        self.decoder_noise = decoder_noise

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """The decoder's mean."""
        return self.decoder(torch.cat([a, z], 1))

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The negative bound of the log-likelihood per number of u, in nats, less constants."""
        mean, log_std = self.encoder(torch.cat([a, u], 1)).chunk(2, 1)
        z = mean + log_std.exp() * _noise(mean, generator)
        divergence = (mean.square() + (2 * log_std).exp() - 1).sum(1) / 2 - log_std.sum(1)
        fit = (self.choose(a, z) - u).square().mean(1) / (2 * self.decoder_noise**2)
        return (fit + divergence / u.shape[1]).mean()


class CouplingFlow(FibreEstimator):
    """A conditional normalising flow of affine couplings (Dinh et al., 2017).

    A coupling needs two numbers at least. A problem that leaves one open gets another one, noise,
    which is thrown away after sampling (Huang et al., 2020).

    Args:
        couplings: how many; each moves every second number, by turns.
        dequantisation: standard deviation of the noise on the training images, in units of u;
            without noise a flow may put all its mass on the grey levels.
    """

    even: Tensor
    odd: Tensor

    def __init__(
        self, fibre: Fibre, width: int, couplings: int, dequantisation: float = 0.0
    ) -> None:
        self.dims = max(2, fibre.open)
        super().__init__(fibre, seed_dims=self.dims, evaluations=couplings)
        self.dequantisation = dequantisation
        for name, first in (("even", 0), ("odd", 1)):
            self.register_buffer(name, torch.arange(first, self.dims, 2), persistent=False)
        halves = [self._halves(i) for i in range(couplings)]
        self.couplings = nn.ModuleList(
            mlp(fibre.known + len(kept), 2 * len(moved), width) for moved, kept in halves
        )

    def choose(self, a: Tensor, z: Tensor) -> Tensor:
        """z through all couplings."""
        h = z
        for i, coupling in enumerate(self.couplings):
            moved, kept = self._halves(i)
            log_scale, shift = self._affine(coupling, a, h[:, kept])
            h = h.index_copy(1, moved, h[:, moved] * log_scale.exp() + shift)
        return h[:, : self.fibre.open]

    def encode(self, a: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The z (N, dims) that gives u (N, dims), and log|∂z/∂u|, (N,)."""
        h, determinant = u, u.new_zeros(len(u))
        for i in reversed(range(len(self.couplings))):
            moved, kept = self._halves(i)
            log_scale, shift = self._affine(self.couplings[i], a, h[:, kept])
            h = h.index_copy(1, moved, (h[:, moved] - shift) * (-log_scale).exp())
            determinant = determinant - log_scale.sum(1)
        return h, determinant

    def fit(self, a: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """The negative log-likelihood per number of u, in nats, without its constant."""
        u = u + self.dequantisation * _noise(u, generator)
        if u.shape[1] < self.dims:
            u = torch.cat([u, _noise(u, generator)], 1)
        z, determinant = self.encode(a, u)
        return (z.square().sum(1) / 2 - determinant).mean() / self.dims

    def _affine(self, coupling: nn.Module, a: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = coupling(torch.cat([a, kept], 1)).chunk(2, 1)
        return 2 * torch.tanh(raw / 2), shift  # no factor beyond e², so that no step overflows

    def _halves(self, i: int) -> tuple[Tensor, Tensor]:
        """Which numbers coupling i moves, and which it keeps."""
        return (self.odd, self.even) if i % 2 else (self.even, self.odd)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator, device=generator.device)
    return on_device(noise.to(like.dtype), like.device)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    t = torch.rand((len(like), 1), generator=generator, device=generator.device)
    return on_device(t.to(like.dtype), like.device)


def _diffused(u: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """u at random angles (N, m), v there (N, m), and the angles as times in [0, 1], (N, 1)."""
    noise, t = _noise(u, generator), _uniform(u, generator)
    cos, sin = (math.pi / 2 * t).cos(), (math.pi / 2 * t).sin()
    return cos * u + sin * noise, cos * noise - sin * u, t


def _angle(angle: float, like: Tensor) -> Tensor:
    return like.new_full((1, 1), angle / (math.pi / 2))


def _path(z: Tensor, steps: int) -> Tensor:
    """z (N, steps·m) as one noise for each step, (steps, N, m)."""
    return z.unflatten(1, (steps, -1)).movedim(1, 0)
