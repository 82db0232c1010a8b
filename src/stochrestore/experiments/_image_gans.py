"""The GANs of the image experiments (Sec. 6.1, App. E.2): how they are built, trained, loaded."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import nn

from stochrestore.config import ExperimentSettings
from stochrestore.degradations import ImageDegradation
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.mlp import ImageMLP, MLPCritic
from stochrestore.estimators.resnet_critic import ResNetCritic
from stochrestore.estimators.unet import StatisticsPerSeed, UNet
from stochrestore.experiments._trainings import Model
from stochrestore.problems.images import ImageSet, load_images
from stochrestore.training import AlternatingTrainer, TrainingSettings


class ImageSettings(ExperimentSettings, TrainingSettings):
    """Data and networks of the image GANs, beside their training."""

    data: str = Field("faces", description="faces, digits, celeba:PATH or folder:PATH")
    skip_bad: int = Field(0, ge=0, description="unreadable images to leave out before giving up")
    size: int = Field(64, ge=8, description="side of the images")
    width: int = Field(24, ge=1, description="s of the U-Net, or units of the MLP")
    critic_width: int = Field(16, ge=1, description="f of the critic, or units of the MLP")
    seed_dims: int = Field(16, ge=1, description="length of the MLP's seed (the U-Net has its own)")
    seed_layer: int = Field(0, ge=0, le=4, description="layer of the MLP that the seed enters")
    training_images: int = Field(20_000, ge=2, description="images to train on, at most")
    validation_images: int = Field(10_000, ge=2, description="images to restore, at most")
    runs: int = Field(1, ge=1, description="independently trained networks of each kind")
    train: bool = Field(False, description="train now instead of loading weights")
    weights: str = Field("", description="folder of weights to load; empty: those shipped")
    device: str = Field("auto", description="auto, cpu, cuda")

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        kind, _, path = data.partition(":")
        if kind in ("faces", "digits") and not path:
            return data
        if kind in ("celeba", "folder") and path:
            return data
        raise ValueError("faces, digits, celeba:PATH or folder:PATH")

    @field_validator("device")
    @classmethod
    def _present_device(cls, device: str) -> str:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError("auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("auto or cpu: this machine has no GPU that torch can use")
        return device

    @property
    def kind(self) -> str:
        """The sort of data: faces, digits, celeba or folder."""
        return self.data.partition(":")[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of the images."""
        return (1, 8, 8) if self.kind == "digits" else (3, self.size, self.size)

    def torch_device(self) -> torch.device:
        """Where to compute."""
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(automatic if self.device == "auto" else self.device)


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
    return UNet(degradation, s.size, s.width, stochastic=model.stochastic)


def build_critic(settings: ImageSettings) -> nn.Module:
    """The untrained critic: an MLP for digits, else the ResNet."""
    if settings.kind == "digits":
        return MLPCritic(settings.critic_width, math.prod(settings.shape))
    return ResNetCritic(settings.size, settings.critic_width)


def build_trainer(
    model: Model, settings: ImageSettings, degradation: ImageDegradation, *, seed: int
) -> AlternatingTrainer:
    """Networks, data and generator of a training, all decided by its seed."""
    device = settings.torch_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = build_estimator(model, settings, degradation).to(device)
        critic = build_critic(settings).to(device)
    updates = {
        "robustness_seeds": settings.robustness_seeds if model.stochastic else 1,
        "robustness_weight": settings.robustness_weight if model.robust else 0.0,
    }

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
        settings.model_copy(update=updates),
        generator=torch.Generator().manual_seed(seed),
        measured=measured,
    )
