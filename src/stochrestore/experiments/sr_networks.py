"""The three small super-resolution networks of Appendix G: how they are trained and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stochrestore.data.photographs import (
    Pair,
    Patches,
    digest,
    held_out_crops,
    training_pairs,
)
from stochrestore.data.resize import low_resolution
from stochrestore.estimators.base import Estimator, on_device, sample
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.losses import critic_gan_loss, estimator_gan_loss, r1_penalty
from stochrestore.metrics.psnr import psnr
from stochrestore.networks.edsr import EDSR
from stochrestore.networks.patch_critic import PatchCritic
from stochrestore.networks.rrdb import RRDBNet
from stochrestore.networks.srflow import SRFlow, fit_actnorms
from stochrestore.training.jobs import Job, Method
from stochrestore.training.loop import Metrics
from stochrestore.training.supervised import SupervisedTrainer, cosine

NETWORKS = ("edsr", "esrgan", "srflow")
STAGES = ("rrdb", "edsr", "esrgan", "srflow")
"""Trainings in their order: ESRGAN and SRFlow's encoder start from an RRDBNet trained with L1."""


class NetworkSettings(TrainedSettings):
    """Networks and trainings, all on the photographs that come with scikit-image."""

    edsr_features: int = Field(32, ge=1, description="channels of EDSR-small")
    edsr_blocks: int = Field(8, ge=1, description="residual blocks of EDSR-small")
    rrdb_features: int = Field(32, ge=1, description="channels of ESRGAN's and SRFlow's RRDBs")
    rrdb_blocks: int = Field(2, ge=1, description="RRDBs of ESRGAN and SRFlow")
    rrdb_growth: int = Field(16, ge=1, description="channels added by layers of their blocks")
    flow_steps: int = Field(4, ge=1, description="K, conditional steps a level of SRFlow")
    flow_hidden: int = Field(24, ge=1, description="channels within SRFlow's couplings")
    heat: float = Field(0.5, ge=0, le=1, description="standard deviation of SRFlow's seeds")
    batch_size: int = Field(8, ge=1, description="patches in a training step")
    patch: int = Field(24, ge=8, description="side of the low-resolution patches, pixels")
    flow_patch: int = Field(16, ge=8, multiple_of=2, description="that side for SRFlow")
    edsr_steps: int = Field(2000, ge=1, description="updates of EDSR, L1")
    rrdb_steps: int = Field(1500, ge=1, description="updates of the RRDBNet, L1")
    esrgan_steps: int = Field(1500, ge=1, description="updates of ESRGAN, L1 and GAN")
    srflow_steps: int = Field(2500, ge=1, description="updates of SRFlow, NLL")
    srflow_permute_colours: bool = Field(
        True, description="whether SRFlow sees the channels of patches in random order"
    )
    lr: float = Field(5e-4, gt=0, description="Adam's learning rate; falls to 0 as a cosine")
    gan_lr: float = Field(2e-4, gt=0, description="that of ESRGAN and its critic")
    gan_weight: float = Field(0.08, gt=0, description="weight of the GAN loss beside L1")
    r1_gamma: float = Field(1.0, ge=0, description="coefficient of the R1 penalty, γ/2")
    dequantisation: float = Field(
        4.0, ge=0, description="width of the uniform noise on SRFlow's images, grey levels"
    )


def build(name: str, settings: NetworkSettings) -> nn.Module:
    """An untrained network; ``rrdb`` is ESRGAN before its GAN training."""
    s = settings
    if name == "edsr":
        return EDSR(s.edsr_features, s.edsr_blocks)
    if name == "srflow":
        encoder = (s.rrdb_features, s.rrdb_blocks, s.rrdb_growth)
        stacked = (s.rrdb_blocks // 2,)
        return SRFlow(
            *encoder, steps=s.flow_steps, hidden=s.flow_hidden, stacked=stacked, heat=s.heat
        )
    return RRDBNet(s.rrdb_features, s.rrdb_blocks, s.rrdb_growth)


@torch.no_grad()
def interpolate_at_first(network: EDSR | RRDBNet) -> None:
    """Make an untrained network a bilinear interpolation, so that a short training suffices.

    The first three features carry the colours; what the other features add is 0 at first.
    """
    layers: Any = network
    edsr = isinstance(network, EDSR)
    first = layers.head[0] if edsr else layers.conv_first
    last = layers.tail[1] if edsr else layers.conv_last
    added = layers.body[-1] if edsr else layers.trunk_conv
    for parameter in (*added.parameters(), *last.parameters()):
        parameter.zero_()
    colours = torch.eye(3)
    point = torch.tensor([0.0, 1.0, 0.0])
    _set_rows(first, colours, point, point)
    _set_rows(last, colours, point, point)
    if edsr:
        # Of each pixel's four children, in the order of pixel shuffle, (dy, dx).
        sides = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
        for doubling in (layers.tail[0][0], layers.tail[0][2]):
            for child in range(4):
                rows = torch.arange(3) * 4 + child
                _set_rows(doubling, colours, sides[child // 2], sides[child % 2], rows)
        return
    smooth = torch.tensor([0.25, 0.5, 0.25])  # after nearest neighbour: bilinear
    for convolution in (layers.upconv1, layers.upconv2):
        _set_rows(convolution, colours, smooth, smooth)
    _set_rows(layers.HRconv, colours, point, point)


def _set_rows(
    convolution: Any, mix: Tensor, vertical: Tensor, horizontal: Tensor, rows: Tensor | None = None
) -> None:
    """Outputs ``rows`` (the first) of a 3×3 convolution: ``mix`` of the first inputs, blurred."""
    rows = torch.arange(len(mix)) if rows is None else rows
    weight = torch.zeros_like(convolution.weight[: len(rows)])
    weight[:, : mix.shape[1]] = mix[:, :, None, None] * torch.outer(vertical, horizontal)
    convolution.weight[rows] = weight
    convolution.bias[rows] = 0


class SRTrainer(SupervisedTrainer):
    """One training of a super-resolution network: L1, L1 and GAN, or SRFlow's likelihood.

    Args:
        name: one of :data:`STAGES`.
        settings: see :class:`NetworkSettings`.
        patches: the training set.
        start: the RRDBNet that ESRGAN or SRFlow starts from.
    """

    def __init__(
        self, name: str, settings: NetworkSettings, patches: Patches, start: nn.Module | None = None
    ) -> None:
        self.name, self.recipe, self.patches = name, settings, patches
        device, generator = settings.torch_device(), torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build(name, settings)
            if isinstance(network, EDSR | RRDBNet):
                interpolate_at_first(network)
            self.critic = PatchCritic().to(device)
        if start is not None:
            encoder = network.RRDB if isinstance(network, SRFlow) else network
            encoder.load_state_dict(start.state_dict())
        if isinstance(network, SRFlow):
            fit_actnorms(network, *self._batch(generator))
        network.to(device)
        for module in (network, self.critic):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        betas = (0.5, 0.99) if name == "esrgan" else (0.9, 0.99)
        super().__init__(
            network,
            parameters=_trained(network),
            betas=betas,
            largest_gradient=50.0,
            steps=getattr(settings, f"{name}_steps"),
            batch_size=settings.batch_size,
            settings=settings.model_dump(mode="json"),
            generator=generator,
        )
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), betas=betas)

    parts: ClassVar[tuple[str, ...]] = ("network", "critic", "optimizer", "critic_optimizer")

    def update(self) -> tuple[Tensor, ...]:
        """One update of the network, after one of the critic where there is one."""
        if self.name == "esrgan":
            self.descend(self.critic_optimizer, self._critic_loss(*self._draw()))
        return super().update()

    def learning_rate(self) -> float:
        """Falls to 0 as a cosine."""
        largest = self.recipe.gan_lr if self.name == "esrgan" else self.recipe.lr
        return largest * cosine(self.step, self.steps)

    def loss(self) -> Tensor:
        """The negative log-likelihood of a flow; else L1, for ESRGAN with the GAN loss."""
        x, y = self._draw()
        if isinstance(self.network, SRFlow):
            noise = on_device(torch.rand(x.shape, generator=self.generator), self.device) - 0.5
            return self.network.nll(x + noise * (self.recipe.dequantisation / 255), y).mean()
        restored = self.network(y)
        loss = (restored - x).abs().mean()
        if self.name == "esrgan":
            loss = loss + self.recipe.gan_weight * estimator_gan_loss(self.critic(restored))
        return loss

    def _critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.network(y)
        penalty = r1_penalty(lambda x: self.critic(x).mean((1, 2)), x, gamma=self.recipe.r1_gamma)
        return critic_gan_loss(self.critic(x), self.critic(fake)) + penalty

    def _draw(self) -> list[Tensor]:
        return [on_device(images, self.device) for images in self._batch(self.generator)]

    def _batch(self, generator: torch.Generator) -> list[Tensor]:
        """x and y of a random batch."""
        drawn = self.patches.draw(self.recipe.batch_size, generator=generator)
        return [images.contiguous(memory_format=torch.channels_last) for images in drawn]


def _trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that enter the loss; SRFlow does not use all of its encoder."""
    unused = ("RRDB.upconv2", "RRDB.HRconv", "RRDB.conv_last")
    named = network.named_parameters()
    return [p for name, p in named if p.requires_grad and not name.startswith(unused)]


def all_jobs(settings: NetworkSettings) -> dict[str, Job]:
    """The trainings by name, in their order."""
    rrdb = _job("rrdb", settings, intermediate=True)
    started = [_job(name, settings, start=rrdb) for name in ("esrgan", "srflow")]
    return {job.name: job for job in (rrdb, _job("edsr", settings), *started)}


def _job(name: str, settings: NetworkSettings, **options: Any) -> Job:
    unused = frozenset(type(settings).model_fields) - _used(name)
    return Job(name, None, settings.seed, settings, unused=unused, **options)


def _used(name: str) -> set[str]:
    """The settings that a training depends on."""
    used = {"seed", "patch", "lr", "batch_size"}
    used |= {field for field in NetworkSettings.model_fields if field.startswith(f"{name}_")}
    if name != "edsr":
        used |= {"rrdb_features", "rrdb_blocks", "rrdb_growth", "rrdb_steps"}
    if name == "esrgan":
        used |= {"gan_lr", "gan_weight", "r1_gamma"}
    if name == "srflow":
        used |= {"flow_patch", "flow_steps", "flow_hidden", "dequantisation"}
    return used


def build_trainer(job: Job, start: nn.Module | None = None) -> SRTrainer:
    """Network, patches and generator of a job."""
    return SRTrainer(
        job.name, job.settings, patches_of(job.name, job.settings, training_pairs()), start
    )


def build_network(job: Job) -> nn.Module:
    """The untrained network of a job."""
    return build(job.name, job.settings)


def evaluate(network: Estimator, job: Job) -> Metrics:
    """PSNR on crops of the held-out photographs, one seed each."""
    crops = torch.stack(held_out_crops(128, 2))
    y = low_resolution((255 * crops).round().byte()).float() / 255
    generator = torch.Generator().manual_seed(job.seed)
    with torch.no_grad():
        y = y.to(job.settings.torch_device())
        restored = sample(network, y, generator=generator).clamp(0, 1).cpu()
    return {"psnr": psnr(crops, restored, border=4).mean().item()}


def patches_of(name: str, settings: NetworkSettings, pairs: Sequence[Pair]) -> Patches:
    """The training set of a stage.

    A flow that has never seen a colour can be far off there, and has no loss that pulls it towards
    bicubic interpolation; the others are that at first.
    """
    if name != "srflow":
        return Patches(pairs, settings.patch)
    permute = settings.srflow_permute_colours
    return Patches(pairs, settings.flow_patch, permute_colours=permute)


def data_digest(settings: NetworkSettings) -> str:
    """The sha256 of the photographs to train on."""
    return digest(training_pairs())


METHOD = Method(
    build=build_trainer,
    network=build_network,
    data=data_digest,
    evaluate=evaluate,
    one_thread=False,
)
