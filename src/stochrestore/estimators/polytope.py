r"""The set of all estimators of a finite problem: a polytope of matrices p(x̂ | y).

Each column is a distribution. Perfect consistency (Sec. 2.2) means p(x̂ | y) = 0 if D(x̂) ≠ y;
perfect perceptual quality (Eq. 1) means Σ_y p(x̂ | y) p_Y(y) = p_X(x̂). Both are linear. So
Theorem 3.1 can be checked exactly by elimination, and by linear programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from stochrestore.errors import require
from stochrestore.problems.finite import Conditional, FiniteProblem, as_array, squared_distances

Array = NDArray[np.float64]
Row = list[Fraction]


@dataclass(frozen=True)
class Polytope:
    """The estimators of a finite problem, with or without each hypothesis of Theorem 3.1.

    Args:
        problem: p_X and D.
        consistent: whether the polytope contains consistent estimators only.
        perfect: whether it contains only estimators with p_X̂ = p_X.
    """

    problem: FiniteProblem
    consistent: bool = True
    perfect: bool = True

    def equations(self) -> tuple[list[Row], Row]:
        """All equality constraints on the entries p(x̂ | y), in row-major order: (rows, rhs)."""
        n, m = self.shape
        entries = np.ones(self.shape, dtype=bool)
        if self.consistent:
            entries &= self.problem.consistent_entries
        if self.perfect:  # terms ≥ 0 that sum to p_X(x̂) = 0 are 0, one by one
            entries &= np.array(self.problem.mass)[:, None] > 0

        def row(entries: dict[tuple[int, int], Fraction]) -> Row:
            return [entries.get((i, j), Fraction(0)) for i in range(n) for j in range(m)]

        one = Fraction(1)
        rows = [row({(i, j): one for i in range(n)}) for j in range(m)]
        rhs = [one] * m
        if self.perfect:
            rows += [row({(i, j): p for j, p in enumerate(self.problem.p_y)}) for i in range(n)]
            rhs += list(self.problem.mass)
        forbidden = [(int(i), int(j)) for i, j in np.argwhere(~entries)]
        rows += [row({entry: one}) for entry in forbidden]
        return rows, rhs + [Fraction(0)] * len(forbidden)

    @cached_property
    def _echelon(self) -> tuple[list[Row], list[int]]:
        rows, rhs = self.equations()
        return row_echelon([[*row, b] for row, b in zip(rows, rhs, strict=True)])

    @cached_property
    def _floats(self) -> tuple[Array, Array]:
        rows, rhs = self.equations()
        return as_array(rows), as_array([rhs])[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m): points and inputs."""
        return len(self.problem.points), len(self.problem.inputs)

    def freedom(self) -> int:
        """The dimension of the polytope, from an exact rank; 0 if there is a single estimator."""
        n, m = self.shape
        _, pivots = self._echelon
        return n * m - len(pivots)

    def the_only_point(self) -> Conditional:
        """The only estimator that satisfies the equations, exactly.

        Raises:
            InputError: more than one estimator satisfies them.
        """
        free = self.freedom()
        require(free == 0, "Polytope.the_only_point: free dimensions", free, "0")
        rows, _ = self._echelon
        n, m = self.shape
        return tuple(tuple(row[-1] for row in rows[k : k + m]) for k in range(0, n * m, m))

    def ranges(self) -> tuple[Array, Array]:
        """The smallest and largest value of every p(x̂ | y), by linear programmes: two (n, m)."""
        n, m = self.shape
        unit = np.eye(n * m)
        smallest = [float(self._minimise(entry).fun) for entry in unit]
        largest = [-float(self._minimise(-entry).fun) for entry in unit]
        return np.reshape(smallest, self.shape), np.reshape(largest, self.shape)

    def minimiser(self, objective: Array) -> Array:
        """An estimator, (n, m), that minimises Σ objective·p(x̂ | y) for an objective (n, m)."""
        return np.reshape(self._minimise(objective.ravel()).x, self.shape)

    def _minimise(self, objective: Array) -> optimize.OptimizeResult:
        matrix, rhs = self._floats
        result = optimize.linprog(objective, A_eq=matrix, b_eq=rhs, method="highs")
        return _solved("Polytope", result)


def row_echelon(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Gauss–Jordan elimination over the rationals: the non-zero rows and their pivot columns."""
    rows = [list(row) for row in rows]
    pivots: list[int] = []
    for column in range(len(rows[0])):
        rank = len(pivots)
        pivot = next((k for k in range(rank, len(rows)) if rows[k][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        scale = rows[rank][column]
        rows[rank] = [v / scale if v else v for v in rows[rank]]
        for k, row in enumerate(rows):
            if k != rank and (factor := row[column]):
                rows[k] = [v - factor * u if u else v for v, u in zip(row, rows[rank], strict=True)]
        pivots.append(column)
    return rows[: len(pivots)], pivots


def squared_error(problem: FiniteProblem) -> Array:
    """The objective c for which Σ c·p(x̂ | y) is the MSE E‖X − X̂‖², (n, m).

    X and X̂ are independent given Y (Sec. 2), so the entry is p_Y(y)·E[‖X − x̂‖² | y].
    """
    distances = squared_distances(problem.coordinates, problem.coordinates)
    p_y = np.array([float(p) for p in problem.p_y])
    return distances @ as_array(problem.posterior) * p_y


def inconsistency(problem: FiniteProblem, estimator: Array) -> float:
    """P(D(X̂) ≠ Y) of an estimator (n, m); 0 if it is perfectly consistent (Sec. 2.2)."""
    p_y = np.array([float(p) for p in problem.p_y])
    return float((estimator * ~problem.consistent_entries).sum(0) @ p_y)


def least_total_variation(problem: FiniteProblem) -> Fraction:
    """The best perceptual index (Eq. 1, total variation) of a deterministic consistent estimator.

    Such an estimator picks one point x of each fibre and misplaces the mass p_Y(y) − p_X(x). So
    the best one is the MAP estimator, and its index is 1 − Σ_y max p_X(x), the error probability
    of the best guess of X from Y. It is 0 only if D is invertible on the support of p_X. This
    makes implication (i) of Theorem 3.1 quantitative.
    """
    best = [max(problem.mass[i] for i in problem.fibre(y)) for y in problem.inputs]
    return 1 - sum(best, Fraction(0))


@dataclass(frozen=True)
class BestDeterministic:
    """The choice and the W₂ of the deterministic consistent estimator of least W₂."""

    choice: tuple[int, ...]
    wasserstein: float


def least_wasserstein(problem: FiniteProblem) -> BestDeterministic:
    r"""The exact least W₂(p_X, p_X̂) of a deterministic consistent estimator (Eq. 1).

    It solves a mixed-integer programme over couplings π and choices b ∈ {0, 1}ⁿ of one point per
    fibre:

    .. math:: \min_{π ≥ 0, b} \; & Σ π_{ij} ‖x_i − x_j‖^2 \\
              \text{s.t.} \; & Σ_j π_{ij} = p_X(x_i),\; Σ_i π_{ij} = p_Y(D(x_j))\, b_j,\\
              & Σ_{j ∈ D^{-1}(y)} b_j = 1

    If b may be fractional, it is a consistent stochastic estimator, and the minimum is 0, which
    only the posterior attains (Theorem 3.1). So the gap of the relaxation is the price of
    determinism.
    """
    n, mass = len(problem.points), np.array([float(m) for m in problem.mass])
    p_y = dict(zip(problem.inputs, map(float, problem.p_y), strict=True))
    reach = np.array([p_y.get(y, 0.0) for y in problem.image])
    one = np.eye(n)
    sends = np.hstack([np.kron(one, np.ones(n)), np.zeros((n, n))])
    receives = np.hstack([np.kron(np.ones(n), one), -np.diag(reach)])
    fibres = problem.consistent_entries.T.astype(float)
    chooses = np.hstack([np.zeros((len(p_y), n * n)), fibres])
    equal = np.concatenate([mass, np.zeros(n), np.ones(len(p_y))])
    cost = squared_distances(problem.coordinates, problem.coordinates).ravel()
    result = optimize.milp(
        np.concatenate([cost, np.zeros(n)]),
        constraints=optimize.LinearConstraint(np.vstack([sends, receives, chooses]), equal, equal),
        integrality=np.concatenate([np.zeros(n * n), np.ones(n)]),
        bounds=optimize.Bounds(0, np.concatenate([np.full(n * n, np.inf), np.ones(n)])),
    )
    chosen = _solved("least_wasserstein", result).x[n * n :] > 0.5
    fibre_choice = [next(i for i in problem.fibre(y) if chosen[i]) for y in problem.inputs]
    return BestDeterministic(tuple(fibre_choice), float(np.sqrt(max(result.fun, 0.0))))


def _solved(where: str, result: optimize.OptimizeResult) -> optimize.OptimizeResult:
    require(result.status == 0, f"{where}: the solver's answer", result.message, "an optimum")
    return result
