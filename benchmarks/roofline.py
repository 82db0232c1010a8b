"""Images a second of each training, beside the floor that its operations and bytes allow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import machine
from stochrestore.book import provenance
from stochrestore.experiments import inpaint, plan, registry, sr_networks
from stochrestore.training.jobs import Job, Method
from stochrestore.training.loop import Trainer, float32_as, keep_freed_memory

LAUNCH = 1e-5
"""Assumed host time of one operation of a GPU that waits for nothing, seconds."""


@dataclass(frozen=True)
class Peak:
    """The most that a machine can do.

    Args:
        flops: floating-point operations a second, by precision.
        bandwidth: bytes a second between memory and processor.
    """

    flops: dict[str, float]
    bandwidth: float


PEAKS = {
    "H100 PCIe": Peak({"bf16": 756e12, "tf32": 378e12, "float32": 51e12}, 2.0e12),
    "H100": Peak({"bf16": 989e12, "tf32": 494e12, "float32": 67e12}, 3.35e12),
    "H200": Peak({"bf16": 989e12, "tf32": 494e12, "float32": 67e12}, 4.8e12),
    "A100": Peak({"bf16": 312e12, "tf32": 156e12, "float32": 19.5e12}, 2.0e12),
}
"""From the makers' data sheets, without sparsity; the first name found in the card's counts."""


class Work(TorchDispatchMode):
    """Floating-point operations, and bytes read and written, of each call within a block."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if not func.is_view and func not in FREE:
            flops = plan.operations_of(func, args, given, result)
            tensors = [x for x in tree_leaves((args, given, result)) if isinstance(x, Tensor)]
            self.calls.append((flops, sum(x.nbytes for x in tensors)))
        return result

    def seconds(self, peak: Peak, precision: str, *, launch: float = 0.0) -> float:
        """The least time of all calls: each is bound by its operations, bytes or launch."""
        most = peak.flops[precision]
        return sum(max(n / most, size / peak.bandwidth, launch) for n, size in self.calls)


aten = torch.ops.aten
FREE = {
    *(aten.empty.memory_format, aten.empty_like.default, aten.detach.default, aten.alias.default),
    *(aten._unsafe_view.default, aten.empty_strided.default),
}
"""Calls that read and write nothing."""


def peak_of(device: torch.device) -> Peak:
    """That of the card by its name, else as measured by a product of matrices and a copy."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    return known or _measured_peak(device)


def _measured_peak(device: torch.device, side: int = 1024) -> Peak:
    flops = {}
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.rand(side, side, device=device, dtype=dtype)
        flops[precision] = 2 * side**3 / _seconds(lambda a=a: a @ a, device)
    a = torch.rand(2**24, device=device)
    bandwidth = 2 * a.nbytes / _seconds(a.clone, device)
    return Peak({**flops, "tf32": flops["float32"]}, bandwidth)


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The least wall time of several calls."""
    least = math.inf
    for _ in range(repeats):
        _finish(device)
        start = time.perf_counter()
        work()
        _finish(device)
        least = min(least, time.perf_counter() - start)
    return least


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trainings(preset: str, device: str, **changes: Any) -> Iterator[tuple[str, Job, Method]]:
    """Name, job and method of one training of each kind, of few images."""
    settings = registry.load("inpaint", preset, device=device, **changes)
    if settings.seeds_at_once == "auto" and device == "cpu":  # its trial would count
        settings = settings.model_copy(update={"seeds_at_once": None})
    few = max(settings.batch_size, settings.k + 2)
    if settings.kind == "faces":
        settings = settings.model_copy(update={"training_images": few, "validation_images": few})
    for job in inpaint.main_jobs(settings.model_copy(update={"runs": 1})):
        yield job.name.removesuffix("-seed0"), job, inpaint.METHOD
    small = registry.load("srflow_robustness", preset, device=device)
    for name, job in sr_networks.all_jobs(small).items():
        yield name, job, sr_networks.METHOD


def cycle_of(trainer: Trainer) -> int:
    """Steps after which all losses have come round."""
    settings = getattr(trainer, "settings", None)
    return math.lcm(settings.r1_every, settings.robustness_every) if settings else 1


def work_of(trainer: Trainer) -> Work:
    """Of a cycle of steps, which are not computed where that can be done without."""
    work = Work()
    with plan.without_numbers(trainer), work, float32_as(trainer.precision):
        for _ in range(cycle_of(trainer)):
            trainer.update()
            trainer.step += 1
    return work


def speeds(
    jobs: Iterable[tuple[str, Job, Method]], peak: Peak, *, repeats: int = 3
) -> Iterator[dict[str, Any]]:
    """For each training: images a second, and the most that operations and bytes allow."""
    keep_freed_memory()
    for name, job, method in jobs:
        trainer = plan.trainer_of(job, method)
        cycle, images = cycle_of(trainer), cycle_of(trainer) * trainer.batch_size
        floor = work_of(plan.trainer_of(job, method)).seconds(peak, trainer.precision)

        def steps(trainer: Trainer = trainer, cycle: int = cycle) -> None:
            for _ in range(cycle):
                trainer.advance()

        with float32_as(trainer.precision):
            steps()  # warms up
            seconds = _seconds(steps, trainer.device, repeats)
        yield {"training": name, "images_s": images / seconds, "most_images_s": images / floor}


def speed_record(preset: str, device: str, **changes: Any) -> dict[str, Any]:
    """The measurement of :func:`speeds` on this machine, for the page on running."""
    where, about = torch.device(device), _about()
    rows = list(speeds(trainings(preset, device, **changes), peak_of(where)))
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else machine()
    return {"kind": "measured", "device": name, "preset": preset, **about, "rows": rows}


def estimate_record(card: str, preset: str, datas: Iterable[str]) -> dict[str, Any]:
    """What the four trainings of inpainting would take on a card, from operations and bytes.

    Each operation takes what its arithmetic, its bytes or its launch need, whichever is longest.
    """
    rows, about = [], _about()
    for data in datas:
        for name, job, method in trainings(preset, "cpu", data=data):
            if method is inpaint.METHOD:
                trainer = plan.trainer_of(job, method)
                trainer.precision = job.settings.precision  # the card has it
                work, cycle = work_of(trainer), cycle_of(trainer)
                step = work.seconds(PEAKS[card], trainer.precision, launch=LAUNCH) / cycle
                floor = work.seconds(PEAKS[card], trainer.precision) / cycle
                row = {
                    "training": name,
                    "steps": trainer.steps,
                    "batch_size": trainer.batch_size,
                    "operations": sum(n for n, _ in work.calls) / cycle,
                    "bytes": sum(size for _, size in work.calls) / cycle,
                    "calls": len(work.calls) / cycle,
                    "seconds": trainer.steps * step,
                    "least_seconds": trainer.steps * floor,
                }
                rows.append(row)
    return {
        **{"kind": "estimate", "device": card, "preset": preset, "launch": LAUNCH},
        **about,
        "rows": rows,
    }


def _about() -> dict[str, Any]:
    commit, dirty = provenance.revision(provenance.checkout())
    return {"commit": commit, "dirty": dirty, "torch": torch.__version__}
