"""The measurements of image estimators (Table 1, Fig. 4); each number has an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stochrestore.data.images import Images
from stochrestore.degradations import ImageDegradation
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator, restore, sample
from stochrestore.experiments.image_gans import Degradation, ImageSettings, images
from stochrestore.metrics.coverage import coverage_interval
from stochrestore.metrics.features import FeatureExtractor, feature_extractor
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import (
    frechet_interval,
    mean_interval,
    student_interval,
)
from stochrestore.metrics.precision_recall import knn_radii, precision_recall
from stochrestore.metrics.psnr import MOST_PSNR
from stochrestore.metrics.restoration import (
    Robustness,
    consistency_psnr,
    per_pixel_std,
    robustness,
)
from stochrestore.training.jobs import MODELS, Job
from stochrestore.training.loop import Metrics, float32_as

Row = dict[str, Any]
BATCH = 256
"""Images that are restored together."""
CURVE_STD = (64, 8)
"""Inputs, and samples of each, for the std along a training."""
CURVE_ATTACKED = 64
"""Inputs attacked for the robustness along a training."""
MEASURED_ALONG = ("fid", "precision", "recall", "std", "robustness")
"""What :func:`curve_point` measures."""


@dataclass(frozen=True)
class Reference:
    """What restorations are compared with, computed once for all estimators.

    Args:
        extractor: maps images to features.
        real: features of training images (App. E.2), (N, D).
        radii: distance of each to its k-th neighbour, (N,).
        inputs: the degraded validation images, (M, …).
    """

    extractor: FeatureExtractor
    real: Tensor
    radii: Tensor
    inputs: Tensor

    @float32_as()
    def features(self, restored: Tensor) -> Tensor:
        """The features of restored images, (N, D)."""
        return self.extractor(restored)


def features_for(settings: ImageSettings) -> FeatureExtractor:
    """The features that fit the data.

    Attributes of faces, a classifier's of clothes, pixels of digits, the central pixels of patches,
    else Inception's.
    """
    fitting = {
        **{"faces": "attributes", "digits": "pixels", "patches": "centre"},
        **{"fashion": "fashion", "fashion_mnist": "fashion"},
    }
    automatic = fitting.get(settings.kind, "inception")
    return feature_extractor(
        automatic if settings.features == "auto" else settings.features,  # type: ignore[arg-type]
        inception_weights=Path(settings.inception_weights).expanduser()
        if settings.inception_weights
        else None,
        device=settings.torch_device(),
    )


def check_evaluation(settings: ImageSettings) -> None:
    """Refuse what could not be measured, before hours of training.

    Raises:
        InputError: weights of the features that are missing, or too few images.
    """
    features_for(settings)
    data = images(settings)
    n = min(settings.n_eval, len(data.train), len(data.validation))
    require(n > settings.k, "images to compare, n_eval", n, f"more than k = {settings.k}")


@float32_as()
def reference(settings: ImageSettings, degradation: ImageDegradation) -> Reference:
    """The real features and the inputs, ``settings.n_eval`` of each where there are so many."""
    return _compared(settings, degradation, images(settings).validation, settings.n_eval)


def _compared(
    settings: ImageSettings, degradation: ImageDegradation, restored: Images, n: int
) -> Reference:
    """The first n images to restore, beside the features of the first n training images."""
    device, extractor = settings.torch_device(), features_for(settings)
    real = extractor(images(settings).train[:n].to(device))
    inputs = degradation.degrade(restored[:n].to(device))
    return Reference(extractor, real, knn_radii(real, settings.k), inputs)


@float32_as()
@torch.no_grad()
def restorations(estimator: Estimator, inputs: Tensor, *, generator: torch.Generator) -> Tensor:
    """One restoration of each input, with a seed of its own (App. E.2.5)."""
    parts = [sample(estimator, y, generator=generator) for y in inputs.split(BATCH)]
    return torch.cat(parts)


@float32_as()
def quality(
    reference: Reference, fake: Tensor, settings: ImageSettings, *, alone: bool = True
) -> Row:
    """FID, precision and recall of restored images.

    Args:
        fake: their features, (N, D).
        alone: whether no other network of its kind is measured. Then the numbers have 95 %
            intervals, over the draw of real and of restored images, at this network and these
            numbers of images. Else the interval will be over networks, see :func:`over_runs`.
    """
    s, real = settings, reference.real
    shares = precision_recall(real, fake, s.k, real_radii=reference.radii)
    row: Row = {"features": reference.extractor.name}
    if not alone:
        values = {"fid": frechet_distance(real, fake), **shares._asdict()}
        return row | {key: Interval.exact(value) for key, value in values.items()}
    generator = torch.Generator().manual_seed(s.seed)
    return row | {
        "fid": frechet_interval(real, fake, generator=generator),
        "precision": coverage_interval(fake, real, s.k, shares.precision, generator=generator),
        "recall": coverage_interval(real, fake, s.k, shares.recall, generator=generator),
    }


@float32_as()
def quality_by_piq(reference: Reference, fake: Tensor, settings: ImageSettings) -> Row:
    """What :func:`quality` measures, as the package piq computes it, which the paper used."""
    real = reference.real
    shares = precision_recall(real, fake, settings.k, mode="piq")
    values = {"fid": frechet_distance(real, fake, mode="piq"), **shares._asdict()}
    return {f"{key}_piq": value for key, value in values.items()}


@float32_as()
def behaviour(
    estimator: Estimator,
    inputs: Tensor,
    degradation: ImageDegradation,
    settings: ImageSettings,
    *,
    input_dims: int,
    attacked: bool = True,
) -> Row:
    """Per-pixel std, consistency, and what the attack of App. E.2.3 does, with intervals.

    Args:
        input_dims: over which the AI-PSNR is taken; see :func:`metrics.restoration.robustness`.
        attacked: False where the estimator cannot take a perturbed input.
    """
    s = settings
    generator = torch.Generator().manual_seed(s.seed)
    draws = torch.Generator().manual_seed(s.seed + 1)
    some = inputs[: s.attacked_inputs]
    deviation = per_pixel_std(
        estimator, inputs[: s.std_inputs], samples=s.std_samples, generator=generator
    )
    restored = restorations(estimator, some, generator=generator)
    worst = consistency_psnr(degradation, restored, some).min().item()
    row: Row = {
        "std": mean_interval(deviation, generator=draws),
        "consistency": Interval.exact(worst),
        **dict.fromkeys(("robustness", "ai_psnr", "ball_used")),
    }
    if attacked:
        moved = _attacked(estimator, some, s, input_dims, generator)
        # An output, or an attack from δ = 0, that does not move at all has an infinite PSNR.
        row["robustness"] = mean_interval(moved.psnr.clamp_max(MOST_PSNR), generator=draws)
        row["ai_psnr"] = mean_interval(moved.ai_psnr.clamp_max(MOST_PSNR), generator=draws)
        row["ball_used"] = mean_interval(moved.ball_used, generator=draws)
    return row


def _attacked(
    estimator: Estimator, y: Tensor, s: ImageSettings, input_dims: int, generator: torch.Generator
) -> Robustness:
    """What the attack of the settings does to the restorations of y."""
    sizes = {"input_dims": input_dims, "seeds": s.robustness_seeds}
    return robustness(estimator, y, s.attack(), **sizes, generator=generator)


def measured(
    networks: Sequence[Estimator],
    compared: Reference,
    degradation: ImageDegradation,
    settings: ImageSettings,
    *,
    input_dims: int,
) -> list[Row]:
    """Quality and behaviour of each network of one kind: a row a run."""
    rows = []
    for run, network in enumerate(networks):
        generator = torch.Generator().manual_seed(settings.seed + run)
        restored = restorations(network, compared.inputs, generator=generator)
        fake = compared.features(restored)
        row = quality(compared, fake, settings, alone=len(networks) == 1)
        if run == 0:
            row |= quality_by_piq(compared, fake, settings)
        row |= behaviour(network, compared.inputs, degradation, settings, input_dims=input_dims)
        rows.append({"run": run, **row})
    return rows


@float32_as()
def curve_point(estimator: Any, job: Job, *, degradation: Degradation) -> Metrics:
    """A point of a training's curve: what is measured along it, beside its losses.

    These are FID, precision, recall, per-pixel std and robustness. They are measured on a few
    images that no reported number uses (``ImageSet.selection``), or on training images where the
    data have no such part. A point takes about a second. Recipe, length and λ_R are chosen by it.
    """
    settings = job.settings
    compared = _selection(settings, degradation, settings.torch_device())
    generator = torch.Generator().manual_seed(job.seed)
    training = estimator.training
    estimator.eval()
    found = point(estimator, compared, settings.k, CURVE_STD, generator)
    some = compared.inputs[:CURVE_ATTACKED]
    attacked = _attacked(estimator, some, settings, settings.pixels, generator)
    estimator.train(training)
    return {**found, "robustness": attacked.psnr.clamp_max(MOST_PSNR).mean().item()}


@float32_as()
def point(
    estimator: Estimator, compared: Reference, k: int, std: tuple[int, int], draws: torch.Generator
) -> Metrics:
    """FID, precision, recall and the per-pixel std over ``std`` inputs and samples of each."""
    fake = compared.features(restorations(estimator, compared.inputs, generator=draws))
    shares = precision_recall(compared.real, fake, k, real_radii=compared.radii)
    some = compared.inputs[: std[0]]
    deviation = per_pixel_std(estimator, some, samples=std[1], generator=draws)
    fid = frechet_distance(compared.real, fake)
    return {"fid": fid, **shares._asdict(), "std": deviation.mean().item()}


@lru_cache(maxsize=1)
def _selection(
    settings: ImageSettings, degradation: Degradation, device: torch.device
) -> Reference:
    """What :func:`reference` gives, for the images that choices are made by."""
    data = images(settings)
    kept = data.train if data.selection is None else data.selection
    return _compared(settings, degradation(settings), kept, settings.curve_images)


@float32_as()
def sampled(
    estimators: Mapping[str, Estimator], y: Tensor, samples: int, *, seed: int
) -> list[tuple[str, Tensor]]:
    """Each estimator's restorations of y, (samples, n, C, S, S); one where deterministic."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for name, estimator in estimators.items():
        deterministic = name in MODELS and not MODELS[name].stochastic
        z = estimator.seed(y, 1 if deterministic else samples, generator=generator)
        groups.append((name, restore(estimator, y, z).cpu()))
    return groups


ANY = (-math.inf, math.inf)
RANGES = {
    **dict.fromkeys(("precision", "recall", "ball_used"), (0.0, 1.0)),
    **dict.fromkeys(("fid", "std"), (0.0, math.inf)),
}
"""The values that a quantity of a row can have."""


def over_runs(rows: Sequence[Row]) -> list[Row]:
    """One row for each estimator: the mean over its networks, with Student's 95 % interval.

    Where there is one network only, its own intervals stay, which are over images.
    """
    merged = []
    for name in dict.fromkeys(row["estimator"] for row in rows):
        runs = [row for row in rows if row["estimator"] == name]
        first = runs[0]
        if len(runs) > 1:
            measured = {key for key, value in first.items() if isinstance(value, Interval)}
            means = {
                key: student_interval([run[key].value for run in runs], within=RANGES.get(key, ANY))
                for key in measured
            }
            first = {**first, **means}
        merged.append({**first, "runs": len(runs)})
    return merged
