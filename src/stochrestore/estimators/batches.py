"""How many seeds pass through an estimator together: as the memory of the machine allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from stochrestore.estimators.base import Estimator, restore

_T = TypeVar("_T")
SeedsAtOnce = int | Literal["auto"] | None
"""How many seeds pass together: a number, as many as fit into memory, or all."""


class SeedBatches:
    """How many of the seeds z (S, N, K) pass together with the inputs y (N, …).

    ``"auto"`` is as many as fit, found by trying from all of them on. On the CPU, where too much
    memory ends the process, trying begins with as many as half of the free memory holds.

    Args:
        at_once: a number, ``"auto"``, or None for all.
    """

    def __init__(self, estimator: Estimator, y: Tensor, z: Tensor, at_once: SeedsAtOnce) -> None:
        self.by_trying = at_once == "auto"
        self.at_once = at_once if isinstance(at_once, int) else len(z)
        if self.by_trying and y.device.type == "cpu" and len(z) > 1:
            inputs = y.detach().requires_grad_(True)
            kept = bytes_kept(lambda: restore(estimator, inputs, z[:1]))
            self.at_once = int(min(len(z), max(1, free_memory(y.device) / 2 // max(1, kept))))

    def run(self, compute: Callable[[int], _T]) -> _T:
        """What ``compute`` returns for the number of seeds; by trying, the largest that fits.

        The number is halved where memory does not suffice, and stays so for the next call.

        Args:
            compute: takes the number; its result must not depend on it.
        """
        while True:
            try:
                return compute(self.at_once)
            except torch.OutOfMemoryError:
                if not self.by_trying or self.at_once == 1:
                    raise
            self.at_once = (self.at_once + 1) // 2
            torch.cuda.empty_cache()  # outside the handler, which would keep the tensors alive


def restore_in_batches(estimator: Estimator, y: Tensor, z: Tensor, at_once: SeedsAtOnce) -> Tensor:
    """All restorations of y (N, …) with seeds z (S, N, K): (S, N, …), so many at once."""
    batches = SeedBatches(estimator, y, z, at_once)
    return batches.run(lambda n: restore(estimator, y, z, seeds_at_once=n))


def free_memory(device: torch.device) -> float:
    """Bytes that can be had on a device; infinite where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    listing = Path("/proc/meminfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    available = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * available[0] if available else math.inf


def bytes_kept(compute: Callable[[], object]) -> int:
    """Memory that a computation keeps for its gradient, bytes."""
    sizes: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = compute()  # alive until all is counted
        total = sum(sizes.values())
        del result
    return total
