"""Every stochastic family under the paper's measures: the table that the paper leaves open.

Settings in, rows of numbers out, as in :mod:`stochrestore.experiments.toy_tradeoff`. A row is a
dictionary: the problem, the estimator's name, λ_R, the run, and what was measured. √R̃ and √R are
in units of ε: how many times further than y the restoration moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from stochrestore.estimators.base import (
    AtHeat,
    Estimator,
    SecondCoordinate,
    WithSeed,
    restore,
    sample,
)
from stochrestore.estimators.closed_form import PosteriorMean, PosteriorSampler
from stochrestore.experiments import evaluation, inpaint, sr_scaling, toy_gans
from stochrestore.experiments.evaluation import Reference
from stochrestore.experiments.family_networks import (
    IMAGES,
    TOYS,
    FamilySettings,
    build_estimator,
    build_trainer,
    data_digest,
    image_degradation,
    image_settings,
    jobs_of,
)
from stochrestore.experiments.family_networks import all_jobs as all_jobs
from stochrestore.experiments.family_networks import problems as problems
from stochrestore.experiments.toy_gans import parameters_like
from stochrestore.experiments.trained import load_networks, trained_weights
from stochrestore.metrics.intervals import Interval, student_interval
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.metrics.restoration import robustness
from stochrestore.metrics.sensitivity import scalar_sensitivity
from stochrestore.networks.families import PMRF, FibreEstimator, PosteriorMeanOf
from stochrestore.problems.toy import midpoints
from stochrestore.training.jobs import Job, Method, load, read_record
from stochrestore.training.loop import Metrics

Settings = FamilySettings
Row = dict[str, Any]
Measure = Callable[[Estimator], Metrics]
STD = (64, 16)
"""Inputs, and samples of each, for the per-pixel std of images."""


def measure_of(settings: FamilySettings, like: Tensor, *, seed: int) -> Measure:
    """How the estimators of a problem are measured: the same draws for all of them.

    Args:
        like: has the dtype and the device that they compute in; images are float32.
    """
    if settings.problem in TOYS:
        return lambda estimator: toy_measures(estimator, settings, like, seed=seed)
    return lambda estimator: image_measures(estimator, settings, seed=seed)


@torch.no_grad()
def toy_measures(
    estimator: Estimator, settings: FamilySettings, like: Tensor, *, seed: int
) -> Metrics:
    """Precision, recall, distance to the posteriors, std, √R̃/ε and √R/ε on a toy problem.

    ``posterior_distance`` is √E_Y W₂²(p_{X̂|Y}, p_{X|Y}), from the quantiles of ``z_points``
    samples. So it is not 0 for the posterior sampler either.
    """
    s, problem = settings, TOYS[settings.problem]
    generator = torch.Generator().manual_seed(10_000 + seed)
    x = problem.sample(2 * s.samples, generator=generator).to(like)
    real, fake = x[: s.samples], sample(estimator, x[s.samples :, :1], generator=generator)
    quality = precision_recall(real.cpu(), fake.cpu(), s.k)
    y = problem.sample(s.y_points, generator=generator)[:, :1].to(like)
    z = estimator.seed(y, s.z_points, generator=generator)
    restored = restore(estimator, y, z)[..., 1].double().cpu()
    levels = midpoints(s.z_points)[:, None].expand_as(restored)
    target = problem.posterior_quantile(y[:, 0].double().cpu().expand_as(restored), levels)
    moved = scalar_sensitivity(SecondCoordinate(estimator), y, z[: s.attacked_seeds], s.epsilon)
    distance = (restored.sort(0).values - target).square().mean().sqrt().item()
    return {
        **quality._asdict(),
        "posterior_distance": distance,
        "std": restored.std(0).mean().item(),
        "sensitivity": moved.shared_seed**0.5 / s.epsilon,
        "w2_sensitivity": moved.wasserstein**0.5 / s.epsilon,
    }


@torch.no_grad()
def image_measures(estimator: Estimator, settings: FamilySettings, *, seed: int) -> Metrics:
    """FID, precision, recall, std, robustness in dB (Eq. 9), √R̃/ε, and consistency in dB."""
    compared = image_settings(settings.preset, settings.problem, settings.device)
    degradation = image_degradation(settings.problem, compared)
    reference = _reference(settings.preset, settings.problem, settings.device)
    generator = torch.Generator().manual_seed(seed)
    found = evaluation.point(estimator, reference, compared.k, STD, generator)
    inputs = reference.inputs[: compared.attacked_inputs]
    sizes = {"input_dims": inputs[0].numel(), "seeds": compared.robustness_seeds}
    moved = robustness(estimator, inputs, compared.attack(), **sizes, generator=generator)
    squares = compared.pixels * (-moved.psnr / 10 * math.log(10)).exp()
    consistency = evaluation.consistency_psnr(
        degradation, evaluation.restorations(estimator, inputs, generator=generator), inputs
    )
    return {
        **found,
        "robustness": moved.psnr.clamp_max(evaluation.MOST_PSNR).mean().item(),
        "sensitivity": squares.mean().sqrt().item() / compared.epsilon,
        "consistency": consistency.min().clamp_max(evaluation.MOST_PSNR).item(),
    }


@lru_cache(maxsize=len(IMAGES))
def _reference(preset: str, problem: str, device: str) -> Reference:
    compared = image_settings(preset, problem, device)
    return evaluation.reference(compared, image_degradation(problem, compared))


def controls(estimator: Estimator, settings: FamilySettings, *, seed: int) -> Row:
    """An estimator as it is, with its seed frozen, and at several heats.

    The numbers of the frozen one are means over ``frozen_seeds`` values of its seed.
    """
    s, like = settings, parameters_like(estimator)
    measure = measure_of(s, like, seed=seed)
    found: Row = {"drawn": measure(estimator)}
    z = estimator.seed(_one_input(s).to(like), s.frozen_seeds, generator=_draws(seed))
    frozen = [measure(WithSeed(estimator, each[0])) for each in z]
    found["frozen"] = {
        name: math.fsum(row[name] for row in frozen) / len(frozen) for name in frozen[0]
    }
    found["heats"] = [{"heat": heat, **measure(AtHeat(estimator, heat))} for heat in s.heats]
    return found


def _one_input(settings: FamilySettings) -> Tensor:
    if settings.problem in TOYS:
        return torch.zeros(1, 1)
    return _reference(settings.preset, settings.problem, settings.device).inputs[:1].cpu()


def _draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(20_000 + seed)


def examine(network: FibreEstimator, job: Job) -> Row:
    """What a record keeps of a finished network; see :func:`controls`."""
    return {"measured": controls(network, job.settings, seed=job.seed)}


METHOD = Method(
    build=build_trainer,
    network=build_estimator,
    data=data_digest,
    examine=examine,
    half=True,
)


@dataclass(frozen=True)
class Trained:
    """The families of one problem: a network of each, and the records of all trainings."""

    settings: FamilySettings
    networks: dict[str, FibreEstimator]
    """The first network of each family, trained without L_R."""
    records: list[Row]
    """Rows: estimator (``pmrf`` and a number where σ_s is that), weight, run, and what was measured in ``drawn``, ``frozen``, ``heats``."""


def load_or_train(settings: FamilySettings) -> Trained:
    """The trainings of one problem: those shipped, those of ``settings.weights``, or new ones."""
    jobs = list(jobs_of(settings))
    folder = trained_weights(settings, jobs, METHOD)
    kept = {job.settings.family: load(job, folder, METHOD)[0] for job in jobs if job.keep_weights}
    records = [
        {
            "problem": settings.problem,
            "estimator": job.key,
            "source_noise": job.settings.source_noise,
            "weight": job.settings.robustness_weight,
            "run": job.seed - settings.seed,
            **read_record(job, folder)["measured"],
        }
        for job in jobs
    ]
    return Trained(settings, kept, records)


def others(trained: Trained) -> dict[str, list[Estimator]]:
    """What the families stand beside: the posterior, its mean, and the paper's four GANs.

    The GANs are those of the chapters with the same problem, where there are any.
    """
    settings = trained.settings
    if settings.problem in TOYS:
        problem = TOYS[settings.problem]
        exact: dict[str, list[Estimator]] = {
            "posterior_sampler": [PosteriorSampler(problem)],
            "posterior_mean": [PosteriorMean(problem)],
        }
        return exact | (_toy_gans(settings) if settings.problem == "disk" else {})
    pmrf = trained.networks["pmrf"]
    assert isinstance(pmrf, PMRF)
    return {"posterior_mean": [PosteriorMeanOf(pmrf)], **_image_gans(settings)}


def _toy_gans(settings: FamilySettings) -> dict[str, list[Estimator]]:
    gans = toy_gans.ToySettings.load("laptop", device=settings.device, runs=settings.runs)
    return load_networks(toy_gans.main_jobs(gans), gans.weights_folder(), toy_gans.METHOD)[0]


def _image_gans(settings: FamilySettings) -> dict[str, list[Estimator]]:
    if settings.preset == "smoke" or settings.problem == "fashion_x4":
        return {}  # nothing is shipped for these
    compared = image_settings("laptop", settings.problem, settings.device)
    if isinstance(compared, sr_scaling.Settings):
        jobs = list(sr_scaling.jobs_of(compared.model_copy(update={"scales": (compared.scale,)})))
        return load_networks(jobs, compared.weights_folder(), sr_scaling.METHOD)[0]
    assert isinstance(compared, inpaint.Settings)
    return load_networks(inpaint.main_jobs(compared), compared.weights_folder(), inpaint.METHOD)[0]


def other_rows(trained: Trained) -> list[Row]:
    """What is measured of each network that the families stand beside, a row a network."""
    settings = trained.settings
    rows = []
    for name, networks in others(trained).items():
        for run, network in enumerate(networks[: settings.runs]):
            like = parameters_like(network)
            measure = measure_of(settings, like, seed=settings.seed + run)
            row = {"problem": settings.problem, "estimator": name, "weight": 0.0, "run": run}
            rows.append({**row, "drawn": measure(network)})
    return rows


def over_runs(rows: Iterable[Row], part: str = "drawn") -> list[Row]:
    """One row for each estimator and λ_R: means over networks, with Student's interval.

    Of one network only, the values stand alone.

    Args:
        part: ``drawn`` or ``frozen``.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if part in row:
            groups.setdefault((row["problem"], row["estimator"], row["weight"]), []).append(row)
    return [
        {
            **dict(zip(("problem", "estimator", "weight"), key, strict=True)),
            "runs": len(runs),
            **{name: _mean([run[part][name] for run in runs]) for name in runs[0][part]},
        }
        for key, runs in groups.items()
    ]


def _mean(values: Sequence[float]) -> Interval:
    return student_interval(values) if len(values) > 1 else Interval.exact(values[0])


def change(
    rows: Sequence[Row], name: str, family: str, *, weights: tuple[float, float]
) -> Interval:
    """The mean change of a measure from one λ_R to another over paired runs."""
    before, after = (
        {r["run"]: r["drawn"][name] for r in rows if (r["estimator"], r["weight"]) == (family, w)}
        for w in weights
    )
    return _mean([after[run] - before[run] for run in before])


def heat_rows(trained: Trained) -> list[Row]:
    """Recall and √R̃/ε of each family along the heat of its seed; trained without L_R."""
    return [
        {"estimator": row["estimator"], "run": row["run"], **measured}
        for row in trained.records
        if row["weight"] == 0
        for measured in row["heats"]
    ]


@torch.no_grad()
def cost(trained: Trained, inputs: int = 256) -> list[Row]:
    """Network evaluations, and milliseconds for one restoration in a batch, of each family."""
    settings = trained.settings
    one = _one_input(settings)
    y = one.expand(inputs, *one.shape[1:])
    rows = []
    for name, network in trained.networks.items():
        there = y.to(parameters_like(network))
        z = network.seed(there, 1, generator=_draws(0))[0]
        network(there, z)
        begun = time.perf_counter()
        network(there, z)
        milliseconds = 1e3 * (time.perf_counter() - begun) / inputs
        row = {"estimator": name, "evaluations": network.evaluations, "ms": milliseconds}
        rows.append({**row, "numbers": sum(p.numel() for p in network.parameters())})
    return rows


@torch.no_grad()
def pictures(trained: Trained, n: int, samples: int) -> list[tuple[str, Tensor]]:
    """Each family's samples for the first n inputs, (samples, n, …), the same seeds for all."""
    settings = trained.settings
    y = _reference(settings.preset, settings.problem, settings.device).inputs[:n]
    return [
        (name, restore(network, y, network.seed(y, samples, generator=_draws(0))).cpu())
        for name, network in trained.networks.items()
    ]


def by_name(rows: Sequence[Row], weight: float = 0.0) -> Mapping[str, Row]:
    """The merged rows of one λ_R, by estimator."""
    return {row["estimator"]: row for row in rows if row["weight"] == weight}
