"""Fig. 4: super-resolution ×4, ×8 and ×16 with four GANs of one architecture (Sec. 6.1).

Settings in, images and rows of numbers out, as in :mod:`stochrestore.experiments.inpaint`. A row
is a dictionary: the data, the scale, the estimator's name, the run, and what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import Tensor

from stochrestore.data.images import ALL_DATA
from stochrestore.degradations import Averaging
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.face_draws import FaceDraws
from stochrestore.estimators.weighted_posterior import WeightedPosterior
from stochrestore.experiments import evaluation, face_posteriors
from stochrestore.experiments.image_controls import controls as controls
from stochrestore.experiments.image_controls import examination
from stochrestore.experiments.image_gans import (
    ImageSettings,
    image_method,
    images,
    known_data,
    model_jobs,
    workers,
)
from stochrestore.experiments.trained import load_networks, trained_weights
from stochrestore.metrics.information import gaussian_bits
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import difference
from stochrestore.training.jobs import MODELS, Job

EXPERIMENT = "sr_scaling"
BUILT_IN = ("digits", "fashion", "faces")
"""The image sets that ``data=all`` stands for; only the last is drawn by a program."""
KINDS = f"all, {ALL_DATA}"
Row = dict[str, Any]


class Settings(ImageSettings):
    """The super-resolution experiment."""

    experiment: ClassVar[str] = EXPERIMENT
    of_each_training: ClassVar[frozenset[str]] = frozenset({"scale"})

    data: str = Field("faces", description=KINDS)
    scales: tuple[PositiveInt, ...] = Field(
        (4, 8, 16), strict=False, min_length=1, description="factors s; each has its own networks"
    )
    scale: int = Field(0, ge=0, description="s of a single training; 0 for the whole grid")
    attack_psnr: float = Field(34.0, gt=0, description="AI-PSNR that decides each scale's ε, dB")
    prior_draws: int = Field(20_000, ge=2, description="faces that the posterior sampler weighs")
    posterior_width: float = Field(
        0.02, gt=0, description="error of y that the posterior sampler tolerates, for y in [0, 1]"
    )
    least_sample_size: float = Field(
        20.0, ge=1, description="effective sample size below which the sampler is left out"
    )

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        return data if data == "all" else known_data(data, KINDS)

    @field_validator("scales")
    @classmethod
    def _each_scale_once(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(scales))

    @model_validator(mode="after")
    def _scales_divide(self) -> Settings:
        side = self.shape[-1]
        wrong = [s for s in self.scales if s < 2 or side % s] if self.data != "all" else []
        if wrong:
            allowed = [s for s in range(2, side + 1) if side % s == 0]
            raise ValueError(f"scales: got {wrong}; allowed for images of side {side}: {allowed}")
        return self


@dataclass(frozen=True)
class Trained:
    """The networks of one kind of data by scale and model, one for each run, and their records."""

    settings: Settings
    estimators: dict[int, dict[str, list[Estimator]]]
    records: dict[int, dict[str, list[Row]]]


@dataclass(frozen=True)
class Sampler:
    """An approximate posterior sampler that tells how many independent draws it is worth.

    Args:
        method: how it draws, in words.
        estimator: the sampler.
    """

    method: str
    estimator: WeightedPosterior | FaceDraws

    def trustworthy(self, inputs: Tensor, least: float) -> bool:
        """Whether the median of the effective sample sizes for these inputs is large enough."""
        return self.estimator.effective_sample_sizes(inputs).median().item() >= least


def image_sets(settings: Settings) -> list[Settings]:
    """The settings of each image set to show: all built in, or the one asked for.

    Of all built in, ``scales`` chooses among each set's own, and leaves out sets without any.

    Raises:
        InputError: no built-in set has any of these scales.
    """
    if settings.data != "all":
        return [settings]
    preset = Settings.load(settings.preset).model_dump()
    shared = ("seed", "train", "device", "n_eval", "runs", "steps", "weights", "features")
    given = {name: getattr(settings, name) for name in shared}
    changed = {name: value for name, value in given.items() if value != preset[name]}
    sets = [Settings.load(settings.preset, data=kind, **changed) for kind in BUILT_IN]
    if settings.scales == preset["scales"]:
        return sets
    offered = sorted({scale for each in sets for scale in each.scales})
    chosen = [
        each.model_copy(update={"scales": scales})
        for each in sets
        if (scales := tuple(s for s in each.scales if s in settings.scales))
    ]
    require(bool(chosen), "scales", list(settings.scales), f"of {offered} with data=all")
    return chosen


def at_scale(settings: Settings, scale: int) -> Settings:
    """The settings of the networks of one scale: ε gives the AI-PSNR over the pixels of y."""
    pixels = settings.pixels / scale**2
    epsilon = math.sqrt(pixels * 10 ** (-settings.attack_psnr / 10))
    return settings.model_copy(update={"scale": scale, "epsilon": epsilon})


def jobs_of(settings: Settings) -> Iterator[Job]:
    """The grid of one image set: scales × models × runs."""
    for scale in settings.scales:
        yield from model_jobs(at_scale(settings, scale), f"{settings.kind}/x{scale}")


def all_jobs(settings: Settings) -> dict[str, Job]:
    """Every training of all image sets asked for, by name."""
    return {job.name: job for each in image_sets(settings) for job in jobs_of(each)}


def degradation(settings: Settings) -> Averaging:
    """Averaging over squares, whose side is the scale of the settings' training."""
    return Averaging(settings.scale)


_along = partial(evaluation.curve_point, degradation=degradation)
METHOD = image_method(degradation, _along, examination)


def load_or_train(settings: Settings) -> Trained:
    """The networks of one image set: those shipped, those of ``settings.weights``, or new ones.

    Raises:
        InputError: ``data=all``; see :func:`image_sets`.
    """
    require(settings.data != "all", "load_or_train: data", "all", "one of image_sets(settings)")
    jobs = list(jobs_of(settings))
    if settings.train:
        evaluation.check_evaluation(settings)
    folder = trained_weights(settings, jobs, METHOD, workers=workers(settings))
    found = {
        scale: load_networks((j for j in jobs if j.settings.scale == scale), folder, METHOD)
        for scale in settings.scales
    }
    return Trained(
        settings,
        {scale: networks for scale, (networks, _) in found.items()},
        {scale: records for scale, (_, records) in found.items()},
    )


def figure_4(trained: Trained) -> list[Row]:
    """The metrics of every network at its scale and, where there is one, of the posterior."""
    rows = []
    for scale, models in trained.estimators.items():
        settings, degrade = at_scale(trained.settings, scale), Averaging(scale)
        compared = evaluation.reference(settings, degrade)
        pixels = compared.inputs[0].numel()
        place = {"data": settings.kind, "scale": scale}
        for name, networks in models.items():
            found = evaluation.measured(networks, compared, degrade, settings, input_dims=pixels)
            rows += [{**place, "estimator": name, **row} for row in found]
        some = compared.inputs[: settings.std_inputs]
        samplers, least = posteriors(settings, compared.inputs), settings.least_sample_size
        sampler = next((s.estimator for s in samplers if s.trustworthy(some, least)), None)
        if sampler is None:
            continue
        generator = torch.Generator().manual_seed(settings.seed)
        restored = evaluation.restorations(sampler, compared.inputs, generator=generator)
        row = evaluation.quality(compared, compared.features(restored), settings)
        row |= evaluation.behaviour(
            sampler, compared.inputs, degrade, settings, input_dims=pixels, attacked=False
        )
        rows.append({**place, "estimator": "posterior_sampler", "run": 0, **row})
    return rows


def merged(rows: Sequence[Row]) -> list[Row]:
    """Merges runs: one row for each data set, scale and estimator, with intervals."""
    places = dict.fromkeys((row["data"], row["scale"]) for row in rows)
    return [
        row
        for place in places
        for row in evaluation.over_runs([r for r in rows if (r["data"], r["scale"]) == place])
    ]


def posteriors(settings: Settings, inputs: Tensor) -> list[Sampler]:
    """The posterior samplers of faces at one scale, the preferred one first; none for other images.

    Faces from the prior, weighted by how well they explain y, and, where there are some for all
    of these inputs, the draws of Markov chains that come with the library.
    """
    if settings.kind != "faces":
        return []
    drawn = images(settings.model_copy(update={"training_images": settings.prior_draws})).train[:]
    weighted = WeightedPosterior(drawn, Averaging(settings.scale), settings.posterior_width)
    found = [Sampler("weights of the prior", weighted)]
    draws = face_posteriors.shipped(settings.size, settings.scale, settings.posterior_width)
    if draws is not None and draws.knows(inputs).all():
        found.append(Sampler("Markov chain", draws))
    return found


def sample_sizes(trained: Trained) -> list[Row]:
    """The posterior samplers' effective sample sizes at each scale: median and tenth percentile."""
    rows = []
    for scale in trained.estimators:
        settings = at_scale(trained.settings, scale)
        inputs = Averaging(scale).degrade(images(settings).validation[: settings.n_eval])
        some = inputs[: settings.std_inputs]
        for sampler in posteriors(settings, inputs):
            sizes = sampler.estimator.effective_sample_sizes(some).double()
            found = {
                "median": sizes.median().item(),
                "tenth percentile": sizes.quantile(0.1).item(),
                "shown": sampler.trustworthy(some, settings.least_sample_size),
            }
            rows.append({"scale": scale, "method": sampler.method, **found})
    return rows


def sample_sheet(trained: Trained, scale: int, n: int, samples: int) -> list[tuple[str, Tensor]]:
    """Groups of columns: the input, the image, each model's samples.

    Returns:
        title (or an estimator's key) and images, (columns, n, C, S, S).
    """
    settings, degrade = at_scale(trained.settings, scale), Averaging(scale)
    x = images(settings).validation[:n]
    y = degrade.degrade(x).to(settings.torch_device())
    groups = [("input", degrade.lift(y)[None].cpu()), ("image", x[None])]
    models = {name: networks[0] for name, networks in trained.estimators[scale].items()}
    return groups + evaluation.sampled(models, y, samples, seed=settings.seed)


def lost_bits(trained: Trained) -> dict[int, float]:
    """For each scale, an upper bound on the entropy of X given Y, in bits per image."""
    settings = trained.settings
    x = images(settings).train[:]
    levels = 17 if settings.kind == "digits" else 256
    return {
        scale: gaussian_bits(x.flatten(1), Averaging(scale).degrade(x).flatten(1), levels=levels)
        for scale in trained.estimators
    }


def information_rows(trained: Sequence[Trained], rows: Sequence[Row]) -> list[Row]:
    """Per data set and scale: bits and pixels lost, and what a single answer for them costs.

    The cost is FID of the deterministic model minus FID of the stochastic one, both robust or
    both erratic.
    """
    fid = {(r["data"], r["scale"], r["estimator"]): r["fid"].value for r in merged(rows)}
    result = []
    for each in trained:
        kind, pixels = each.settings.kind, each.settings.pixels
        for scale, bits in lost_bits(each).items():
            place = {"data": kind, "scale": scale, "bits": bits}
            place["lost pixels"] = pixels - pixels // scale**2
            for one, many in (("robust_gan", "robust_sto_gan"), ("erratic_gan", "sto_gan")):
                cost = fid[kind, scale, one] - fid[kind, scale, many]
                result.append({**place, "estimator": one, "cost": cost})
    return result


def evidence(rows: Sequence[Row], kind: str, scales: Sequence[int]) -> dict[str, Interval]:
    """What the claims about one image set ask for, each with its interval.

    "At every scale" is about the least of the differences, whose interval is from the lowest of
    their lower ends to the lowest of their upper ends.

    Args:
        rows: of :func:`merged`.
        scales: of this image set, all four models each.
    """
    if kind not in BUILT_IN:  # no claim speaks of other images
        return {}
    at = {(r["scale"], r["estimator"]): r for r in rows if r["data"] == kind}

    def gap(quantity: str, scale: int, a: str, b: str) -> Interval:
        return difference(at[scale, a][quantity], at[scale, b][quantity])

    def weakest(gaps: Iterable[Interval]) -> Interval:
        every = list(gaps)
        return Interval(*(min(getattr(g, end) for g in every) for end in ("value", "low", "high")))

    others = [name for name in MODELS if name != "robust_gan"]
    low, high = min(scales), max(scales)
    cost = {scale: gap("fid", scale, "robust_gan", "robust_sto_gan") for scale in scales}
    shares = sorted(
        (at[scale, name]["precision"] for scale in scales for name in MODELS), key=lambda p: p.value
    )
    attacks = [at[scale, name]["ai_psnr"].value for scale in scales for name in MODELS]
    worst_fid = weakest(gap("fid", s, "robust_gan", name) for s in scales for name in others)
    worst_recall = weakest(gap("recall", s, name, "robust_gan") for s in scales for name in others)
    found = {
        "worst-fid": worst_fid,
        "worst-recall": worst_recall,
        "flat-precision": difference(shares[-1], shares[0]),
        "robust-varies": weakest(gap("std", s, "robust_sto_gan", "sto_gan") for s in scales),
        "equal-attack": Interval.exact(max(attacks) - min(attacks)),
    }
    if low < high:
        stds = (at[scale, "robust_sto_gan"]["std"] for scale in (high, low))
        found |= {"gap-grows": difference(cost[high], cost[low]), "std-grows": difference(*stds)}
    return found
