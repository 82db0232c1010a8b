"""The alternating training of an estimator and its critic, resumable to the bit.

One step = one critic update, then one estimator update. Every draw comes from one generator
whose state is in the checkpoint, so that an interrupted training continues as if it had not
been.
"""

from __future__ import annotations

import ctypes
import io
import math
import pickle
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm

from stochrestore.attacks import Attack
from stochrestore.errors import InputError, silent
from stochrestore.estimators.base import Estimator, sample
from stochrestore.estimators.pretrained import write_atomically
from stochrestore.losses import (
    R1Convention,
    RobustnessScale,
    critic_gan_loss,
    estimator_gan_loss,
    r1_penalty_and_logits,
    robustness_loss,
)

Metrics = dict[str, float]
Precision = Literal["float32", "tf32", "bf16"]

#: Updates between two looks at the losses.
REPORT_EVERY = 100
#: A critic whose mean loss falls below this separates data from restorations without error.
COLLAPSED_LOSS = 1e-4


class TrainingDiverged(RuntimeError):
    """A loss is not finite, or the critic has won for good; the last checkpoint is kept."""


class Images(Protocol):
    """A training set: a tensor (N, …), or what gives parts of one."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images of these indices, float, (len(index), …)."""
        ...


class TrainingSettings(BaseModel):
    """Everything that decides the trained weights, but for data, networks and seed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    steps: int = Field(20_000, ge=1, description="updates of the estimator, and of the critic")
    batch_size: int = Field(256, ge=2, description="not stated in the paper")
    lr: float = Field(1e-4, gt=0, description="Adam's learning rate")
    critic_lr: float | None = Field(None, gt=0, description="the critic's, where it differs")
    lr_milestones: tuple[int, ...] = Field(
        (), strict=False, description="steps at which the learning rates are multiplied"
    )
    lr_decay: float = Field(0.6, gt=0, le=1, description="by this factor")
    betas: tuple[float, float] = Field((0.0, 0.9), strict=False, description="Adam's betas")
    r1_gamma: float = Field(10.0, ge=0, description="coefficient of the R1 penalty")
    r1_convention: R1Convention = Field("half", description="c = 1/2 or 1 before gamma")
    r1_every: int = Field(1, ge=1, description="R1 enters every n-th critic step, n-fold")
    robustness_weight: float = Field(0.0, ge=0, description="λ_R of Eq. 8; 0: erratic")
    robustness_scale: RobustnessScale = Field("slope", description="what R̃ is divided by")
    robustness_every: int = Field(1, ge=1, description="L_R enters every n-th estimator step")
    robustness_start: int = Field(
        0, ge=0, description="steps before L_R enters, as many as an erratic model's"
    )
    robustness_seeds: int = Field(50, ge=1, description="seeds averaged in Eq. 6")
    seeds_at_once: int | None = Field(
        None, ge=1, description="seeds per pass in L_R, to save memory; None: all; same result"
    )
    epsilon: float = Field(1e-3, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(4, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(1e-4, gt=0, description="Adam's learning rate in the attack")
    attack_start: Literal["random", "zero"] = Field("random", description="the first δ")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="weight averaging; 0: none")
    precision: Precision = Field("float32", description="of the networks' arithmetic")
    compile: bool = Field(False, description="torch.compile the estimator")

    def attack(self) -> Attack:
        """The attack of these settings."""
        return Attack(
            radius=self.epsilon,
            steps=self.attack_steps,
            lr=self.attack_lr,
            start=self.attack_start,
            seeds_at_once=self.seeds_at_once,
        )

    def lr_factor(self, step: int) -> float:
        """What both learning rates are multiplied by at ``step``."""
        return self.lr_decay ** sum(step >= milestone for milestone in self.lr_milestones)


class AlternatingTrainer:
    """Trains an estimator against a critic that sees restorations and data, not Y (Sec. 6.1).

    Args:
        estimator: G(y, z), a module.
        critic: D(x), a module giving one logit per row.
        images: the training set, (N, …): a tensor, or what gives one when indexed by one.
        degrade: y = D(x).
        settings: see :class:`TrainingSettings`.
        generator: source of every random draw.
        measured: the estimator as L_R sees it (default: the whole restoration).
    """

    def __init__(
        self,
        estimator: nn.Module,
        critic: nn.Module,
        images: Images,
        degrade: Callable[[Tensor], Tensor],
        settings: TrainingSettings,
        *,
        generator: torch.Generator,
        measured: Callable[[Any], Estimator] = lambda estimator: estimator,
    ) -> None:
        self.estimator, self.critic = estimator, critic
        self.images, self.degrade = images, degrade
        self.settings, self.generator = settings, generator
        self.measured = measured(estimator)
        self.estimator_optimizer = self._adam(estimator, settings.lr)
        self.critic_optimizer = self._adam(critic, settings.critic_lr or settings.lr)
        self.average = [t.detach().clone() for t in self._averaged()]
        self.device = next(estimator.parameters()).device
        self.losses = torch.zeros(2, device=self.device)
        self.step = 0
        self.seconds = 0.0  # spent in train, by all its pieces
        self.history: list[Metrics] = []
        if settings.compile:
            estimator.compile()

    def train(
        self,
        *,
        evaluate: Callable[[Any], Metrics] | None = None,
        evaluate_every: int = 1000,
        checkpoint: Path | None = None,
        checkpoint_every: int = 1000,
        progress: bool = True,
        log: Callable[[Metrics], None] = lambda losses: None,
    ) -> None:
        """Run up to ``settings.steps``, from the checkpoint where there is one.

        Args:
            evaluate: given the estimator, measures it; must draw from a generator of its own.
            evaluate_every: steps between two rows of ``history``: the latest mean losses, and
                what ``evaluate`` returned.
            checkpoint: file to continue from, and to write.
            checkpoint_every: steps between two checkpoints.
            progress: show losses, images/s and the time left.
            log: called with the mean losses of every :data:`REPORT_EVERY` steps.

        Raises:
            InputError: the checkpoint is unreadable, of other settings, or cannot be written.
            TrainingDiverged: a loss is not finite, or the critic separates without error.
        """
        if checkpoint is not None and checkpoint.exists():
            self.load_state_dict(load_checkpoint(checkpoint, self.settings))
        total = self.settings.steps
        started = time.perf_counter() - self.seconds
        with tqdm(initial=self.step, total=total, disable=silent(progress)) as bar:
            while self.step < total:
                self.advance()
                bar.update()
                self.seconds = time.perf_counter() - started
                measured = self.step % evaluate_every == 0
                saved = checkpoint is not None and self.step % checkpoint_every == 0
                reported = self.step % REPORT_EVERY == 0 or self.step == total
                if not (measured or saved or reported):
                    continue
                losses = self.mean_losses()
                if reported:
                    log(losses)
                    bar.set_postfix(self._described(losses, rate=bar.format_dict["rate"] or 0.0))
                if measured:
                    self.history.append(losses)
                    if evaluate:
                        with self.averaged_weights():
                            losses.update(evaluate(self.estimator))
                if saved and checkpoint is not None:
                    save_checkpoint(self.state_dict(), checkpoint)

    def _described(self, losses: Metrics, *, rate: float) -> dict[str, str]:
        """What the progress bar shows beside the time left."""
        return {
            "critic": f"{losses['critic_loss']:.2f}",
            "estimator": f"{losses['estimator_loss']:.2f}",
            "images/s": f"{rate * self.settings.batch_size:.0f}",
        }

    def advance(self) -> None:
        """One critic update and one estimator update."""
        if self.step % REPORT_EVERY == 0:
            self.losses.zero_()
        for optimizer, lr in self._learning_rates().items():
            optimizer.param_groups[0]["lr"] = lr
        with self._autocast():
            critic_loss = self.critic_loss()
        self._update(self.critic_optimizer, critic_loss)
        with self._autocast():
            estimator_loss = self.estimator_loss()
        self._update(self.estimator_optimizer, estimator_loss)
        self.losses += torch.stack([critic_loss.detach(), estimator_loss.detach()])
        self.step += 1
        decay = self.settings.ema_decay
        for mean, value in zip(self.average, self._averaged(), strict=True):
            mean.lerp_(value, 1 - decay)

    def mean_losses(self) -> Metrics:
        """The mean losses of the steps since the last multiple of :data:`REPORT_EVERY`.

        Raises:
            TrainingDiverged: they say that going on makes no sense.
        """
        steps = (self.step - 1) % REPORT_EVERY + 1
        critic_loss, estimator_loss = (self.losses / steps).tolist()
        advice = "the last checkpoint is kept; lower lr or critic_lr, or raise r1_gamma"
        if not (math.isfinite(critic_loss) and math.isfinite(estimator_loss)):
            raise TrainingDiverged(f"step {self.step}: a loss is not finite; {advice}")
        if critic_loss < COLLAPSED_LOSS:
            raise TrainingDiverged(
                f"step {self.step}: the critic's loss is {critic_loss:.1e}: it separates data from "
                f"restorations without error, and teaches nothing; {advice}"
            )
        return {"step": self.step, "critic_loss": critic_loss, "estimator_loss": estimator_loss}

    def _learning_rates(self) -> dict[torch.optim.Optimizer, float]:
        s, factor = self.settings, self.settings.lr_factor(self.step)
        return {
            self.critic_optimizer: (s.critic_lr or s.lr) * factor,
            self.estimator_optimizer: s.lr * factor,
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.settings.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def batch(self) -> Tensor:
        """A random batch of the training set, drawn with replacement."""
        index = torch.randint(
            len(self.images),
            (self.settings.batch_size,),
            generator=self.generator,
            device=self.generator.device,
        )
        return self.images[index].to(self.device)

    def critic_loss(self) -> Tensor:
        """The critic's GAN loss and R1, on a fresh batch."""
        real = self.batch()
        with torch.no_grad():
            fake = sample(self.estimator, self.degrade(real), generator=self.generator)  # type: ignore[arg-type]
        s = self.settings
        if self.step % s.r1_every:
            return critic_gan_loss(*self.critic(torch.cat([real, fake])).split(len(real)))
        penalty, real_logits = r1_penalty_and_logits(
            self.critic, real, gamma=s.r1_gamma, convention=s.r1_convention
        )
        return critic_gan_loss(real_logits, self.critic(fake)) + s.r1_every * penalty

    def estimator_loss(self) -> Tensor:
        """L_GAN + λ_R L_R (Eq. 8) on a fresh batch."""
        s = self.settings
        y = self.degrade(self.batch())
        fake = sample(self.estimator, y, generator=self.generator)  # type: ignore[arg-type]
        loss = estimator_gan_loss(self.critic(fake))
        if self._with_robustness():
            z = self.measured.seed(y, s.robustness_seeds, generator=self.generator)
            loss = loss + s.robustness_weight * robustness_loss(
                self.measured,
                y,
                z,
                s.attack(),
                generator=self.generator,
                scale=s.robustness_scale,
            )
        return loss

    def _with_robustness(self) -> bool:
        s = self.settings
        started = s.robustness_weight > 0 and self.step >= s.robustness_start
        return started and (self.step + 1) % s.robustness_every == 0

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The estimator with its averaged weights, for the time of the ``with`` block."""
        trained = [t.clone() for t in self._averaged()]
        self._assign(self.average)
        try:
            yield
        finally:
            self._assign(trained)

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for target, value in zip(self._averaged(), values, strict=True):
            target.copy_(value)

    def _averaged(self) -> list[Tensor]:
        """What weight averaging averages: the estimator's weights and its running statistics."""
        state = self.estimator.state_dict()
        return [t for t in state.values() if t.is_floating_point()]

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=lr, betas=self.settings.betas, fused=True)

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = laid_out_as(parameter, gradient)
        optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the history so far."""
        return {
            "step": self.step,
            "estimator": self.estimator.state_dict(),
            "critic": self.critic.state_dict(),
            "estimator_optimizer": self.estimator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "average": self.average,
            "losses": self.losses,
            "generator": self.generator.get_state(),
            "history": self.history,
            "seconds": self.seconds,
            "settings": training_settings(self.settings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        for name in ("estimator", "critic", "estimator_optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.average, self.losses = state["average"], state["losses"]
        self.step, self.history = state["step"], state["history"]
        self.seconds = state["seconds"]
        self.generator.set_state(state["generator"])


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the parameter's layout of memory.

    Fused Adam walks both in the order they lie in memory, and does not look at strides: a gradient
    in another layout would move the wrong weights. ``backward`` lays gradients out so itself,
    ``autograd.grad`` does not.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for the rest of the process.

    By default it gives large blocks back to the system at once, and every batch of activations
    pays for fresh pages again: a quarter of a training step on CPU. Elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3  # names of mallopt(3)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)


def training_settings(settings: TrainingSettings) -> dict[str, Any]:
    """What a training depends on, without the fields that subclasses add."""
    return settings.model_dump(mode="json", include=set(TrainingSettings.model_fields))


def load_checkpoint(path: Path, settings: TrainingSettings) -> dict[str, Any]:
    """Read a checkpoint written under the same settings, as far as they have had an effect.

    ``steps`` may have changed, and those ``lr_milestones`` that the training has not reached.

    Raises:
        InputError: an unreadable or truncated file, or settings that differ.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise InputError(f"checkpoint {path} cannot be read: remove it to start afresh") from None
    now, then = training_settings(settings), state["settings"]
    same = {"steps"}
    if _reached(now, state["step"]) == _reached(then, state["step"]):
        same.add("lr_milestones")
    changed = [name for name in now if name not in same and then.get(name) != now[name]]
    if changed:
        raise InputError(
            f"checkpoint {path} was written with other settings ({', '.join(changed)}): "
            "remove it to start afresh"
        )
    return state


def _reached(settings: dict[str, Any], step: int) -> list[int]:
    """The milestones that decided a learning rate before ``step``."""
    return [milestone for milestone in settings.get("lr_milestones", []) if milestone < step]


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
