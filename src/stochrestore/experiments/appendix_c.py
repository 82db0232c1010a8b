"""Appendix C, checked by computation: a zigzag's distance from the square, and its sensitivity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats
from torch import Tensor

from stochrestore.config import ExperimentSettings
from stochrestore.estimators.base import no_seed
from stochrestore.estimators.zigzag import Zigzag, horizontal_transport, optimal_transport
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.wasserstein import wasserstein_discrete
from stochrestore.problems.square import Square
from stochrestore.problems.toy import midpoints

Array = NDArray[np.float64]


class Settings(ExperimentSettings):
    """The settings of the chapter on Appendix C."""

    experiment: ClassVar[str] = "appendix_c"

    frequency: int = Field(3, ge=1, le=64, description="f of Figure 6")
    largest: int = Field(256, ge=256, le=4096, description="largest f of the fitted slope")
    samples: int = Field(500, ge=10, le=5000, description="samples of each optimal transport")
    repeats: int = Field(8, ge=2, description="independent repetitions of it")
    epsilon: float = Field(1e-3, gt=0, le=0.25, description="ε, the size of an attack on y")


def powers_of_two(largest: int) -> list[int]:
    """1, 2, 4 … up to ``largest``."""
    return [2**k for k in range(largest.bit_length())]


def fitted_slope(frequencies: list[int], distances: list[float]) -> Interval:
    """The slope of log W₂ against log f, by least squares, with Student's 95 % interval."""
    line = stats.linregress(np.log(frequencies), np.log(distances))
    half = float(stats.t.ppf(0.975, len(frequencies) - 2) * line.stderr)
    return Interval(float(line.slope), float(line.slope) - half, float(line.slope) + half)


# --- T₀ and the optimal map ------------------------------------------------------------------


@dataclass(frozen=True)
class PushForward:
    """How well a map T of the square pushes p_X forward to p_X̂.

    Args:
        off_curve: the largest |G_f(T₁) − T₂| over a grid; it is 0 where all points land on the
            zigzag.
        histogram: the largest relative deviation from the mean in a histogram of T₁ over the same
            grid, with bins of equal width; it is 0 where T₁ is uniform. On the zigzag, T₁ decides
            the distribution.
        p_value: of a two-sample Kolmogorov–Smirnov test between T₁(X) and independent draws of Y.
    """

    off_curve: float
    histogram: float
    p_value: float


Transport = Callable[[Tensor, int], Tensor]


def push_forward(
    f: int, settings: Settings, transport: Transport = horizontal_transport
) -> PushForward:
    """The three checks of PushForward for a map ``transport(x, f)``, T₀ of Eq. 13 by default."""
    moved = transport(midpoint_grid(8 * 2 * f, 64), f)
    off_curve = (Zigzag(f).curve(moved[:, 0]) - moved[:, 1]).abs().max()
    counts = torch.histc(moved[:, 0], bins=8 * f, min=0, max=1)
    histogram = (counts / counts.mean() - 1).abs().max()
    generator = torch.Generator().manual_seed(settings.seed)
    x = Square().sample(settings.samples, generator=generator)
    fresh = Square().sample(settings.samples, generator=generator)[:, 0]
    p_value = stats.ks_2samp(transport(x, f)[:, 0], fresh).pvalue
    return PushForward(float(off_curve), float(histogram), float(p_value))


def midpoint_grid(n: int, m: int) -> Tensor:
    """Midpoints of n × m equal rectangles of the unit square, (nm, 2), float64."""
    return torch.cartesian_prod(midpoints(n), midpoints(m))


def quadrature(f: int) -> dict[str, float]:
    """√E‖X − T(X)‖² for three maps T, by Gauss–Legendre quadrature over one cell.

    The maps are T₀ of Eq. 13, which gives the right side of Eq. 14, the optimal map, and the
    nearest point of the zigzag. The last does not push p_X forward to p_X̂, so that it only bounds
    W₂ from below. All cells are mirror images of the first, [0, w] × [0, 1].
    """
    t, weight = np.polynomial.legendre.leggauss(200)
    t, weight = (t + 1) / 2, weight / 2
    x = torch.cartesian_prod(torch.tensor(t / (2 * f)), torch.tensor(t))
    share = np.outer(weight, weight).ravel()
    maps = {
        "T0": horizontal_transport(x, f),
        "optimal map": optimal_transport(x, f),
        "nearest point": nearest_point(x, f),
    }
    return {
        name: float(np.sqrt(share @ (x - moved).square().sum(-1).numpy()))
        for name, moved in maps.items()
    }


def nearest_point(x: Tensor, f: int) -> Tensor:
    """The point of the zigzag nearest to each x of the first cell, [0, w] × [0, 1]: (N, 2)."""
    w = 1 / (2 * f)
    foot = (w * x[:, 0] + x[:, 1]) / (1 + w**2)  # within [0, 1] for every x of the cell
    return torch.stack([w * foot, foot], dim=-1)


# --- Optimal transport between samples -------------------------------------------------------


@dataclass(frozen=True)
class SampledDistance:
    """W₂ between empirical distributions of n samples, one value for each repetition.

    Args:
        raw: between samples of X and of X̂; it is biased upwards.
        reference: between two independent samples of X, whose true distance is 0.
        own: between two independent samples of X̂.
    """

    raw: Array
    reference: Array
    own: Array

    @property
    def corrected(self) -> Array:
        """raw² minus the mean of reference² and own², an estimate of W₂² with less bias."""
        estimate: Array = self.raw**2 - (self.reference**2 + self.own**2) / 2
        return estimate


def sampled_wasserstein(f: int, settings: Settings) -> SampledDistance:
    """Exact optimal transport between samples of X and X̂, and the references for its bias."""
    generator = torch.Generator().manual_seed(settings.seed)
    runs = [_sampled(Zigzag(f), settings.samples, generator) for _ in range(settings.repeats)]
    return SampledDistance(*np.array(runs).T)


def _sampled(zigzag: Zigzag, n: int, generator: torch.Generator) -> tuple[float, float, float]:
    def draw() -> Tensor:
        return Square().sample(n, generator=generator)

    def restored() -> Tensor:
        y = draw()[:, :1]
        return zigzag(y, no_seed(y, 1)[0])

    x, x_hat = draw(), restored()
    return (
        wasserstein_discrete(x, x_hat),
        wasserstein_discrete(x, draw()),
        wasserstein_discrete(x_hat, restored()),
    )


# --- The trade-off ---------------------------------------------------------------------------


def conditional_wasserstein(f: int, nodes: int = 400) -> float:
    """√E_Y W₂²(p_X̂|Y, p_X|Y) of the zigzag, by quadrature: 1/√6 whatever f.

    Given y, the zigzag has one value g and the posterior is uniform on [0, 1], so that W₂² is
    ∫(u − g)²du = g² − g + 1/3. Over y, g = G_f(Y) is uniform too.
    """
    g = Zigzag(f).curve(midpoints(nodes * 2 * f))
    return float((g.square() - g + 1 / 3).mean().sqrt())


@dataclass(frozen=True)
class TradeOff:
    """Slope (Lipschitz constant) and W₂ of each curve of a family."""

    slope: Array
    wasserstein: Array


def damped_zigzags(f: int, points: int = 200) -> TradeOff:
    """Zigzags of frequency f with amplitudes from 1/points, which is robust, to 1, erratic."""
    family = [Zigzag(f, amplitude=a) for a in np.linspace(1 / points, 1, points).tolist()]
    return TradeOff(
        np.array([z.slope for z in family]), np.array([z.wasserstein() for z in family])
    )
