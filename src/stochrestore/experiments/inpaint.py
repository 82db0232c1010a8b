"""Table 1 and Fig. 1: image inpainting with four GANs of one architecture (Sec. 6.1).

Settings in, images and rows of numbers out. A row is a dictionary: the estimator's name, the run,
and what was measured, as :class:`Interval` where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import nan
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from stochrestore.attacks import worst_perturbation
from stochrestore.data.images import face_seeds
from stochrestore.degradations import Inpainting
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.face_posterior import FacePosterior
from stochrestore.experiments import evaluation
from stochrestore.experiments.attack_grid import AttackGrid, attack_grid
from stochrestore.experiments.evaluation import ANY, MEASURED_ALONG, RANGES
from stochrestore.experiments.evaluation import over_runs as over_runs
from stochrestore.experiments.image_controls import controls as controls
from stochrestore.experiments.image_controls import examination, two_sample_accuracy
from stochrestore.experiments.image_gans import (
    CriticInit,
    ImageSettings,
    build_critic,
    image_method,
    images,
    model_jobs,
    with_seeds,
    workers,
)
from stochrestore.experiments.trained import load_networks, trained_weights
from stochrestore.metrics.intervals import student_interval
from stochrestore.metrics.restoration import AttackChecks, attack_checks
from stochrestore.problems.faces.distribution import Faces
from stochrestore.training.jobs import MODELS, Job, Model, finished, read_record
from stochrestore.training.loop import Metrics, float32_as

EXPERIMENT = "inpaint"
PAPER_TABLE_1 = {
    "fid": {"sto_gan": "14.10", "robust_sto_gan": "19.27", "erratic_gan": "14.37",
            "robust_gan": "39.09"},
    "precision": {"sto_gan": ".670", "robust_sto_gan": ".634", "erratic_gan": ".670",
                  "robust_gan": ".533"},
    "recall": {"sto_gan": ".388", "robust_sto_gan": ".268", "erratic_gan": ".382",
               "robust_gan": ".022"},
    "std": {"sto_gan": ".007", "robust_sto_gan": ".105", "erratic_gan": "0", "robust_gan": "0"},
    "robustness": {"sto_gan": "6.884", "robust_sto_gan": "26.19", "erratic_gan": "3.544",
                   "robust_gan": "23.69"},
    "ai_psnr": {"sto_gan": "34.47", "robust_sto_gan": "32.95", "erratic_gan": "34.18",
                "robust_gan": "32.98"},
}  # fmt: skip
"""Table 1 as printed: Inception's features, CelebA at 64×64."""
Row = dict[str, Any]
LIGHT_GREY = 0.82
SHORT: dict[str, Any] = {
    "steps": 900,
    "lr_milestones": (630, 765),
    "batch_size": 16,
    "critic_width": 8,
    "precision": "float32",
}
"""What the trainings over :data:`OPTIONS` have in place of the recipe's: there are many of them."""
OPTIONS: dict[str, dict[str, tuple[float | str, ...]]] = {
    "robust_sto_gan": {
        "critic_residual": (0.1, 0.3, 1.0),
        "critic_input": ("unit", "symmetric"),
        "seed_scale": (1.0, 2.0, 4.0, 8.0),
        "robustness_weight": (5.0, 50.0, 500.0),
        "lr": (1e-4, 4e-4),
    },
    "sto_gan": {"seed_scale": (1.0, 4.0)},
}
"""The values of each setting that are compared, for each model; the recipe's is among them."""


class Settings(ImageSettings):
    """The inpainting experiment."""

    experiment: ClassVar[str] = EXPERIMENT

    robust: bool | None = Field(None, description="only robust or erratic models; None: all")
    sweep_weights: tuple[PositiveFloat, ...] = Field(
        (50.0, 5000.0), strict=False, description="further values of λ_R, on digits"
    )
    seed_layers: tuple[int, ...] = Field(
        (0, 4), strict=False, description="layers that the seed enters, on digits"
    )
    seed_lengths: tuple[PositiveInt, ...] = Field(
        (1, 16), strict=False, description="lengths of the seed, on digits"
    )
    sweep_runs: int = Field(2, ge=1, description="trainings for each value of these sweeps")
    option_runs: int = Field(
        0, ge=0, description="trainings for each value of the options, on clothes; 0: none"
    )


@dataclass(frozen=True)
class Trained:
    """The networks of one kind of data, and what is known of how they were trained."""

    settings: Settings
    estimators: dict[str, list[Estimator]]
    """The networks of each model that is shown; one for each run."""
    records: dict[str, list[Row]]
    """The records of their trainings, with the losses along each."""
    sweep: list[Row]
    """On digits: rows over λ_R; empty where they were not trained."""
    seeds: list[Row]
    """On digits: rows over the layer that the seed enters and its length."""
    options: list[Row]
    """On clothes: :func:`option_rows`; empty where they were not trained."""


def degradation(settings: ImageSettings) -> Inpainting:
    """The lower quarter is known."""
    return Inpainting(settings.shape[1])


def shown_models(settings: Settings) -> dict[str, Model]:
    """All four models, or the pair that ``robust`` restricts to."""
    return {
        name: model
        for name, model in MODELS.items()
        if settings.robust is None or model.robust == settings.robust
    }


def main_jobs(settings: Settings) -> Iterator[Job]:
    """The trainings behind Fig. 1 and Table 1: every model shown, ``runs`` seeds each."""
    return model_jobs(settings, settings.kind, shown_models(settings))


def sweep_jobs(settings: Settings) -> Iterator[Job]:
    """The sweep over λ_R on digits, of both robust models; only the records are kept."""
    if settings.kind != "digits":
        return
    for name in ("robust_gan", "robust_sto_gan"):
        for weight in settings.sweep_weights:
            changed = settings.model_copy(update={"robustness_weight": weight})
            yield from _recorded(f"sweep/{name}-weight{weight:g}", name, changed)


def seed_jobs(settings: Settings) -> Iterator[Job]:
    """The erratic stochastic model on digits, for each layer and length of the seed."""
    if settings.kind != "digits":
        return
    for layer in settings.seed_layers:
        for length in settings.seed_lengths:
            if (layer, length) == (settings.seed_layer, settings.seed_dims):
                continue  # the main trainings have it
            update = {"robustness_weight": 0.0, "seed_layer": layer, "seed_dims": length}
            changed = settings.model_copy(update=update)
            yield from _recorded(f"seeds/sto_gan-layer{layer}-length{length}", "sto_gan", changed)


def _recorded(label: str, name: str, settings: Settings) -> Iterator[Job]:
    """Trainings on digits of which only the records are kept."""
    runs = settings.sweep_runs
    return with_seeds(f"digits/{label}", MODELS[name], settings, runs, keep_weights=False)


def option_trainings(settings: Settings) -> Iterator[tuple[Row, list[Job]]]:
    """For each value of :data:`OPTIONS`: the row that it will have, and its trainings on clothes.

    One setting is not the recipe's, or none: those trainings stand in the row of every option.
    """
    if settings.kind != "fashion":
        return
    for name, options in OPTIONS.items():
        erratic = {} if MODELS[name].robust else {"robustness_weight": 0.0}
        recipe = settings.model_copy(update=SHORT | erratic)
        for option, value in ((o, v) for o, values in options.items() for v in values):
            text = value if isinstance(value, str) else f"{value:g}"
            same = getattr(recipe, option) == value
            label = f"fashion/options/{name}-" + ("recipe" if same else f"{option}{text}")
            changed = recipe.model_copy(update={option: value})
            runs = settings.option_runs
            jobs = with_seeds(label, MODELS[name], changed, runs, keep_weights=False)
            row = {"estimator": name, "option": option, "value": text, "recipe": same}
            yield row, list(jobs)


def option_jobs(settings: Settings) -> Iterator[Job]:
    """The trainings over :data:`OPTIONS`; those of the recipe come once for each option."""
    for _, jobs in option_trainings(settings):
        yield from jobs


def all_jobs(settings: Settings) -> dict[str, Job]:
    """Every training of the chapter for one kind of data, by name."""
    groups = (main_jobs, sweep_jobs, seed_jobs, option_jobs)
    return {job.name: job for group in groups for job in group(settings)}


def job_evaluation(estimator: Any, job: Job) -> Metrics:
    """A point of the training's curve; on digits without weights, what the chapter shows of it."""
    if job.keep_weights or job.settings.kind == "fashion":
        return evaluation.curve_point(estimator, job, degradation=degradation)
    settings, training = job.settings, estimator.training
    estimator.eval()
    compared = evaluation.reference(settings, degradation(settings))
    generator = torch.Generator().manual_seed(job.seed)
    std = len(compared.inputs), settings.std_samples
    found = evaluation.point(estimator, compared, settings.k, std, generator)
    estimator.train(training)
    return found


METHOD = image_method(degradation, job_evaluation, examination)


@cache
def fresh_critic_on_images(settings: Settings) -> float:
    """The control of ``two_sample_accuracy``: images stand for restorations."""
    return two_sample_accuracy(None, settings, degradation(settings), seed=settings.seed)


def load_or_train(settings: Settings) -> Trained:
    """The networks: those shipped, those of ``settings.weights``, or trained now."""
    jobs = list(main_jobs(settings))
    if settings.train:
        evaluation.check_evaluation(settings)
    folder = trained_weights(settings, jobs, METHOD, workers=workers(settings))
    networks, records = load_networks(jobs, folder, METHOD)
    sweep, seeds = (_final_rows(each(settings), folder) for each in (sweep_jobs, seed_jobs))
    return Trained(settings, networks, records, sweep, seeds, option_rows(settings, folder))


def with_data(settings: Settings, data: str) -> Settings:
    """The same preset's settings for other data.

    These are trained only where the preset says so: ``train=True`` is about the data asked for.
    """
    kept = {name: getattr(settings, name) for name in ("seed", "robust", "device")}
    train = None if settings.train else False  # None: as the preset has it
    return Settings.load(settings.preset, data=data, train=train, **kept)


def _final_rows(jobs: Iterable[Job], folder: Path) -> list[Row]:
    """The last measurement of each job that was trained so, with the settings that it varies."""
    rows = []
    for job in jobs:
        if finished(job, folder):
            s = job.settings
            row = {
                "estimator": job.key,
                "run": job.seed - s.seed,
                "weight": s.robustness_weight,
                "layer": s.seed_layer,
                "length": s.seed_dims,
            }
            rows.append({**row, **read_record(job, folder)["history"][-1]})
    return rows


def option_rows(settings: Settings, folder: Path) -> list[Row]:
    """What was measured at the end of the trainings over :data:`OPTIONS`, a row a value.

    Means over the trainings that ``folder`` has, with Student's intervals; a value with fewer than
    two has no row. They are measured on the images of the curves, which no other number uses.
    """
    rows = []
    for row, jobs in option_trainings(settings):
        ends = [read_record(job, folder)["history"][-1] for job in jobs if finished(job, folder)]
        if len(ends) > 1:
            measured = {
                key: student_interval([end[key] for end in ends], within=RANGES.get(key, ANY))
                for key in MEASURED_ALONG
            }
            rows.append({**row, "runs": len(ends), **measured})
    return rows


def option_numbers(trained: Trained) -> dict[str, float]:
    """The means of :func:`option_rows` by ``model-option-value-quantity``; NaN where untrained."""
    place = itemgetter("estimator", "option", "value")
    found = {place(row): row for row in trained.options}
    return {
        "-".join((*place(row), key)): found[place(row)][key].value if place(row) in found else nan
        for row, _ in option_trainings(trained.settings)
        for key in MEASURED_ALONG
    }


def table_1(trained: Trained) -> list[Row]:
    """The metrics of every network and, on faces, those of the true posterior sampler."""
    settings, degrade = trained.settings, degradation(trained.settings)
    compared, pixels = evaluation.reference(settings, degrade), settings.pixels
    rows = [
        {"estimator": name, **row}
        for name, networks in trained.estimators.items()
        for row in evaluation.measured(networks, compared, degrade, settings, input_dims=pixels)
    ]
    if settings.kind == "faces":
        rows.append({"estimator": "posterior_sampler", "run": 0, **_ceiling(compared, settings)})
    return rows


def _ceiling(compared: evaluation.Reference, settings: Settings) -> Row:
    """The true posterior sampler's row of Table 1."""
    everyone = face_posterior(settings, len(compared.inputs))
    generator = torch.Generator().manual_seed(settings.seed)
    z = everyone.seed(compared.inputs, 1, generator=generator)[0]
    some = min(settings.std_inputs, len(compared.inputs))
    fake = compared.features(everyone(compared.inputs, z))
    row = evaluation.quality(compared, fake, settings)
    row |= evaluation.quality_by_piq(compared, fake, settings)
    return row | evaluation.behaviour(
        face_posterior(settings, some),
        compared.inputs[:some],
        degradation(settings),
        settings.model_copy(update={"attacked_inputs": some}),
        input_dims=settings.pixels,
        attacked=False,
    )


def face_posterior(settings: Settings, n: int) -> FacePosterior:
    """p(X | Y) of the first n validation faces."""
    faces = Faces(settings.size)
    _, validation = face_seeds(0)
    return FacePosterior(faces, faces.latents(validation, 0, n))


def figure_1(trained: Trained, n: int, samples: int) -> list[tuple[str, Tensor]]:
    """Groups of columns: the input, the image, each model's samples, and the posterior's.

    Returns:
        title (or an estimator's key) and images, (columns, n, C, S, S).
    """
    settings, degrade = trained.settings, degradation(trained.settings)
    x = images(settings).shown(n)
    y = degrade.degrade(x).to(settings.torch_device())
    models: dict[str, Estimator] = {name: nets[0] for name, nets in trained.estimators.items()}
    if settings.kind == "faces":
        models["posterior_sampler"] = face_posterior(settings, n)
    groups = [("input", known_pixels(y, degrade)[None].cpu()), ("image", x[None])]
    return groups + evaluation.sampled(models, y, samples, seed=settings.seed)


def known_pixels(y: Tensor, degrade: Inpainting) -> Tensor:
    """y as an image, light grey where nothing is known."""
    return degrade.lift(y - LIGHT_GREY) + LIGHT_GREY


@float32_as()
def attack_pictures(trained: Trained, index: int) -> list[tuple[str, list[Tensor]]]:
    """One input under attack: for each model y, y + δ, both outputs, and their difference."""
    settings, degrade = trained.settings, degradation(trained.settings)
    x = images(settings).validation[index : index + 1].to(settings.torch_device())
    y = degrade.degrade(x)
    rows = []
    for name, networks in trained.estimators.items():
        network, generator = networks[0], torch.Generator().manual_seed(settings.seed)
        seeds = settings.robustness_seeds if MODELS[name].stochastic else 1
        z = network.seed(y, seeds, generator=generator)
        delta = worst_perturbation(network, y, z, settings.attack(), generator=generator)
        clean, moved = network(y, z[0]), network(y + delta, z[0])
        pictures = [known_pixels(y, degrade), known_pixels(y + delta, degrade)]
        pictures += [clean, moved, (moved - clean).abs()]
        rows.append((name, [picture[0].cpu() for picture in pictures]))
    return rows


def under_attacks(trained: Trained, n: int, seeds: int, factors: Sequence[float]) -> AttackGrid:
    """Restorations of n validation images for several seeds and radii of the attack.

    Args:
        factors: radii in units of ε; 0 is no attack.

    Returns:
        Outputs of each model, and ``"input"`` → the inputs as they are, as images; inputs of each
        model → known pixels, (factors, n, C, known rows, S).
    """
    settings, degrade = trained.settings, degradation(trained.settings)
    y = degrade.degrade(images(settings).validation[:n])
    grid = attack_grid(
        {name: networks[0] for name, networks in trained.estimators.items()},
        y.to(settings.torch_device()),
        settings.attack(),
        factors,
        seeds=seeds,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    pictures = known_pixels(y, degrade)
    known = pictures.expand(len(factors), seeds, *pictures.shape)
    return AttackGrid({"input": known, **grid.outputs}, grid.inputs)


@float32_as()
def attack_credibility(trained: Trained) -> dict[str, AttackChecks]:
    """Compares the attack with noise and with stronger attacks, for a network of each model."""
    settings, degrade = trained.settings, degradation(trained.settings)
    x = images(settings).validation[: settings.attacked_inputs].to(settings.torch_device())
    return {
        name: attack_checks(
            networks[0],
            degrade.degrade(x),
            settings.attack(),
            seeds=settings.robustness_seeds,
            generator=torch.Generator().manual_seed(settings.seed),
        )
        for name, networks in trained.estimators.items()
    }


def seed_rows(trained: Trained, table: Sequence[Row]) -> list[Row]:
    """The per-pixel std of erratic stochastic models, by the layer and length of the seed."""
    settings = trained.settings
    place = {"layer": settings.seed_layer, "length": settings.seed_dims}
    return [dict(row) for row in trained.seeds] + [
        {"estimator": "sto_gan", "run": row["run"], **place, "std": row["std"].value}
        for row in table
        if row["estimator"] == "sto_gan"
    ]


def robustness_in_loss(settings: Settings, rows: dict[str, Row], name: str) -> float:
    """λ_R L_R of a model as the loss sees it: λ_R times the mean squared change of Eq. 9."""
    if name not in rows:
        return float("nan")
    return settings.robustness_weight * float(10 ** (-rows[name]["robustness"].value / 10))


@torch.no_grad()
def initial_spread(settings: Settings, critic_init: CriticInit) -> float:
    """Standard deviation over images of an untrained critic's logits."""
    changed = settings.model_copy(update={"critic_init": critic_init})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        critic = build_critic(changed)
    return critic(images(settings).train[:256]).std().item()


def weight_rows(trained: Trained, table: Sequence[Row]) -> list[Row]:
    """The metrics over λ_R: those of the sweep, and those of Table 1 at 0 and the chosen λ_R."""
    names = {"erratic_gan": "robust_gan", "sto_gan": "robust_sto_gan"}
    rows = [dict(row) for row in trained.sweep]
    for row in table:
        if row["estimator"] in MODELS:
            robust = MODELS[row["estimator"]].robust
            weight = trained.settings.robustness_weight if robust else 0.0
            found = {q: row[q].value for q in ("fid", "precision", "recall", "std")}
            name = names.get(row["estimator"], row["estimator"])
            rows.append({"estimator": name, "run": row["run"], "weight": weight, **found})
    return rows
