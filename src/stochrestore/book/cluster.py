"""Grids of trainings as jobs of a cluster: what is checked before any is sent, and what each gets.

Snakemake sends the jobs, with ``--workflow-profile profiles/slurm``; see ``profiles/README.md``.
It imports this module at each start, so that torch, which takes seconds, is imported where a
training is looked at.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from stochrestore import config, store
from stochrestore.book import provenance
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry

INSTALL = "install it by `pip install 'stochrestore[slurm]'`"
PLANS = Path("book") / "reference" / "plans"
"""Records of ``stochrestore plan PRESET --json``, from the checkout's root."""


def executor() -> str:
    """The name of Snakemake's executor, for the profile; ends the process where there is none."""
    try:
        if not find_spec("snakemake_executor_plugin_slurm"):
            raise InputError(f"Snakemake's plugin for SLURM is not installed: {INSTALL}")
        partitions()
    except InputError as error:  # Snakemake would show it below a page of its options
        sys.exit(f"stochrestore: {error}")
    return "slurm"


def partitions() -> list[str]:
    """The names of the cluster's partitions.

    Raises:
        InputError: there is no SLURM here, or it does not answer.
    """
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        raise InputError("no SLURM here: sbatch and sinfo are not on the path of this machine")
    asked = subprocess.run(["sinfo", "--noheader", "-o", "%R"], capture_output=True, text=True)
    if asked.returncode:
        said = asked.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"SLURM does not answer: {said[-1]}")
    return asked.stdout.split()


def records(
    experiment: str, preset: str, given: Mapping[str, Any], partition: str = ""
) -> list[Path]:
    """The records that a grid of trainings leaves, from the checkout's root.

    Args:
        given: settings that replace the preset's, as texts of a command or values.
        partition: where jobs are to be sent; empty: not to a cluster, or to its default.

    Raises:
        InputError: wrong settings, no such partition, a folder that cannot be written or holds
            trainings of other settings.
    """
    from stochrestore.training.jobs import begun_with

    module = registry.trained(experiment)
    texts = {name: str(value) for name, value in given.items()}
    settings = module.Settings.load(preset, **config.read(module.Settings, texts))
    jobs = module.all_jobs(settings)
    if partition:
        require(partition in (there := partitions()), "partition", partition, ", ".join(there))
    folder = Path("_build") / "weights" / experiment / preset
    root = provenance.checkout()
    store.check_folder(root / folder)
    for job in jobs.values():
        for name, (then, now) in begun_with(job, root / folder).items():
            raise InputError(
                f"{folder} holds {job.name} trained with {name} {then!r}, not {now!r}: move that "
                "folder away, or ask for the same settings"
            )
    return [folder / f"{name}.json" for name in jobs]


def marks(records: Iterable[Path], folder: Path) -> list[Path]:
    """The empty files that tell Snakemake of finished trainings; one without its record is removed.

    Snakemake removes what a job writes where the job fails afterwards or is started anew. Of a
    record, days of training would go with it.

    Args:
        records: from :func:`records`, all in ``folder``.
    """
    pairs = [(r, folder / "done" / r.relative_to(folder).with_suffix("")) for r in records]
    for record, mark in pairs:
        if not record.exists():
            mark.unlink(missing_ok=True)
    return [mark for _, mark in pairs]


@cache
def recorded_plan(preset: str) -> dict[str, Any]:
    """The record of ``stochrestore plan PRESET --json`` that the repository holds."""
    return store.read_record(provenance.checkout() / PLANS / f"{preset}.json")


def needs(experiment: str, preset: str, job: str) -> dict[str, int]:
    """What a training asks a cluster for: ``runtime`` in minutes, ``mem_mb`` and ``gpu``.

    The time is half as much again as planned, and at most a day: a training that a limit ends
    continues from its checkpoint when it is sent again.
    """
    from stochrestore.experiments import plan

    kind, model = job.split("/")[0], Path(job).name.split("-")[0]
    planned = recorded_plan(preset)
    rows = [
        row for row in planned["rows"] if (row["experiment"], row["model"]) == (experiment, model)
    ]
    own = [row for row in rows if row["data"] == kind] or rows
    cost = max(map(plan.cost_of, own), key=lambda each: each.operations)
    minutes = 10 + 1.5 * 60 * cost.hours(planned["rates"][experiment])
    memory = plan.PROCESS + cost.memory + cost.images
    return {
        "runtime": min(ceil(minutes), 24 * 60),
        "mem_mb": ceil(memory / 2**20),
        "gpu": int(preset in plan.ON_GPU),
    }
