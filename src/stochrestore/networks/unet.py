"""The U-Net estimator of the image experiments (Fig. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.degradations import ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import no_seed, normal_seed
from stochrestore.networks.convolution import Conv3x3, conv3x3


class UNet(nn.Module):
    """X̂ = project(U(lift(Y), Z), Y) with the U-Net of Fig. 7.

    Four levels down and up again. Z = (Z₁, …, Z₄) enters as one extra channel at the input of
    each Down block; it is passed as one flat vector a sample, K = Σᵢ (size/2^(i−1))² long. Fig. 7
    gives the width s only; the channels of the levels (s, 2s, 4s, 8s, 8s, and back) are those
    usual with bilinear upsampling.

    Args:
        degradation: gives the network's input and makes its output consistent.
        size: side of the images, a multiple of 16.
        width: s, channels of the first level (24 for CelebA, 32 for ImageNet).
        channels: of the images.
        stochastic: whether Z ~ N(0, I) is drawn or fixed to 0; the network is the same.
        seed_scale: what Z is multiplied by before it enters. One channel of N(0, I) beside 8 to 64
            others is hardly heard at first; the paper says nothing of a scale, so 1 there.

    Raises:
        InputError: a size that cannot be halved four times.
    """

    def __init__(
        self,
        degradation: ImageDegradation,
        size: int,
        width: int = 24,
        *,
        channels: int = 3,
        stochastic: bool,
        seed_scale: float = 1.0,
    ) -> None:
        super().__init__()
        require(size % 16 == 0, "UNet: size", size, "a multiple of 16, to be halved four times")
        self.degradation, self.stochastic = degradation, stochastic
        self.seed_scale = seed_scale
        self.seed_sides = tuple(size >> level for level in range(4))
        s = width
        self.first = double_conv(channels, s)
        self.down = nn.ModuleList(
            double_conv(fan_in + 1, fan_out)
            for fan_in, fan_out in ((s, 2 * s), (2 * s, 4 * s), (4 * s, 8 * s), (8 * s, 8 * s))
        )
        self.up = nn.ModuleList(
            double_conv(fan_in, fan_out)
            for fan_in, fan_out in ((16 * s, 4 * s), (8 * s, 2 * s), (4 * s, s), (2 * s, s))
        )
        self.last = Conv3x3(s, channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each y: (n, N, K), or zeros (n, N, 1) where deterministic."""
        if not self.stochastic:
            return no_seed(y, n)
        dims = sum(side * side for side in self.seed_sides)
        return normal_seed(y, n, dims, generator=generator)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, K) → x̂ (N, channels, size, size), with D(x̂) = y."""
        return self._restored(y, z)

    def restore_seeds(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (S, N, K) → (S, N, …); what no seed enters is computed once."""
        restored = self._restored(y, z.flatten(0, 1)).unflatten(0, (-1, len(y)))
        return restored.expand(len(z), *restored.shape[1:])

    def _restored(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (S·N, K) → x̂ (S·N, …); (N, …) for the deterministic seed, K = 1."""
        noises = self.seed_maps(z) if z.shape[1] > 1 else [None] * len(self.down)
        h, skips = self.first(self.degradation.lift(y)), []
        for down, noise in zip(self.down, noises, strict=True):
            skips.append(h)
            pooled = [F.max_pool2d(x, 2) for x in (h, noise) if x is not None]
            h = after_concatenation(down, pooled)
        for up in self.up:
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = after_concatenation(up, [skips.pop(), h])
        return self.degradation.project(self.last(h), y.repeat(len(h) // len(y), 1, 1, 1))

    def seed_maps(self, z: Tensor) -> list[Tensor]:
        """Z₁, …, Z₄ as they enter, (N, 1, side, side) each; zeros where deterministic."""
        areas = [side * side for side in self.seed_sides]
        if z.shape[1] == 1:
            z = z.expand(-1, sum(areas))
        if self.seed_scale != 1:
            z = self.seed_scale * z
        return [
            part.unflatten(1, (1, side, side))
            for part, side in zip(z.split(areas, 1), self.seed_sides, strict=True)
        ]


def after_concatenation(block: nn.Module, parts: list[Tensor]) -> Tensor:
    """A :func:`double_conv` of the concatenation of ``parts``, which is never made.

    The convolution of a concatenation is the sum of one convolution for each part, with its own
    share of the weights. One extra channel, the seed's, costs little then, where 17, 33 or 65
    channels together would be padded to the next multiple of 16; and a part that several seeds
    share, with fewer rows than another, passes once. Channels that the parts leave over count as
    zeros: those of the seed Z = 0.
    """
    first, *others = block.children()
    channels, passed = 0, []
    for part in parts:
        weight = first.get_parameter("weight")[:, channels : channels + part.shape[1]]
        passed.append(conv3x3(part, weight))
        channels += part.shape[1]
    h, *more = sorted(passed, key=len)
    for x in more:
        h = (x.unflatten(0, (-1, len(h))) + h).flatten(0, 1)  # in x's layout of memory
    for layer in others:
        h = layer(h)
    return h


def double_conv(fan_in: int, fan_out: int) -> nn.Sequential:
    """(3×3 convolution, batch normalisation, ReLU) twice, of Fig. 7."""
    layers: list[nn.Module] = []
    for channels in (fan_in, fan_out):
        layers += [
            Conv3x3(channels, fan_out, bias=False),
            BatchNorm(fan_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can take its statistics over parts of a batch."""

    part: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape."""
        if not self.training or self.part is None or len(x) <= self.part:
            return super().forward(x)
        return torch.cat([super(BatchNorm, self).forward(rows) for rows in x.split(self.part)])


class StatisticsPerSeed:
    """A U-Net in training, as the robustness loss sees it.

    Inputs × seeds pass in one batch, yet each seed's restorations are normalised by their own
    statistics, as in the passes of the GAN loss; so the result does not depend on how many seeds
    pass at once. Running averages stay untouched: perturbed inputs are not data.

    Args:
        network: the U-Net.
        batch_size: inputs in a batch, N of the N·S rows that pass.
    """

    def __init__(self, network: UNet, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self.norms = [m for m in network.modules() if isinstance(m, BatchNorm)]

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """The network's own seeds."""
        return self.network.seed(y, n, generator=generator)

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (N, K) → x̂, (N, …)."""
        with self._statistics():
            restored: Tensor = self.network(y, z)
            return restored

    def restore_seeds(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, …), z (S, N, K) → (S, N, …)."""
        with self._statistics():
            return self.network.restore_seeds(y, z)

    @contextmanager
    def _statistics(self) -> Iterator[None]:
        for norm in self.norms:
            norm.part, norm.track_running_stats = self.batch_size, False
        try:
            yield
        finally:
            for norm in self.norms:
                norm.part, norm.track_running_stats = None, True
