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

from stochrestore.data import fashion
from stochrestore.estimators.base import on_device
from stochrestore.experiments import recognisers
from stochrestore.experiments.augmentation import blurred, noise_and_blur
from stochrestore.experiments.recognisers import all_jobs as all_jobs
from stochrestore.training.jobs import Job

NAME = "fashion"
SLIGHT_NOISE = 0.05


class Settings(recognisers.RecogniserSettings):
    """How the classifier is trained."""

    experiment: ClassVar[str] = NAME

    seed: int = Field(0, ge=0, lt=2**63, description="of weights, order and augmentation")
    steps: int = Field(5000, ge=1, description="batches")


class FashionClassifier(recognisers.Recogniser):
    """The feature network with a linear layer for the ten classes."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.logits = nn.Linear(self.network.dims, len(fashion.CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, S, S) in [0, 1] → logits, (N, 10)."""
        return self.logits(self.network(images))


class FashionTrainer(recognisers.RecogniserTrainer):
    """Trains the classifier on random batches of the shipped training images."""

    kind: ClassVar[type[Any]] = FashionClassifier
    decay: ClassVar[float] = 0.02

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.data = fashion.shipped()

    def loss(self) -> Tensor:
        """The cross-entropy of a random batch, with smoothed labels."""
        part = self.data["train"]
        rows = self.random_rows(len(part.labels))
        images = noise_and_blur(part.pixels[rows].float() / 255, generator=self.generator)
        logits = self.reader(on_device(images, self.device))
        labels = on_device(part.labels[rows], self.device)
        return F.cross_entropy(logits, labels, label_smoothing=0.05)

    def findings(self) -> dict[str, Any]:
        """The accuracy on validation images: as they are, with noise, and blurred."""
        part = self.data["validation"]
        return {"accuracy": accuracies(self.reader, part, seed=self.recipe.seed)}


METHOD = recognisers.recogniser_method(FashionTrainer)


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
