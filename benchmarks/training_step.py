"""The estimator's step of a robust stochastic GAN against a transcription of App. E.2.3."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.measure import Row, isolated, median_seconds
from stochrestore.attacks import initial_perturbation
from stochrestore.estimators.base import SecondCoordinate, sample
from stochrestore.estimators.mlp import MLPCritic, MLPEstimator
from stochrestore.losses import estimator_gan_loss
from stochrestore.problems.toy import Disk
from stochrestore.training import AlternatingTrainer, TrainingSettings

SETTINGS = TrainingSettings(
    batch_size=32, robustness_weight=1e4, robustness_seeds=50, attack_steps=4
)


def robust_step() -> Iterator[Row]:
    seconds, difference = isolated(_measure)
    ratio = seconds["transcription"] / seconds["library"]
    yield Row("robust step: transcription's time over the library's", ratio, "≥ 2")
    yield Row("robust step: relative difference of the losses", difference, "≤ 1e-5")


def build_trainer(dtype: torch.dtype = torch.float32) -> AlternatingTrainer:
    """The paper's toy networks, untrained, and the same random draws at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        estimator, critic = MLPEstimator(512, stochastic=True), MLPCritic(512)
    generator = torch.Generator().manual_seed(0)
    return AlternatingTrainer(
        estimator.to(dtype),
        critic.to(dtype),
        Disk().sample(10_000, generator=generator).to(dtype),
        lambda x: x[:, :1],
        SETTINGS,
        generator=generator,
        measured=SecondCoordinate,
    )


def library_step(trainer: AlternatingTrainer) -> Tensor:
    """The loss of Eq. 8, and its gradients as the trainer takes them."""
    loss = trainer.estimator_loss()
    torch.autograd.grad(loss, list(trainer.estimator.parameters()))
    return loss


def transcribed_step(trainer: AlternatingTrainer) -> Tensor:
    """The same as the appendix describes it, one seed after the other."""
    s, generator, estimator = trainer.settings, trainer.generator, trainer.measured
    trainer.estimator.zero_grad()
    trainer.critic.zero_grad()
    y = trainer.degrade(trainer.batch())
    gan_loss = estimator_gan_loss(
        trainer.critic(sample(trainer.estimator, y, generator=generator))  # type: ignore[arg-type]
    )
    seeds = estimator.seed(y, s.robustness_seeds, generator=generator)

    def mean_squared_distance(delta: Tensor) -> Tensor:
        distances = [(estimator(y, z) - estimator(y + delta, z)).square().sum(1) for z in seeds]
        return torch.stack(distances).mean(0)

    delta = initial_perturbation(y, s.attack(), generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=s.attack_lr, maximize=True)
    for _ in range(s.attack_steps):
        optimizer.zero_grad()
        mean_squared_distance(delta).sum().backward()
        optimizer.step()
        with torch.no_grad():
            delta *= (s.epsilon / delta.norm(dim=1, keepdim=True)).clamp_max(1)
    trainer.estimator.zero_grad()
    robustness = mean_squared_distance(delta.detach()).mean() / s.epsilon**2
    loss = gan_loss + s.robustness_weight * robustness
    loss.backward()
    return loss.detach()


def relative_difference(dtype: torch.dtype) -> float:
    """Of the two steps' losses, from the same weights and random draws."""
    ours, theirs = (step(build_trainer(dtype)).item() for step in STEPS.values())
    return abs(ours / theirs - 1)


STEPS: dict[str, Callable[[AlternatingTrainer], Tensor]] = {
    "library": library_step,
    "transcription": transcribed_step,
}


def _measure() -> tuple[dict[str, float], float]:
    trainer = build_trainer()
    steps = {name: lambda step=step: step(trainer) for name, step in STEPS.items()}
    median_seconds(steps, repeats=2)  # warms up
    return median_seconds(steps, repeats=15), relative_difference(torch.float32)
