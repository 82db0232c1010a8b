"""Trains the network behind the features ``fashion``: a small classifier of Fashion-MNIST.

Inception knows colour photographs of 299×299 pixels. What tells one piece of clothing from another
at 16×16 pixels is better read off a network that was trained to do so. Noise and blur are among
its training images, see :mod:`stochrestore.experiments.augmentation`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stochrestore.config import Preset
from stochrestore.data import fashion
from stochrestore.estimators.base import on_device
from stochrestore.experiments.augmentation import blurred, noise_and_blur
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.networks.fashion import DIMS, FashionNetwork
from stochrestore.training.jobs import Job, Method
from stochrestore.training.supervised import SupervisedTrainer, one_cycle

NAME = "fashion"
SLIGHT_NOISE = 0.05


class Settings(TrainedSettings):
    """How the classifier is trained; the same at every preset."""

    experiment: ClassVar[str] = NAME

    preset: Preset = Field("laptop", description="changes nothing here")
    seed: int = Field(0, ge=0, lt=2**63, description="of weights, order and augmentation")
    steps: int = Field(5000, ge=1, description="batches")
    batch_size: int = Field(64, ge=2, description="images a batch")
    lr: float = Field(3e-3, gt=0, description="AdamW's largest step, falling to 0 as a cosine")


class FashionClassifier(nn.Module):
    """The feature network with a linear layer for the ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FashionNetwork()
        self.logits = nn.Linear(DIMS, len(fashion.CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, S, S) in [0, 1] → logits, (N, 10)."""
        return self.logits(self.network(images))


class FashionTrainer(SupervisedTrainer):
    """Trains the classifier on random batches of the shipped training images."""

    parts: ClassVar[tuple[str, ...]] = ("classifier", "optimizer")

    def __init__(self, settings: Settings) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.classifier = FashionClassifier().to(settings.torch_device()).train()
        self.recipe, self.data = settings, fashion.shipped()
        super().__init__(
            self.classifier.network,
            parameters=self.classifier.parameters(),
            weight_decay=0.02,
            steps=settings.steps,
            batch_size=settings.batch_size,
            settings=settings.model_dump(mode="json"),
            generator=torch.Generator().manual_seed(settings.seed),
        )

    def learning_rate(self) -> float:
        """Rises briefly, then falls to 0."""
        return one_cycle(self.step, self.steps, self.recipe.lr)

    def loss(self) -> Tensor:
        """The cross-entropy of a random batch, with smoothed labels."""
        part = self.data["train"]
        rows = torch.randint(len(part.labels), (self.batch_size,), generator=self.generator)
        images = noise_and_blur(part.pixels[rows].float() / 255, generator=self.generator)
        logits = self.classifier(on_device(images, self.device))
        labels = on_device(part.labels[rows], self.device)
        return F.cross_entropy(logits, labels, label_smoothing=0.05)

    def findings(self) -> dict[str, Any]:
        """The accuracy on validation images: as they are, with noise, and blurred."""
        part = self.data["validation"]
        return {"accuracy": accuracies(self.classifier, part, seed=self.recipe.seed)}


def all_jobs(settings: Settings) -> dict[str, Job]:
    """The one training."""
    return {NAME: Job(NAME, None, settings.seed, settings)}


def build_trainer(job: Job) -> FashionTrainer:
    """Network and order of the images, all decided by the settings' seed."""
    return FashionTrainer(job.settings)


def build_network(job: Job) -> FashionNetwork:
    """The untrained network."""
    return FashionNetwork()


METHOD = Method(build=build_trainer, network=build_network, half=True)


def accuracies(
    classifier: FashionClassifier, part: fashion.Part, *, seed: int = 0
) -> dict[str, float]:
    """Share of right answers for images as they are, with noise of 0.05, and blurred 3×3."""
    images = part.pixels.float() / 255
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    versions = {
        "clean": images,
        "noise": images + SLIGHT_NOISE * noise,
        "blurred": blurred(images),
    }
    return {name: _accuracy(classifier, x, part.labels) for name, x in versions.items()}


@torch.no_grad()
def _accuracy(classifier: FashionClassifier, images: Tensor, labels: Tensor) -> float:
    device = next(classifier.eval().parameters()).device
    answers = torch.cat([classifier(x.to(device)).argmax(1).cpu() for x in images.split(512)])
    return round((answers == labels).double().mean().item(), 4)
