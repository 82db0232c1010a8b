"""The estimator's step of robust stochastic GANs against a transcription of App. E.2.3."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Row, isolated, least_seconds, median_seconds, peak_bytes
from stochrestore.attacks import initial_perturbation
from stochrestore.degradations import Inpainting
from stochrestore.estimators.base import SecondCoordinate, restore, sample
from stochrestore.experiments import inpaint, registry, sr_scaling
from stochrestore.losses import critic_gan_loss, estimator_gan_loss, r1_penalty
from stochrestore.networks.mlp import MLPCritic, MLPEstimator
from stochrestore.networks.resnet_critic import ResNetCritic
from stochrestore.networks.unet import StatisticsPerSeed, UNet
from stochrestore.problems.toy import Disk
from stochrestore.training.adversarial import AlternatingTrainer, TrainingSettings
from stochrestore.training.loop import keep_freed_memory

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
        moved = [estimator(y, z) - estimator(y + delta, z) for z in seeds]
        return torch.stack([x.flatten(1).square().sum(1) for x in moved]).mean(0)

    delta = initial_perturbation(y, s.attack(), generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([delta], lr=s.attack_lr, maximize=True)
    for _ in range(s.attack_steps):
        optimizer.zero_grad()
        mean_squared_distance(delta).sum().backward()
        optimizer.step()
        with torch.no_grad():
            delta *= (
                (s.epsilon / delta.flatten(1).norm(dim=1))
                .clamp_max(1)
                .reshape(-1, *[1] * (delta.ndim - 1))
            )
    trainer.estimator.zero_grad()
    scale = s.epsilon**2 if s.robustness_scale == "slope" else float(trainer.images[0].numel())
    robustness = mean_squared_distance(delta.detach()).mean() / scale
    loss = gan_loss + s.robustness_weight * robustness
    loss.backward()
    return loss.detach()


def relative_difference(
    build: Callable[[torch.dtype], AlternatingTrainer], dtype: torch.dtype
) -> float:
    """Of the two steps' losses, from the same weights and random draws."""
    ours, theirs = (step(build(dtype)).item() for step in STEPS.values())
    return abs(ours / theirs - 1)


def image_step() -> Iterator[Row]:
    """The U-Net's step at 32×32; its floor is the passes that Eq. 8 and the attack consist of."""
    seconds, difference = isolated(_measure_images)
    ratio = seconds["transcription"] / seconds["library"]
    yield Row("robust U-Net step: transcription's time / library's", ratio, "≥ 2")
    yield Row("robust U-Net step: relative difference of losses", difference, "≤ 1e-5")
    yield Row(
        "robust U-Net step: time / its network passes alone",
        seconds["library"] / seconds["floor"],
        "≤ 1.2",
    )


def grid_training() -> Iterator[Row]:
    """One training of Fig. 4's grid, at preset laptop: ×4, robust and stochastic, of faces."""
    seconds = isolated(_measure_grid)
    yield Row("grid of Fig. 4, faces ×4, robust: steps a second", 1 / seconds["library"], "≥ 5")
    yield Row(
        "grid of Fig. 4: time / its network passes alone",
        seconds["library"] / seconds["floor"],
        "≤ 1.3",
    )


def fashion_training() -> Iterator[Row]:
    """The robust stochastic training of clothes against the same with nothing taken apart."""
    rates, difference = isolated(_measure_fashion)
    plain = rates["plain, float32"]
    yield Row("fashion 16×16, robust: images/s", rates["library, bf16"], "≥ 300")
    yield Row("… over the plain step's, as trained (bf16)", rates["library, bf16"] / plain, "≥ 1.5")
    yield Row("… over the plain step's, float32", rates["library, float32"] / plain, "≥ 1.1")
    yield Row("… relative difference of losses, float32", difference, "≤ 1e-5")


def image_memory() -> Iterator[Row]:
    """Peak memory of a step at 64×64, batch 32, 10 seeds, beyond what is there before it."""
    whole, parts = (isolated(_peak_of_step, at_once) for at_once in (None, 1))
    yield Row("robust U-Net step at 64×64, GiB", whole / 2**30, "≤ 24")
    yield Row("… one seed at a time: share of that memory", parts / whole, "≤ 0.25")


def build_image_trainer(
    dtype: torch.dtype = torch.float32,
    *,
    size: int = 32,
    width: int = 8,
    seeds_at_once: int | None = None,
) -> AlternatingTrainer:
    """The inpainting networks, untrained, on noise, and the same random draws at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        estimator = UNet(Inpainting(size), size, width, stochastic=True).to(dtype)
        critic = ResNetCritic(size, width).to(dtype)
    generator = torch.Generator().manual_seed(0)
    settings = TrainingSettings(
        batch_size=32,
        robustness_weight=500.0,
        robustness_scale="mean",
        robustness_seeds=10,
        seeds_at_once=seeds_at_once,
        attack_steps=5,
        attack_lr=1.0,
        epsilon=2.5 * size / 64,
    )
    return AlternatingTrainer(
        estimator,
        critic,
        torch.rand(64, 3, size, size, generator=generator).to(dtype),
        Inpainting(size).degrade,
        settings,
        generator=generator,
        measured=lambda network: StatisticsPerSeed(network, settings.batch_size),
    )


def floor_step(trainer: AlternatingTrainer) -> None:
    """The passes of the step and nothing else."""
    gan_passes(trainer)
    robustness_passes(trainer)


def gan_passes(trainer: AlternatingTrainer) -> None:
    """One of each network, with gradients of the estimator's weights."""
    y = trainer.degrade(trainer.batch())
    fake = sample(trainer.estimator, y, generator=trainer.generator)  # type: ignore[arg-type]
    loss = estimator_gan_loss(trainer.critic(fake))
    torch.autograd.grad(loss, list(trainer.estimator.parameters()))


def robustness_passes(trainer: AlternatingTrainer) -> None:
    """Two over all seeds with gradients of the weights, and the attack's with gradients of y."""
    s, weights = trainer.settings, list(trainer.estimator.parameters())
    y = trainer.degrade(trainer.batch())
    z = trainer.measured.seed(y, s.robustness_seeds, generator=trainer.generator)
    for _ in range(2):
        torch.autograd.grad(restore(trainer.measured, y, z).sum(), weights)
    for _ in range(s.attack_steps):
        y = y.detach().requires_grad_(True)
        torch.autograd.grad(restore(trainer.measured, y, z).sum(), y)


def critic_passes(trainer: AlternatingTrainer) -> None:
    """One of the estimator, two of the critic, and R1's where its turn is."""
    s, critic = trainer.settings, trainer.critic
    real, weights = trainer.batch(), list(critic.parameters())
    with torch.no_grad():
        fake = sample(trainer.estimator, trainer.degrade(real), generator=trainer.generator)  # type: ignore[arg-type]
    loss = critic_gan_loss(critic(real), critic(fake))
    if trainer.step % s.r1_every == 0:
        loss = loss + r1_penalty(critic, real, gamma=s.r1_gamma, convention=s.r1_convention)
    torch.autograd.grad(loss, weights)


STEPS: dict[str, Callable[[AlternatingTrainer], Tensor]] = {
    "library": library_step,
    "transcription": transcribed_step,
}


def _measure() -> tuple[dict[str, float], float]:
    trainer = build_trainer()
    steps = {name: lambda step=step: step(trainer) for name, step in STEPS.items()}
    median_seconds(steps, repeats=2)  # warms up
    return median_seconds(steps, repeats=15), relative_difference(build_trainer, torch.float32)


def _measure_images() -> tuple[dict[str, float], float]:
    keep_freed_memory()
    trainer = build_image_trainer()
    steps: dict[str, Callable[[], object]] = {
        name: lambda step=step: step(trainer) for name, step in STEPS.items()
    }
    steps["floor"] = lambda: floor_step(trainer)
    median_seconds(steps, repeats=1)  # warms up
    # In float32, five steps of sign-like Adam make a visible difference out of rounding.
    return median_seconds(steps, repeats=5), relative_difference(build_image_trainer, torch.float64)


def _measure_grid() -> dict[str, float]:
    keep_freed_memory()
    settings = registry.load("sr_scaling", "laptop", data="faces", scales=[4])
    jobs = {job.key: job for job in sr_scaling.jobs_of(settings)}
    trainer = sr_scaling.METHOD.build(jobs["robust_sto_gan"])
    # Some losses enter every n-th step: the mean is over as many as bring all of them round.
    cycle = math.lcm(trainer.settings.r1_every, trainer.settings.robustness_every)

    def library() -> None:
        for _ in range(cycle):
            trainer.advance()

    def floor() -> None:
        for step in range(cycle):
            trainer.step = step
            critic_passes(trainer)
            gan_passes(trainer)
            if (step + 1) % trainer.settings.robustness_every == 0:
                robustness_passes(trainer)

    steps: dict[str, Callable[[], object]] = {"library": library, "floor": floor}
    median_seconds(steps, repeats=2)  # warms up
    seconds = median_seconds(steps, repeats=9)
    return {name: value / cycle for name, value in seconds.items()}


class PlainUNet(UNet):
    """The U-Net with its channels concatenated, the seed's among them."""

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return self._plain(self.first(self.degradation.lift(y)), y, z)

    def restore_seeds(self, y: Tensor, z: Tensor) -> Tensor:
        h, repeated = (
            x.expand(len(z), *x.shape).flatten(0, 1)
            for x in (self.first(self.degradation.lift(y)), y)
        )
        return self._plain(h, repeated, z.flatten(0, 1)).unflatten(0, z.shape[:2])

    def _plain(self, h: Tensor, y: Tensor, z: Tensor) -> Tensor:
        skips = []
        for down, noise in zip(self.down, self.seed_maps(z), strict=True):
            skips.append(h)
            h = down(F.max_pool2d(torch.cat([h, noise], 1), 2))
        for up in self.up:
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = up(torch.cat([skips.pop(), h], 1))
        return self.degradation.project(self.last(h), y)


class PlainTrainer(AlternatingTrainer):
    """The trainer with one pass of the critic for each thing that it is asked for."""

    def critic_loss(self) -> Tensor:
        s, real = self.settings, self.batch()
        with torch.no_grad():
            fake = sample(self.estimator, self.degrade(real), generator=self.generator)  # type: ignore[arg-type]
        loss = critic_gan_loss(self.critic(real), self.critic(fake))
        if self.step % s.r1_every == 0:
            penalty = r1_penalty(self.critic, real, gamma=s.r1_gamma, convention=s.r1_convention)
            loss = loss + s.r1_every * penalty
        return loss


def fashion_trainer(precision: str, *, plain: bool) -> AlternatingTrainer:
    """The training as preset laptop has it, of weights and draws that are always the same."""
    settings = registry.load("inpaint", "laptop", data="fashion", precision=precision)
    jobs = {job.key: job for job in inpaint.main_jobs(settings)}
    trainer = inpaint.METHOD.build(jobs["robust_sto_gan"])
    if plain:
        trainer.__class__ = PlainTrainer
        _unet(trainer.estimator).__class__ = PlainUNet
    return trainer


def _unet(network: nn.Module) -> UNet:
    assert isinstance(network, UNet)
    return network


def gan_losses(trainer: AlternatingTrainer) -> list[float]:
    """The critic's, with and without R1, and the estimator's; an attack would magnify rounding."""
    losses = []
    for step in (0, 1):
        trainer.step = step
        losses += [trainer.critic_loss().item(), trainer.estimator_loss().item()]
    return losses


def _measure_fashion() -> tuple[dict[str, float], float]:
    torch.set_num_threads(1)
    keep_freed_memory()
    ours, theirs = (gan_losses(fashion_trainer("float32", plain=plain)) for plain in (False, True))
    difference = max(abs(a / b - 1) for a, b in zip(ours, theirs, strict=True))
    trainers = {
        "plain, float32": fashion_trainer("float32", plain=True),
        "library, float32": fashion_trainer("float32", plain=False),
        "library, bf16": fashion_trainer("bf16", plain=False),
    }
    cycle = 6  # R1 enters every second step, L_R every third

    def steps(trainer: AlternatingTrainer) -> Callable[[], None]:
        def run() -> None:
            for _ in range(cycle):
                trainer.advance()

        return run

    runs = {name: steps(trainer) for name, trainer in trainers.items()}
    least_seconds(runs, repeats=1)  # warms up
    seconds = least_seconds(runs, repeats=8)
    images = cycle * trainers["plain, float32"].settings.batch_size
    return {name: images / value for name, value in seconds.items()}, difference


def _peak_of_step(seeds_at_once: int | None) -> int:
    trainer = build_image_trainer(size=64, width=24, seeds_at_once=seeds_at_once)
    before = peak_bytes()
    library_step(trainer)
    return peak_bytes() - before
