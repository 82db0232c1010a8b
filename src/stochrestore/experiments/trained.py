"""What all experiments with trained networks share: where their weights come from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from stochrestore import store
from stochrestore.experiments.devices import DeviceSettings
from stochrestore.training.jobs import Job, Method, load, train_jobs


class TrainedSettings(DeviceSettings):
    """For experiments that train networks, or load trained ones."""

    train: bool = Field(False, description="train now instead of loading weights")
    weights: str = Field("", description="folder of weights to load; empty: those shipped")

    def weights_folder(self) -> Path:
        """The folder of weights to load: the one given, else that of those shipped."""
        return Path(self.weights) if self.weights else store.shipped(self.experiment)


@contextmanager
def trained_weights(
    settings: TrainedSettings, jobs: Iterable[Job], method: Method, *, workers: int = 1
) -> Iterator[Path]:
    """The folder that holds the weights of all jobs, trained now where the settings say so."""
    if not settings.train:
        yield settings.weights_folder()
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(settings.weights or scratch)
        train_jobs(jobs, folder, method, workers=workers)
        yield folder


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
