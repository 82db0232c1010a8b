"""A grid of trainings: each is a job with a name, carried out once, several at a time."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stochrestore.errors import InputError, require
from stochrestore.estimators import pretrained
from stochrestore.estimators.base import Estimator
from stochrestore.training import (
    AlternatingTrainer,
    Metrics,
    keep_freed_memory,
)


@dataclass(frozen=True)
class Model:
    """One kind of GAN: Z drawn or fixed, L_R in the loss or not."""

    stochastic: bool
    robust: bool


MODELS = {
    "robust_gan": Model(stochastic=False, robust=True),
    "erratic_gan": Model(stochastic=False, robust=False),
    "robust_sto_gan": Model(stochastic=True, robust=True),
    "sto_gan": Model(stochastic=True, robust=False),
}


@dataclass(frozen=True)
class Job:
    """One training: its name (that of its files), kind, seed and settings."""

    name: str
    model: Model
    seed: int
    settings: Any
    keep_weights: bool = True


@dataclass(frozen=True)
class Method:
    """How an experiment trains its jobs. The functions must be importable, for other processes.

    Args:
        build: the trainer of a job.
        recorded: the settings that a training depends on, as its record keeps them.
        evaluate: measures a job's estimator along the training; None: only losses are kept.
        half: store weights in half precision.
        examine: measures a job's finished estimator once, for its record.
        points: how often ``evaluate`` measures along a training.
    """

    build: Callable[[Job], AlternatingTrainer]
    recorded: Callable[[Any], dict[str, Any]]
    evaluate: Callable[[Estimator, Job], Metrics] | None = None
    half: bool = False
    examine: Callable[[Estimator, Job], Metrics] | None = None
    points: int = 20


def train_job(
    job: Job,
    folder: Path,
    method: Method,
    *,
    about: dict[str, Any] | None = None,
    tensorboard: Path | None = None,
    progress: bool = True,
) -> None:
    """Train one network and write its weights and record to ``folder``.

    Continues from the job's checkpoint where there is one, and removes it at the end.

    Args:
        about: what else the record is to hold, e.g. the commit and the digest of the data.
        tensorboard: folder for the losses, to be watched with TensorBoard.
    """
    keep_freed_memory()
    trainer = method.build(job)
    checkpoint = folder / "checkpoints" / f"{job.name}.pt"
    measure = method.evaluate
    evaluate = (lambda estimator: measure(estimator, job)) if measure else None
    trainer.train(
        evaluate=evaluate,
        evaluate_every=max(1, job.settings.steps // method.points),
        checkpoint=checkpoint,
        checkpoint_every=min(1000, max(1, job.settings.steps // 10)),
        progress=progress,
        log=_tensorboard(tensorboard / job.name) if tensorboard else lambda losses: None,
    )
    finished_network: Metrics = {}
    if method.examine:
        with trainer.averaged_weights():
            finished_network = method.examine(trainer.estimator, job)  # type: ignore[arg-type]
    record = {
        "job": job.name,
        "seed": job.seed,
        "settings": method.recorded(job.settings),
        **(about or {}),
        "history": trainer.history,
        **finished_network,
        "device": trainer.device.type,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": round(trainer.seconds, 1),
    }
    target = folder / f"{job.name}.safetensors"
    if job.keep_weights:
        with trainer.averaged_weights():
            pretrained.save(trainer.estimator, target, record, half=method.half)
    else:
        pretrained.write_record(target.with_suffix(".json"), record)
    checkpoint.unlink(missing_ok=True)


def _tensorboard(folder: Path) -> Callable[[Metrics], None]:
    """Writes losses where TensorBoard finds them."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard needs the package tensorboard: pip install it") from None
    writer = SummaryWriter(folder)

    def log(losses: Metrics) -> None:
        for name, value in losses.items():
            if name != "step":
                writer.add_scalar(name, value, int(losses["step"]))
        writer.flush()

    return log


def select(
    jobs: dict[str, Job],
    *,
    only: str = "",
    stochastic: bool | None = None,
    robust: bool | None = None,
) -> list[Job]:
    """The jobs whose name begins with ``only``, of the models asked for.

    Raises:
        InputError: there are none.
    """
    chosen = [
        job
        for name, job in jobs.items()
        if name.startswith(only)
        and stochastic in (None, job.model.stochastic)
        and robust in (None, job.model.robust)
    ]
    names = sorted({name.rsplit("-", 1)[0] for name in jobs})
    require(bool(chosen), "only", only, f"the beginning of one of {', '.join(names)}")
    return chosen


def train_jobs(
    jobs: Iterable[Job],
    folder: Path,
    method: Method,
    *,
    workers: int = 1,
    about: dict[str, Any] | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Train all jobs that ``folder`` does not hold yet, ``workers`` at a time.

    May be interrupted and called again: finished jobs are kept, the others continue from their
    checkpoints. Each worker computes on one thread, so that results do not depend on their
    number. The progress bar is silenced by the environment variable TQDM_DISABLE.
    """
    todo = [job for job in jobs if not finished(job, folder, method)]
    if len(todo) == 1:
        train_job(todo[0], folder, method, about=about, tensorboard=tensorboard)
        return
    run = partial(
        train_job,
        folder=folder,
        method=method,
        about=about,
        tensorboard=tensorboard,
        progress=False,
    )
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        running = [pool.submit(run, job) for job in todo]
        for done in tqdm(as_completed(running), "trainings", len(todo)):
            done.result()


def finished(job: Job, folder: Path, method: Method) -> bool:
    """Whether ``folder`` holds the record of this job under the same settings.

    A setting that is younger than the record counts as its default.
    """
    record = (folder / job.name).with_suffix(".json")
    if not record.exists():
        return False
    fields = type(job.settings).model_fields.items()
    defaults = {name: field.default for name, field in fields if not field.is_required()}
    known = json.loads(json.dumps(defaults)) | pretrained.read_record(record)["settings"]
    needed = method.recorded(job.settings)
    return all(known.get(name) == value for name, value in needed.items())
