"""SRFlow (Lugmayr et al., 2020): a normalising flow from HR images to seeds, given the LR image.

``encode`` maps an image to its seeds and log-likelihood; ``decode`` maps seeds to an image and is
differentiable in y. Modules have the names that the officially published weights use.

For LR images of h×w pixels, the flow has three levels of 12, 24 and 96 channels, at the
resolutions 2h×2w, h×w and h/2×w/2. The seeds have two parts: z, (N, 96, h/2, w/2), and the split
of the first level, (N, 6, 2h, 2w). Together they have as many numbers as the HR image.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stochrestore.errors import require
from stochrestore.estimators.base import on_device
from stochrestore.networks.rrdb import RRDBNet

MINIMAL_SCALE = 1e-4
"""The least factor by which a coupling multiplies."""


class Seeds(NamedTuple):
    """The seeds of SRFlow, which are standard normal under the model."""

    z: Tensor
    """The seed of the last level, (N, 96, h/2, w/2)."""
    split: Tensor
    """The seed of the split after the first level, (N, 6, 2h, 2w)."""


class SRFlow(nn.Module):
    """×4 super-resolution, X̂ = f⁻¹(Z; Y) with Z ~ N(0, heat²·I).

    The seed of a sample is one vector of 48·h·w numbers, with h and w rounded up to even numbers.
    It is already multiplied by the heat. At heat 0 it is zero and the estimator deterministic.

    Args:
        features: channels of the RRDB encoder (64 in the published network).
        blocks: RRDBs of the encoder (23).
        growth: channels that each convolution of the encoder's dense blocks adds (32).
        steps: K, conditional flow steps in each level (16).
        hidden: channels within the networks of the couplings (64).
        stacked: numbers of the RRDBs whose outputs also condition the flow.
        heat: standard deviation of the seeds (0.9).

    Raises:
        InputError: the heat is negative, or ``stacked`` names an RRDB that does not exist.
    """

    scale = 4

    def __init__(
        self,
        features: int = 64,
        blocks: int = 23,
        growth: int = 32,
        *,
        steps: int = 16,
        hidden: int = 64,
        stacked: tuple[int, ...] = (1, 8, 15, 22),
        heat: float = 0.9,
    ) -> None:
        super().__init__()
        require(heat >= 0, "SRFlow: heat", heat, "a number ≥ 0")
        known = all(0 <= block < blocks for block in stacked)
        require(known, "SRFlow: stacked", stacked, f"numbers of RRDBs, 0 to {blocks - 1}")
        self.RRDB = RRDBNet(features, blocks, growth)
        self.flowUpsamplerNet = Flow(features * (1 + len(stacked)), steps, hidden)
        self.stacked = tuple(stacked)
        self.heat = heat

    def seed(self, y: Tensor, n: int, *, generator: torch.Generator) -> Tensor:
        """n seeds for each y (N, 3, h, w), drawn from N(0, heat²·I): (n, N, K)."""
        h, w = (side + side % 2 for side in y.shape[-2:])
        shape = (n, y.shape[0], 48 * h * w)
        z = torch.randn(shape, generator=generator, dtype=y.dtype, device=generator.device)
        return self.heat * on_device(z, y.device)

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 3, h, w) in [0, 1], z (N, K) → x̂ (N, 3, 4h, 4w), not clamped."""
        return self.restore_seeds(y, z[None])[0]

    def restore_seeds(self, y: Tensor, z: Tensor) -> Tensor:
        """y (N, 3, h, w), z (S, N, K) → all restorations, (S, N, 3, 4h, 4w).

        Most of the work depends on y only and is done once for all seeds.
        """
        h, w = y.shape[-2:]
        even = pad_to_even(y)
        x = self.decode(self.conditions(even), unflatten(z.flatten(0, 1), even))
        return x[..., : 4 * h, : 4 * w].unflatten(0, z.shape[:2])

    def crop_seed(self, z: Tensor, y: Tensor, window: tuple[slice, slice]) -> Tensor:
        """The part of the seeds z (…, K) of an image y (…, h, w) that belongs to a window of it.

        Args:
            window: the window's rows and columns in y; both start at an even number.

        Raises:
            InputError: the window starts at an odd number.
        """
        seeds = unflatten(z.flatten(0, -2), pad_to_even(y))
        rows, columns = ((part.start, part.stop + part.stop % 2) for part in window)
        for start in (rows[0], columns[0]):
            require(start % 2 == 0, "SRFlow.crop_seed: start of the window", start, "even")
        last = seeds.z[..., rows[0] // 2 : rows[1] // 2, columns[0] // 2 : columns[1] // 2]
        split = seeds.split[..., 2 * rows[0] : 2 * rows[1], 2 * columns[0] : 2 * columns[1]]
        return flatten(Seeds(last, split)).unflatten(0, z.shape[:-1])

    def conditions(self, y: Tensor) -> list[Tensor]:
        """The conditions of the three levels, the finest level first.

        These are the encoder's features at each level's resolution, and the outputs of some of its
        blocks. Unlike in ESRGAN, the skip over ``trunk_conv`` starts after the blocks.
        """
        outputs = self.RRDB.block_outputs(y)
        blocks = [outputs[index] for index in self.stacked]
        last = outputs[-1] + self.RRDB.trunk_conv(outputs[-1])
        at_level = [
            self.RRDB.upsample(self.RRDB.upconv1, last),
            last,
            F.interpolate(last, scale_factor=0.5, mode="bilinear", align_corners=False),
        ]
        if not blocks:
            return at_level
        stack = torch.cat(blocks, 1)
        return [torch.cat([f, F.interpolate(stack, f.shape[-2:])], 1) for f in at_level]

    def decode(self, conditions: list[Tensor], seeds: Seeds) -> Tensor:
        """The seeds of S·N samples, and the conditions of N images → (S·N, 3, 4h, 4w)."""
        return self.flowUpsamplerNet.decode(conditions, seeds)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Seeds, Tensor]:
        """An image x (N, 3, 4h, 4w), h and w even → its seeds, and log p(x | y) in nats, (N,)."""
        return self.flowUpsamplerNet.encode(x, self.conditions(y))

    def nll(self, x: Tensor, y: Tensor) -> Tensor:
        """−log p(x | y) in bits per pixel (of three channels), (N,)."""
        _, log_likelihood = self.encode(x, y)
        return -log_likelihood / (math.log(2) * x.shape[-2] * x.shape[-1])


class Flow(nn.Module):
    """The flow: a list of layers, applied in order to encode and in reverse order to decode."""

    def __init__(self, condition: int, steps: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.levels: list[int] = []
        for level, channels in enumerate((12, 24, 96)):
            layers += [Squeeze(), FlowStep(channels), FlowStep(channels)]
            layers += [FlowStep(channels, condition, hidden) for _ in range(steps)]
            if level == 0:
                layers.append(Split(channels))
            self.levels += [level] * (len(layers) - len(self.levels))
        self.layers = nn.ModuleList(layers)

    def encode(self, x: Tensor, conditions: list[Tensor]) -> tuple[Seeds, Tensor]:
        """Image → seeds, log-likelihood (N,) in nats."""
        log_likelihood, split = x.new_zeros(len(x)), x
        layers: list[Any] = list(self.layers)
        for layer, level in zip(layers, self.levels, strict=True):
            if isinstance(layer, Split):
                x, split, change = layer.encode(x)
                change = change + normal_log_density(split)
            else:
                x, change = layer.encode(x, conditions[level])
            log_likelihood = log_likelihood + change
        return Seeds(x, split), log_likelihood + normal_log_density(x)

    def decode(self, conditions: list[Tensor], seeds: Seeds) -> Tensor:
        """Seeds → image."""
        x = seeds.z
        layers: list[Any] = list(self.layers)
        for layer, level in zip(reversed(layers), reversed(self.levels), strict=True):
            if isinstance(layer, Split):
                x = layer.decode(x, seeds.split)
            else:
                x = layer.decode(x, conditions[level])
        return x


class Squeeze(nn.Module):
    """Turns each 2×2 block of pixels into four channels, in the order of pixel_unshuffle."""

    def encode(self, x: Tensor, condition: Tensor) -> tuple[Tensor, float]:
        """(N, C, H, W) → (N, 4C, H/2, W/2), and the log-determinant, 0."""
        return F.pixel_unshuffle(x, 2), 0.0

    def decode(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, 4C, H/2, W/2) → (N, C, H, W)."""
        return F.pixel_shuffle(x, 2)


class FlowStep(nn.Module):
    """One step of the flow: actnorm, invertible 1×1 convolution, coupling if conditional."""

    def __init__(self, channels: int, condition: int = 0, hidden: int = 0) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv(channels)
        self.affine = Coupling(channels, condition, hidden) if condition else None

    def encode(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) → the same shape, and the log-determinant, (N,)."""
        pixels = x.shape[-2] * x.shape[-1]
        x = self.invconv(self.actnorm(x))
        log_determinant = pixels * (self.actnorm.logs.sum() + self.invconv.log_determinant())
        if self.affine is None:
            return x, log_determinant
        x, change = self.affine.encode(x, condition)
        return x, log_determinant + change

    def decode(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape."""
        if self.affine is not None:
            x = self.affine.decode(x, condition)
        return self.actnorm.inverse(self.invconv.inverse(x))


class ActNorm(nn.Module):
    """(x + bias)·exp(logs), with one bias and one scale for each channel.

    While the flag ``fit`` is set, a pass chooses both such that its result has mean 0 and variance
    1 (Kingma & Dhariwal, 2018).
    """

    fit = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape."""
        if self.fit:
            with torch.no_grad():
                self.bias.copy_(-x.mean((0, 2, 3), keepdim=True))
                self.logs.copy_(-x.std((0, 2, 3), keepdim=True).clamp_min(1e-3).log())
        return (x + self.bias) * self.logs.exp()

    def inverse(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape."""
        return x * (-self.logs).exp() - self.bias


class InvertibleConv(nn.Module):
    """A matrix that mixes the channels of each pixel; it is initialised as a random rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        self.weight = nn.Parameter(rotation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape."""
        return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape; the matrix is inverted in float64."""
        inverse = self.weight.double().inverse().to(x.dtype)
        return F.conv2d(x, inverse[:, :, None, None])

    def log_determinant(self) -> Tensor:
        """log |det W|, the contribution of one pixel."""
        return torch.linalg.slogdet(self.weight)[1]


class Coupling(nn.Module):
    """Two affine maps z ↦ (z + shift)·scale, here in the order of encoding.

    The first changes all channels, and its shift and scale depend on the condition. The second
    changes the latter half of the channels; its shift and scale depend on the former half and the
    condition. In decoding, what depends on the condition only is computed once for N images and
    used for all S·N samples.
    """

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.passive = channels // 2
        active = channels - self.passive
        self.fFeatures = coupling_network(condition, hidden, 2 * channels)
        self.fAffine = coupling_network(self.passive + condition, hidden, 2 * active)

    def encode(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) → the same shape, and the log-determinant, (N,)."""
        shift, scale = shift_and_scale(self.fFeatures(condition))
        x = (x + shift) * scale
        own_shift, own_scale, passive, active = self._own(x, condition)
        x = torch.cat([passive, (active + own_shift) * own_scale], 1)
        return x, scale.log().flatten(1).sum(1) + own_scale.log().flatten(1).sum(1)

    def decode(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (S·N, C, h, w) and the condition of N images → (S·N, C, h, w)."""
        own_shift, own_scale, passive, active = self._own(x, condition)
        x = torch.cat([passive, active / own_scale - own_shift], 1)
        shift, scale = shift_and_scale(self.fFeatures(condition))
        return (x.unflatten(0, (-1, len(shift))) / scale - shift).flatten(0, 1)

    def _own(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The second map's shift and scale, and the former and the latter half of x."""
        passive, active = x.split([self.passive, x.shape[1] - self.passive], 1)
        layers: list[Any] = list(self.fAffine)
        first, *rest = layers
        by_x, by_condition = first.weight.split([self.passive, condition.shape[1]], 1)
        h = F.conv2d(passive, by_x, padding=1).unflatten(0, (-1, len(condition)))
        h = first.actnorm((h + F.conv2d(condition, by_condition, padding=1)).flatten(0, 1))
        for layer in rest:
            h = layer(h)
        return *shift_and_scale(h), passive, active


class Split(nn.Module):
    """Takes the latter half of the channels as a seed, normalised as the former half predicts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = channels // 2
        self.conv = ZeroConv(self.kept, 2 * (channels - self.kept))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, h, w) → the kept half, the seed, and the log-determinant, (N,)."""
        kept, consumed = x.split([self.kept, x.shape[1] - self.kept], 1)
        mean, log_scale = interleaved(self.conv(kept))
        return kept, (consumed - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def decode(self, kept: Tensor, seed: Tensor) -> Tensor:
        """The kept half and the seed → (N, C, h, w)."""
        mean, log_scale = interleaved(self.conv(kept))
        return torch.cat([kept, mean + log_scale.exp() * seed], 1)


class NormalisedConv(nn.Conv2d):
    """A convolution without bias, followed by actnorm."""

    def __init__(self, fan_in: int, fan_out: int, size: int) -> None:
        super().__init__(fan_in, fan_out, size, padding=size // 2, bias=False)
        nn.init.normal_(self.weight, std=0.05)
        self.actnorm = ActNorm(fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, fan_in, h, w) → (N, fan_out, h, w)."""
        return self.actnorm(super().forward(x))


class ZeroConv(nn.Conv2d):
    """A 3×3 convolution times exp(3·logs), initialised to zero, so that the flow starts simple."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out, 3, padding=1)
        self.logs = nn.Parameter(torch.zeros(fan_out, 1, 1))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, fan_in, h, w) → (N, fan_out, h, w)."""
        return super().forward(x) * (3 * self.logs).exp()


def coupling_network(fan_in: int, hidden: int, fan_out: int) -> nn.Sequential:
    """3×3, 1×1 and 3×3 convolutions with ReLU between them; initially it gives zero."""
    return nn.Sequential(
        NormalisedConv(fan_in, hidden, 3),
        nn.ReLU(),
        NormalisedConv(hidden, hidden, 1),
        nn.ReLU(),
        ZeroConv(hidden, fan_out),
    )


def interleaved(h: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd channels."""
    return h[:, 0::2], h[:, 1::2]


def shift_and_scale(h: Tensor) -> tuple[Tensor, Tensor]:
    """The shift and scale of a coupling; the scale is in (10⁻⁴, 1 + 10⁻⁴)."""
    shift, raw = interleaved(h)
    return shift, torch.sigmoid(raw + 2) + MINIMAL_SCALE


def normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I), (N, …) → (N,)."""
    return (-0.5 * (z.square() + math.log(2 * math.pi))).flatten(1).sum(1)


def pad_to_even(y: Tensor) -> Tensor:
    """y, continued by reflection at the bottom and right to even sides."""
    h, w = y.shape[-2:]
    if h % 2 == 0 and w % 2 == 0:
        return y
    return F.pad(y, (0, w % 2, 0, h % 2), mode="reflect")


def unflatten(z: Tensor, y: Tensor) -> Seeds:
    """The two parts of flat seeds (N, 48·h·w), for LR images y with even sides h×w."""
    h, w = y.shape[-2:]
    require(z.shape[1] == 48 * h * w, "SRFlow: length of the seed", z.shape[1], f"{48 * h * w}")
    last, split = z.split(24 * h * w, 1)
    return Seeds(last.unflatten(1, (96, h // 2, w // 2)), split.unflatten(1, (6, 2 * h, 2 * w)))


def flatten(seeds: Seeds) -> Tensor:
    """The two parts of the seeds as flat vectors, (N, 48·h·w)."""
    return torch.cat([seeds.z.flatten(1), seeds.split.flatten(1)], 1)


def fit_actnorms(flow: SRFlow, x: Tensor, y: Tensor) -> None:
    """Initialise each actnorm of an untrained flow with one batch of images x and inputs y."""
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    for norm in norms:
        norm.fit = True
    with torch.no_grad():
        flow.encode(x, y)
    for norm in norms:
        norm.fit = False
