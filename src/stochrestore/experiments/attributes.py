"""Trains the network behind the features ``attributes``: it reads faces' latents off images.

The features of Inception know photographs; procedural faces have latents instead, and a network
that can tell these apart sees what makes one face differ from another. Noise and blur are among
its training images, see :mod:`stochrestore.experiments.augmentation`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stochrestore.estimators.base import on_device
from stochrestore.experiments import recognisers
from stochrestore.experiments.augmentation import noise_and_blur
from stochrestore.experiments.recognisers import all_jobs as all_jobs
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE
from stochrestore.training.jobs import Job

NAME = "attributes"


class Settings(recognisers.RecogniserSettings):
    """How the attribute network is trained."""

    experiment: ClassVar[str] = NAME

    seed: int = Field(
        20_230_723, ge=0, lt=2**63, description="of faces, weights, order and augmentation"
    )
    training_images: int = Field(65_536, ge=64, description="faces to train on")
    held_out: int = Field(4096, ge=16, description="faces to measure on, never trained on")
    steps: int = Field(8000, ge=1, description="batches")


class LabelledFaces(NamedTuple):
    """Faces and what is to be read off them."""

    images: Tensor
    """(N, 3, 32, 32)"""
    continuous: Tensor
    """(N, C), in [0, 1)"""
    classes: Tensor
    """(N, K), class indices"""


class AttributeReader(recognisers.Recogniser):
    """The attribute network with a linear layer that reads each latent off its features."""

    def __init__(self) -> None:
        super().__init__(NAME)
        latents, dims = VISIBLE + HIDDEN, self.network.dims
        self.values = nn.Linear(dims, sum(not latent.classes for latent in latents))
        self.logits = nn.ModuleList(
            nn.Linear(dims, len(latent.classes)) for latent in latents if latent.classes
        )

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, S, S) → the continuous latents, (N, C), and logits of each of the K others."""
        features = self.network(images)
        return self.values(features), [layer(features) for layer in self.logits]


class AttributesTrainer(recognisers.RecogniserTrainer):
    """Trains the attribute network within a reader, on random batches of faces."""

    kind: ClassVar[type[Any]] = AttributeReader

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.faces = labelled_faces(job.settings.seed, 0, job.settings.training_images)

    def loss(self) -> Tensor:
        """Of a random batch with noise and blur; see :func:`loss`."""
        rows = self.random_rows(len(self.faces.images))
        batch = LabelledFaces(*(part[rows] for part in self.faces))
        images = noise_and_blur(batch.images, generator=self.generator)
        batch = batch._replace(images=images)
        return loss(self.reader, LabelledFaces(*(on_device(part, self.device) for part in batch)))

    def findings(self) -> dict[str, Any]:
        """Accuracy of each categorical latent and R² of each continuous one, on held-out faces."""
        start = self.recipe.training_images
        faces = labelled_faces(self.recipe.seed, start, start + self.recipe.held_out)
        faces = LabelledFaces(*(tensor.to(self.device) for tensor in faces))
        return {"held_out": measure(self.reader, faces)}


METHOD = recognisers.recogniser_method(AttributesTrainer)


def labelled_faces(seed: int, start: int, stop: int) -> LabelledFaces:
    """Faces start … stop − 1 of a seed's sequence, at the size of the network, 32×32."""
    faces = Faces(32)
    continuous, classes = faces.targets(faces.latents(seed, start, stop))
    return LabelledFaces(faces.images(seed, start, stop), continuous, classes)


def loss(reader: AttributeReader, faces: LabelledFaces) -> Tensor:
    """Cross-entropies plus squared errors, relative to the variance 1/12 of U[0, 1)."""
    values, logits = reader(faces.images)
    entropies = [F.cross_entropy(a, b) for a, b in zip(logits, faces.classes.T, strict=True)]
    errors = 12 * (values - faces.continuous).square().mean(0)
    return torch.stack(entropies).sum() + errors.sum()


@torch.no_grad()
def measure(reader: AttributeReader, faces: LabelledFaces) -> dict[str, dict[str, float]]:
    """Accuracy beside the largest class's share, and R², of each latent by name."""
    reader.eval()
    values, logits = reader(faces.images)
    latents = VISIBLE + HIDDEN
    variance = faces.continuous.var(0, unbiased=False)
    explained = 1 - (values - faces.continuous).square().mean(0) / variance
    names = [latent.name for latent in latents if not latent.classes]
    accuracy, chance = {}, {}
    categorical = [latent for latent in latents if latent.classes]
    for latent, scores, classes in zip(categorical, logits, faces.classes.T, strict=True):
        accuracy[latent.name] = round((scores.argmax(1) == classes).double().mean().item(), 4)
        chance[latent.name] = round(classes.bincount().max().item() / len(classes), 4)
    r2 = {name: round(value, 4) for name, value in zip(names, explained.tolist(), strict=True)}
    return {"accuracy": accuracy, "largest_class": chance, "r2": r2}
