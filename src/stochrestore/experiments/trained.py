"""What all experiments with trained networks share: where their weights come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from stochrestore import store
from stochrestore.experiments.devices import DeviceSettings
from stochrestore.training.jobs import Job, Method, check_settings, load, train_jobs

DECIDING = (
    *("attacks.py", "losses.py", "degradations.py", "*/*_gans.py", "*/*_networks.py"),
    *("data/*.py", "problems/**/*.py", "estimators/*.py", "networks/*.py", "training/*.py"),
)
"""The files of the library that decide what a training gives."""


class TrainedSettings(DeviceSettings):
    """For experiments that train networks, or load trained ones."""

    train: bool = Field(False, description="train the networks instead of loading weights")
    weights: str = Field("", description="folder of weights to load; empty: those shipped")
    stored: store.Stored = Field(
        "float16",
        description="numbers that trained weights are stored as; int8: times a factor for each row",
    )

    def weights_folder(self) -> Path:
        """The folder of weights to load: the one given, else that of those shipped."""
        return Path(self.weights).expanduser() if self.weights else store.shipped(self.experiment)


def trained_weights(
    settings: TrainedSettings, jobs: Iterable[Job], method: Method, *, workers: int = 1
) -> Path:
    """The folder that holds the weights of all jobs, trained now where the settings say so.

    What is trained is kept, so that no error after it loses it: in the folder that the settings
    name, else in one that the same settings and the same code find again.

    Raises:
        InputError: the weights were trained with other settings, or are not there.
    """
    jobs = list(jobs)
    if not settings.train:
        folder = settings.weights_folder()
        check_settings(jobs, folder, settings)
        return folder
    folder = settings.weights_folder() if settings.weights else _kept(settings, jobs)
    train_jobs(jobs, folder, method, workers=workers)
    return folder


def _kept(settings: TrainedSettings, jobs: list[Job]) -> Path:
    """The folder of these trainings, by their settings, their seeds and the code they run."""
    package = Path(store.__file__).parent
    files = sorted(path for part in DECIDING for path in package.glob(part))
    wanted = repr([(job.name, job.seed, job.recorded()) for job in jobs])
    digest = store.sha256([wanted.encode(), *(path.read_bytes() for path in files)])
    return build_folder() / "weights" / settings.experiment / f"{settings.preset}-{digest[:12]}"


def build_folder() -> Path:
    """``_build`` of the checkout; of a temporary folder where there is none, or none to write."""
    root = Path(store.__file__).parents[2]
    if not ((root / "pyproject.toml").exists() and os.access(root, os.W_OK)):
        root = Path(tempfile.mkdtemp(prefix="stochrestore-"))
    return root / "_build"


def load_networks(
    jobs: Iterable[Job], folder: Path, method: Method
) -> tuple[dict[str, list[Any]], dict[str, list[dict[str, Any]]]]:
    """The networks of the jobs, and their records, each by its model's key, in the jobs' order.

    Raises:
        InputError: missing, damaged or other weights.
    """
    networks: dict[str, list[Any]] = {}
    records: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        network, record = load(job, folder, method)
        networks.setdefault(job.key, []).append(network)
        records.setdefault(job.key, []).append(record)
    return networks, records
