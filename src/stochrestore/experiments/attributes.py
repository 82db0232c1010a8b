"""Trains the network behind the features ``attributes``: it reads faces' latents off images.

The features of Inception know photographs; procedural faces have latents instead, and a network
that can tell these apart sees what makes one face differ from another.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm

from stochrestore import store
from stochrestore.errors import silent
from stochrestore.networks.attributes import DIMS, SIZE, AttributeNetwork
from stochrestore.problems.faces.distribution import HIDDEN, VISIBLE, Faces

NAME = "attributes"


class AttributesSettings(BaseModel):
    """How the attribute network is trained."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    seed: int = Field(20_230_723, ge=0, description="of the faces, the weights and the order")
    training_images: int = Field(65_536, ge=64, description="faces to train on")
    held_out: int = Field(4096, ge=16, description="faces to measure on, never trained on")
    steps: int = Field(8000, ge=1, description="batches")
    batch_size: int = Field(64, ge=2, description="faces a batch")
    lr: float = Field(3e-3, gt=0, description="Adam's largest step, falling to 0 as a cosine")


class LabelledFaces(NamedTuple):
    """Faces and what is to be read off them."""

    images: Tensor
    """(N, 3, 32, 32)"""
    continuous: Tensor
    """(N, C), in [0, 1)"""
    classes: Tensor
    """(N, K), class indices"""


class AttributeReader(nn.Module):
    """The attribute network with a linear layer that reads each latent off its features."""

    def __init__(self) -> None:
        super().__init__()
        self.network = AttributeNetwork()
        latents = VISIBLE + HIDDEN
        continuous = sum(not latent.classes for latent in latents)
        self.values = nn.Linear(DIMS, continuous)
        self.logits = nn.ModuleList(
            nn.Linear(DIMS, len(latent.classes)) for latent in latents if latent.classes
        )

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, S, S) → the continuous latents, (N, C), and logits of each of the K others."""
        features = self.network(images)
        return self.values(features), [layer(features) for layer in self.logits]


def train_attributes(
    settings: AttributesSettings, folder: Path, *, progress: bool = True
) -> dict[str, Any]:
    """Train the network and write ``attributes.safetensors`` and its record to ``folder``.

    Returns:
        The record: settings, accuracy of each categorical latent and R² of each continuous one
        on held-out faces, versions, seconds.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        reader = AttributeReader()
    faces = labelled_faces(settings.seed, 0, settings.training_images)
    _fit(reader, faces, settings, progress=progress)
    stop = settings.training_images + settings.held_out
    held_out = labelled_faces(settings.seed, settings.training_images, stop)
    record = {
        "job": NAME,
        "settings": settings.model_dump(mode="json"),
        "held_out": measure(reader, held_out),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": round(time.perf_counter() - started, 1),
    }
    store.save(reader.network, folder / f"{NAME}.safetensors", record, half=True)
    return record


def labelled_faces(seed: int, start: int, stop: int) -> LabelledFaces:
    """Faces start … stop − 1 of a seed's sequence, at the size of the network."""
    faces = Faces(SIZE)
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


def _fit(
    reader: AttributeReader, faces: LabelledFaces, settings: AttributesSettings, *, progress: bool
) -> None:
    """Adam on random batches, with a step size that rises briefly and then falls to 0."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(reader.parameters(), settings.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=0.1, cycle_momentum=False
    )
    reader.train()
    for _ in tqdm(range(settings.steps), NAME, disable=silent(progress)):
        rows = torch.randint(len(faces.images), (settings.batch_size,), generator=generator)
        batch = LabelledFaces(*(tensor[rows] for tensor in faces))
        optimizer.zero_grad()
        loss(reader, batch).backward()
        optimizer.step()
        schedule.step()
