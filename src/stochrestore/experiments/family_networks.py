"""The networks of the families' chapter: which there are, how they are built and trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from stochrestore.attacks import Attack
from stochrestore.data.images import digest
from stochrestore.degradations import FirstCoordinate
from stochrestore.estimators.base import on_device
from stochrestore.estimators.fibre import Fibre
from stochrestore.experiments import inpaint, sr_scaling
from stochrestore.experiments.image_gans import ImageSettings, images
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.losses import robustness_loss
from stochrestore.networks.families import (
    PMRF,
    ConditionalVAE,
    CouplingFlow,
    Diffusion,
    FibreEstimator,
    PosteriorDiffusion,
    RectifiedFlow,
)
from stochrestore.problems.toy import TOYS
from stochrestore.training.jobs import Job
from stochrestore.training.supervised import SupervisedTrainer, cosine

EXPERIMENT = "families"
IMAGES = {
    "digits": ("digits", 0),
    "digits_x4": ("digits", 4),
    "fashion": ("fashion", 0),
    "fashion_x4": ("fashion", 4),
}
"""The image problems: the data, and the scale of super-resolution; 0 where it is inpainting."""
PROBLEMS = (*TOYS, *IMAGES)
SHOWN = ("disk", "ring", "digits", "digits_x4", "fashion", "fashion_x4")
"""The problems that ``problem=all`` stands for, whose trainings are shipped."""
PICTURED = ("disk", "ring", "digits", "fashion")
"""The problems of which networks are kept, for pictures of what they make."""
Family = Literal["", "flow", "ddim", "ancestral", "ddrm", "vae", "coupling", "pmrf"]
FAMILIES: tuple[Family, ...] = ("flow", "ddim", "ancestral", "ddrm", "vae", "coupling", "pmrf")


class FamilySettings(TrainedSettings):
    """Networks, trainings and measurements of one problem, or of all."""

    experiment: ClassVar[str] = EXPERIMENT
    of_each_training: ClassVar[frozenset[str]] = frozenset({"family", "robustness_weight"})

    problem: str = Field("all", description=f"{', '.join(PROBLEMS)}, or all for {', '.join(SHOWN)}")
    family: Family = Field("", description="the family of a single training; empty for the grid")
    width: int = Field(64, ge=2, description="hidden units of each of three layers")
    evaluations: int = Field(
        12, ge=2, multiple_of=2, description="network evaluations of a flow's or diffusion's sample"
    )
    couplings: int = Field(4, ge=2, description="affine couplings of the normalising flow")
    dequantisation: float = Field(
        0.0, ge=0, description="noise on its training data, in units of what y leaves open"
    )
    latent: int = Field(2, ge=1, description="length of the VAE's seed")
    decoder_noise: float = Field(0.1, gt=0, description="width of the VAE's decoder, same units")
    source_noise: float = Field(0.1, gt=0, description="σ_s, noise at the start of PMRF's flow")
    source_noises: tuple[PositiveFloat, ...] = Field(
        (), strict=False, description="other values of σ_s that PMRF is trained with"
    )
    mean_steps: int = Field(
        0, ge=0, description="updates after which PMRF's mean stays as it is; 0: it never does"
    )
    mean_lengths: tuple[PositiveInt, ...] = Field(
        (), strict=False, description="other values of it that PMRF is trained with"
    )
    steps: int = Field(3000, ge=1, description="updates")
    batch_size: int = Field(256, ge=2, description="data in a step")
    lr: float = Field(2e-3, gt=0, description="Adam's learning rate; falls to 0 as a cosine")
    training_samples: int = Field(20_000, ge=10, description="size of a toy's training set")
    runs: int = Field(3, ge=1, description="independently trained networks of each kind")
    robustness_weights: tuple[NonNegativeFloat, ...] = Field(
        (0.0,), strict=False, min_length=1, description="values of λ_R in the grid, for R̃/ε²"
    )
    robustness_weight: float = Field(0.0, ge=0, description="λ_R of a single training")
    robustness_start: float = Field(
        0.6, ge=0, lt=1, description="share of the steps that come before L_R"
    )
    robustness_every: int = Field(2, ge=1, description="L_R enters every n-th step after that")
    robustness_batch: int = Field(64, ge=1, description="inputs in L_R")
    robustness_seeds: int = Field(4, ge=1, description="seeds averaged in Eq. 6")
    epsilon: float = Field(1e-3, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(3, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(5e-4, gt=0, description="Adam's learning rate in the attack")
    samples: int = Field(1000, ge=20, description="points in each set for precision and recall")
    k: int = Field(5, ge=1, description="neighbours in precision and recall")
    y_points: int = Field(200, ge=2, description="inputs for R, R̃ and the distance to posteriors")
    z_points: int = Field(512, ge=2, description="seeds of each, for the distance")
    attacked_seeds: int = Field(64, ge=2, description="seeds of each, for R and R̃")
    frozen_seeds: int = Field(3, ge=1, description="values that a network's seed is frozen to")
    heats: tuple[NonNegativeFloat, ...] = Field(
        (0.0, 0.25, 0.5, 0.75), strict=False, description="factors of the seed, beside 1"
    )

    @field_validator("problem")
    @classmethod
    def _known_problem(cls, problem: str) -> str:
        if problem not in ("all", *PROBLEMS):
            raise ValueError(f"all, {', '.join(PROBLEMS)}")
        return problem

    def attack(self) -> Attack:
        """The attack of these settings."""
        return Attack(self.epsilon, self.attack_steps, self.attack_lr)


MEASURED_BY = frozenset(
    {
        *("preset", "samples", "k", "n_eval", "y_points", "z_points", "attacked_seeds"),
        *("frozen_seeds", "heats"),
    }
)
"""What the numbers in a record depend on, beside what the weights do."""
ROBUSTNESS_ONLY = frozenset(
    {
        *("robustness_start", "robustness_every", "robustness_batch", "robustness_seeds"),
        *("attack_steps", "attack_lr"),
    }
)
"""What nothing depends on where λ_R = 0."""


def problems(settings: FamilySettings) -> list[FamilySettings]:
    """The settings of each problem to show: those of :data:`SHOWN`, or the one asked for."""
    if settings.problem != "all":
        return [settings]
    preset = FamilySettings.load(settings.preset).model_dump()
    shared = ("seed", "train", "device", "weights", "runs", "steps")
    given = {name: getattr(settings, name) for name in shared}
    changed = {name: value for name, value in given.items() if value != preset[name]}
    return [FamilySettings.load(settings.preset, problem=name, **changed) for name in SHOWN]


@cache
def image_settings(preset: str, problem: str, device: str = "auto") -> ImageSettings:
    """The settings of the image chapter with the same problem: data, attack and measurements."""
    data, scale = IMAGES[problem]
    if not scale:
        return inpaint.Settings.load(preset, data=data, device=device)
    grid = sr_scaling.Settings.load(preset, data=data, device=device)
    return sr_scaling.at_scale(grid, scale)


def image_degradation(problem: str, settings: ImageSettings) -> Any:
    """D of an image problem."""
    return (sr_scaling if IMAGES[problem][1] else inpaint).degradation(settings)


def fibre_of(settings: FamilySettings) -> Fibre:
    """The coordinates of a problem. The scales give u a standard deviation near 1."""
    if settings.problem in TOYS:
        return Fibre(FirstCoordinate(), (2,), scale=2.0)
    compared = image_settings(settings.preset, settings.problem, settings.device)
    degradation = image_degradation(settings.problem, compared)
    return Fibre(degradation, compared.shape, centre=0.5, scale=2.5)


def training_data(settings: FamilySettings, seed: int) -> Tensor:
    """The training set of a problem, (N, …)."""
    if settings.problem in TOYS:
        generator = torch.Generator().manual_seed(seed)
        return TOYS[settings.problem].sample(settings.training_samples, generator=generator).float()
    train = images(image_settings(settings.preset, settings.problem, settings.device)).train
    return train[: len(train)]


def data_digest(settings: FamilySettings) -> str:
    """The sha256 of a problem's training images; empty for toys, whose draws the seed decides."""
    if settings.problem in TOYS:
        return ""
    data = images(image_settings(settings.preset, settings.problem, settings.device))
    return digest(data)


def build(family: str, settings: FamilySettings, fibre: Fibre) -> FibreEstimator:
    """An untrained network."""
    s = settings
    builders: dict[str, Callable[[], FibreEstimator]] = {
        "flow": lambda: RectifiedFlow(fibre, s.width, s.evaluations // 2),
        "pmrf": lambda: PMRF(fibre, s.width, s.evaluations // 2, s.source_noise),
        "ddim": lambda: Diffusion(fibre, s.width, s.evaluations, path=False),
        "ancestral": lambda: Diffusion(fibre, s.width, s.evaluations, path=True),
        "ddrm": lambda: PosteriorDiffusion(fibre, s.width, s.evaluations),
        "vae": lambda: ConditionalVAE(fibre, s.width, s.latent, s.decoder_noise),
        "coupling": lambda: CouplingFlow(fibre, s.width, s.couplings, s.dequantisation),
    }
    return builders[family]()


def build_estimator(job: Job) -> FibreEstimator:
    """The untrained network of a job."""
    return build(job.settings.family, job.settings, fibre_of(job.settings))


class FamilyTrainer(SupervisedTrainer):
    """The loss of a family, and λ_R L_R (Eq. 8) through its whole sampler.

    Args:
        network: an untrained estimator.
        data: the training set, (N, …).
        settings: see :class:`FamilySettings`.
        generator: source of every random draw.
    """

    network: FibreEstimator

    def __init__(
        self,
        network: FibreEstimator,
        data: Tensor,
        settings: FamilySettings,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            network,
            steps=settings.steps,
            batch_size=settings.batch_size,
            settings=settings.model_dump(mode="json"),
            generator=generator,
        )
        self.data, self.recipe = data, settings

    def loss(self) -> Tensor:
        """The family's loss on a fresh batch, and L_R where this step has it."""
        s = self.recipe
        if s.mean_steps and self.step >= s.mean_steps and isinstance(self.network, PMRF):
            self.network.mean.requires_grad_(False)
        rows = torch.randint(len(self.data), (s.batch_size,), generator=self.generator)
        x = on_device(self.data[rows], self.device)
        loss = self.network.loss(x, generator=self.generator)
        if s.robustness_weight and self._with_robustness():
            loss = loss + s.robustness_weight * self._robustness(x[: s.robustness_batch])
        return loss

    def _with_robustness(self) -> bool:
        s = self.recipe
        started = self.step >= s.robustness_start * s.steps
        return started and self.step % s.robustness_every == 0

    def _robustness(self, x: Tensor) -> Tensor:
        s = self.recipe
        y = self.network.fibre.degradation.degrade(x)
        z = self.network.seed(y, s.robustness_seeds, generator=self.generator)
        attack, draws = s.attack(), self.generator
        return robustness_loss(self.network, y, z, attack, generator=draws, scale="slope")

    def learning_rate(self) -> float:
        """Falls to 0 as half a cosine."""
        return self.recipe.lr * cosine(self.step, self.recipe.steps)


def build_trainer(job: Job) -> FamilyTrainer:
    """Network, data and generator of a job, all decided by its seed."""
    settings = job.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network: nn.Module = build_estimator(job)
    data = training_data(settings, job.seed)
    generator = torch.Generator().manual_seed(job.seed)
    network = network.to(settings.torch_device())
    return FamilyTrainer(network, data, settings, generator=generator)  # type: ignore[arg-type]


def jobs_of(settings: FamilySettings) -> Iterator[Job]:
    """The grid of one problem: families × λ_R × runs, and variants of PMRF.

    The variants have another σ_s, or a mean that was trained for fewer steps. They are trained
    without L_R and with its largest weight.

    The weights of the first run without L_R are kept where pages show its samples. Of the others
    the record is kept, with what was measured at the end. Heats are measured without L_R.
    """
    for family in FAMILIES:
        yield from _grid(family, settings.model_copy(update={"family": family}))
    variants = {f"pmrf{noise:g}": {"source_noise": noise} for noise in settings.source_noises}
    variants |= {f"pmrf_mean{n}": {"mean_steps": n} for n in settings.mean_lengths}
    ends = tuple(dict.fromkeys((0.0, max(settings.robustness_weights))))
    for name, variant in variants.items():
        changed = {"family": "pmrf", "heats": (), "robustness_weights": ends, **variant}
        yield from _grid(name, settings.model_copy(update=changed), keep=False)


def _grid(name: str, settings: FamilySettings, *, keep: bool = True) -> Iterator[Job]:
    """The trainings of one kind of network: λ_R × runs."""
    for weight in settings.robustness_weights:
        heats = () if weight else settings.heats
        changed = settings.model_copy(update={"robustness_weight": weight, "heats": heats})
        for run in range(settings.runs):
            label = f"{settings.problem}/{name}-weight{weight:g}-seed{run}"
            kept = keep and settings.problem in PICTURED and run == 0 and weight == 0
            unused = frozenset() if weight else _only_in_the_loss(settings)
            yield Job(label, None, settings.seed + run, changed, kept, unused, MEASURED_BY)


def _only_in_the_loss(settings: FamilySettings) -> frozenset[str]:
    """What nothing depends on where λ_R = 0: of images ε too, since their chapters measure."""
    return ROBUSTNESS_ONLY | ({"epsilon"} if settings.problem in IMAGES else frozenset())


def all_jobs(settings: FamilySettings) -> dict[str, Job]:
    """Every training of all problems asked for, by name."""
    return {job.name: job for each in problems(settings) for job in jobs_of(each)}
