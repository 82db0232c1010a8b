"""The alternating training of an estimator and its critic.

One step is one critic update, then one estimator update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from stochrestore.attacks import Attack
from stochrestore.errors import TrainingDiverged
from stochrestore.estimators.base import Estimator, on_device, sample
from stochrestore.estimators.batches import SeedBatches
from stochrestore.losses import (
    R1Convention,
    RobustnessScale,
    critic_gan_loss,
    estimator_gan_loss,
    r1_penalty_and_logits,
    robustness_loss,
)
from stochrestore.training.loop import Metrics, Trainer

Precision = Literal["float32", "tf32", "bf16"]

#: What the processors on which bf16 is the faster format call it. Of those that have it in AVX-512
#: alone, AMD's take a fifth less time than in float32 and Intel's a fifth more; those that do not
#: have it imitate it, in tens of times.
FASTER_IN_BF16 = ("amx_bf16", "bf16")
FASTER_IN_BF16_OF_AMD = (*FASTER_IN_BF16, "avx512_bf16")

#: A critic whose mean loss falls below this separates data from restorations without error.
COLLAPSED_LOSS = 1e-4


def arithmetic(precision: Precision, device: torch.device) -> Precision:
    """The number format that a training computes in: float32 where bf16 would take longer.

    Args:
        precision: the format that the settings ask for.
        device: where the training runs.
    """
    if precision != "bf16" or device.type != "cpu":
        return precision
    has = torch.cpu.get_capabilities()
    of_amd = "AMD" in str(has.get("cpu_name"))
    names = FASTER_IN_BF16_OF_AMD if of_amd else FASTER_IN_BF16
    return "bf16" if any(has.get(name) for name in names) else "float32"


class Images(Protocol):
    """A training set: a tensor (N, …), or what gives parts of one."""

    def __len__(self) -> int:
        """N."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they are."""
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
    critic_lr: float | None = Field(None, gt=0, description="that of the critic; None: the same")
    lr_milestones: tuple[int, ...] = Field(
        (), strict=False, description="steps at which the learning rates fall"
    )
    lr_decay: float = Field(0.6, gt=0, le=1, description="factor by which they fall there")
    betas: tuple[float, float] = Field((0.0, 0.9), strict=False, description="Adam's betas")
    r1_gamma: float = Field(10.0, ge=0, description="coefficient of the R1 penalty")
    r1_convention: R1Convention = Field("half", description="R1's factor before gamma: 1/2, or 1")
    r1_every: int = Field(1, ge=1, description="R1 enters every n-th critic step, times n")
    robustness_weight: float = Field(0.0, ge=0, description="λ_R of Eq. 8; 0: erratic")
    robustness_scale: RobustnessScale = Field("slope", description="what divides R̃: 1, pixels, ε²")
    robustness_every: int = Field(1, ge=1, description="L_R enters every n-th estimator step")
    robustness_start: int = Field(0, ge=0, description="first steps, which are trained without L_R")
    robustness_seeds: int = Field(50, ge=1, description="seeds averaged in Eq. 6")
    seeds_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="seeds that pass together; fewer need less memory; auto: as many as fit; "
        "None: all",
    )
    epsilon: float = Field(1e-3, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(4, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(1e-4, gt=0, description="Adam's learning rate in the attack")
    attack_start: Literal["random", "zero"] = Field("random", description="where the attack starts")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights; 0: none")
    precision: Precision = Field(
        "float32",
        description="number format of the networks' arithmetic; bf16: where it is faster",
    )
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


class AlternatingTrainer(Trainer):
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

    loss_names: ClassVar[tuple[str, ...]] = ("critic_loss", "estimator_loss")
    parts: ClassVar[tuple[str, ...]] = (
        *("estimator", "critic"),
        *("estimator_optimizer", "critic_optimizer"),
    )
    advice: ClassVar[str] = "the last checkpoint is kept; lower lr or critic_lr, or raise r1_gamma"
    may_change: ClassVar[tuple[str, ...]] = ("steps",)

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
        super().__init__(
            estimator,
            steps=settings.steps,
            batch_size=settings.batch_size,
            settings=settings.model_dump(mode="json"),
            generator=generator,
        )
        self.estimator, self.critic = estimator, critic
        self.images, self.degrade, self.settings = images, degrade, settings
        self.measured = measured(estimator)
        self.precision = arithmetic(settings.precision, self.device)
        self.seeds_that_fit: int | None = None
        self.estimator_optimizer = self._adam(estimator, settings.lr)
        self.critic_optimizer = self._adam(critic, settings.critic_lr or settings.lr)
        self.average = [t.detach().clone() for t in self._averaged()]
        if settings.compile:
            estimator.compile()

    def update(self) -> tuple[Tensor, ...]:
        """One critic update and one estimator update."""
        for optimizer, lr in self._learning_rates().items():
            optimizer.param_groups[0]["lr"] = lr
        with self._autocast():
            critic_loss = self.critic_loss()
        self._update(self.critic_optimizer, critic_loss)
        with self._autocast():
            estimator_loss = self.estimator_loss()
        self._update(self.estimator_optimizer, estimator_loss)
        for mean, value in zip(self.average, self._averaged(), strict=True):
            mean.lerp_(value, 1 - self.settings.ema_decay)
        return critic_loss, estimator_loss

    def mean_losses(self) -> Metrics:
        """The mean losses; see :class:`~stochrestore.training.loop.Trainer`.

        Raises:
            TrainingDiverged: one is not finite, or the critic separates without error.
        """
        losses = super().mean_losses()
        if losses["critic_loss"] < COLLAPSED_LOSS:
            raise TrainingDiverged(
                f"step {self.step}: the critic's loss is {losses['critic_loss']:.1e}: it separates "
                f"data from restorations without error, and teaches nothing; {self.advice}"
            )
        return losses

    def _learning_rates(self) -> dict[torch.optim.Optimizer, float]:
        s, factor = self.settings, self.settings.lr_factor(self.step)
        return {
            self.critic_optimizer: (s.critic_lr or s.lr) * factor,
            self.estimator_optimizer: s.lr * factor,
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision != "bf16":
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
        return on_device(self.images[on_device(index, self.images.device)], self.device)

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
            at_once = self._that_fit(y, z) if s.seeds_at_once == "auto" else s.seeds_at_once
            loss = loss + s.robustness_weight * self._robustness(y, z, at_once, self.generator)
        return loss

    def _robustness(
        self, y: Tensor, z: Tensor, seeds_at_once: int | None, generator: torch.Generator
    ) -> Tensor:
        attack = replace(self.settings.attack(), seeds_at_once=seeds_at_once)
        scale = self.settings.robustness_scale
        return robustness_loss(self.measured, y, z, attack, generator=generator, scale=scale)

    def _that_fit(self, y: Tensor, z: Tensor) -> int:
        """How many seeds pass together where the settings say ``"auto"``: tried once.

        What does not fit may show only when the gradients are taken, so the trial takes them. Its
        draws are not those of the training.
        """
        weights = list(self.estimator.parameters())

        def trial(n: int) -> int:
            draws = torch.Generator(self.generator.device).manual_seed(0)
            torch.autograd.grad(self._robustness(y, z, n, draws), weights)
            return n

        if self.seeds_that_fit is None:
            self.seeds_that_fit = SeedBatches(self.measured, y, z, "auto").run(trial)
        return self.seeds_that_fit

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
        return {**super().state_dict(), "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.average = [t.to(self.device) for t in state["average"]]


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the parameter's layout of memory.

    Fused Adam walks through both in the order in which they lie in memory and does not look at
    strides, so that a gradient in another layout would move the wrong weights. ``backward`` lays
    gradients out like their parameters; ``autograd.grad`` does not.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
