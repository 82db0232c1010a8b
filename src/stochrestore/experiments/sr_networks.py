"""The three small super-resolution networks of Appendix G: how they are trained and loaded."""

from __future__ import annotations

import pickle
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import trange

from stochrestore import store
from stochrestore.config import ExperimentSettings
from stochrestore.data.photographs import (
    Pair,
    Patches,
    digest,
    held_out_crops,
    training_pairs,
)
from stochrestore.data.resize import low_resolution
from stochrestore.errors import InputError, silent
from stochrestore.estimators.base import sample
from stochrestore.losses import critic_gan_loss, estimator_gan_loss, r1_penalty
from stochrestore.metrics.psnr import psnr
from stochrestore.networks.edsr import EDSR
from stochrestore.networks.patch_critic import PatchCritic
from stochrestore.networks.rrdb import RRDBNet
from stochrestore.networks.srflow import SRFlow, fit_actnorms
from stochrestore.training.adversarial import Metrics, TrainingDiverged, save_checkpoint

EXPERIMENT = "srflow_robustness"
NETWORKS = ("edsr", "esrgan", "srflow")
STAGES = ("rrdb", "edsr", "esrgan", "srflow")
"""Trainings in their order: ESRGAN and SRFlow's encoder start from an RRDBNet trained with L1."""


class NetworkSettings(ExperimentSettings):
    """Networks and trainings, all on the photographs that come with scikit-image."""

    edsr_features: int = Field(32, ge=1, description="channels of EDSR-small")
    edsr_blocks: int = Field(8, ge=1, description="residual blocks of EDSR-small")
    rrdb_features: int = Field(32, ge=1, description="channels of ESRGAN's and SRFlow's RRDBs")
    rrdb_blocks: int = Field(2, ge=1, description="RRDBs of both")
    rrdb_growth: int = Field(16, ge=1, description="growth of their dense blocks")
    flow_steps: int = Field(4, ge=1, description="K, conditional steps a level of SRFlow")
    flow_hidden: int = Field(24, ge=1, description="channels within SRFlow's couplings")
    heat: float = Field(0.5, ge=0, le=1, description="standard deviation of SRFlow's seeds")
    batch_size: int = Field(8, ge=1, description="patches in a training step")
    patch: int = Field(24, ge=8, description="side of their low-resolution versions, pixels")
    flow_patch: int = Field(16, ge=8, multiple_of=2, description="the same for SRFlow")
    edsr_steps: int = Field(2000, ge=1, description="updates of EDSR, L1")
    rrdb_steps: int = Field(1500, ge=1, description="updates of the RRDBNet, L1")
    esrgan_steps: int = Field(1500, ge=1, description="updates of ESRGAN, L1 and GAN")
    srflow_steps: int = Field(2500, ge=1, description="updates of SRFlow, NLL")
    srflow_permute_colours: bool = Field(
        True, description="the channels of SRFlow's patches in random order"
    )
    lr: float = Field(5e-4, gt=0, description="Adam's learning rate; falls to 0 as a cosine")
    gan_lr: float = Field(2e-4, gt=0, description="the same for ESRGAN and its critic")
    gan_weight: float = Field(0.08, gt=0, description="of the GAN loss beside L1")
    r1_gamma: float = Field(1.0, ge=0, description="coefficient of the R1 penalty, γ/2")
    dequantisation: float = Field(
        4.0, ge=0, description="width of the uniform noise on SRFlow's images, grey levels"
    )
    weights: str = Field("", description="folder of weights to load; empty: those shipped")
    train: bool = Field(False, description="train now instead of loading weights")


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


class SRTrainer:
    """One training, resumable to the bit: every draw is from one generator, which is saved.

    Args:
        name: one of :data:`STAGES`.
        settings: see :class:`NetworkSettings`.
        patches: the training set.
        start: the RRDBNet that ESRGAN or SRFlow starts from.
    """

    def __init__(
        self, name: str, settings: NetworkSettings, patches: Patches, start: nn.Module | None = None
    ) -> None:
        self.name, self.settings, self.patches = name, settings, patches
        self.steps: int = getattr(settings, f"{name}_steps")
        self.generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = build(name, settings)
            if isinstance(self.network, EDSR | RRDBNet):
                interpolate_at_first(self.network)
            self.critic = PatchCritic()
        if start is not None:
            encoder = self.network.RRDB if isinstance(self.network, SRFlow) else self.network
            encoder.load_state_dict(start.state_dict())
        if isinstance(self.network, SRFlow):
            x, y = self._batch()
            fit_actnorms(self.network, x, y)
        for module in (self.network, self.critic):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        betas = (0.5, 0.99) if name == "esrgan" else (0.9, 0.99)
        self.optimizer = torch.optim.Adam(self._trained(), betas=betas)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), betas=betas)
        self.step, self.history, self.seconds = 0, list[Metrics](), 0.0
        self.total = torch.zeros(())

    def train(
        self,
        *,
        checkpoint: Path | None = None,
        evaluate: Callable[[nn.Module], Metrics] = lambda network: {},
        progress: bool = True,
    ) -> None:
        """Run to the end, from the checkpoint where there is one.

        Raises:
            InputError: the checkpoint cannot be read, or was written with other settings.
            TrainingDiverged: a loss is not finite.
        """
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        report_every = max(1, self.steps // 20)
        started = time.perf_counter()
        before = self.seconds
        for _ in trange(self.step, self.steps, desc=self.name, disable=silent(progress)):
            self.advance()
            if self.step % report_every:
                continue
            self.seconds = before + time.perf_counter() - started
            loss = self.total.item() / report_every
            self.total.zero_()
            if not torch.tensor(loss).isfinite():
                raise TrainingDiverged(f"{self.name}, step {self.step}: the loss is not finite")
            self.history.append({"step": self.step, "loss": loss, **evaluate(self.network)})
            if checkpoint is not None:
                save_checkpoint(self.state_dict(), checkpoint)
        self.seconds = before + time.perf_counter() - started

    def advance(self) -> None:
        """One update of the network, after one of the critic where there is one."""
        x, y = self._batch()
        base_lr = self.settings.gan_lr if self.name == "esrgan" else self.settings.lr
        lr = base_lr * (
            0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * self.step / self.steps)))
        )
        if self.name == "esrgan":
            self._update(self.critic_optimizer, self._critic_loss(x, y), lr)
            x, y = self._batch()
        loss = self._loss(x, y)
        self._update(self.optimizer, loss, lr)
        self.total += loss.detach()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the history so far."""
        parts = {name: getattr(self, name).state_dict() for name in self._stateful}
        return {
            **parts,
            "settings": recorded(self.name, self.settings),
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "total": self.total,
            "generator": self.generator.get_state(),
        }

    _stateful = ("network", "critic", "optimizer", "critic_optimizer")

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            raise InputError(
                f"checkpoint {path} cannot be read: remove it to start afresh"
            ) from None
        if state["settings"] != recorded(self.name, self.settings):
            raise InputError(
                f"checkpoint {path} was written with other settings: remove it to start afresh"
            )
        for name in self._stateful:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.history, self.seconds = state["step"], state["history"], state["seconds"]
        self.total = state["total"]
        self.generator.set_state(state["generator"])

    def _trained(self) -> list[nn.Parameter]:
        """The parameters that enter the loss; SRFlow does not use all of its encoder."""
        unused = ("RRDB.upconv2", "RRDB.HRconv", "RRDB.conv_last")
        named = self.network.named_parameters()
        return [p for name, p in named if p.requires_grad and not name.startswith(unused)]

    def _batch(self) -> tuple[Tensor, Tensor]:
        x, y = self.patches.draw(self.settings.batch_size, generator=self.generator)
        layout = torch.channels_last
        return x.contiguous(memory_format=layout), y.contiguous(memory_format=layout)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.network, SRFlow):
            noise = torch.rand(x.shape, generator=self.generator) - 0.5
            return self.network.nll(x + noise * (self.settings.dequantisation / 255), y).mean()
        restored = self.network(y)
        loss = (restored - x).abs().mean()
        if self.name == "esrgan":
            loss = loss + self.settings.gan_weight * estimator_gan_loss(self.critic(restored))
        return loss

    def _critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.network(y)
        penalty = r1_penalty(lambda x: self.critic(x).mean((1, 2)), x, gamma=self.settings.r1_gamma)
        return critic_gan_loss(self.critic(x), self.critic(fake)) + penalty

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float) -> None:
        group = optimizer.param_groups[0]
        group["lr"] = lr
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(group["params"], 50.0)
        optimizer.step()


def recorded(name: str, settings: NetworkSettings) -> dict[str, Any]:
    """The settings a training depends on, as its record keeps them."""
    kept = {"seed", "patch", "lr", "batch_size"}
    kept |= {field for field in NetworkSettings.model_fields if field.startswith(f"{name}_")}
    if name != "edsr":
        kept |= {"rrdb_features", "rrdb_blocks", "rrdb_growth", "rrdb_steps"}
    if name == "esrgan":
        kept |= {"gan_lr", "gan_weight", "r1_gamma"}
    if name == "srflow":
        kept |= {"flow_patch", "flow_steps", "flow_hidden", "dequantisation"}
    return settings.model_dump(mode="json", include=kept)


def evaluate(network: nn.Module, settings: NetworkSettings) -> Metrics:
    """PSNR on crops of the held-out photographs, one seed each."""
    crops = torch.stack(held_out_crops(128, 2))
    y = low_resolution((255 * crops).round().byte()).float() / 255
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        restored = sample(network, y, generator=generator).clamp(0, 1)  # type: ignore[arg-type]
    return {"psnr": psnr(crops, restored, border=4).mean().item()}


def train_all(
    settings: NetworkSettings,
    folder: Path,
    *,
    only: str = "",
    about: dict[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Train the stages that ``folder`` does not hold yet, one after the other.

    May be interrupted and called again: it continues where it was. The RRDBNet that two of the
    networks start from is kept among the checkpoints.

    Args:
        only: the beginning of the names of the networks to train; empty: all.
        about: what else the records are to hold.
    """
    pairs = training_pairs()
    wanted = [name for name in STAGES if name.startswith(only)]
    if set(wanted) & {"esrgan", "srflow"}:
        wanted = [name for name in STAGES if name in {*wanted, "rrdb"}]
    for name in wanted:
        target = path_of(name, folder)
        if finished(name, settings, target):
            continue
        start = None
        if name in ("esrgan", "srflow"):
            start = build("rrdb", settings)
            store.load(start, path_of("rrdb", folder))
        trainer = SRTrainer(name, settings, patches_of(name, settings, pairs), start)
        checkpoint = folder / "checkpoints" / f"{name}.pt"
        trainer.train(
            checkpoint=checkpoint, evaluate=lambda n: evaluate(n, settings), progress=progress
        )
        record = {
            "network": name,
            "settings": recorded(name, settings),
            "data": digest(pairs),
            **(about or {}),
            "history": trainer.history,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "seconds": round(trainer.seconds, 1),
        }
        store.save(trainer.network, target, record, half=name != "rrdb")
        checkpoint.unlink(missing_ok=True)


def patches_of(name: str, settings: NetworkSettings, pairs: Sequence[Pair]) -> Patches:
    """The training set of a stage.

    A flow that has never seen a colour can be far off there, and has no loss that pulls it towards
    bicubic interpolation; the others are that at first.
    """
    if name != "srflow":
        return Patches(pairs, settings.patch)
    permute = settings.srflow_permute_colours
    return Patches(pairs, settings.flow_patch, permute_colours=permute)


def path_of(name: str, folder: Path) -> Path:
    """The file of a network's weights; the RRDBNet of the L1 stage is not kept with the others."""
    return (folder / "checkpoints" if name == "rrdb" else folder) / f"{name}.safetensors"


def finished(name: str, settings: NetworkSettings, target: Path) -> bool:
    """Whether a network was trained under the same settings."""
    record = target.with_suffix(".json")
    if not record.exists():
        return False
    return bool(store.read_record(record)["settings"] == recorded(name, settings))


def load(name: str, settings: NetworkSettings, folder: Path) -> nn.Module:
    """A trained network, in evaluation mode."""
    network = build(name, settings)
    store.load(network, path_of(name, folder))
    return network.eval().requires_grad_(False)
