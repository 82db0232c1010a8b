"""Precision and recall against piq and against the matrix products no method avoids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Row, isolated, median_seconds, peak_bytes
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.metrics.torchvision_ops import import_piq

SIZE, DIMS, K = 10_000, 2048, 3
FULL_SIZE = 50_000


def against_piq() -> Iterator[Row]:
    seconds = isolated(_seconds)
    peak = {method: isolated(_extra_bytes, method, SIZE) for method in METHODS}
    ours = seconds["library"]
    yield Row("precision_recall: time over piq's", ours / seconds["piq"], "≤ 0.5")
    yield Row("precision_recall: peak memory over piq's", peak["library"] / peak["piq"], "≤ 0.3")
    yield Row("precision_recall: time over its products'", ours / seconds["products"], "≤ 1.4")


def fifty_thousand() -> Iterator[Row]:
    extra = isolated(_extra_bytes, "library", FULL_SIZE) / 2**30
    yield Row("precision_recall: extra GiB at 50 000 x 2048", extra, "≤ 2.5")


def _features(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(size, DIMS, generator=generator)
    return real, torch.randn(size, DIMS, generator=generator)


def _library(real: Tensor, fake: Tensor) -> Any:
    return precision_recall(real, fake, K)


def _piq(real: Tensor, fake: Tensor) -> Any:
    return import_piq().PR(nearest_k=K)(real, fake)


METHODS: dict[str, Callable[[Tensor, Tensor], Any]] = {"library": _library, "piq": _piq}


def _products(real: Tensor, fake: Tensor) -> None:
    for a, b in ((real, real), (fake, fake), (real, fake)):
        a @ b.T


def _seconds() -> dict[str, float]:
    real, fake = _features(SIZE)
    methods = METHODS | {"products": _products}
    for method in methods.values():
        method(real[:100], fake[:100])  # imports and threads are not what is measured
    runs = {name: lambda method=method: method(real, fake) for name, method in methods.items()}
    return median_seconds(runs, repeats=3)


def _extra_bytes(method: str, size: int) -> int:
    real, fake = _features(size)
    METHODS[method](real[:100], fake[:100])
    before = peak_bytes()
    METHODS[method](real, fake)
    return peak_bytes() - before
