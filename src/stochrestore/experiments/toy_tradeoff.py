"""Fig. 3, Fig. 5 and Table 3: the toy trade-off between robustness and perceptual quality.

Settings in, rows of numbers out. A row is a dictionary: the estimator's name, the run, and what
was measured; the square roots √R̃ and √R are in units of X.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stochrestore.attacks import Attack, worst_perturbation
from stochrestore.estimators.base import Estimator, SecondCoordinate, restore, squared_distance
from stochrestore.estimators.closed_form import (
    PosteriorMean,
    PosteriorSampler,
    RingAvoidingHole,
    RingCrossingHole,
    Sine,
)
from stochrestore.experiments.toy_gans import (
    METHOD,
    ToySettings,
    all_jobs,
    draw,
    evaluate,
    exact_sensitivity,
    main_jobs,
    parameters_like,
    ring_jobs,
    sweep_jobs,
    variant_jobs,
)
from stochrestore.experiments.toy_gans import (
    printed_weight as printed_weight,
)
from stochrestore.experiments.trained import load_networks, trained_weights
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.problems.toy import Disk, Ring, midpoints
from stochrestore.training.jobs import MODELS, Job, read_record
from stochrestore.training.loop import Metrics

Settings = ToySettings
Row = dict[str, Any]

CLOSED_FORM: dict[str, Estimator] = {
    "robust_sine": Sine(1.0),
    "erratic_sine": Sine(50.0),
    "posterior_sampler": PosteriorSampler(),
    "posterior_mean": PosteriorMean(),
}
FIGURE_3 = ("robust_sine", "erratic_sine", *MODELS, "posterior_sampler")


@dataclass(frozen=True)
class Trained:
    """All trained networks of the chapter, and the records of all its trainings."""

    estimators: dict[str, list[Estimator]]
    """The networks of each model, one a seed."""
    records: dict[str, list[Row]]
    """Their records, with the history of each training."""
    on_ring: dict[str, list[Estimator]]
    """The networks of each model that learned the ring, one a seed."""
    sweep: list[Row]
    """Rows over λ_R, both robust models."""
    variants: list[Row]
    """Rows of what the paper leaves open, both erratic models."""


def load_or_train(settings: ToySettings) -> Trained:
    """The networks of Fig. 3: those shipped, those of ``settings.weights``, or trained now."""
    folder = trained_weights(settings, all_jobs(settings).values(), METHOD)
    found = load_networks(main_jobs(settings), folder, METHOD)
    grids = (_final_rows(jobs(settings), folder) for jobs in (sweep_jobs, variant_jobs))
    on_ring, _ = load_networks(ring_jobs(settings), folder, METHOD)
    return Trained(*found, on_ring, *grids)


def _final_rows(jobs: Iterable[Job], folder: Path) -> list[Row]:
    """The last measurement of each job, with what tells it from the others."""
    rows = []
    for job in jobs:
        record = read_record(job, folder)
        model, label, _ = Path(job.name).name.split("-", 2)
        row = {"estimator": model, "variant": label, "run": job.seed}
        rows.append({**row, "weight": job.settings.robustness_weight, **record["history"][-1]})
    return rows


def figure_3_rows(trained: Trained, settings: ToySettings) -> list[Row]:
    """Every estimator of Fig. 3 and Table 3, ``runs`` times each.

    A run is another network where there is one, and another draw of samples in any case.
    """
    rows = []
    for name in (*FIGURE_3, "posterior_mean"):
        exact = closed_form_sensitivity(name, settings.epsilon) if name in CLOSED_FORM else {}
        for run in range(settings.runs):
            estimator = CLOSED_FORM[name] if name in CLOSED_FORM else trained.estimators[name][run]
            measured = evaluate(estimator, settings, seed=settings.seed + run)
            rows.append({"estimator": name, "run": run, **measured, **exact})
    return rows


def closed_form_sensitivity(name: str, epsilon: float) -> Metrics:
    """√R̃ and √R of the closed forms, with a quadrature fine enough for the disk's edge."""
    if name == "posterior_sampler":
        root = posterior_sensitivity(epsilon) ** 0.5
        return {"sensitivity": root, "w2_sensitivity": root}
    moved = exact_sensitivity(Disk(), CLOSED_FORM[name], epsilon, y_points=200_000, z_points=1)
    return {"sensitivity": moved.shared_seed**0.5, "w2_sensitivity": moved.wasserstein**0.5}


def posterior_sensitivity(epsilon: float) -> float:
    r"""R (Eq. 5) of the disk's posterior sampler, by adaptive quadrature.

    With a(y) = √(1 − y²), the posteriors are uniform on [−a, a], so that
    W2² = (a(y) − a(y + δ))²/3. To leading order R = ε²·E[Y²/(1 − Y²)]/3 = ε²/3; the exact value
    is a little larger, since the worse of ±ε is taken.
    """
    from scipy.integrate import quad

    def integrand(angle: float) -> float:
        y, a = math.sin(angle), math.cos(angle)
        moved = (math.sqrt(max(0.0, 1 - (y + d) ** 2)) for d in (-epsilon, epsilon))
        worst = max((a - b) ** 2 for b in moved) / 3
        return worst * a**2 * 4 / math.pi  # p_Y dy = 2a²/π dφ, and both halves of the disk

    edge = math.asin(1 - epsilon)
    inner, _ = quad(integrand, 0, edge, limit=500, epsabs=0, epsrel=1e-10)
    outer, _ = quad(integrand, edge, math.pi / 2, limit=500, epsabs=0, epsrel=1e-10)
    return inner + outer


def sine_rows(settings: ToySettings, alphas: Sequence[float]) -> list[Row]:
    """Recall and √R̃ of X̂_α along α: the closed-form trade-off."""
    rows = []
    for alpha in alphas:
        estimator = Sine(alpha)
        moved = exact_sensitivity(Disk(), estimator, settings.epsilon, y_points=20_000, z_points=1)
        for run in range(settings.runs):
            generator = torch.Generator().manual_seed(settings.seed + run)
            real, fake = draw(Disk(), estimator, settings.samples, generator=generator)
            quality = precision_recall(real, fake, settings.k)
            row = {"alpha": alpha, "run": run, "sensitivity": moved.shared_seed**0.5}
            rows.append({**row, **quality._asdict()})
    return rows


def trajectory_rows(trained: Trained, model: str) -> list[Row]:
    """What was measured along the training of a model's networks."""
    return [
        {"estimator": model, "run": run, **measured}
        for run, record in enumerate(trained.records[model])
        for measured in record["history"]
    ]


def ring_rows(trained: Trained, settings: ToySettings) -> list[Row]:
    """Precision and recall on the ring: of Fig. 5's estimators, its posterior sampler, the GANs.

    A run is another network where there is one, and another draw of samples in any case.
    """
    ring = Ring()
    formulas = {name: [each] * settings.runs for name, each in ring_estimators(ring).items()}
    rows = []
    for name, estimators in (formulas | trained.on_ring).items():
        for run, estimator in enumerate(estimators):
            generator = torch.Generator().manual_seed(settings.seed + run)
            real, fake = draw(ring, estimator, settings.samples, generator=generator)
            quality = precision_recall(real, fake, settings.k)
            rows.append({"estimator": name, "run": run, **quality._asdict()})
    return rows


def ring_estimators(ring: Ring) -> dict[str, Estimator]:
    """X̂₁, X̂₂ of Fig. 5, and the exact posterior sampler."""
    return {
        "avoiding_hole": RingAvoidingHole(ring=ring),
        "crossing_hole": RingCrossingHole(ring=ring),
        "posterior_sampler": PosteriorSampler(ring),
    }


def attack_rows(trained: Trained, settings: ToySettings) -> list[Row]:
    """How much of the ε-ball, and of the exact √R̃, the paper's toy attack reaches.

    Three attacks: App. E.1's step size from δ = 0, the same from a random start, and a step
    size of ε/2.
    """
    base = settings.attack()
    attacks = {
        "as printed, from 0": Attack(base.radius, base.steps, base.lr, start="zero"),
        "as printed, random start": Attack(base.radius, base.steps, base.lr),
        "step ε/2, random start": Attack(base.radius, base.steps, base.radius / 2),
    }
    rows = []
    for model, networks in trained.estimators.items():
        for run, network in enumerate(networks):
            for label, attack in attacks.items():
                used, share = _attack_share(network, attack, settings, run)
                row = {"estimator": model, "run": run, "attack": label}
                rows.append({**row, "ball_used": used, "share_of_exact": share})
    return rows


def _attack_share(
    estimator: Estimator, attack: Attack, settings: ToySettings, run: int
) -> tuple[float, float]:
    """Mean |δ|/ε of an attack, and its √R̃ over that of the exact maximum on the same inputs."""
    generator = torch.Generator().manual_seed(settings.seed + run)
    x, _ = draw(Disk(), estimator, settings.samples, generator=generator)
    y, measured = x[:, :1].to(parameters_like(estimator)), SecondCoordinate(estimator)
    z = estimator.seed(y, 16, generator=generator)
    delta = worst_perturbation(measured, y, z, attack, generator=generator)
    reached = _moved(measured, y, z, delta)
    ends = [
        _moved(measured, y, z, torch.full_like(y, e * attack.radius)) for e in (-1, -0.5, 0.5, 1)
    ]
    exact = torch.stack(ends).amax(0)
    share = (reached.mean() / exact.mean()).sqrt().item()
    return (delta.abs().mean() / attack.radius).item(), share


@torch.no_grad()
def _moved(estimator: Estimator, y: Tensor, z: Tensor, delta: Tensor) -> Tensor:
    """E_Z‖G(y, Z) − G(y + δ, Z)‖² for each y, (N,)."""
    return squared_distance(restore(estimator, y + delta, z), restore(estimator, y, z)).mean(0)


@torch.no_grad()
def support_curve(
    estimator: Estimator, points: int, *, height: float = 1.0, generator: torch.Generator
) -> Tensor:
    """Restorations of evenly spaced y, |y| < height, one seed each: top rows of Fig. 3 and 5."""
    y = height * (2 * midpoints(points) - 1).float()[:, None]
    y = y.to(parameters_like(estimator).device)
    return estimator(y, estimator.seed(y, 1, generator=generator)[0]).cpu()
