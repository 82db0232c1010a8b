"""The loop that every training goes through: progress, measurements, checkpoints, divergence.

A training is a :class:`Trainer` whose subclass says what one step does. Every draw comes from one
generator whose state is in the checkpoint, so that an interrupted training continues as if it had
not been: to the bit on the same kind of device with as many threads and the same versions, else up
to rounding.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stochrestore.errors import TrainingDiverged, require, silent
from stochrestore.training import checkpoints

Metrics = dict[str, float]

#: Updates between two looks at the losses.
REPORT_EVERY = 100


@contextmanager
def float32_as(precision: str = "float32") -> Iterator[None]:
    """How a GPU computes in float32 during the ``with`` block: rounded to TF32, or as it is.

    Left alone, cuDNN convolves in TF32. Nothing changes on the CPU.

    Args:
        precision: ``"tf32"`` for TF32; anything else for float32.
    """
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    rounded = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = rounded
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and a request to end wait until the end of the ``with`` block."""
    numbers = (int(signal.SIGINT), int(signal.SIGTERM))
    before = {n: handler for n in numbers if callable(handler := signal.getsignal(n))}
    if threading.current_thread() is not threading.main_thread():
        before = {}  # signals reach the main thread only
    came: list[tuple[int, Any]] = []
    for number in before:
        signal.signal(number, lambda *arrived: came.append(arrived))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            before[came[0][0]](*came[0])


@contextmanager
def repeated_to_the_bit(wanted: bool = True) -> Iterator[None]:
    """A GPU sums in one order during the ``with`` block, where that is wanted.

    cuBLAS reads its variable when it is first used, so this comes before anything is computed.

    Raises:
        RuntimeError: PyTorch has no such algorithm for what is computed.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


class Trainer(ABC):
    """One training, a step at a time; :meth:`train` runs it to its end.

    Args:
        network: what is trained; its weights are what the training leaves behind.
        steps: number of updates.
        batch_size: images a step, for the progress bar.
        settings: what decides the trained weights, for the checkpoint.
        generator: source of every random draw.
    """

    loss_names: ClassVar[tuple[str, ...]]
    """What the losses that :meth:`update` returns are called in the history."""
    parts: ClassVar[tuple[str, ...]]
    """Attributes that have a ``state_dict`` of their own, which the next step depends on."""
    advice: ClassVar[str]
    """What to do where the losses are not finite."""
    may_change: ClassVar[tuple[str, ...]] = ()
    """Settings that may differ when a checkpoint is continued."""
    precision = "float32"
    """The number format it computes in; for ``"tf32"`` see :func:`float32_as`."""
    deterministic = False
    """Whether it sums in one order; see :func:`repeated_to_the_bit`."""

    def __init__(
        self,
        network: nn.Module,
        *,
        steps: int,
        batch_size: int,
        settings: Mapping[str, Any],
        generator: torch.Generator,
    ) -> None:
        self.network, self.generator = network, generator
        self.steps, self.batch_size, self.decided_by = steps, batch_size, settings
        self.device = next(network.parameters()).device
        self.losses = torch.zeros(len(self.loss_names), device=self.device)
        self.step = 0
        self.seconds = 0.0  # spent in train, by all its pieces
        self.history: list[Metrics] = []

    @abstractmethod
    def update(self) -> tuple[Tensor, ...]:
        """One update of each network; returns the losses, scalars, in the order of the names."""

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The network with the weights to keep, for the time of the ``with`` block."""
        yield

    def findings(self) -> dict[str, Any]:
        """What the record of the finished training holds beside the losses."""
        return {}

    def train(
        self,
        *,
        evaluate: Callable[[Any], Metrics] | None = None,
        evaluate_every: int = 1000,
        checkpoint: Path | None = None,
        checkpoint_every: int = 1000,
        belongs_to: Mapping[str, Any] | None = None,
        code: str = "",
        label: str = "",
        progress: bool = True,
        log: Callable[[Metrics], None] = lambda losses: None,
    ) -> None:
        """Run to the last step, from the checkpoint where there is one.

        Ctrl-C and SIGTERM end it after the step that they find it in, and write a checkpoint.

        Args:
            evaluate: measures the network it is given; must draw from a generator of its own.
            evaluate_every: steps between two rows of ``history``: the latest mean losses, and
                what ``evaluate`` returned.
            checkpoint: file to continue from, and to write.
            checkpoint_every: steps between two checkpoints.
            belongs_to: what decides the trained weights; default: the trainer's own settings.
            code: version of the code, kept in the checkpoint; a line says where another continues.
            label: what the progress bar begins with.
            progress: show losses, images a second and the time left.
            log: called with the mean losses of every :data:`REPORT_EVERY` steps.

        Raises:
            InputError: the checkpoint is unreadable, of another training, or cannot be written.
            TrainingDiverged: going on makes no sense; the last checkpoint is kept.
        """
        decided_by = belongs_to or self.decided_by
        belongs_to = {k: v for k, v in decided_by.items() if k not in self.may_change}
        if checkpoint is not None and checkpoint.exists():
            self._continue(checkpoint, belongs_to, code)
        started, first = time.perf_counter() - self.seconds, self.step

        def save() -> None:
            self.mean_losses()  # raises where they say that it is not worth keeping
            if checkpoint is not None:
                checkpoints.save({**self.state_dict(), "code": code}, belongs_to, checkpoint)

        def measure() -> None:
            row = self.mean_losses()
            if evaluate:
                with self.averaged_weights():
                    row.update(evaluate(self.network))
            self.history.append(row)  # last, so that one that was interrupted is made again

        bar = tqdm(
            None, label, self.steps, initial=self.step, leave=False, disable=silent(progress)
        )
        try:
            with bar, float32_as(self.precision), repeated_to_the_bit(self.deterministic):
                if self._unmeasured(evaluate_every):
                    measure()
                while self.step < self.steps:
                    with uninterrupted():
                        self.advance()
                    bar.update()
                    self.seconds = time.perf_counter() - started
                    if self.step % REPORT_EVERY == 0 or self.step == self.steps:
                        losses = self.mean_losses()
                        log(losses)
                        rate = bar.format_dict["rate"] or 0.0
                        bar.set_postfix(self._described(losses, rate=rate))
                    if self._unmeasured(evaluate_every):
                        measure()
                    if self.step % checkpoint_every == 0 or self.step == self.steps:
                        save()
        except BaseException as interruption:
            if not isinstance(interruption, Exception) and self.step > first:
                with suppress(TrainingDiverged), uninterrupted():
                    save()
            raise

    def _unmeasured(self, every: int) -> bool:
        """Whether the history lacks its row of the present step."""
        last = self.history[-1]["step"] if self.history else 0
        return self.step % every == 0 and self.step > last

    def _continue(self, checkpoint: Path, belongs_to: Mapping[str, Any], code: str) -> None:
        """Take up what a checkpoint holds, if this training wrote it."""
        state = checkpoints.load(checkpoint, belongs_to)
        reached, wanted = state["step"], f"at most {self.steps}, the steps asked for"
        require(reached <= self.steps, f"checkpoint {checkpoint}: step", reached, wanted)
        if state["code"] != code:
            words = (
                f"was written by the code of {state['code'] or 'no commit'}, and is continued by"
            )
            tqdm.write(f"checkpoint {checkpoint} {words} {code or 'no commit'}", sys.stderr)
        self.load_state_dict(state)

    def advance(self) -> None:
        """One step, whose losses are added up."""
        if self.step % REPORT_EVERY == 0:
            self.losses.zero_()
        self.losses += torch.stack([loss.detach() for loss in self.update()])
        self.step += 1

    def mean_losses(self) -> Metrics:
        """The mean losses of the steps since the last multiple of :data:`REPORT_EVERY`.

        Raises:
            TrainingDiverged: they say that going on makes no sense.
        """
        steps = (self.step - 1) % REPORT_EVERY + 1
        values = (self.losses / steps).tolist()
        if not all(math.isfinite(value) for value in values):
            raise TrainingDiverged(f"step {self.step}: a loss is not finite; {self.advice}")
        return {"step": self.step, **dict(zip(self.loss_names, values, strict=True))}

    def _described(self, losses: Metrics, *, rate: float) -> dict[str, str]:
        """What the progress bar shows beside the time left."""
        shown = {name.removesuffix("_loss"): f"{losses[name]:.3g}" for name in self.loss_names}
        return {**shown, "images/s": f"{rate * self.batch_size:.0f}"}

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the history so far."""
        return {
            **{name: getattr(self, name).state_dict() for name in self.parts},
            "step": self.step,
            "losses": self.losses,
            "generator": self.generator.get_state(),
            "history": self.history,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        self.step, self.history, self.seconds = state["step"], state["history"], state["seconds"]
        self.losses = state["losses"].to(self.device)
        self.generator.set_state(state["generator"])


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Within this context, numbers below 1e-38 count as 0 (PyTorch's default is that they do not).

    The gradients of a critic that separates without error are of that size, and processors compute
    with them many times slower: 300 of its updates took 65 s instead of 19.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for the rest of the process.

    By default it gives large blocks back to the system at once, and every batch of activations
    pays for fresh pages again: a quarter of a training step on CPU. Elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3  # names of mallopt(3)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
