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
from operator import itemgetter
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
    FAMILIES,
    IMAGES,
    FamilySettings,
    build,
    build_estimator,
    build_trainer,
    data_digest,
    fibre_of,
    image_degradation,
    image_settings,
    jobs_of,
)
from stochrestore.experiments.family_networks import all_jobs as all_jobs
from stochrestore.experiments.family_networks import problems as problems
from stochrestore.experiments.toy_gans import parameters_like
from stochrestore.experiments.trained import load_networks, trained_weights
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import difference, student_interval
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.metrics.psnr import MOST_PSNR
from stochrestore.metrics.restoration import consistency_psnr, robustness
from stochrestore.metrics.sensitivity import scalar_sensitivity
from stochrestore.networks.families import PMRF, FibreEstimator, PosteriorMeanOf
from stochrestore.problems.toy import TOYS, Ring, midpoints
from stochrestore.training.jobs import MODELS, Job, Method, load, read_record
from stochrestore.training.loop import Metrics

Settings = FamilySettings
Row = dict[str, Any]
Measure = Callable[[Estimator], Metrics]
NAMED = (*FAMILIES, *MODELS, "posterior_sampler", "posterior_mean")
"""The estimators of the tables; others are variants of them."""
TITLES = {
    **{name: name for name in TOYS},
    "digits": "digits, lower quarter known",
    "digits_x4": "digits, averaged over 4×4",
    "fashion": "clothes, lower quarter known",
    "fashion_x4": "clothes, averaged over 4×4",
}
"""What the problems are called on the page."""
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
    consistency = consistency_psnr(
        degradation, evaluation.restorations(estimator, inputs, generator=generator), inputs
    )
    return {
        **found,
        "robustness": moved.psnr.clamp_max(MOST_PSNR).mean().item(),
        "sensitivity": squares.mean().sqrt().item() / compared.epsilon,
        "consistency": consistency.min().clamp_max(MOST_PSNR).item(),
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
    """What a record keeps of a finished network: see :func:`controls`, and PMRF's mean alone."""
    measured = controls(network, job.settings, seed=job.seed)
    if isinstance(network, PMRF):
        measure = measure_of(job.settings, parameters_like(network), seed=job.seed)
        measured["mean"] = measure(PosteriorMeanOf(network))
    return {"measured": measured}


METHOD = Method(
    build=build_trainer,
    network=build_estimator,
    data=data_digest,
    examine=examine,
)


@dataclass(frozen=True)
class Trained:
    """The families of one problem: a network of each, and the records of all trainings."""

    settings: FamilySettings
    networks: dict[str, FibreEstimator]
    """The first network of each family, trained without L_R."""
    records: list[Row]
    """Rows: estimator (``pmrf0.1``, ``pmrf_mean100``: with that σ_s, with a mean trained for that
    many steps), weight, run, and what was measured in ``drawn``, ``frozen`` and ``heats``, and of
    PMRF's mean alone in ``mean``."""


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
            "mean_steps": job.settings.mean_steps or job.settings.steps,
            "weight": job.settings.robustness_weight,
            "run": job.seed - settings.seed,
            **read_record(job, folder)["measured"],
        }
        for job in jobs
    ]
    return Trained(settings, kept, records)


def others(trained: Trained) -> dict[str, list[Estimator]]:
    """What the families stand beside: the paper's four GANs, and of toys the posterior.

    The GANs are those of the chapters with the same problem, where there are any.
    """
    settings = trained.settings
    if settings.problem in TOYS:
        problem = TOYS[settings.problem]
        exact: dict[str, list[Estimator]] = {
            "posterior_sampler": [PosteriorSampler(problem)],
            "posterior_mean": [PosteriorMean(problem)],
        }
        return exact | _toy_gans(settings)
    return _image_gans(settings)


def _toy_gans(settings: FamilySettings) -> dict[str, list[Estimator]]:
    runs = {"runs": settings.runs, "ring_runs": settings.runs}
    gans = toy_gans.ToySettings.load("laptop", device=settings.device, **runs)
    jobs = {"disk": toy_gans.main_jobs, "ring": toy_gans.ring_jobs}[settings.problem]
    return load_networks(jobs(gans), gans.weights_folder(), toy_gans.METHOD)[0]


def _image_gans(settings: FamilySettings) -> dict[str, list[Estimator]]:
    if settings.preset == "smoke":
        return {}  # its families are of other sizes than the networks that are shipped
    compared = image_settings("laptop", settings.problem, settings.device)
    if isinstance(compared, sr_scaling.Settings):
        jobs = list(sr_scaling.jobs_of(compared.model_copy(update={"scales": (compared.scale,)})))
        return load_networks(jobs, compared.weights_folder(), sr_scaling.METHOD)[0]
    assert isinstance(compared, inpaint.Settings)
    return load_networks(inpaint.main_jobs(compared), compared.weights_folder(), inpaint.METHOD)[0]


def other_rows(trained: Trained) -> list[Row]:
    """What is measured of each network that the families stand beside, a row a network.

    The posterior mean of images is the one that PMRF starts from, as it was measured in training.
    """
    settings = trained.settings
    rows = [
        {**row, "estimator": "posterior_mean", "drawn": row["mean"]}
        for row in trained.records
        if settings.problem in IMAGES and (row["estimator"], row["weight"]) == ("pmrf", 0)
    ]
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
        part: ``drawn``, ``frozen`` or ``mean``; rows without it are left out.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if part in row:
            groups.setdefault((row["problem"], row["estimator"], row["weight"]), []).append(row)
    return [
        {
            **dict(zip(("problem", "estimator", "weight"), key, strict=True)),
            "runs": len(runs),
            **{name: _mean([r[part][name] for r in runs], of=name) for name in runs[0][part]},
        }
        for key, runs in groups.items()
    ]


RANGES = {
    **evaluation.RANGES,
    **dict.fromkeys(("posterior_distance", "sensitivity", "w2_sensitivity"), (0.0, math.inf)),
}
"""The values that a measure can have."""


def _mean(values: Sequence[float], *, of: str = "") -> Interval:
    within = RANGES.get(of, evaluation.ANY)
    return student_interval(values, within=within) if len(values) > 1 else Interval.exact(values[0])


def at_weight(merged: Iterable[Row], weight: float) -> list[Row]:
    """The merged rows of one λ_R, the estimators beside the families at 0; of PMRF, one σ_s."""
    return [row for row in merged if row["weight"] == weight and row["estimator"] in NAMED]


VARIED = ("source_noise", "mean_steps")
"""What the variants of PMRF differ in."""


def variant_rows(trained: Trained, by: str) -> list[Row]:
    """PMRF's merged rows, for each value of one of :data:`VARIED` and the two λ_R that all have.

    Where it was measured, ``mean_sensitivity`` is √R̃/ε of the mean alone.
    """
    (own, *_) = (row for row in trained.records if row["estimator"] == "pmrf")
    fixed = [name for name in VARIED if name != by]
    records = [
        row
        for row in trained.records
        if row["estimator"].startswith("pmrf") and all(row[name] == own[name] for name in fixed)
    ]
    value = {row["estimator"]: row[by] for row in records}
    means = {
        (row["estimator"], row["weight"]): {"mean_sensitivity": row["sensitivity"]}
        for row in over_runs(records, "mean")
    }
    ends = (0.0, max(trained.settings.robustness_weights))
    return [
        {**row, by: value[row["estimator"]], **means.get((row["estimator"], row["weight"]), {})}
        for row in over_runs(records)
        if row["weight"] in ends
    ]


def heat_rows(trained: Trained) -> list[Row]:
    """What is measured of each family along the heat of its seed; trained without L_R."""
    return [
        {"estimator": row["estimator"], "run": row["run"], **measured}
        for row in trained.records
        if row["heats"]
        for measured in (*row["heats"], {"heat": 1.0, **row["drawn"]})
    ]


@torch.no_grad()
def cost(settings: FamilySettings, inputs: int = 256) -> list[Row]:
    """Network evaluations, and milliseconds for one restoration in a batch, of each family.

    They do not depend on the weights, and untrained networks are measured.
    """
    one, fibre = _one_input(settings), fibre_of(settings)
    y = one.expand(inputs, *one.shape[1:])
    rows = []
    for name in FAMILIES:
        with torch.random.fork_rng(devices=[]):
            network = build(name, settings, fibre).to(settings.torch_device())
        there = y.to(parameters_like(network))
        z = network.seed(there, 1, generator=_draws(0))[0]
        network(there, z).cpu()
        begun = time.perf_counter()
        network(there, z).cpu()  # a GPU has computed it only when it is here
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


CONDITIONAL = tuple(name for name in FAMILIES if name != "ddrm")
"""The families that see y in training."""


def evidence(trained: Mapping[str, Trained]) -> tuple[dict[str, Interval], dict[str, str]]:
    """What the claims of the chapter rest on, and what each interval is over.

    Statements about all families rest on the family that fits them worst.
    """
    found: dict[str, Interval] = {}
    if "disk" in trained:
        found |= _on_the_disk(trained["disk"])
    if "digits" in trained:
        found |= _on_digits(trained["digits"])
    if "ring" in trained and _made_robust(trained["ring"]):
        found["ring-costs-precision"] = _on_the_ring(trained["ring"])
    if more := [trained[name] for name in IMAGES if name in trained and name != "digits"]:
        plain = [_by_name(each.records) for each in more]
        gaps = (difference(rows["pmrf"]["sensitivity"], _steepest(rows)) for rows in plain)
        found["little-noise-erratic-elsewhere"] = _least(gaps)
    if robust := [each for each in more if _made_robust(each)]:
        found["little-noise-pays-elsewhere"] = _least(map(_recall_kept_over_pmrf, robust))
    measured = {f"families.{name}": interval for name, interval in found.items()}
    return measured, dict.fromkeys(measured, "trainings")


def _on_the_disk(trained: Trained) -> dict[str, Interval]:
    records = trained.records
    plain = _by_name(records)
    distances = {name: plain[name]["posterior_distance"] for name in ("ddrm", "ddim")}
    largest = max(trained.settings.robustness_weights)
    frozen = _by_name(records, part="frozen")
    return {
        "cover": _least(plain[name]["recall"] for name in CONDITIONAL),
        "robust-by-loss": _most(_change(records, "sensitivity", f, largest) for f in CONDITIONAL),
        "keep-recall": _least(_change(records, "recall", f, largest) for f in CONDITIONAL),
        "frozen-recall": _most(row["recall"] for row in frozen.values()),
        "unconditional": difference(distances["ddrm"], distances["ddim"]),
    }


def _on_digits(trained: Trained) -> dict[str, Interval]:
    records, settings = trained.records, trained.settings
    largest = max(settings.robustness_weights)
    rest = [name for name in FAMILIES if name != "pmrf"]
    plain = _by_name(records)
    found = {
        "little-noise-erratic": difference(plain["pmrf"]["sensitivity"], _steepest(plain)),
        "little-noise-pays": _recall_kept_over_pmrf(trained),
    }
    cold = {name: _at_heat_zero(records, name, "recall") for name in FAMILIES}
    found["erratic-when-cold"] = difference(cold["pmrf"], _most(cold[name] for name in rest))
    if settings.mean_lengths:
        lengths = (row for row in variant_rows(trained, "mean_steps") if row["weight"] == 0)
        smoothest = min(lengths, key=itemgetter("mean_steps"))
        smooth = difference(smoothest["sensitivity"], _steepest(plain))
        found["erratic-from-a-smooth-mean"] = smooth
    robust_rows = [row for row in variant_rows(trained, "source_noise") if row["weight"] == largest]
    low, high = (choose(robust_rows, key=itemgetter("source_noise")) for choose in (min, max))
    return {**found, "noise-buys-recall": difference(high["recall"], low["recall"])}


def _made_robust(trained: Trained) -> bool:
    return max(trained.settings.robustness_weights) > 0


def _on_the_ring(trained: Trained) -> Interval:
    """The change of precision by the largest weight of L_R, in the family that loses least."""
    largest = max(trained.settings.robustness_weights)
    return _most(_change(trained.records, "precision", name, largest) for name in FAMILIES)


def _recall_kept_over_pmrf(trained: Trained) -> Interval:
    """The least recall of the families but PMRF − that of PMRF, at the largest weight of L_R."""
    robust = _by_name(trained.records, max(trained.settings.robustness_weights))
    kept = _least(robust[name]["recall"] for name in FAMILIES if name != "pmrf")
    return difference(kept, robust["pmrf"]["recall"])


def _steepest(plain: Mapping[str, Row]) -> Interval:
    """The largest √R̃/ε of the families but PMRF, of merged rows by name."""
    return _most(plain[name]["sensitivity"] for name in FAMILIES if name != "pmrf")


def _by_name(records: Iterable[Row], weight: float = 0.0, part: str = "drawn") -> dict[str, Row]:
    """The merged rows of one λ_R, by estimator."""
    return {r["estimator"]: r for r in over_runs(records, part) if r["weight"] == weight}


def _at_heat_zero(records: Iterable[Row], family: str, measure: str) -> Interval:
    """The mean of a measure over the networks of a family, with the seed's mean as their seed."""
    values = [
        measured[measure]
        for row in records
        if (row["estimator"], row["weight"]) == (family, 0.0)
        for measured in row["heats"]
        if measured["heat"] == 0
    ]
    return _mean(values, of=measure)


def _change(records: Sequence[Row], measure: str, family: str, weight: float) -> Interval:
    """The mean change of a measure from λ_R = 0 to a weight, over paired runs."""
    before, after = (
        {r["run"]: r["drawn"][measure] for r in records if (r["estimator"], r["weight"]) == of}
        for of in ((family, 0.0), (family, weight))
    )
    return _mean([after[run] - before[run] for run in before])


def _least(intervals: Iterable[Interval]) -> Interval:
    return min(intervals, key=lambda interval: interval.value)


def _most(intervals: Iterable[Interval]) -> Interval:
    return max(intervals, key=lambda interval: interval.value)


@torch.no_grad()
def toy_samples(trained: Trained) -> list[tuple[str, Tensor]]:
    """The restorations of the same inputs by each family and by the posterior sampler, (N, 2)."""
    settings = trained.settings
    problem = TOYS[settings.problem]
    y = problem.sample(settings.samples, generator=_draws(0))[:, :1]
    shown: dict[str, Estimator] = {
        **trained.networks,
        "posterior_sampler": PosteriorSampler(problem),
    }
    return [
        (name, sample(each, y.to(parameters_like(each)), generator=_draws(1)).cpu())
        for name, each in shown.items()
    ]


def outline(problem: str, points: int = 400) -> list[Tensor]:
    """Closed lines around the support of a toy problem, (M, 2) each."""
    angle = torch.linspace(0, 2 * math.pi, points)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    ring = TOYS[problem]
    axes = [ring.outer, ring.inner] if isinstance(ring, Ring) else [(1.0, 1.0)]
    return [circle * torch.tensor(each) for each in axes]
