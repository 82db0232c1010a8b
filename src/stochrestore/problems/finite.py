"""Problems with finitely many points x and any degradation D, in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from numbers import Rational
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stochrestore.errors import require

Array = NDArray[np.float64]
Point = tuple[int, ...]
Conditional = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class FiniteProblem:
    """X is one of finitely many points, and Y = D(X) (Sec. 2).

    An estimator is a matrix p(x̂ | y), with a row for each point x̂ and a column for each input y
    of :attr:`inputs`, which are those with p_Y(y) > 0. Where p_Y(y) = 0 the posterior is not
    defined and nothing is asked of an estimator, so that there is no column.

    Args:
        points: the n different values of X, each a tuple of d integers.
        mass: p_X, n rational numbers ≥ 0 whose sum is exactly 1; zeros are allowed.
        image: D(x) of each point, n hashable values.

    Raises:
        InputError: a mass is negative, NaN or not rational; the masses do not sum to 1; a point
            has no mass or no image; or a point is given twice.
    """

    points: tuple[Point, ...]
    mass: tuple[Fraction, ...]
    image: tuple[Hashable, ...]

    def __post_init__(self) -> None:
        lengths = (len(self.points), len(self.mass), len(self.image))
        equal = len(set(lengths)) == 1 and lengths[0] > 0
        require(equal, "FiniteProblem: lengths of points, mass, image", lengths, "equal, not 0")
        require(len(set(self.points)) == len(self.points), "points", self.points, "each point once")
        irrational = [m for m in self.mass if not isinstance(m, Rational)]
        require(not irrational, "mass (p_X)", irrational[:1], "fractions, e.g. Fraction(1, 3)")
        negative = [str(m) for m in self.mass if m < 0]
        require(not negative, "mass (p_X)", negative, "masses ≥ 0")
        require(sum(self.mass) == 1, "mass (p_X): sum", str(sum(self.mass)), "exactly 1")
        missing = [x for x, y in zip(self.points, self.image, strict=True) if y is None]
        require(not missing, "image (D): points without image", missing, "an image for each point")

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[Point, Any],
        degradation: Callable[[Point], Hashable] | Mapping[Point, Hashable],
    ) -> FiniteProblem:
        """The problem with p_X ∝ weights (integers or fractions) and D as a function or a table.

        Raises:
            InputError: the weights sum to 0, or the class raises it.
        """
        points = tuple(weights)
        unusable = [w for w in weights.values() if not isinstance(w, Rational) or w < 0]
        require(not unusable, "weights", unusable, "integers or fractions ≥ 0")
        total = sum(weights.values())
        require(total > 0, "weights: sum", total, "> 0")
        image = degradation.get if isinstance(degradation, Mapping) else degradation
        mass = tuple(Fraction(w) / Fraction(total) for w in weights.values())
        return cls(points, mass, tuple(image(x) for x in points))

    @property
    def inputs(self) -> tuple[Hashable, ...]:
        """The inputs with p_Y(y) > 0, in the order of the points."""
        seen = {y: None for y, m in zip(self.image, self.mass, strict=True) if m > 0}
        return tuple(seen)

    @property
    def p_y(self) -> tuple[Fraction, ...]:
        """p_Y on :attr:`inputs`: the mass of each fibre D⁻¹(y)."""
        return tuple(sum((self.mass[i] for i in self.fibre(y)), Fraction(0)) for y in self.inputs)

    def fibre(self, y: Hashable) -> tuple[int, ...]:
        """Indices of the points of D⁻¹(y)."""
        return tuple(i for i, image in enumerate(self.image) if image == y)

    @property
    def consistent_entries(self) -> NDArray[np.bool_]:
        """Whether D(x̂) = y for each entry of an estimator, (n, m)."""
        return np.array([[image == y for y in self.inputs] for image in self.image])

    @property
    def posterior(self) -> Conditional:
        """p_{X|Y}(x | y) = p_X(x)·1[D(x) = y] / p_Y(y), exact, (n, m)."""
        return tuple(
            tuple(
                m / p if image == y else Fraction(0)
                for y, p in zip(self.inputs, self.p_y, strict=True)
            )
            for m, image in zip(self.mass, self.image, strict=True)
        )

    def output(self, estimator: Conditional) -> tuple[Fraction, ...]:
        """p_X̂(x̂) = Σ_y p(x̂ | y) p_Y(y) of an estimator, exact, (n,) (App. A)."""
        p_y = self.p_y
        return tuple(
            sum((q * p for q, p in zip(row, p_y, strict=True)), Fraction(0)) for row in estimator
        )

    @property
    def coordinates(self) -> Array:
        """The points as an array, (n, d)."""
        return np.array(self.points, dtype=np.float64)


def first_pixel(x: Point) -> Hashable:
    """D(x) = x₁, the first pixel, the smallest example of inpainting."""
    return x[0]


def two_pixel_images(
    levels: int = 4, degradation: Callable[[Point], Hashable] = first_pixel
) -> FiniteProblem:
    """All images of two pixels with grey values 0 … levels − 1, degraded.

    Smooth images are more probable, as natural ones are: p_X ∝ 2^(levels − 1 − |x₁ − x₂|).

    Args:
        levels: number of grey values, at least 2.
        degradation: :func:`first_pixel` for inpainting, or ``sum`` for super-resolution, where it
            is the block average up to a factor.

    Raises:
        InputError: there are fewer than two levels.
    """
    require(levels >= 2, "two_pixel_images: levels", levels, "an integer ≥ 2")
    weights: dict[Point, int] = {
        (a, b): 2 ** (levels - 1 - abs(a - b)) for a, b in product(range(levels), repeat=2)
    }
    return FiniteProblem.from_weights(weights, degradation)


def total_variation(p: Sequence[Fraction], q: Sequence[Fraction]) -> Fraction:
    """The total variation ½ Σ|p − q| of two distributions, exact."""
    return sum((abs(a - b) for a, b in zip(p, q, strict=True)), Fraction(0)) / 2


def as_array(conditional: Sequence[Sequence[Fraction]]) -> Array:
    """A table of rational numbers in float64."""
    return np.array([[float(q) for q in row] for row in conditional])


def squared_distances(a: Array, b: Array) -> Array:
    """‖aᵢ − bⱼ‖₂² for a (N, d) and b (M, d), (N, M); exactly 0 where aᵢ = bⱼ."""
    pairs = zip(a.T, b.T, strict=True)
    return sum((np.subtract.outer(u, v) ** 2 for u, v in pairs), np.zeros((len(a), len(b))))
