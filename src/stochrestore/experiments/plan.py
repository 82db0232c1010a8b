"""What the trainings of a preset cost, counted before anyone starts one.

A step of each is carried out, of a GAN on tensors that have shapes and no numbers: its operations
and its memory are those of the training, and are counted in seconds.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from stochrestore import store
from stochrestore.data.images import BUILT_IN
from stochrestore.experiments import registry
from stochrestore.experiments.image_gans import ImageSettings
from stochrestore.experiments.sr_networks import SRTrainer
from stochrestore.networks.convolution import as_on
from stochrestore.training.adversarial import AlternatingTrainer, Precision, arithmetic
from stochrestore.training.jobs import Job, Method, read_record
from stochrestore.training.loop import Trainer

EXPERIMENTS = ("toy_tradeoff", "inpaint", "sr_scaling")
"""The experiments that train networks at every preset."""
SMALL = "srflow_robustness"
"""The experiment whose networks, those of App. G, are trained small, and for a GPU are loaded."""
PAPER_DATA = {"inpaint": ("celeba",), "sr_scaling": ("celeba", "imagenet64")}
"""The data of the paper's trainings, which its preset leaves to ``-p data=KIND:PATH``."""
STATED_RATE = 5.0
"""TFLOP/s, where none is given for a GPU. Networks as small as these leave most of one idle."""
PROCESS = 1500 * 2**20
"""Bytes that a process of the library holds beside the tensors of a training, at most."""
ON_GPU = ("gpu", "paper")
"""The presets that are planned for a GPU."""


@dataclass(frozen=True)
class Cost:
    """What one training costs.

    Args:
        steps: updates of the estimator, and of the critic.
        operations: multiplications and additions in convolutions and products of matrices, of all
            steps. What is measured along the training is not counted.
        memory: the most bytes of tensors that a step holds, with the networks' and Adam's own.
        images: bytes of the training set.
        weights: bytes of the file of weights; 0 where only a record is kept.
        checkpoint: bytes of the checkpoint, which is removed when the training ends.
    """

    steps: int
    operations: int
    memory: int
    images: int
    weights: int
    checkpoint: int

    def hours(self, rate: float) -> float:
        """How long it takes at a rate in TFLOP/s."""
        return self.operations / rate / 1e12 / 3600


def operations_of(func: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> int:
    """Multiplications and additions of one of PyTorch's calls, which gave ``result``.

    0 unless it convolves or multiplies matrices.
    """
    count = flop_registry.get(func._overloadpacket)
    return int(count(*args, **kwargs, out_val=result)) if count else 0


def trainer_of(job: Job, method: Method) -> Trainer:
    """The trainer of a job at its first step; a network that it starts from is untrained."""
    start = [method.network(job.start)] if job.start else []
    return method.build(job, *start)


def without_numbers(trainer: Trainer) -> AbstractContextManager[Any]:
    """A ``with`` block in which steps of a GAN have tensors with shapes and no numbers.

    Other trainers compute: patches of photographs are drawn by numbers.
    """
    gan = isinstance(trainer, AlternatingTrainer)
    return FakeTensorMode(allow_non_fake_inputs=True) if gan else nullcontext()


class Meter(TorchDispatchMode):
    """Counts the operations in its ``with`` block, and the bytes of the tensors made there."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Carry out an operation, and count it."""
        given = dict(kwargs or {})
        result = func(*args, **given)
        self.operations += operations_of(func, args, given, result)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._hold(tensor.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.held += storage.nbytes()
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, identity: int) -> None:
        self.held -= self._sizes.pop(identity)


def settings_of(preset: str, experiment: str) -> list[Any]:
    """The settings of an experiment's trainings at a preset, one for each kind of data."""
    kinds = PAPER_DATA.get(experiment, ()) if preset == "paper" else ()
    model = registry.trained(experiment).Settings
    data = [{"data": f"{kind}:{kind.upper()}"} for kind in kinds]
    return [model.load(preset, **changes) for changes in data or [{}]]


def experiments(preset: str) -> tuple[str, ...]:
    """The experiments that train networks at a preset."""
    return EXPERIMENTS if preset in ON_GPU else (*EXPERIMENTS, SMALL)


def jobs(preset: str) -> Iterator[tuple[str, Job]]:
    """Every training of a preset, each with its experiment's name."""
    for experiment in experiments(preset):
        for settings in settings_of(preset, experiment):
            for job in registry.trained(experiment).all_jobs(settings).values():
                yield experiment, job


def cost(experiment: str, job: Job) -> Cost:
    """What a training costs."""
    if experiment == SMALL:
        return _cost_of_small(job, registry.trained(experiment).METHOD)
    s, step = job.settings, torch.arange(job.settings.steps)
    penalised = step % s.r1_every == 0
    robust = ((step + 1) % s.robustness_every == 0) & (step >= s.robustness_start)
    robust &= s.robustness_weight > 0
    kinds = [
        (n, _step(experiment, job, penalised=r1, robust=l_r))
        for r1, l_r in product((False, True), repeat=2)
        if (n := int(((penalised == r1) & (robust == l_r)).sum()))
    ]
    if isinstance(s, ImageSettings):
        images = s.training_images * s.pixels * (4 if s.kind in BUILT_IN else 1)
    else:
        images = s.training_samples * 8
    any_kind = kinds[0][1]
    return Cost(
        steps=s.steps,
        operations=sum(n * each.operations for n, each in kinds),
        memory=max(each.memory for _, each in kinds),
        images=images,
        weights=any_kind.weights * job.keep_weights,
        checkpoint=any_kind.checkpoint,
    )


_COUNTED: dict[tuple[Any, ...], Cost] = {}
_SHAPES = (
    *("shape", "batch_size", "width", "critic_width", "seed_dims", "seed_layer"),
    *("robustness_seeds", "seeds_at_once", "attack_steps", "ema_decay"),
)
"""The settings that one step's cost depends on, beside the number format."""


def _step(experiment: str, job: Job, *, penalised: bool, robust: bool) -> Cost:
    """What one step costs, with or without R1 and L_R; steps of one shape are counted once."""
    shapes = [getattr(job.settings, name, None) for name in _SHAPES]
    method, device = registry.trained(experiment).METHOD, _device(job)
    precision = arithmetic(job.settings.precision, device)
    key = (*shapes, device, precision, job.stored, job.stochastic, penalised, robust)
    if key not in _COUNTED:
        r1_every, weight = (1 if penalised else 2), float(robust)  # of step 1
        alone = {"robustness_every": 1, "robustness_start": 0, "robustness_weight": weight}
        here = {"steps": 1, "device": "cpu", "compile": False, "r1_every": r1_every, **alone}
        changed = replace(job, settings=job.settings.model_copy(update=here))
        with as_on(device):
            _COUNTED[key] = _counted(changed, method, precision)
    return _COUNTED[key]


def _device(job: Job) -> torch.device:
    """The device that the preset of a GAN's training is planned for."""
    return torch.device("cuda" if job.settings.preset in ON_GPU else "cpu")


def _counted(job: Job, method: Method, precision: Precision) -> Cost:
    """What the one step of a GAN's training costs."""
    is_image = isinstance(job.settings, ImageSettings)
    train = {"train": torch.empty(2, *job.settings.shape)} if is_image else {}
    trainer = method.build(job, **train)
    assert isinstance(trainer, AlternatingTrainer)
    for optimizer in (trainer.estimator_optimizer, trainer.critic_optimizer):
        for parameter in optimizer.param_groups[0]["params"]:  # as after a step
            averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(0.0), **averages}
    trainer.step, trainer.precision = 1, precision
    return _next_step(trainer, job.stored)


@cache
def _cost_of_small(job: Job, method: Method) -> Cost:
    """What a training of App. G costs, whose steps are all alike."""
    on_processor = job.settings.model_copy(update={"device": "cpu"})
    trainer = trainer_of(replace(job, settings=on_processor), method)
    assert isinstance(trainer, SRTrainer)
    trainer.advance()  # from here on Adam holds its averages
    step = _next_step(trainer, job.stored)
    images = sum(pair.high.nbytes + pair.low.nbytes for pair in trainer.patches.pairs)
    operations = trainer.steps * step.operations
    return replace(step, steps=trainer.steps, operations=operations, images=images)


def _next_step(trainer: Trainer, stored: store.Stored) -> Cost:
    """What the next step of a trainer costs, whose weights are stored as such numbers."""
    state = io.BytesIO()
    torch.save(trainer.state_dict(), state)
    own = sum(t.nbytes for t in tree_leaves(trainer.state_dict()) if isinstance(t, torch.Tensor))
    with without_numbers(trainer), Meter() as meter:
        trainer.update()
    weights = len(store.to_bytes(trainer.network, stored))
    return Cost(1, meter.operations, own + meter.peak, 0, weights, len(state.getvalue()))


def data_of(job: Job) -> str:
    """The kind of data that a training is on; of a toy, the name of the problem."""
    settings = job.settings
    return str(
        next(getattr(settings, n) for n in ("kind", "data", "problem") if hasattr(settings, n))
    )


def rows(preset: str) -> list[dict[str, Any]]:
    """What a preset's trainings cost, ready for JSON: one row for those that cost the same.

    A row has the experiment, the data, the model's key, how many trainings there are, and what
    each of them costs, as in :class:`Cost`.
    """
    alike: dict[tuple[str, str, str, Cost], int] = {}
    for experiment, job in jobs(preset):
        place = (experiment, data_of(job), job.key, cost(experiment, job))
        alike[place] = alike.get(place, 0) + 1
    return [
        {"experiment": experiment, "data": data, "model": model, "trainings": n, **vars(each)}
        for (experiment, data, model, each), n in alike.items()
    ]


@cache
def processor_rate(experiment: str, **settings: Any) -> float:
    """TFLOP/s of a processor in float32, from the records of an experiment's shipped networks.

    Args:
        settings: beside those of the preset ``laptop``.
    """
    module, folder = registry.trained(experiment), store.shipped(experiment)
    every = module.all_jobs(module.Settings.load("laptop", **settings)).values()
    kept = [job for job in every if not job.intermediate]
    operations = sum(cost(experiment, job).operations for job in kept)
    return operations / sum(read_record(job, folder)["seconds"] for job in kept) / 1e12


def rates(preset: str) -> dict[str, float]:
    """TFLOP/s that are assumed for each experiment of a preset where none are given.

    GANs are trained on one thread of a processor, the networks of App. G on all.
    """
    if preset in ON_GPU:
        return dict.fromkeys(experiments(preset), STATED_RATE)
    faces = dict.fromkeys(EXPERIMENTS, processor_rate("sr_scaling", data="faces"))
    return {**faces, SMALL: processor_rate(SMALL)}


def record(preset: str) -> dict[str, Any]:
    """The plan of a preset, ready for JSON, with the rates that are assumed for it, TFLOP/s."""
    rounded = {name: round(rate, 4) for name, rate in rates(preset).items()}
    return {"preset": preset, "rates": rounded, "rows": rows(preset)}


def cost_of(row: Mapping[str, Any]) -> Cost:
    """What each training of a row costs."""
    return Cost(**{name: row[name] for name in Cost.__annotations__})


def table(rows: Iterable[Mapping[str, Any]], rates: Mapping[str, float]) -> list[list[str]]:
    """The head, the rows and the sum of a plan, as texts.

    The disk is that of all trainings' weights and, after the plus, of one training's checkpoint.

    Args:
        rows: of :func:`rows`.
        rates: operations that are carried out in a second, TFLOP/s, by experiment.
    """
    head = ["experiment", "data", "model", "trainings", "steps", "PFLOP", "hours", "memory", "disk"]
    body = []
    trainings, operations, hours, disk, largest = 0, 0, 0.0, 0, 0
    for row in rows:
        n, each, rate = row["trainings"], cost_of(row), rates[row["experiment"]]
        held, left = each.memory + each.images, n * each.weights
        trainings, operations = trainings + n, operations + n * each.operations
        hours, disk = hours + n * each.hours(rate), disk + left + n * each.checkpoint
        largest = max(largest, held)
        texts = (row["experiment"], row["data"], row["model"], str(n), f"{each.steps:,}")
        numbers = (_figures(each.operations / 1e15, 3), _figures(each.hours(rate), 2), size(held))
        body.append([*texts, *numbers, f"{size(left)} + {size(each.checkpoint)}"])
    whole = [f"{operations / 1e15:.0f}", f"{hours:.0f}", size(largest), size(disk)]
    return [head, *body, ["all", "", "", str(trainings), "", *whole]]


def _figures(value: float, digits: int) -> str:
    """A number to some digits, and a large one in whole numbers: 1,220 and 0.00084."""
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def size(n: int) -> str:
    """A number of bytes as text: ``12 MiB``."""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.3g} MiB"
