"""The GANs of the image experiments (Sec. 6.1, App. E.2): how they are built, trained, loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from stochrestore.data.images import (
    ALL_DATA,
    ByteImages,
    Images,
    ImageSet,
    digest,
    is_known,
    load_images,
    require_enough,
)
from stochrestore.degradations import ImageDegradation
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.batches import free_memory
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.losses import RobustnessScale
from stochrestore.networks.mlp import ImageMLP, MLPCritic
from stochrestore.networks.resnet_critic import ResNetCritic
from stochrestore.networks.unet import StatisticsPerSeed, UNet
from stochrestore.training.adversarial import AlternatingTrainer, TrainingSettings
from stochrestore.training.jobs import MODELS, Job, Method, Model
from stochrestore.training.loop import Metrics

CriticInit = Literal["default", "he"]
CriticInput = Literal["unit", "symmetric"]
GREY = ("digits", "fashion", "fashion_mnist")
"""Kinds of data with one channel."""
OF_CONVOLUTIONS = frozenset({"size", "critic_residual", "critic_input", "seed_scale"})
"""What nothing depends on where the networks are MLPs, on digits, which are always 8×8."""


def known_data(data: str, allowed: str) -> str:
    """What :func:`load_images` takes, without spaces around the colon.

    Raises:
        ValueError: the data are unknown; the line says what is allowed.
    """
    data = ":".join(part.strip() for part in data.split(":", 1))
    if not is_known(data):
        raise ValueError(allowed)
    return data


class ImageSettings(TrainedSettings, TrainingSettings):
    """Data, networks and training of the image GANs; the defaults are the paper's (App. E.2)."""

    steps: int = Field(1_200_000, ge=1, description="updates of the estimator, and of the critic")
    batch_size: int = Field(32, ge=2, description="not stated in the paper")
    betas: tuple[float, float] = Field((0.5, 0.99), strict=False, description="Adam's betas")
    lr_milestones: tuple[int, ...] = Field(
        (400_000, 500_000, 600_000, 700_000, 750_000),
        strict=False,
        description="steps at which the learning rates are multiplied by lr_decay",
    )
    r1_gamma: float = Field(1.0, ge=0, description="coefficient of the R1 penalty")
    robustness_weight: float = Field(500.0, ge=0, description="λ_R of Eq. 8 for robust models")
    robustness_scale: RobustnessScale = Field("mean", description="what R̃ is divided by")
    robustness_every: int = Field(3, ge=1, description="L_R enters every n-th estimator step")
    robustness_start: int = Field(
        0, ge=0, description="first steps of the deterministic robust model, trained without L_R"
    )
    robustness_seeds: int = Field(10, ge=1, description="seeds averaged in Eq. 6")
    epsilon: float = Field(2.5, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(5, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(1.0, gt=0, description="Adam's learning rate in the attack")

    data: str = Field("faces", description=ALL_DATA)
    skip_bad: int = Field(0, ge=0, description="unreadable images that are left out, at most")
    size: int = Field(64, ge=8, description="side of the images")
    width: int = Field(24, ge=1, description="s of the U-Net, or units of the MLP")
    critic_width: int = Field(16, ge=1, description="f of the critic, or units of the MLP")
    critic_init: CriticInit = Field("default", description="its initialisation: PyTorch's, or He's")
    critic_residual: float = Field(
        0.1, gt=0, description="what the critic's residual branches are multiplied by (Table 4)"
    )
    critic_input: CriticInput = Field(
        "unit", description="range of the images that the critic sees: unit, [0, 1], or [−1, 1]"
    )
    seed_scale: float = Field(
        1.0, gt=0, description="what the U-Net's seed Z ~ N(0, I) is multiplied by"
    )
    seed_dims: int = Field(16, ge=1, description="length of the MLP's seed (the U-Net has its own)")
    seed_layer: int = Field(0, ge=0, le=4, description="layer of the MLP that the seed enters")
    training_images: int = Field(20_000, ge=2, description="images to train on, at most")
    validation_images: int = Field(10_000, ge=2, description="images to restore, at most")
    curve_images: int = Field(
        1000, ge=16, description="images a side for what is measured along a training"
    )
    fresh_critic_steps: int = Field(
        300, ge=1, description="updates of the critic that tells restorations from images"
    )
    runs: int = Field(1, ge=1, description="independently trained networks of each kind")
    n_eval: int = Field(50_000, ge=8, description="images in each set for FID, precision, recall")
    k: int = Field(3, ge=1, description="neighbours in precision and recall")
    features: Literal["auto", "pixels", "centre", "attributes", "fashion", "inception"] = Field(
        "auto", description="features that images are compared by; auto: those that fit the data"
    )
    inception_weights: str = Field("", description="file of Inception's weights; empty: the cache")
    std_inputs: int = Field(1000, ge=2, description="inputs for the per-pixel std")
    std_samples: int = Field(32, ge=2, description="samples of each, for the per-pixel std")
    attacked_inputs: int = Field(1000, ge=2, description="inputs attacked for the robustness")

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        return known_data(data, ALL_DATA)

    @property
    def kind(self) -> str:
        """The sort of data: what stands before the path, if there is one."""
        return self.data.partition(":")[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of the images."""
        if self.kind == "digits":
            return (1, 8, 8)
        return (1 if self.kind in GREY else 3, self.size, self.size)

    @property
    def pixels(self) -> int:
        """Numbers in one image, C·S·S."""
        return math.prod(self.shape)


@cache
def image_set(
    data: str, size: int, training_images: int, validation_images: int, skip_bad: int
) -> ImageSet:
    """The images of an experiment: the same for all its runs."""
    counts = {"training_images": training_images, "validation_images": validation_images}
    return load_images(data, size, seed=0, **counts, skip_bad=skip_bad)


def images(settings: ImageSettings) -> ImageSet:
    """The images that the settings name, read or drawn once.

    Raises:
        InputError: either part is too small for precision and recall.
    """
    s = settings
    found = image_set(s.data, s.size, s.training_images, s.validation_images, s.skip_bad)
    require_enough(found, s.k + 1, f"precision and recall with k={s.k}")
    return found


def near(kept: Images, device: torch.device) -> Images:
    """Images on a GPU where half of its free memory holds them, else where they are.

    Then a batch is gathered there and nothing is sent; else every batch is.
    """
    if device.type == "cpu":
        return kept
    stored = kept.pixels if isinstance(kept, ByteImages) else kept
    return kept.to(device) if 2 * stored.nbytes <= free_memory(device) else kept


Degradation = Callable[[Any], ImageDegradation]
"""D for an experiment's settings."""


def build_estimator(job: Job, *, degradation: Degradation) -> UNet | ImageMLP:
    """The untrained estimator of a job: an MLP for digits, else the U-Net."""
    s, options = job.settings, {"stochastic": bool(job.stochastic)}
    if s.kind == "digits":
        options |= {"seed_dims": s.seed_dims, "seed_layer": s.seed_layer}
        return ImageMLP(degradation(s), s.shape, s.width, **options)
    options |= {"channels": s.shape[0], "seed_scale": s.seed_scale}
    return UNet(degradation(s), s.size, s.width, **options)


def build_critic(settings: ImageSettings) -> nn.Module:
    """The untrained critic: an MLP for digits, else the ResNet."""
    if settings.kind == "digits":
        critic: nn.Module = MLPCritic(settings.critic_width, settings.pixels)
    else:
        critic = ResNetCritic(
            settings.size,
            settings.critic_width,
            channels=settings.shape[0],
            residual=settings.critic_residual,
            centred=settings.critic_input == "symmetric",
        )
    if settings.critic_init == "he":
        he_initialisation(critic)
    return critic


@torch.no_grad()
def he_initialisation(network: nn.Module) -> None:
    """Weights that keep the variance of activations, and zero biases (He et al., 2015).

    PyTorch's default shrinks it by a third a layer, so that Table 4's critic, whose residual
    branches are multiplied by 0.1, starts out almost blind.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build_trainer(
    job: Job, *, degradation: Degradation, train: Images | None = None
) -> AlternatingTrainer:
    """Networks, data and generator of a training, all decided by its seed.

    Args:
        train: the training images; default: those that the job's settings name.
    """
    settings, device = job.settings, job.settings.torch_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        estimator = build_estimator(job, degradation=degradation).to(device)
        critic = build_critic(settings).to(device)
    seeds = settings.robustness_seeds if estimator.stochastic else 1

    def measured(network: Any) -> Estimator:
        unet = isinstance(network, UNet)
        return StatisticsPerSeed(network, settings.batch_size) if unet else network

    return AlternatingTrainer(
        estimator,
        critic,
        near(images(settings).train if train is None else train, device),
        degradation(settings).degrade,
        settings.model_copy(update={"robustness_seeds": seeds}),
        generator=torch.Generator().manual_seed(job.seed),
        measured=measured,
    )


def image_method(
    degradation: Degradation,
    evaluate: Callable[[Any, Job], Metrics],
    examine: Callable[..., Metrics],
) -> Method:
    """How the GANs of an experiment are trained, measured and loaded."""
    return Method(
        build=partial(build_trainer, degradation=degradation),
        network=partial(build_estimator, degradation=degradation),
        data=data_digest,
        evaluate=evaluate,
        examine=partial(examine, degradation=degradation),
        points=30,
    )


def data_digest(settings: ImageSettings) -> str:
    """The sha256 of the training images that the settings name."""
    data = images(settings)
    return digest(replace(data, validation=data.train[:0]))


def with_seeds(
    name: str, model: Model, settings: ImageSettings, runs: int, *, keep_weights: bool = True
) -> Iterator[Job]:
    """The trainings of one kind of network: ``runs`` seeds from the settings' on."""
    unused = OF_CONVOLUTIONS if settings.kind == "digits" else frozenset()
    for run in range(runs):
        seed = settings.seed + run
        yield Job(f"{name}-seed{run}", model, seed, settings, keep_weights, unused)


def model_jobs(
    settings: ImageSettings, folder: str, models: Mapping[str, Model] = MODELS
) -> Iterator[Job]:
    """The trainings of each model, ``runs`` seeds each; λ_R = 0 for the erratic ones.

    ``robustness_start`` holds for the deterministic robust model, see :class:`ImageSettings`.

    Args:
        folder: what the names of the jobs begin with.
    """
    kinds = []
    for name, model in models.items():
        weight = settings.robustness_weight if model.robust else 0.0
        late = model.robust and not model.stochastic
        start = settings.robustness_start if late else 0
        update = {"robustness_weight": weight, "robustness_start": start}
        changed = settings.model_copy(update=update)
        kinds.append(with_seeds(f"{folder}/{name}", model, changed, settings.runs))
    for one_of_each in zip(*kinds, strict=True):  # so that a first network of each comes first
        yield from one_of_each


def workers(settings: ImageSettings) -> int:
    """Trainings at a time: one on a GPU, two on the processor unless they are very short."""
    # A process takes seconds to start, as long as a hundred steps of small networks.
    return 2 if settings.torch_device().type == "cpu" and settings.steps >= 100 else 1
