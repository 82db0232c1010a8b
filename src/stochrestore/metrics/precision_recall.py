"""Improved precision and recall (Kynkäänniemi et al., 2019), exact and in bounded memory.

Matrix products are fast but round: ‖a‖² + ‖b‖² − 2⟨a, b⟩ loses the small distances between
large vectors. Here they only *sieve*: tile by tile they give lower bounds of the squared
distances. The few pairs that the bounds leave open are settled by the differences a − b in
float64, so every verdict is that of the definition, ties and duplicates included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from stochrestore.errors import require

Mode = Literal["exact", "piq"]

TILE = 2048
"""Rows and columns of a block of distances."""

SPARE = 4
"""Candidates kept beyond k, so that rounding rarely pushes a neighbour out of the sieve."""

LARGEST = 1e15
"""Samples must be smaller than this, so that squares stay finite in float32."""


class PrecisionRecall(NamedTuple):
    """How realistic the fake samples are, and how much of the real ones they cover."""

    precision: float
    recall: float


@torch.no_grad()
def precision_recall(
    real: Tensor,
    fake: Tensor,
    k: int,
    *,
    mode: Mode = "exact",
    real_radii: Tensor | None = None,
    tile: int = TILE,
) -> PrecisionRecall:
    r"""Precision and recall of ``fake`` with respect to ``real``.

    With r(x) the distance from x to its k-th nearest neighbour in its own set, x excluded,

    .. math::
        \text{precision} = P_{\hat x}\big(∃x: ‖\hat x − x‖ ≤ r(x)\big), \qquad
        \text{recall} = P_x\big(∃\hat x: ‖x − \hat x‖ ≤ r(\hat x)\big).

    Beyond the inputs, memory is a few tiles and O(k) numbers a sample.

    Args:
        real: samples or their features, (N, d), float32 or float64.
        fake: (M, d), of the same dtype and on the same device.
        k: 1 ≤ k < min(N, M); the paper takes 5 for the toy, 3 for images.
        mode: ``"exact"`` is the definition above; ``"piq"`` gives the numbers of piq 0.8,
            whose recall also counts x where some ‖x − x̂‖ is close to r(x), and whose
            distances are rounded products.
        real_radii: ``knn_radii(real, k, mode=mode)``, (N,), where the caller has it already.
        tile: side of the blocks of distances; a matter of speed and memory only.

    Raises:
        InputError: ill-shaped, non-finite or too few samples, or an unknown mode.
    """
    _check_mode(mode)
    _check_samples("precision_recall: real", real, k)
    _check_samples("precision_recall: fake", fake, k)
    _check_pair(real, fake)
    if real_radii is None:
        real_radii = knn_radii(real, k, mode=mode, tile=tile)
    else:
        _check_radii(real_radii, real)
    fake_radii = knn_radii(fake, k, mode=mode, tile=tile)
    cover = _covered if mode == "exact" else _covered_piq
    fake_covered, real_covered = cover(real, real_radii, fake, fake_radii, tile)
    return PrecisionRecall(_share(fake_covered), _share(real_covered))


@torch.no_grad()
def knn_radii(x: Tensor, k: int, *, mode: Mode = "exact", tile: int = TILE) -> Tensor:
    """Distance from each sample to its k-th nearest neighbour in the set, itself excluded.

    Args:
        x: samples, (N, d), float32 or float64.
        k: 1 ≤ k < N.
        mode: as in :func:`precision_recall`.
        tile: side of the blocks of distances.

    Returns:
        (N,): float64, or x's dtype in mode ``"piq"``.

    Raises:
        InputError: ill-shaped, non-finite or too few samples, or an unknown mode.
    """
    _check_mode(mode)
    _check_samples("knn_radii: x", x, k)
    return _radii_piq(x, k, tile) if mode == "piq" else _radii(x, k, tile)


class _Sieve:
    """Lower bounds of squared distances from matrix products of centred samples."""

    def __init__(self, x: Tensor, centre: Tensor) -> None:
        dims = x.shape[1]
        # Few dimensions cost nothing; products below full precision would bound nothing.
        cheap = dims <= 64 or torch.get_float32_matmul_precision() != "highest"
        self.x = x
        self.dtype = torch.float64 if cheap else x.dtype
        self.centre = centre.to(self.dtype)
        info = torch.finfo(self.dtype)
        self.keep = 1 - 8 * info.eps * math.sqrt(dims)
        self.underflow = dims * info.tiny

    def points(self, rows: slice) -> tuple[Tensor, Tensor]:
        """The centred samples a (n, d), and ‖a‖² (n,) shrunk by more than rounding adds."""
        a = self.x[rows].to(self.dtype) - self.centre
        return a, self.keep * a.square().sum(1) - self.underflow


def _lower_bounds(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """(n, m): bounds below ‖aᵢ − bⱼ‖², as ‖a‖²‖b‖² rounding errors are under ‖a‖² + ‖b‖²."""
    (left, left_norm), (right, right_norm) = a, b
    return torch.addmm(right_norm, left, right.T, alpha=-2).add_(left_norm[:, None])


@dataclass
class _Smallest:
    """The smallest values seen so far in each row, and where they were: both (N, count)."""

    values: Tensor
    where: Tensor

    @classmethod
    def of(cls, rows: int, count: int, like: Tensor) -> _Smallest:
        """Nothing seen yet."""
        values = like.new_full((rows, count), math.inf)
        return cls(values, torch.zeros_like(values, dtype=torch.long))

    def see(self, rows: slice, columns: slice, block: Tensor) -> None:
        """Take in a block of values, (rows, columns)."""
        count = self.values.shape[1]
        # Selection along strided rows is several times slower than a copy.
        values, where = block.contiguous().topk(min(count, block.shape[1]), largest=False)
        values = torch.cat([self.values[rows], values], 1)
        where = torch.cat([self.where[rows], where + columns.start], 1)
        self.values[rows], order = values.topk(count, largest=False)
        self.where[rows] = where.gather(1, order)


def _radii(x: Tensor, k: int, tile: int) -> Tensor:
    """Exact radii: candidates by the sieve, then their true distances."""
    sieve = _Sieve(x, x.mean(0))
    count = min(k + SPARE, len(x) - 1)
    nearest = _Smallest.of(len(x), count, x.new_empty(0, dtype=sieve.dtype))
    for rows, columns in combinations_with_replacement(_slices(len(x), tile), 2):
        bounds = _lower_bounds(sieve.points(rows), sieve.points(columns))
        if rows == columns:
            nearest.see(rows, columns, bounds.fill_diagonal_(math.inf))
        else:  # the matrix is symmetric
            nearest.see(rows, columns, bounds)
            nearest.see(columns, rows, bounds.T)
    radii = _distances_to(x, x, nearest.where).kthvalue(k).values
    # Samples outside the candidates are at least as far as the last candidate's bound.
    sure = (radii == 0) | (radii.square() <= nearest.values[:, -1]) | (count == len(x) - 1)
    for i in (~sure).nonzero().flatten().tolist():
        radii[i] = _distances(x[i], x).kthvalue(k + 1).values  # the smallest is itself, 0
    return radii


def _covered(
    real: Tensor, real_radii: Tensor, fake: Tensor, fake_radii: Tensor, tile: int
) -> tuple[Tensor, Tensor]:
    """Which fake samples lie in a real one's ball, (M,), and the other way round, (N,)."""
    centre = real.mean(0)
    left, right = _Sieve(real, centre), _Sieve(fake, centre)
    left_balls = real_radii.square().to(left.dtype)
    right_balls = fake_radii.square().to(left.dtype)
    into_real = _Smallest.of(len(fake), 1, left_balls)
    into_fake = _Smallest.of(len(real), 1, left_balls)
    for rows, columns in product(_slices(len(real), tile), _slices(len(fake), tile)):
        bounds = _lower_bounds(left.points(rows), right.points(columns))
        into_real.see(columns, rows, (bounds - left_balls[rows, None]).T)
        into_fake.see(rows, columns, bounds.sub_(right_balls[columns]))
    return _settle(fake, real, real_radii, into_real), _settle(real, fake, fake_radii, into_fake)


def _settle(x: Tensor, centres: Tensor, radii: Tensor, deepest: _Smallest) -> Tensor:
    """Whether each x is in some ball: the one the sieve found deepest is tried first."""
    margin, ball = deepest.values[:, 0], deepest.where
    covered = (_distances_to(x, centres, ball) <= radii[ball])[:, 0]
    for i in (~covered & ~(margin > 0)).nonzero().flatten().tolist():
        covered[i] = (_distances(x[i], centres) <= radii).any()
    return covered


def _distances(point: Tensor, x: Tensor) -> Tensor:
    """‖x − point‖ in float64: (d,), (N, d) → (N,), by differences."""
    everywhere = torch.zeros_like(x[:, :1], dtype=torch.long)
    return _distances_to(x, point[None], everywhere)[:, 0]


def _distances_to(x: Tensor, y: Tensor, where: Tensor) -> Tensor:
    """‖xᵢ − y[whereᵢⱼ]‖ in float64: (N, d), (M, d), (N, c) → (N, c), by differences."""
    size = max(1, TILE**2 // (x.shape[1] * where.shape[1]))
    chunks = (y[where[rows]].double() - x[rows, None].double() for rows in _slices(len(x), size))
    return torch.cat([chunk.square_().sum(-1).sqrt() for chunk in chunks])


def _radii_piq(x: Tensor, k: int, tile: int) -> Tensor:
    """The (k + 1)-th smallest distance, the one to itself included."""
    nearest = _Smallest.of(len(x), k + 1, x)
    for rows, columns in product(_slices(len(x), tile), repeat=2):
        nearest.see(rows, columns, _distances_piq(x, rows, x, columns))
    return nearest.values[:, -1]


def _covered_piq(
    real: Tensor, real_radii: Tensor, fake: Tensor, fake_radii: Tensor, tile: int
) -> tuple[Tensor, Tensor]:
    """As :func:`_covered`; recall, too, accepts what is close to the *real* radius."""
    fake_covered = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    real_covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, columns in product(_slices(len(real), tile), _slices(len(fake), tile)):
        distances = _distances_piq(real, rows, fake, columns)
        balls = real_radii[rows, None].to(distances.dtype)
        close = torch.isclose(distances, balls)
        fake_covered[columns] |= (close | (distances < balls)).any(0)
        real_covered[rows] |= (close | (distances < fake_radii[columns])).any(1)
    return fake_covered, real_covered


def _distances_piq(x: Tensor, rows: slice, y: Tensor, columns: slice) -> Tensor:
    """A block of the distances; torch switches to products by the size of the whole."""
    products = max(len(x), len(y)) > 25
    how = "use_mm_for_euclid_dist" if products else "donot_use_mm_for_euclid_dist"
    return torch.cdist(x[rows], y[columns], compute_mode=how)


def _slices(length: int, tile: int) -> list[slice]:
    return [slice(i, min(i + tile, length)) for i in range(0, length, tile)]


def _share(flags: Tensor) -> float:
    return int(flags.sum()) / len(flags)


def _check_mode(mode: str) -> None:
    require(mode in ("exact", "piq"), "precision_recall: mode", mode, "'exact' or 'piq'")


def _check_samples(where: str, x: Tensor, k: int) -> None:
    require(x.ndim == 2 and x.shape[1] > 0, f"{where}: shape", tuple(x.shape), "(samples, dims)")
    floats = (torch.float32, torch.float64)
    require(x.dtype in floats, f"{where}: dtype", x.dtype, "torch.float32 or torch.float64")
    bad = (~(x.abs() < LARGEST).all(1)).nonzero().flatten().tolist()
    require(not bad, f"{where}: rows with NaN, infinity or ≥ {LARGEST:g}", bad[:5], "none")
    whole = isinstance(k, int) and not isinstance(k, bool)
    require(whole and 1 <= k < len(x), f"{where}: k", k, f"an integer, 1 ≤ k < N = {len(x)}")


def _check_pair(real: Tensor, fake: Tensor) -> None:
    def kind(x: Tensor) -> tuple[int, torch.dtype, torch.device]:
        return x.shape[1], x.dtype, x.device

    where = "precision_recall: dims, dtype, device of fake"
    require(kind(real) == kind(fake), where, kind(fake), f"those of real, {kind(real)}")


def _check_radii(radii: Tensor, real: Tensor) -> None:
    where = "precision_recall: real_radii"
    require(radii.shape == real.shape[:1], f"{where}: shape", tuple(radii.shape), f"({len(real)},)")
    valid = bool(((radii >= 0) & radii.isfinite()).all())
    require(valid, f"{where}: values", radii.min().item(), "finite distances ≥ 0")
