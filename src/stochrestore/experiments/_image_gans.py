"""The GANs of the image experiments (Sec. 6.1, App. E.2): how they are built, trained, loaded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from stochrestore.degradations import ImageDegradation
from stochrestore.estimators import pretrained
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.mlp import ImageMLP, MLPCritic
from stochrestore.estimators.resnet_critic import ResNetCritic
from stochrestore.estimators.unet import StatisticsPerSeed, UNet
from stochrestore.experiments._device import DeviceSettings
from stochrestore.experiments._trainings import MODELS, Job, Method, Model, train_jobs
from stochrestore.losses import RobustnessScale
from stochrestore.problems.images import ALL_DATA, ImageSet, is_known, load_images
from stochrestore.training import AlternatingTrainer, TrainingSettings

CriticInit = Literal["default", "he"]
CriticInput = Literal["unit", "symmetric"]
GREY = ("digits", "fashion", "fashion_mnist")
"""Kinds of data with one channel."""


class ImageSettings(DeviceSettings, TrainingSettings):
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
        0, ge=0, description="steps before L_R enters in the deterministic robust model"
    )
    robustness_seeds: int = Field(10, ge=1, description="seeds averaged in Eq. 6")
    epsilon: float = Field(2.5, gt=0, description="ε, the attack's radius")
    attack_steps: int = Field(5, ge=1, description="Adam steps of the attack")
    attack_lr: float = Field(1.0, gt=0, description="Adam's learning rate in the attack")

    data: str = Field("faces", description=ALL_DATA)
    skip_bad: int = Field(0, ge=0, description="unreadable images to leave out before giving up")
    size: int = Field(64, ge=8, description="side of the images")
    width: int = Field(24, ge=1, description="s of the U-Net, or units of the MLP")
    critic_width: int = Field(16, ge=1, description="f of the critic, or units of the MLP")
    critic_init: CriticInit = Field("default", description="PyTorch's initialisation, or He's")
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
    n_eval: int = Field(50_000, ge=8, description="images a side for FID, precision, recall")
    k: int = Field(3, ge=1, description="neighbours in precision and recall")
    features: Literal["auto", "pixels", "centre", "attributes", "fashion", "inception"] = Field(
        "auto", description="what images are compared by; auto: what fits the data"
    )
    inception_weights: str = Field("", description="file of Inception's weights; empty: the cache")
    std_inputs: int = Field(1000, ge=2, description="inputs for the per-pixel std")
    std_samples: int = Field(32, ge=2, description="samples of each, for the per-pixel std")
    attacked_inputs: int = Field(1000, ge=2, description="inputs attacked for the robustness")
    train: bool = Field(False, description="train now instead of loading weights")
    weights: str = Field("", description="folder of weights to load; empty: those shipped")

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        if not is_known(data):
            raise ValueError(ALL_DATA)
        return data

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


@cache
def image_set(
    data: str, size: int, training_images: int, validation_images: int, skip_bad: int
) -> ImageSet:
    """The images of an experiment: the same for all its runs."""
    return load_images(
        data,
        size,
        seed=0,
        training_images=training_images,
        validation_images=validation_images,
        skip_bad=skip_bad,
    )


def images(settings: ImageSettings) -> ImageSet:
    """The images that the settings name, read or drawn once."""
    s = settings
    return image_set(s.data, s.size, s.training_images, s.validation_images, s.skip_bad)


def build_estimator(
    model: Model, settings: ImageSettings, degradation: ImageDegradation
) -> UNet | ImageMLP:
    """The untrained estimator of a model: an MLP for digits, else the U-Net."""
    s = settings
    if s.kind == "digits":
        return ImageMLP(
            degradation,
            s.shape,
            s.width,
            stochastic=model.stochastic,
            seed_dims=s.seed_dims,
            seed_layer=s.seed_layer,
        )
    return UNet(
        degradation,
        s.size,
        s.width,
        channels=s.shape[0],
        stochastic=model.stochastic,
        seed_scale=s.seed_scale,
    )


def build_critic(settings: ImageSettings) -> nn.Module:
    """The untrained critic: an MLP for digits, else the ResNet."""
    if settings.kind == "digits":
        critic: nn.Module = MLPCritic(settings.critic_width, math.prod(settings.shape))
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
    model: Model, settings: ImageSettings, degradation: ImageDegradation, *, seed: int
) -> AlternatingTrainer:
    """Networks, data and generator of a training, all decided by its seed."""
    device = settings.torch_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = build_estimator(model, settings, degradation).to(device)
        critic = build_critic(settings).to(device)
    seeds = settings.robustness_seeds if model.stochastic else 1

    def measured(network: Any) -> Estimator:
        return (
            StatisticsPerSeed(network, settings.batch_size)
            if isinstance(network, UNet)
            else network
        )

    return AlternatingTrainer(
        estimator,
        critic,
        images(settings).train,
        degradation.degrade,
        settings.model_copy(update={"robustness_seeds": seeds}),
        generator=torch.Generator().manual_seed(seed),
        measured=measured,
    )


#: Settings that change nothing in a trained network, whatever the experiment.
UNRELATED = {
    *("train", "weights", "runs", "device", "validation_images", "skip_bad"),
    *("n_eval", "k", "features", "inception_weights"),
    *("std_inputs", "std_samples", "attacked_inputs", "seeds_at_once", "curve_images"),
    "fresh_critic_steps",
}


def recorded(settings: ImageSettings, *unrelated: str) -> dict[str, Any]:
    """The settings one training depends on, as its record keeps them."""
    eight = {"size"} if settings.kind == "digits" else set()  # digits are 8×8 whatever it says
    return settings.model_dump(mode="json", exclude=UNRELATED | eight | set(unrelated))


def model_jobs(
    settings: ImageSettings, folder: str, models: Mapping[str, Model] = MODELS
) -> Iterator[Job]:
    """The trainings of each model, ``runs`` seeds each; λ_R = 0 for the erratic ones.

    ``robustness_start`` holds for the deterministic robust model, see :class:`ImageSettings`.

    Args:
        folder: what the names of the jobs begin with.
    """
    for run in range(settings.runs):  # so that a first network of each kind comes first
        for name, model in models.items():
            weight = settings.robustness_weight if model.robust else 0.0
            late = model.robust and not model.stochastic
            start = settings.robustness_start if late else 0
            update = {"robustness_weight": weight, "robustness_start": start}
            changed = settings.model_copy(update=update)
            yield Job(f"{folder}/{name}-seed{run}", model, settings.seed + run, changed)


def model_of(job: Job) -> str:
    """The key of :data:`MODELS` that a job's name ends with."""
    return Path(job.name).name.split("-")[0]


@contextmanager
def weights_folder(
    experiment: str, settings: ImageSettings, jobs: Iterable[Job], method: Method
) -> Iterator[Path]:
    """Where the jobs' weights are: those shipped, ``settings.weights``, or trained now."""
    if not settings.train:
        yield Path(settings.weights) if settings.weights else pretrained.shipped(experiment)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(settings.weights or scratch)
        workers = 2 if settings.torch_device().type == "cpu" else 1
        train_jobs(jobs, folder, method, workers=workers)
        yield folder


def load_job(
    job: Job, folder: Path, degradation: ImageDegradation
) -> tuple[Estimator, dict[str, Any]]:
    """The trained estimator of a job, ready to restore, and its record.

    Raises:
        InputError: missing or other weights.
    """
    network = build_estimator(job.model, job.settings, degradation)
    record = pretrained.load(network, folder / f"{job.name}.safetensors")
    return network.to(job.settings.torch_device()).eval().requires_grad_(False), record
