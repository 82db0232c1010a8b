"""Table 1 and Fig. 1: image inpainting with four GANs of one architecture (Sec. 6.1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from stochrestore.degradations import Inpainting
from stochrestore.errors import require
from stochrestore.experiments._image_gans import ImageSettings, build_trainer
from stochrestore.experiments._trainings import MODELS, Job, Method, train_jobs
from stochrestore.training import AlternatingTrainer

EXPERIMENT = "inpaint"


class Settings(ImageSettings):
    """The inpainting experiment."""

    robust: bool | None = Field(None, description="only the robust or erratic pair; None: all")


def degradation(settings: ImageSettings) -> Inpainting:
    """The lower quarter is known."""
    return Inpainting(settings.shape[1])


def main_jobs(settings: Settings) -> Iterator[Job]:
    """The trainings behind Fig. 1 and Table 1: every model, ``runs`` seeds each."""
    for name, model in MODELS.items():
        weight = settings.robustness_weight if model.robust else 0.0
        changed = settings.model_copy(update={"robustness_weight": weight})
        for run in range(settings.runs):
            yield Job(f"{settings.kind}/{name}-seed{run}", model, settings.seed + run, changed)


def job_trainer(job: Job) -> AlternatingTrainer:
    """Networks, data and generator of a job."""
    return build_trainer(job.model, job.settings, degradation(job.settings), seed=job.seed)


def recorded(settings: Settings) -> dict[str, Any]:
    """The settings one training depends on, as its record keeps them."""
    grid = {"train", "weights", "runs", "robust", "device", "validation_images", "skip_bad"}
    return settings.model_dump(mode="json", exclude=grid)


METHOD = Method(build=job_trainer, recorded=recorded, half=True)


def train(settings: Settings, folder: Path, *, only: str = "", workers: int = 1) -> None:
    """Train what ``folder`` does not hold yet.

    Args:
        settings: the trainings' settings.
        folder: for weights, records and checkpoints.
        only: the beginning of the names of the trainings to do; empty: all.
        workers: trainings at a time, each on one CPU thread, or sharing the GPU.

    Raises:
        InputError: no training's name begins with ``only``, or ``folder`` cannot be written.
    """
    jobs = {job.name: job for job in main_jobs(settings)}
    chosen = [job for name, job in jobs.items() if name.startswith(only)]
    names = sorted({name.rsplit("-", 1)[0] for name in jobs})
    require(bool(chosen), "only", only, f"the beginning of one of {', '.join(names)}")
    train_jobs(chosen, folder, METHOD, workers=workers)
