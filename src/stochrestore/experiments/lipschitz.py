"""The price of determinism as a Lipschitz constant, who else pays it, and what it may buy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from stochrestore import store
from stochrestore.config import ExperimentSettings
from stochrestore.errors import require
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.closed_form import Sine
from stochrestore.estimators.linear_gaussian import LinearEstimator
from stochrestore.estimators.zigzag import mean_absolute_difference
from stochrestore.experiments.toy_gans import METHOD, ToySettings, main_jobs, parameters_like
from stochrestore.experiments.trained import load_networks
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.lipschitz import (
    Cells,
    Difficulty,
    lipschitz_envelope,
    steepest,
    wasserstein_cells,
)
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.metrics.wasserstein import (
    wasserstein_1d,
    wasserstein_discrete,
    wasserstein_gaussian,
)
from stochrestore.problems.finite import FiniteProblem, as_array
from stochrestore.problems.gaussian import GaussianProblem
from stochrestore.problems.square import Square
from stochrestore.problems.toy import Disk, Ring, half_chord, midpoints, triangle_wave

Array = NDArray[np.float64]
Curve = Callable[[Tensor], Tensor]
"""The restored coordinate of a deterministic toy estimator, from y to X̂⁽²⁾ of y's shape."""

SQUARE = Difficulty(1 / 12, 12**-0.5)
"""The square: the posterior mean is ½, and X⁽²⁾ is 1/√12 from it, whatever y is."""
DISK = Difficulty(1 / 4, 1 / 2)
"""The disk: the posterior mean is 0, and E(X⁽²⁾)² = ¼."""


class Settings(ExperimentSettings):
    """The settings of the chapter on the Lipschitz constant."""

    experiment: ClassVar[str] = "lipschitz"

    largest: int = Field(256, ge=16, le=4096, description="largest f of the square's zigzags")
    levels: int = Field(4, ge=2, le=4, description="grey values of the two-pixel images")
    cells: int = Field(1000, ge=50, le=4000, description="cells of each transport on the disk")
    networks: int = Field(3, ge=1, le=5, description="shipped networks of each deterministic GAN")
    inputs: int = Field(200, ge=50, le=5000, description="inputs y of each mean over Y")
    frequency: int = Field(8, ge=1, le=64, description="f of the zigzag that explores")


@dataclass(frozen=True)
class Steepness:
    """A deterministic estimator: its Lipschitz constant, and between what its index lies."""

    name: str
    slope: float
    index: Interval


# --- The square ------------------------------------------------------------------------------


def zigzag_index(f: int, amplitude: float = 1.0, copies: int = 2) -> float:
    """W₂ of the zigzag, exact: W₂(p_{X,Y}, p_{X̂,Y}) for two copies of y, W₂(p_X, p_X̂) for one.

    A second copy of y stretches the first coordinate by √2. The proof of Zigzag.wasserstein folds
    and projects as before, with the stretched width for w (App. C).
    """
    a, w = amplitude, math.sqrt(copies) / (2 * f)
    spread = mean_absolute_difference(w**2, a)
    return math.sqrt((1 + 2 * w**2 + a**2) / 12 - spread / 2)


def square_zigzags(frequencies: Sequence[int], copies: int = 2) -> list[Steepness]:
    """The paper's zigzags, with their index (App. C)."""
    return [
        Steepness(f"f = {f}", 2.0 * f, Interval.exact(zigzag_index(f, copies=copies)))
        for f in frequencies
    ]


# --- The disk --------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvenZigzag:
    """A zigzag over the disk, from edge to edge, of slope L away from the disk's two ends.

    Its phase follows arcsin y, which widens the teeth in proportion to the chord.

    Args:
        slope: L > 0.
    """

    slope: float

    def __call__(self, y: Tensor) -> Tensor:
        """The second coordinate, of y's shape."""
        wave = triangle_wave(self.slope / 4 * y.clamp(-1, 1).arcsin())
        return half_chord(y) * (2 * wave - 1)


def sine_curve(alpha: float) -> Curve:
    """X̂_α of Sec. 4, the restored coordinate."""
    return Sine(alpha).curve


def network_curve(network: Estimator) -> Curve:
    """The restored coordinate of a deterministic network, in float64."""
    like = parameters_like(network)

    @torch.no_grad()
    def curve(y: Tensor) -> Tensor:
        flat = y.reshape(-1, 1).to(like)
        return network(flat, like.new_zeros(len(flat), 1))[:, 1].double().reshape(y.shape)

    return curve


def deterministic_gans(number: int) -> dict[str, list[Estimator]]:
    """The first shipped networks of RobustGAN and ErraticGAN (Sec. 4.2), by their keys."""
    settings = ToySettings.load("laptop")
    jobs = [
        job
        for job in main_jobs(settings)
        if not job.stochastic and job.seed - settings.seed < number
    ]
    return load_networks(jobs, store.shipped(settings.experiment), METHOD)[0]


def on_disk(name: str, curve: Curve, settings: Settings, slope: float | None = None) -> Steepness:
    """The Lipschitz constant and the joint index of a curve over the disk.

    Args:
        name: of the estimator.
        curve: its restored coordinate.
        settings: the number of cells.
        slope: L, of which the curve is made where it is steeper, as all that follow the disk's
            edge are at its two ends; None leaves the curve as it is.
    """
    inside = 20
    y = Disk().input_quantile(midpoints(settings.cells * inside))
    g = curve(y).numpy()
    if slope is not None:
        g = lipschitz_envelope(y.numpy(), g, slope)
    even = np.linspace(-1, 1, 20_001)  # the steepest place may be where few inputs are
    measured = steepest(even, curve(torch.from_numpy(even)).numpy()) if slope is None else slope
    points = _with_two_copies(y.numpy(), g).reshape(settings.cells, inside, 2)
    return Steepness(
        name, measured, wasserstein_cells(disk_cells(settings.cells), Cells.of(points))
    )


def disk_cells(n: int, inside: int = 12) -> Cells:
    """About n cells of equal mass of the disk, with y counted twice: stripes of y, cut across."""
    across = max(2, round(math.sqrt(n / 1.6)))
    stripes = max(2, round(n / across))
    y = Disk().input_quantile(midpoints(stripes * inside)).reshape(stripes, 1, inside, 1)
    u = midpoints(across * inside).reshape(1, across, 1, inside)
    y, u = torch.broadcast_tensors(y, u)
    x = Disk().posterior_quantile(y, u)
    return Cells.of(_with_two_copies(y.numpy(), x.numpy()).reshape(stripes * across, -1, 2))


def _with_two_copies(y: Array, x: Array) -> Array:
    """(y, x, y) in the plane, (…, 2): distances of two copies of y are those of √2·y."""
    return np.stack([math.sqrt(2) * y, x], axis=-1)


# --- Gaussian, finite, and folded ------------------------------------------------------------


def gaussian_pixels(correlation: float) -> GaussianProblem:
    """Two pixels of variance 1 with a correlation in [0, 1), the first one known."""
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    return GaussianProblem(covariance, np.array([[1.0, 0.0]]))


def gaussian_line(correlation: float, gain: float) -> Steepness:
    """X̂ = (Y, cY) on the Gaussian pixels: L = |c|, and the joint index in closed form."""
    problem = gaussian_pixels(correlation)
    line = LinearEstimator(problem, np.array([[1.0], [gain]]), np.zeros((2, 0)))
    index = wasserstein_gaussian(_with_input(problem.covariance), _with_input(line.covariance))
    return Steepness(f"c = {gain:g}", abs(gain), Interval.exact(index))


def gaussian_difficulty(correlation: float) -> Difficulty:
    """MMSE = 1 − ρ², and P* of E[X|Y] = (Y, ρY)."""
    at_mean = gaussian_line(correlation, correlation).index.value
    mmse = gaussian_pixels(correlation).mmse
    return Difficulty(mmse, min(at_mean, math.sqrt(mmse)))


def _with_input(covariance: Array) -> Array:
    """The covariance of (X, Y) for Y = X₁, from that of X."""
    repeat = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    return repeat @ covariance @ repeat.T


def finite_estimators(problem: FiniteProblem) -> Iterator[Steepness]:
    """Every deterministic consistent estimator of two-pixel images whose first pixel is known.

    The Lipschitz constant is over the inputs that occur, which are integers; the joint index is
    computed by optimal transport.
    """
    joint, p_x, p_y = _joint(problem)
    inputs = np.array(problem.inputs, dtype=np.float64)
    for choice in product(*(problem.fibre(y) for y in problem.inputs)):
        restored = problem.coordinates[list(choice), 1]
        steps = np.abs(np.subtract.outer(restored, restored))
        gaps = np.abs(np.subtract.outer(inputs, inputs))
        slope = float((steps[gaps > 0] / gaps[gaps > 0]).max())
        index = wasserstein_discrete(joint, joint[list(choice)], p_x, p_y)
        yield Steepness(str(tuple(restored)), slope, Interval.exact(index))


def finite_difficulty(problem: FiniteProblem) -> Difficulty:
    """The MMSE, and P* of the posterior mean, of the same problem."""
    joint, p_x, p_y = _joint(problem)
    posterior = as_array(problem.posterior)
    mean = posterior.T @ problem.coordinates
    second = posterior.T @ (problem.coordinates**2).sum(1)
    mmse = float(p_y @ (second - (mean**2).sum(1)))
    at_mean = wasserstein_discrete(joint, np.column_stack([mean, mean[:, 0]]), p_x, p_y)
    return Difficulty(mmse, min(at_mean, math.sqrt(mmse)))


def finite_sensitivity(problem: FiniteProblem) -> float:
    """√R of the posterior (Eq. 5) in the restored pixel, for ε of one grey level."""
    posterior, values = as_array(problem.posterior).T, problem.coordinates[:, 1]
    inputs = np.array(problem.inputs, dtype=np.float64)
    worst = [
        max(
            wasserstein_1d(values, values, posterior[i], posterior[j]) ** 2
            for j in np.flatnonzero(np.abs(inputs - inputs[i]) <= 1)
        )
        for i in range(len(inputs))
    ]
    return math.sqrt(float(as_array([problem.p_y])[0] @ np.array(worst)))


def _joint(problem: FiniteProblem) -> tuple[Array, Array, Array]:
    """The points (x, y), with y = D(x) a number, and the masses p_X and p_Y."""
    y = np.array(problem.image, dtype=np.float64)
    p_x, p_y = as_array([problem.mass])[0], as_array([problem.p_y])[0]
    return np.column_stack([problem.coordinates, y]), p_x, p_y


@dataclass(frozen=True)
class Folded:
    """X̂ = Y where X is uniform on [0, 1] and Y = |2X − 1|: perfect, robust and inconsistent."""

    marginal: float
    """W₂(p_X, p_X̂)."""
    joint: float
    """W₂(p_{X,Y}, p_{X̂,Y})."""


def folded(n: int = 400) -> Folded:
    """Both indices of X̂ = Y for the fold, by optimal transport of n points."""
    x = midpoints(n).numpy()
    y = np.abs(2 * x - 1)
    joint = wasserstein_discrete(np.column_stack([x, y]), np.column_stack([y, y]))
    return Folded(wasserstein_1d(x, y), joint)


# --- Stochastic estimators -------------------------------------------------------------------


@dataclass(frozen=True)
class Stairs:
    """X⁽²⁾ is uniform on [0, 1] where Y < ½, and on [1, 2] elsewhere; Y is uniform on [0, 1].

    Its posterior jumps at ½. With a ramp of width h > 0 about ½ the interval rises at slope 1/h.
    So the estimator ``Stairs(h)`` is the smoothed posterior sampler of ``Stairs()``.

    Args:
        ramp: h, from 0 to 1.

    Raises:
        InputError: h is not from 0 to 1.
    """

    ramp: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.ramp <= 1, "Stairs.ramp (h)", self.ramp, "a number from 0 to 1")

    def step(self, y: Tensor) -> Tensor:
        """The interval's lower end."""
        if self.ramp == 0:
            return (y >= 0.5).to(y)
        return ((y - 0.5) / self.ramp + 0.5).clamp(0, 1)

    def posterior_quantile(self, y: Tensor, u: Tensor) -> Tensor:
        """The lower end plus u."""
        return self.step(y) + u


@dataclass(frozen=True)
class Inputs:
    """A problem's inputs: their range, and the density of Y, up to a factor."""

    problem: Any
    low: float
    high: float
    density: Curve


def chord_problems() -> dict[str, Inputs]:
    """Problems whose posterior of X⁽²⁾ has a known quantile function, by name."""
    ring = Ring()

    def ring_density(y: Tensor) -> Tensor:
        inner, outer = ring.bounds(y)
        return outer - inner

    return {
        "square": Inputs(Square(), 0, 1, torch.ones_like),
        "disk": Inputs(Disk(), -1, 1, half_chord),
        "ring": Inputs(ring, -ring.outer[0], ring.outer[0], ring_density),
        "stairs": Inputs(Stairs(), 0, 1, torch.ones_like),
    }


def posterior_sensitivity(inputs: Inputs, epsilon: float, settings: Settings) -> float:
    """√R/ε of the posterior (Eq. 5), by quadrature over many inputs and 32 quantiles.

    Equal quantiles couple posteriors on a line optimally, and the worst δ is taken among ±ε and
    ±ε/2. A perturbed input stays in the range of Y.

    Raises:
        InputError: ε is not a finite number > 0.
    """
    require(math.isfinite(epsilon) and epsilon > 0, "epsilon (ε)", epsilon, "a number > 0")
    n = 100 * settings.inputs  # so that an ε of a thousandth is many steps
    y = inputs.low + (inputs.high - inputs.low) * midpoints(n)[:, None]
    u = midpoints(32).expand(n, 32)

    def quantiles(at: Tensor) -> Tensor:
        clamped = at.clamp(inputs.low, inputs.high)
        return torch.as_tensor(inputs.problem.posterior_quantile(clamped.expand(n, 32), u))

    clean, worst = quantiles(y), torch.zeros(n, dtype=torch.float64)
    for delta in (-epsilon, -epsilon / 2, epsilon / 2, epsilon):
        worst = torch.maximum(worst, (quantiles(y + delta) - clean).square().mean(1))
    density = inputs.density(y[:, 0])
    return math.sqrt(float((density @ worst) / density.sum())) / epsilon


# --- Exploring the posterior -----------------------------------------------------------------


def explored(curve: Curve, problem: Square | Disk, epsilon: float, settings: Settings) -> float:
    """√E_Y W₂² between the posterior and what a curve gives for inputs perturbed within ε.

    X̂⁽²⁾ = g(Y + δ) with δ uniform on [−ε, ε], by quadrature over evenly spaced δ; the known
    coordinate stays Y, so that the estimator is consistent.

    Raises:
        InputError: ε is negative or not finite.
    """
    require(math.isfinite(epsilon) and epsilon >= 0, "epsilon (ε)", epsilon, "a number ≥ 0")
    n = settings.inputs
    y = midpoints(n)
    y = problem.input_quantile(y) if isinstance(problem, Disk) else y
    delta = epsilon * (2 * midpoints(n) - 1)
    moved = curve(y[:, None] + delta).sort(dim=1).values
    wanted = problem.posterior_quantile(y[:, None].expand(-1, n), midpoints(n).expand(n, n))
    return float((moved - wanted).square().mean().sqrt())


GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it fill [0, 1) evenly, however many there are."""


def explored_recall(curve: Curve, epsilon: float, *, points: int = 1000, k: int = 5) -> float:
    """The recall on the disk of what a curve gives for inputs perturbed within ε.

    As in :func:`explored`, X̂ = (Y, g(Y + δ)). Both sets of points are spread evenly instead of
    drawn: the data as the seeds of a sunflower, the pairs (Y, δ) as a lattice.

    Raises:
        InputError: ε is negative or not finite.
    """
    require(math.isfinite(epsilon) and epsilon >= 0, "epsilon (ε)", epsilon, "a number ≥ 0")
    level, turn = midpoints(points), torch.arange(points).double() * GOLDEN
    angle = 2 * math.pi * turn
    real = level.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    y = Disk().input_quantile(level)
    delta = epsilon * (2 * (turn % 1) - 1)
    return precision_recall(real, torch.stack([y, curve(y + delta)], 1), k).recall


def exploring_bound(slope: float, epsilon: float) -> float:
    """The least √E_Y W₂² of any L-Lipschitz curve on the square, perturbed within ε.

    All outputs for one y lie in an interval of length s = 2Lε, and the posterior is uniform on
    [0, 1]: W₂² ≥ (1 − s)³/12 while s < 1.
    """
    return math.sqrt(max(1 - 2 * slope * epsilon, 0.0) ** 3 / 12)
