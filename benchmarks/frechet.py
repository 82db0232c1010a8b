"""The Fréchet distance against piq and against scipy's matrix square root."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from benchmarks.measure import Row, isolated, median_seconds
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.metrics.torchvision_ops import import_piq

SIZE, DIMS = 5000, 2048
METHODS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "library": frechet_distance,
    "piq": lambda real, fake: float(import_piq().FID().compute_metric(real, fake)),
}


def at_2048_dimensions() -> Iterator[Row]:
    seconds, error = isolated(_measure)
    ratio = seconds["library"] / seconds["piq"]
    yield Row("frechet_distance: relative error at 2048 dims", error, "≤ 1e-6")
    yield Row("frechet_distance: time over piq's", ratio, "≤ 0.3")


def rank_deficient() -> Iterator[Row]:
    """Fewer samples than dimensions: scipy's root of a singular matrix is no reference there."""
    real, fake = features(500)
    error = abs(frechet_distance(real, fake) / by_samples(real, fake) - 1)
    yield Row("frechet_distance: relative error, 500 samples", error, "≤ 1e-6")


def features(size: int) -> tuple[Tensor, Tensor]:
    """Positive and of unequal spread, as a network's are: (size, 2048) each."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(DIMS, generator=generator)
    real = (torch.randn(size, DIMS, generator=generator) * scale).relu()
    fake = (torch.randn(size, DIMS, generator=generator) * scale + 0.1).relu()
    return real, fake


def by_sqrtm(real: Tensor, fake: Tensor) -> float:
    """The definition, word for word, in float64."""
    mean_a, mean_b = (x.double().mean(0) for x in (real, fake))
    a, b = (np.atleast_2d(np.cov(x.double().numpy().T)) for x in (real, fake))
    root = scipy.linalg.sqrtm(a @ b).real
    shift = float((mean_a - mean_b).square().sum())
    return float(shift + np.trace(a) + np.trace(b) - 2 * np.trace(root))


def by_samples(real: Tensor, fake: Tensor) -> float:
    """Without covariances: the nuclear norm of the samples' inner products, in float64."""
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (real.double(), fake.double()))
    shift = (real.double().mean(0) - fake.double().mean(0)).square().sum()
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    return float(shift + a.square().sum() + b.square().sum() - 2 * overlap)


def _measure() -> tuple[dict[str, float], float]:
    real, fake = features(SIZE)
    for method in METHODS.values():
        method(real[:100, :10], fake[:100, :10])  # imports and threads are not what is measured
    runs = {name: lambda method=method: method(real, fake) for name, method in METHODS.items()}
    seconds = median_seconds(runs, repeats=3)
    error = abs(frechet_distance(real, fake) / by_sqrtm(real, fake) - 1)
    return seconds, error
