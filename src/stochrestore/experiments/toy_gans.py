"""The toy GANs of Sec. 4.2 and 5: which there are, how they are trained, stored and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor

from stochrestore.estimators.base import Estimator, SecondCoordinate, sample
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.metrics.sensitivity import ScalarSensitivity, scalar_sensitivity
from stochrestore.networks.mlp import MLPCritic, MLPEstimator, SeedDistribution
from stochrestore.problems.toy import TOYS, ToyProblem, midpoints
from stochrestore.training.adversarial import AlternatingTrainer, TrainingSettings
from stochrestore.training.jobs import MODELS, Job, Method, Model
from stochrestore.training.loop import Metrics

EXPERIMENT = "toy_tradeoff"


class ToySettings(TrainedSettings, TrainingSettings):
    """Networks, data and evaluation of the toy GANs (App. E.1), beside their training."""

    experiment: ClassVar[str] = EXPERIMENT
    of_each_training: ClassVar[frozenset[str]] = frozenset({"problem"})

    width: int = Field(512, ge=1, description="hidden units of estimator and critic (Table 2)")
    seed_distribution: SeedDistribution = Field("uniform", description="Z ~ U[0, 1] or N(0, 1)")
    training_samples: int = Field(100_000, ge=10, description="size of the training set")
    runs: int = Field(5, ge=2, description="independently trained networks of each kind")
    ring_runs: int = Field(3, ge=2, description="those of each kind on the ring")
    problem: Literal["disk", "ring"] = Field(
        "disk", description="where the points of a single training lie"
    )
    samples: int = Field(1000, ge=20, description="points in each set for precision and recall")
    k: int = Field(5, ge=1, description="neighbours in precision and recall")
    y_points: int = Field(512, ge=8, description="quadrature points over Y, for R and R̃")
    z_points: int = Field(64, ge=2, description="quadrature points over Z, for R and R̃")
    sweep_weights: tuple[PositiveFloat, ...] = Field(
        (1e-7, 1e-4, 1e-3, 1e-2, 1e-1),
        strict=False,
        description="values of λ_R in the sweep, for R̃/ε², beside the printed one",
    )
    sweep_steps: int = Field(3000, ge=1, description="steps of the sweep's and variants' trainings")
    sweep_seeds: int = Field(4, ge=1, description="seeds averaged in Eq. 6 in the sweep")

    @field_validator("k")
    @classmethod
    def _fewer_neighbours_than_samples(cls, k: int, info: ValidationInfo) -> int:
        samples = info.data.get("samples")
        if samples is not None and k >= samples:
            raise ValueError(f"an integer smaller than samples, {samples}")
        return k


def main_jobs(settings: ToySettings) -> Iterator[Job]:
    """The trainings behind Fig. 3 and Table 3: every model, ``runs`` seeds each."""
    return _of_each_model("", settings, settings.runs)


def ring_jobs(settings: ToySettings) -> Iterator[Job]:
    """The same on the ring of Fig. 5, ``ring_runs`` seeds each."""
    on_ring = settings.model_copy(update={"problem": "ring"})
    return _of_each_model("ring/", on_ring, settings.ring_runs)


def _of_each_model(folder: str, settings: ToySettings, runs: int) -> Iterator[Job]:
    for name, model in MODELS.items():
        for run in range(runs):
            weight = settings.robustness_weight if model.robust else 0.0
            changed = settings.model_copy(update={"robustness_weight": weight})
            yield Job(f"{folder}{name}-seed{run}", model, settings.seed + run, changed)


def _measured(name: str, model: Model, seed: int, settings: ToySettings) -> Job:
    """A training of which only the record is kept, with what was measured at its end."""
    by = frozenset({"samples", "k", "y_points", "z_points"})
    return Job(name, model, seed, settings, keep_weights=False, measured_by=by)


VARIANTS: dict[str, dict[str, Any]] = {
    "half_r1": {},
    "full_r1": {"r1_convention": "full"},
    "normal_z": {"seed_distribution": "normal"},
    "batch_32": {"batch_size": 32},
    "averaged": {"ema_decay": 0.999},
}


def sweep_jobs(settings: ToySettings) -> Iterator[Job]:
    """The sweep over λ_R: both robust models, trained for less long; only records are kept."""
    for name in ("robust_gan", "robust_sto_gan"):
        for weight in sorted({*settings.sweep_weights, printed_weight(settings)}):
            for run in range(settings.runs):
                update = {
                    "robustness_weight": weight,
                    "robustness_scale": "slope",
                    "robustness_seeds": settings.sweep_seeds,
                    "steps": settings.sweep_steps,
                }
                changed = settings.model_copy(update=update)
                mantissa, exponent = f"{weight:.5e}".split("e")
                label = f"sweep/{name}-weight{float(mantissa):g}e{exponent}-seed{run}"
                yield _measured(label, MODELS[name], settings.seed + run, changed)


def printed_weight(settings: ToySettings) -> float:
    """λ_R = 0.1, which the paper prints for R̃, in the units of the sweep, R̃/ε²."""
    return float(f"{0.1 * settings.epsilon**2:.6g}")


def variant_jobs(settings: ToySettings) -> Iterator[Job]:
    """Both erratic models with one change each, of what the paper leaves open."""
    for name in ("erratic_gan", "sto_gan"):
        for variant, change in VARIANTS.items():
            for run in range(settings.runs):
                update = {"robustness_weight": 0.0, "steps": settings.sweep_steps, **change}
                changed = settings.model_copy(update=update)
                label = f"variants/{name}-{variant}-seed{run}"
                yield _measured(label, MODELS[name], settings.seed + run, changed)


def all_jobs(settings: ToySettings) -> dict[str, Job]:
    """Every training of the chapter, by name."""
    groups = (main_jobs, ring_jobs, variant_jobs, sweep_jobs)
    return {job.name: job for group in groups for job in group(settings)}


def build_estimator(job: Job) -> MLPEstimator:
    """The untrained network of a job."""
    return MLPEstimator(
        job.settings.width,
        stochastic=bool(job.stochastic),
        seed_distribution=job.settings.seed_distribution,
    )


def evaluate_job(estimator: Estimator, job: Job) -> Metrics:
    """What is measured along a training; see :func:`evaluate`."""
    return evaluate(estimator, job.settings, seed=job.seed)


def build_trainer(job: Job) -> AlternatingTrainer:
    """Networks, data and generator of a job, all decided by its seed."""
    settings, device = job.settings, job.settings.torch_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        estimator, critic = build_estimator(job), MLPCritic(settings.width)
    generator = torch.Generator().manual_seed(job.seed)
    problem = TOYS[settings.problem]
    images = problem.sample(settings.training_samples, generator=generator).float()
    seeds = settings.robustness_seeds if estimator.stochastic else 1
    return AlternatingTrainer(
        estimator.to(device),
        critic.to(device),
        images.to(device),
        lambda x: x[:, :1],
        settings.model_copy(update={"robustness_seeds": seeds}),
        generator=generator,
        measured=SecondCoordinate,
    )


def evaluate(estimator: Estimator, settings: ToySettings, *, seed: int) -> Metrics:
    """Precision and recall on fresh samples, and √R̃ and √R (Eq. 7 and 5) by quadrature."""
    problem = TOYS[settings.problem]
    generator = torch.Generator().manual_seed(10_000 + seed)
    real, fake = draw(problem, estimator, settings.samples, generator=generator)
    quality = precision_recall(real, fake, settings.k)
    points = {"y_points": settings.y_points, "z_points": settings.z_points}
    moved = exact_sensitivity(problem, estimator, settings.epsilon, **points)
    return {
        **quality._asdict(),
        "sensitivity": moved.shared_seed**0.5,
        "w2_sensitivity": moved.wasserstein**0.5,
    }


@torch.no_grad()
def draw(
    problem: ToyProblem, estimator: Estimator, n: int, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """n data points, and n restorations of the inputs of n others: (n, 2) each, on the CPU."""
    x = problem.sample(2 * n, generator=generator).to(parameters_like(estimator))
    return x[:n].cpu(), sample(estimator, x[n:, :1], generator=generator).cpu()


def exact_sensitivity(
    problem: ToyProblem, estimator: Estimator, epsilon: float, *, y_points: int, z_points: int
) -> ScalarSensitivity:
    """R̃ (Eq. 7) and R (Eq. 5) of X̂⁽²⁾ by quadrature over Y and Z."""
    like = parameters_like(estimator)
    y = problem.input_quantile(midpoints(y_points)).to(like)[:, None]
    z = seed_quantiles(estimator, z_points).to(like)[:, None, None].expand(-1, y_points, 1)
    return scalar_sensitivity(SecondCoordinate(estimator), y, z, epsilon)


def seed_quantiles(estimator: Estimator, n: int) -> Tensor:
    """n evenly spaced quantiles of an estimator's seed; one zero where deterministic."""
    probe = estimator.seed(torch.zeros(1, 1), 2, generator=torch.Generator().manual_seed(0))
    if not probe.any():
        return torch.zeros(1, dtype=torch.float64)
    levels = midpoints(n)
    normal = getattr(estimator, "seed_distribution", "uniform") == "normal"
    return torch.special.ndtri(levels) if normal else levels


def parameters_like(estimator: Estimator) -> Tensor:
    """An empty tensor of the dtype and device the estimator computes in (float64 for formulas)."""
    if isinstance(estimator, torch.nn.Module):
        return next(estimator.parameters()).new_empty(0)
    return torch.empty(0, dtype=torch.float64)


METHOD = Method(build=build_trainer, network=build_estimator, evaluate=evaluate_job)
