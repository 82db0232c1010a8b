"""The alternating training of an estimator and its critic, resumable to the bit.

One step = one critic update, then one estimator update. Every draw comes from one generator
whose state is in the checkpoint, so that an interrupted training continues as if it had not
been.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm

from stochrestore.attacks import Attack
from stochrestore.errors import InputError
from stochrestore.estimators.base import Estimator, sample
from stochrestore.estimators.pretrained import write_atomically
from stochrestore.losses import (
    R1Convention,
    RobustnessScale,
    critic_gan_loss,
    estimator_gan_loss,
    r1_penalty,
    robustness_loss,
)

Metrics = dict[str, float]


class TrainingSettings(BaseModel):
    """Everything that decides the trained weights, but for data, networks and seed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    steps: int = Field(20_000, ge=1, description="updates of the estimator, and of the critic")
    batch_size: int = Field(256, ge=2, description="not stated in the paper")
    lr: float = Field(1e-4, gt=0, description="Adam's learning rate, both networks")
    betas: tuple[float, float] = Field((0.0, 0.9), strict=False, description="Adam's betas")
    r1_gamma: float = Field(10.0, ge=0, description="coefficient of the R1 penalty")
    r1_convention: R1Convention = Field("half", description="c = 1/2 or 1 before gamma")
    robustness_weight: float = Field(0.0, ge=0, description="λ_R of Eq. 8; 0: erratic")
    robustness_scale: RobustnessScale = Field("slope", description="what R̃ is divided by")
    robustness_every: int = Field(1, ge=1, description="L_R enters every n-th estimator step")
    robustness_seeds: int = Field(50, ge=1, description="seeds averaged in Eq. 6")
    epsilon: float = Field(1e-3, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(4, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(1e-4, gt=0, description="Adam's learning rate in the attack")
    attack_start: Literal["random", "zero"] = Field("random", description="the first δ")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="weight averaging; 0: none")

    def attack(self) -> Attack:
        """The attack of these settings."""
        return Attack(
            radius=self.epsilon,
            steps=self.attack_steps,
            lr=self.attack_lr,
            start=self.attack_start,
        )


class AlternatingTrainer:
    """Trains an estimator against a critic that sees restorations and data, not Y (Sec. 6.1).

    Args:
        estimator: G(y, z), a module.
        critic: D(x), a module giving one logit per row.
        images: the training set, (N, …), on the device to train on.
        degrade: y = D(x).
        settings: see :class:`TrainingSettings`.
        generator: source of every random draw.
        measured: the estimator as L_R sees it (default: the whole restoration).
    """

    def __init__(
        self,
        estimator: nn.Module,
        critic: nn.Module,
        images: Tensor,
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
        self.estimator_optimizer = self._adam(estimator)
        self.critic_optimizer = self._adam(critic)
        self.average = [p.detach().clone() for p in estimator.parameters()]
        self.step = 0
        self.history: list[Metrics] = []

    def train(
        self,
        *,
        evaluate: Callable[[Any], Metrics] | None = None,
        evaluate_every: int = 1000,
        checkpoint: Path | None = None,
        checkpoint_every: int = 1000,
        progress: bool = True,
    ) -> None:
        """Run up to ``settings.steps``, from the checkpoint where there is one.

        ``evaluate``, given the estimator, must draw from a generator of its own; its results
        go to ``history`` with their step.
        """
        if checkpoint is not None and checkpoint.exists():
            self.load_state_dict(load_checkpoint(checkpoint, self.settings))
        steps = range(self.step, self.settings.steps)
        for _ in tqdm(steps, initial=self.step, total=self.settings.steps, disable=not progress):
            self.advance()
            if evaluate and self.step % evaluate_every == 0:
                with self.averaged_weights():
                    self.history.append({"step": self.step, **evaluate(self.estimator)})
            if checkpoint is not None and self.step % checkpoint_every == 0:
                save_checkpoint(self.state_dict(), checkpoint)

    def advance(self) -> None:
        """One critic update and one estimator update."""
        self._update(self.critic_optimizer, self.critic_loss())
        self._update(self.estimator_optimizer, self.estimator_loss())
        self.step += 1
        decay = self.settings.ema_decay
        for mean, p in zip(self.average, self.estimator.parameters(), strict=True):
            mean.lerp_(p.detach(), 1 - decay)

    def batch(self) -> Tensor:
        """A random batch of the training set, drawn with replacement."""
        index = torch.randint(
            len(self.images),
            (self.settings.batch_size,),
            generator=self.generator,
            device=self.generator.device,
        )
        return self.images[index.to(self.images.device)]

    def critic_loss(self) -> Tensor:
        """The critic's GAN loss and R1, on a fresh batch."""
        real = self.batch()
        with torch.no_grad():
            fake = sample(self.estimator, self.degrade(real), generator=self.generator)  # type: ignore[arg-type]
        s = self.settings
        penalty = r1_penalty(self.critic, real, gamma=s.r1_gamma, convention=s.r1_convention)
        return critic_gan_loss(self.critic(real), self.critic(fake)) + penalty

    def estimator_loss(self) -> Tensor:
        """L_GAN + λ_R L_R (Eq. 8) on a fresh batch."""
        s = self.settings
        y = self.degrade(self.batch())
        fake = sample(self.estimator, y, generator=self.generator)  # type: ignore[arg-type]
        loss = estimator_gan_loss(self.critic(fake))
        if s.robustness_weight > 0 and (self.step + 1) % s.robustness_every == 0:
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

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The estimator with its averaged weights, for the time of the ``with`` block."""
        trained = [p.detach().clone() for p in self.estimator.parameters()]
        self._assign(self.average)
        try:
            yield
        finally:
            self._assign(trained)

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for p, value in zip(self.estimator.parameters(), values, strict=True):
            p.copy_(value)

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        s = self.settings
        return torch.optim.Adam(network.parameters(), lr=s.lr, betas=s.betas, fused=True)

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
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
            "generator": self.generator.get_state(),
            "history": self.history,
            "settings": training_settings(self.settings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        for name in ("estimator", "critic", "estimator_optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.average, self.step, self.history = state["average"], state["step"], state["history"]
        self.generator.set_state(state["generator"])


def training_settings(settings: TrainingSettings) -> dict[str, Any]:
    """What a training depends on, without the fields that subclasses add."""
    return settings.model_dump(mode="json", include=set(TrainingSettings.model_fields))


def load_checkpoint(path: Path, settings: TrainingSettings) -> dict[str, Any]:
    """Read a checkpoint written under the same settings; only ``steps`` may have changed.

    Raises:
        InputError: an unreadable or truncated file, or settings that differ.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise InputError(f"checkpoint {path} cannot be read: remove it to start afresh") from None
    now = training_settings(settings)
    changed = [k for k in now if k != "steps" and state["settings"].get(k) != now[k]]
    if changed:
        raise InputError(
            f"checkpoint {path} was written with other settings ({', '.join(changed)}): "
            "remove it to start afresh"
        )
    return state


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
