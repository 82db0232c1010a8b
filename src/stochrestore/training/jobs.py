"""A grid of trainings: each is a job with a name, carried out once, several at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from stochrestore import store
from stochrestore.errors import InputError, TrainingDiverged, require, silent
from stochrestore.training import checkpoints
from stochrestore.training.loop import Metrics, Trainer, denormals_as_zero, keep_freed_memory


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

#: Settings that change nothing in a trained network, of whatever experiment.
EVALUATION_ONLY = frozenset(
    {
        *("preset", "train", "weights", "stored", "device", "runs", "ring_runs", "seeds_at_once"),
        *("validation_images", "skip_bad", "n_eval", "k", "features", "inception_weights"),
        *("std_inputs", "std_samples", "attacked_inputs", "curve_images"),
        *("fresh_critic_steps", "deterministic"),
        *("samples", "y_points", "z_points"),
        # the grids of the toy and of inpainting: each job has the values that are its own
        *("robust", "sweep_weights", "sweep_steps", "sweep_seeds", "sweep_runs"),
        *("option_runs", "seed_layers", "seed_lengths", "robustness_weights", "source_noises"),
        "mean_lengths",
        # the controls of the families
        *("frozen_seeds", "heats", "attacked_seeds"),
        # the scales of super-resolution, and the posterior samplers beside the networks
        *("scales", "prior_draws", "posterior_width", "least_sample_size"),
    }
)


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        name: of its files, without an ending; may begin with folders.
        model: which GAN it trains; None for other networks.
        seed: decides its random draws.
        settings: the experiment's, as this training needs them.
        keep_weights: whether the weights are kept, or the record alone.
        unused: settings that this training does not depend on, beside :data:`EVALUATION_ONLY`.
        measured_by: settings of that list that the measurements in its record depend on.
        start: the job whose network this one starts from.
        intermediate: whether others start from this one, and it is kept among the checkpoints.
    """

    name: str
    model: Model | None
    seed: int
    settings: Any
    keep_weights: bool = True
    unused: frozenset[str] = frozenset()
    measured_by: frozenset[str] = frozenset()
    start: Job | None = None
    intermediate: bool = False

    @property
    def key(self) -> str:
        """What its name begins with, after the folders: of a GAN, the key of :data:`MODELS`."""
        return Path(self.name).name.split("-")[0]

    @property
    def stochastic(self) -> bool | None:
        """Whether Z is drawn; None for networks other than GANs."""
        return self.model.stochastic if self.model else None

    @property
    def robust(self) -> bool | None:
        """Whether L_R is in the loss; None for networks other than GANs."""
        return self.model.robust if self.model else None

    @property
    def stored(self) -> store.Stored:
        """The numbers that its weights are stored as; nothing is lost where others start there."""
        kept: store.Stored = "float32" if self.intermediate else self.settings.stored
        return kept

    def recorded(self) -> dict[str, Any]:
        """The settings that this training depends on, as its record keeps them."""
        left_out = EVALUATION_ONLY - self.measured_by | self.unused
        kept: dict[str, Any] = self.settings.model_dump(mode="json", exclude=left_out)
        return kept

    def path(self, folder: Path) -> Path:
        """Where ``folder`` holds its weights; the record lies beside them."""
        here = folder / "checkpoints" if self.intermediate else folder
        return here / f"{self.name}.safetensors"

    def checkpoint(self, folder: Path) -> Path:
        """Where ``folder`` holds its state until it is finished."""
        return folder / "checkpoints" / f"{self.name}.pt"


@dataclass(frozen=True)
class Method:
    """How an experiment trains its jobs. The functions must be importable, for other processes.

    Args:
        build: the trainer of a job, and of the network that it starts from where there is one.
        network: the untrained network of a job, to be filled with its weights.
        data: a digest of the training data of a job's settings; None: the seed decides them.
        evaluate: measures a job's network along the training; None: only losses are kept.
        points: how often it does so, evenly spaced.
        examine: measures a job's finished network once, for its record.
        one_thread: whether each job computes on one thread, so that results do not depend on how
            many are trained at a time.
    """

    build: Callable[..., Trainer]
    network: Callable[[Job], nn.Module]
    data: Callable[[Any], str] | None = None
    evaluate: Callable[[Any, Job], Metrics] | None = None
    points: int = 20
    examine: Callable[[Any, Job], Metrics] | None = None
    one_thread: bool = True


def train_job(
    job: Job,
    folder: Path,
    method: Method,
    *,
    about: Mapping[str, Any] | None = None,
    tensorboard: Path | None = None,
    progress: bool = True,
) -> None:
    """Train one network and write its weights and record to ``folder``.

    Continues from the job's checkpoint where there is one, and removes it at the end.

    Args:
        about: what else the record is to hold, such as the commit.
        tensorboard: folder for the losses, to be watched with TensorBoard.

    Raises:
        InputError: another process trains it into this folder.
        TrainingDiverged: going on makes no sense; the line names the job.
    """
    lock = folder / "checkpoints" / f"{job.name}.lock"
    with store.held(lock, f"{job.name} is being trained into {folder}"):
        _train(job, folder, method, about or {}, tensorboard, progress)


@denormals_as_zero()
def _train(
    job: Job,
    folder: Path,
    method: Method,
    about: Mapping[str, Any],
    tensorboard: Path | None,
    progress: bool,
) -> None:
    keep_freed_memory()
    began = datetime.now(UTC)
    start = [load(job.start, folder, method)[0]] if job.start else []
    trainer = method.build(job, *start)
    decided = {"job": job.name, "seed": job.seed}
    data = {"data_sha256": method.data(job.settings)} if method.data else {}
    checkpoint = job.checkpoint(folder)
    every = max(1, trainer.steps // method.points)
    measure = method.evaluate
    try:
        trainer.deterministic = job.settings.deterministic
        trainer.train(
            evaluate=(lambda network: measure(network, job)) if measure else None,
            evaluate_every=every,
            checkpoint=checkpoint,
            checkpoint_every=min(every, 1000),
            belongs_to={**job.recorded(), **decided, **data},
            code=str(about.get("commit", "")),
            label=job.name,
            progress=progress,
            log=_tensorboard(tensorboard / job.name) if tensorboard else lambda losses: None,
        )
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{job.name}, {error}") from None
    with trainer.averaged_weights():
        found = method.examine(trainer.network.eval(), job) if method.examine else {}
    record = {
        **decided,
        "settings": job.recorded(),
        **data,
        **about,
        "history": trainer.history,
        **trainer.findings(),
        **found,
        "device": trainer.device.type,
        "arithmetic": trainer.precision,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds": round(trainer.seconds, 1),
        "ran": [f"{time:%FT%TZ}" for time in (began, datetime.now(UTC))],  # without earlier pieces
    }
    target = job.path(folder)
    if job.keep_weights:
        with trainer.averaged_weights():
            store.save(trainer.network, target, record, stored=job.stored)
    else:
        store.write_record(target.with_suffix(".json"), record)
    checkpoint.unlink(missing_ok=True)


def load(job: Job, folder: Path, method: Method) -> tuple[Any, dict[str, Any]]:
    """The trained network of a job, in evaluation mode on the settings' device, and its record.

    Raises:
        InputError: missing, damaged or other weights.
    """
    network = method.network(job)
    record = store.load(network, job.path(folder))
    return network.to(job.settings.torch_device()).eval().requires_grad_(False), record


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
    jobs: Mapping[str, Job],
    *,
    only: str = "",
    stochastic: bool | None = None,
    robust: bool | None = None,
) -> list[Job]:
    """The job named ``only``, or those whose name begins so, of the models asked for.

    Raises:
        InputError: there are none.
    """
    named = [jobs[only]] if only in jobs else [j for n, j in jobs.items() if n.startswith(only)]
    names = sorted({name.rsplit("-", 1)[0] for name in jobs})
    require(bool(named), "only", only, f"the beginning of one of {', '.join(names)}")
    chosen = [
        job
        for job in named
        if stochastic in (None, job.stochastic) and robust in (None, job.robust)
    ]
    kinds = "models that these trainings have; networks other than GANs are chosen by `only`"
    require(bool(chosen), "stochastic, robust", (stochastic, robust), kinds)
    return chosen


def train_jobs(
    jobs: Iterable[Job],
    folder: Path,
    method: Method,
    *,
    workers: int = 1,
    about: Mapping[str, Any] | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Train all jobs that ``folder`` does not hold yet, ``workers`` at a time.

    What a job starts from is trained before it. May be interrupted and called again: finished
    jobs are kept, the others continue from their checkpoints. The environment variable
    TQDM_DISABLE silences the progress bars.

    Raises:
        TrainingDiverged: jobs that diverged; each is named at once, and the others are trained.
    """
    wanted = {job.name: job for chosen in jobs for job in (chosen.start, chosen) if job}
    todo = [job for job in wanted.values() if not finished(job, folder)]
    train = partial(train_job, folder=folder, method=method, about=about, tensorboard=tensorboard)
    alone = len(todo) == 1 or not method.one_thread
    for first in (True, False):
        diverged = []
        wave = [job for job in todo if job.intermediate == first]
        for outcome in _carried_out(wave, train, workers, torch.get_num_threads() if alone else 1):
            try:
                outcome()
            except TrainingDiverged as error:
                tqdm.write(f"training diverged: {error}", sys.stderr)
                diverged.append(str(error))
        if diverged:
            raise TrainingDiverged("; ".join(diverged))


def _carried_out(
    jobs: list[Job], train: Callable[..., None], workers: int, threads: int
) -> Iterator[Callable[[], None]]:
    """A call for each job, in the order in which they end; it raises what the training raised."""
    if workers == 1 or len(jobs) < 2:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            for job in tqdm(jobs, "trainings", disable=silent(len(jobs) > 1)):
                yield partial(train, job)
        finally:
            torch.set_num_threads(before)
        return
    each = max(1, threads // workers)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (each,)
    )
    try:
        running = [pool.submit(train, job, progress=False) for job in jobs]
        processes = list(pool._processes.values())
        for done in tqdm(as_completed(running), "trainings", len(jobs)):
            yield done.result
        processes = []
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while any(process.is_alive() for process in processes):
            for process in processes:  # more than once: one may begin what waits in its queue
                process.terminate()
                process.join(0.2)
        pool.shutdown()


def _start_worker(threads: int) -> None:
    """Let a worker end when it is told to, or when its parent is gone, and clean up before."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def finished(job: Job, folder: Path) -> bool:
    """Whether ``folder`` holds what this job leaves behind, trained with the same settings.

    Raises:
        InputError: there is a record of its name that is of something else.
    """
    path = job.path(folder)
    if not path.with_suffix(".json").exists():
        return False
    record = read_record(job, folder)
    same = record.get("seed", job.seed) == job.seed and not differing(job, record)
    return same and (not job.keep_weights or store.is_whole(path))


def read_record(job: Job, folder: Path) -> dict[str, Any]:
    """The record of a job's training.

    Raises:
        InputError: it cannot be read, or is the record of something else.
    """
    path = job.path(folder).with_suffix(".json")
    record = store.read_record(path)
    whole = isinstance(record.get("settings"), dict) and "versions" in record
    require(whole, f"record {path}", sorted(record), "settings, versions and what was measured")
    return record


def differing(job: Job, record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings whose value in a record is not the job's: name → (the record's, the job's).

    A setting that is younger than the record counts as its default, so the default of a new
    setting must be what was done before it.
    """
    fields = type(job.settings).model_fields.items()
    defaults = {name: field.default for name, field in fields if not field.is_required()}
    known = json.loads(json.dumps(defaults)) | record["settings"]
    needed = job.recorded().items()
    return {name: (known.get(name), value) for name, value in needed if known.get(name) != value}


def begun_with(job: Job, folder: Path) -> dict[str, tuple[Any, Any]]:
    """The settings whose value in a job's record, or in its checkpoint, is not the job's.

    Nothing where there is neither. Otherwise as in :func:`differing`.

    Raises:
        InputError: the record or the checkpoint cannot be read.
    """
    if job.path(folder).with_suffix(".json").exists():
        return differing(job, read_record(job, folder))
    if not job.checkpoint(folder).exists():
        return {}
    then = checkpoints.owner(job.checkpoint(folder))
    now = json.loads(json.dumps(job.recorded() | {"seed": job.seed}))
    pairs = {name: (then[name], value) for name, value in now.items() if name in then}
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def check_settings(jobs: Iterable[Job], folder: Path, settings: Any) -> None:
    """Refuse networks that were trained with other settings than those they are asked for.

    The seed may differ: a loaded network keeps the one that it was trained with.

    Args:
        settings: of the experiment, for the command that trains what was asked for.

    Raises:
        InputError: a missing record, or settings that differ, in one line.
    """
    different = {
        name: f"{name} {then!r}, not {now!r}"
        for job in jobs
        for name, (then, now) in differing(job, read_record(job, folder)).items()
        if name != "seed"
    }
    if different:
        options = settings.options(leave_out={"train", "weights", "device"})
        raise InputError(
            f"weights in {folder} were trained with {', '.join(different.values())}; what was "
            f"asked for is trained by `stochrestore train {settings.experiment} {options} "
            "-o FOLDER`, and loaded with weights=FOLDER"
        )
