"""95 % intervals: of one type, made from independent runs or from a sample of images.

Over runs (:func:`student_interval`) it is the training that varies. Over images
(:func:`mean_interval`, :func:`share_interval`, :func:`frechet_interval`, and
:func:`~stochrestore.metrics.coverage.coverage_interval` for precision and recall) it is which
images were drawn; the networks are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from scipy import special  # scipy.stats takes a second to import
from threadpoolctl import threadpool_limits
from torch import Tensor

from stochrestore.errors import require
from stochrestore.metrics.frechet import Moments, frechet_distance, frechet_from_moments
from stochrestore.metrics.interval import Interval

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
_BLOCK = 2**22  # resampled values in memory at once


def student_interval(
    values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Student's interval for the mean of independent values, such as one from each training.

    A PSNR of equal images is infinite, and then so may be the mean. Where values are infinite,
    the smallest value is returned, as exact.

    Args:
        values: n ≥ 2 numbers.
        within: the values that the mean can have; the interval is cut there.

    Raises:
        InputError: fewer than two values, or NaN.
    """
    n = len(values)
    require(n >= 2, "student_interval: number of runs", n, "at least 2")
    if any(math.isinf(value) for value in values):
        return Interval.exact(min(values))
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(special.stdtrit(n - 1, 1 - TAIL)) * math.sqrt(variance / n)
    return Interval(
        mean, max(mean - half, min(within[0], mean)), min(mean + half, max(within[1], mean))
    )


def mean_interval(values: Tensor, *, generator: torch.Generator, repeats: int = 2000) -> Interval:
    """Percentile bootstrap interval for a mean over images, such as a mean PSNR.

    Args:
        values: one value per image, (N,).
        generator: draws the images of each resampled set, with replacement.
        repeats: the number of resampled sets.

    Raises:
        InputError: values that are empty, not one-dimensional, NaN or infinite (as the PSNR of
            equal images), or fewer than 40 repeats.
    """
    check_repeats(repeats)
    where = "mean_interval: shape"
    require(values.ndim == 1 and len(values) > 0, where, tuple(values.shape), "(N,), N ≥ 1")
    wrong = int((~values.isfinite()).sum())
    require(wrong == 0, "mean_interval: values with NaN or infinity", wrong, "none")
    values = values.detach().double().cpu()
    n = len(values)
    means = []
    for part in torch.arange(repeats).split(max(1, _BLOCK // n)):
        rows = torch.randint(n, (len(part), n), generator=generator)
        means.append(values[rows].mean(1))
    return _around(values.mean().item(), torch.cat(means))


def share_interval(share: float, n: float) -> Interval:
    """Clopper and Pearson's interval (1934) for a share of n independent images.

    Args:
        share: in [0, 1].
        n: the number of images, > 0. It need not be an integer: dependent images count as an
            effective number of independent ones.

    Raises:
        InputError: n or share out of range.
    """
    require(n > 0, "share_interval: n", n, "a number > 0")
    require(0 <= share <= 1, "share_interval: share", share, "in [0, 1]")
    hits = share * n
    low = special.betaincinv(hits, n - hits + 1, TAIL) if share > 0 else 0.0
    high = special.betaincinv(hits + 1, n - hits, 1 - TAIL) if share < 1 else 1.0
    return Interval(share, min(float(low), share), max(float(high), share))


def frechet_interval(
    real: Tensor, fake: Tensor, *, generator: torch.Generator, repeats: int = 200
) -> Interval:
    """Bootstrap interval for the exact Fréchet distance; both sets are resampled.

    The distance of finite sets is biased high. The distance of resampled sets is biased more,
    because they hold fewer different points. So the percentiles are moved until their median is
    the value: the interval tells how much the distance, at these numbers of samples, depends on
    the samples that were drawn. The bias that all sets of these sizes share stays in the value,
    as in every FID.

    A repeat costs as much as the distance itself: a few ms for 100 features, seconds for 2048.

    Args:
        real: features, (N, D).
        fake: features, (M, D).
        generator: draws the rows of each repeat, with replacement.
        repeats: the number of resampled pairs of sets.

    Raises:
        InputError: as :func:`frechet_distance`, or fewer than 40 repeats.
    """
    check_repeats(repeats)
    value = frechet_distance(real, fake)
    # Threads of several BLAS libraries wait for each other: small matrices take 25 times as long.
    small = real.shape[1] <= 512
    with threadpool_limits(1 if small else None):
        distances = [
            frechet_from_moments(*(_resampled(x, generator) for x in (real, fake)))
            for _ in range(repeats)
        ]
    replicates = torch.tensor(distances, dtype=torch.float64)
    centred = _around(value, replicates + (value - replicates.median()))
    return replace(centred, low=max(centred.low, 0.0))


def difference(a: Interval, b: Interval) -> Interval:
    r"""The difference a − b of two independent measurements, by Zou and Donner's rule (2008).

    .. math:: L &= a − b − \sqrt{(a − l_a)^2 + (u_b − b)^2}, \\
              U &= a − b + \sqrt{(u_a − a)^2 + (b − l_b)^2}

    The interval is too wide if both were measured on the same images and vary together.
    """
    value = a.value - b.value
    below = math.hypot(a.value - a.low, b.high - b.value)
    above = math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value, value - below, value + above)


def _resampled(x: Tensor, generator: torch.Generator) -> Moments:
    rows = torch.randint(len(x), (len(x),), generator=generator)
    return Moments.of(x[rows])


def _around(value: float, replicates: Tensor) -> Interval:
    """The percentiles of the replicates, extended to the value if they do not include it."""
    levels = torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64)
    low, high = replicates.quantile(levels).tolist()
    return Interval(value, min(low, value), max(high, value))


def check_repeats(repeats: int) -> None:
    """Refuse fewer than 40, which leave nothing beyond the outermost percentiles."""
    require(repeats >= 40, "bootstrap: repeats", repeats, "an integer ≥ 40")
