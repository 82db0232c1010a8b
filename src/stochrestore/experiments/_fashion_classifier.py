"""Trains the network behind the features ``fashion``: a small classifier of Fashion-MNIST.

Inception knows colour photographs of 299×299 pixels; what tells one piece of clothing from another
at 16×16 is better read off a network that was trained to do so. Noise and blur are among its
training images, see :mod:`stochrestore.experiments._augmentation`.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm

from stochrestore.errors import silent
from stochrestore.estimators import pretrained
from stochrestore.experiments._augmentation import blurred, noise_and_blur
from stochrestore.metrics.features import FASHION_DIMS, FashionNetwork
from stochrestore.problems import fashion

NAME = "fashion"
SLIGHT_NOISE = 0.05


class FashionSettings(BaseModel):
    """How the classifier is trained."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    seed: int = Field(0, ge=0, description="of the weights, the order and the augmentation")
    steps: int = Field(5000, ge=1, description="batches")
    batch_size: int = Field(64, ge=2, description="images a batch")
    lr: float = Field(3e-3, gt=0, description="AdamW's largest step, falling to 0 as a cosine")


class FashionClassifier(nn.Module):
    """The feature network with a linear layer for the ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FashionNetwork()
        self.logits = nn.Linear(FASHION_DIMS, len(fashion.CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, S, S) in [0, 1] → logits, (N, 10)."""
        return self.logits(self.network(images))


def train_fashion(
    settings: FashionSettings, folder: Path, *, progress: bool = True
) -> dict[str, Any]:
    """Train the network and write ``fashion.safetensors`` and its record to ``folder``.

    Returns:
        The record: settings, accuracy on the validation images as they are, with noise, and
        blurred, versions, seconds.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier = FashionClassifier()
    parts = fashion.shipped()
    _fit(classifier, parts["train"], settings, progress=progress)
    record = {
        "job": NAME,
        "settings": settings.model_dump(mode="json"),
        "accuracy": accuracies(classifier, parts["validation"], seed=settings.seed),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": round(time.perf_counter() - started, 1),
    }
    pretrained.save(classifier.network, folder / f"{NAME}.safetensors", record, half=True)
    return record


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
    classifier.eval()
    answers = torch.cat([classifier(x).argmax(1) for x in images.split(512)])
    return round((answers == labels).double().mean().item(), 4)


def _fit(
    classifier: FashionClassifier,
    part: fashion.Part,
    settings: FashionSettings,
    *,
    progress: bool,
) -> None:
    """AdamW on random batches, with a step size that rises briefly and then falls to 0."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(classifier.parameters(), settings.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=0.1, cycle_momentum=False
    )
    classifier.train()
    for _ in tqdm(range(settings.steps), NAME, disable=silent(progress)):
        rows = torch.randint(len(part.labels), (settings.batch_size,), generator=generator)
        images = noise_and_blur(part.pixels[rows].float() / 255, generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(classifier(images), part.labels[rows], label_smoothing=0.05).backward()
        optimizer.step()
        schedule.step()
