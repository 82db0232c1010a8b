"""Improved precision and recall (Kynkäänniemi et al., 2019), exact and in bounded memory.

Matrix products are fast but inexact: ‖a‖² + ‖b‖² − 2⟨a, b⟩ loses the small distances between
large vectors. Here they only *sieve*: tile by tile they give lower bounds of the squared
distances. Samples that these bounds do not decide go through a finer sieve in float64. The final
comparison always uses the differences a − b in float64, so the result is that of the definition,
also with ties and duplicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stochrestore.errors import require

Mode = Literal["exact", "piq"]

TILE = 2048
"""The number of rows and of columns of a block of distances."""

SPARE = 4
"""Candidates kept in addition to k, so that rounding rarely loses a neighbour."""

LARGEST = 1e15
"""The absolute values of samples must be smaller, so that squares stay finite in float32."""


class PrecisionRecall(NamedTuple):
    """The share of fake samples that are realistic, and of real ones that are covered."""

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

    Let r(x) be the distance from x to its k-th nearest neighbour in its own set without x. Then

    .. math::
        \text{precision} &= P_{\hat x}\big(∃x: ‖\hat x − x‖ ≤ r(x)\big), \\
        \text{recall} &= P_x\big(∃\hat x: ‖x − \hat x‖ ≤ r(\hat x)\big).

    In addition to the inputs, memory holds a few tiles and O(k) numbers per sample.

    Args:
        real: samples or their features, (N, d), float32 or float64.
        fake: (M, d), of the same dtype and on the same device.
        k: 1 ≤ k < min(N, M); 5 for the toy and 3 for images in the paper.
        mode: ``"exact"`` follows the definition above. ``"piq"`` gives the values of piq 0.8: its
            distances are rounded products, and its recall also counts x if some ‖x − x̂‖ is close
            to r(x).
        real_radii: ``knn_radii(real, k, mode=mode)``, (N,), if the caller has it already.
        tile: side of the blocks of distances; it affects speed and memory only.

    Raises:
        InputError: ill-shaped, non-finite or too few samples, or an unknown mode.
    """
    _check_options(mode, tile)
    _check_samples("precision_recall: real", real, k)
    _check_samples("precision_recall: fake", fake, k)
    _check_pair(real, fake)
    if real_radii is not None:
        _check_radii(real_radii, real)
    radii, covered = _METHODS[mode]
    if real_radii is None:
        real_radii = radii(real, k, tile)
    fake_radii = radii(fake, k, tile)
    fake_covered, real_covered = covered(real, real_radii, fake, fake_radii, tile)
    return PrecisionRecall(_share(fake_covered), _share(real_covered))


@torch.no_grad()
def knn_radii(x: Tensor, k: int, *, mode: Mode = "exact") -> Tensor:
    """The distance from each sample to its k-th nearest neighbour among the other samples.

    Args:
        x: samples, (N, d), float32 or float64.
        k: 1 ≤ k < N.
        mode: as in :func:`precision_recall`.

    Returns:
        (N,): float64, or x's dtype in mode ``"piq"``.

    Raises:
        InputError: ill-shaped, non-finite or too few samples, or an unknown mode.
    """
    _check_options(mode, TILE)
    _check_samples("knn_radii: x", x, k)
    radii, _ = _METHODS[mode]
    return radii(x, k, TILE)


class _Sieve:
    """Centred samples, whose matrix products give lower bounds of squared distances."""

    def __init__(self, x: Tensor, centre: Tensor, tile: int, *, fine: bool = False) -> None:
        dims = x.shape[1]
        # Few dimensions cost nothing; products below full precision would bound nothing.
        fine = fine or dims <= 64 or torch.get_float32_matmul_precision() != "highest"
        self.x = x
        self.dtype = torch.float64 if fine else x.dtype
        self.centre = centre.to(self.dtype)
        info = torch.finfo(self.dtype)
        keep, underflow = 1 - 8 * info.eps * math.sqrt(dims), dims * info.tiny
        squares = [self.points(rows).square_().sum(1) for rows in _slices(len(x), tile)]
        self.shrunk = keep * torch.cat(squares) - underflow

    def points(self, rows: slice) -> Tensor:
        """The centred samples of these rows, (n, d)."""
        return self.x[rows].to(self.dtype) - self.centre

    def bounds(self, rows: slice, other: _Sieve, columns: slice) -> Tensor:
        """(n, m): lower bounds of ‖xᵢ − yⱼ‖² = ‖xᵢ‖² + ‖yⱼ‖² − 2⟨xᵢ, yⱼ⟩.

        All rounding errors are proportional to ‖xᵢ‖² + ‖yⱼ‖²; shrinking these squares by more
        than that, 8 ε √d, leaves a bound.
        """
        left, right = self.points(rows).mul_(-2), other.points(columns)
        return _linear(left, right, other.shrunk[columns]).add_(self.shrunk[rows, None])


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x weightᵀ + bias: (n, d), (m, d), (m,) → (n, m), by oneDNN where it can.

    On AMD processors the products of torch's default, MKL, take twice the time of oneDNN's.
    """
    onednn = x.device.type == "cpu" and x.dtype == torch.float32
    if onednn and torch.backends.mkldnn.is_available():
        return F.linear(x.to_mkldnn(), weight, bias).to_dense()
    return F.linear(x, weight, bias)


@dataclass
class _Smallest:
    """The smallest values seen so far in each row, and where they were: both (N, count)."""

    values: Tensor
    where: Tensor

    @classmethod
    def of(cls, rows: int, count: int, like: Tensor) -> _Smallest:
        """A store that has seen nothing yet."""
        values = like.new_full((rows, count), math.inf)
        return cls(values, torch.zeros_like(values, dtype=torch.long))

    def see(self, rows: slice, columns: slice, block: Tensor) -> None:
        """Add a block of values, (rows, columns)."""
        count = self.values.shape[1]
        # Selection along strided rows is several times slower than a copy.
        values, where = block.contiguous().topk(min(count, block.shape[1]), largest=False)
        values = torch.cat([self.values[rows], values], 1)
        where = torch.cat([self.where[rows], where + columns.start], 1)
        self.values[rows], order = values.topk(count, largest=False)
        self.where[rows] = where.gather(1, order)


def _radii(x: Tensor, k: int, tile: int) -> Tensor:
    """Exact radii: the sieve finds candidates, whose true distances are then compared."""
    nearest = _neighbours(x, min(k + SPARE, len(x) - 1), tile)
    radii = _distances_to(x, x, nearest.where).kthvalue(k).values
    # Samples outside the candidates are at least as far as the last candidate's bound.
    sure = (radii == 0) | (radii.square() <= nearest.values[:, -1])
    for rows in _parts(~sure, tile):
        nearest = _search(x[rows], x, x.new_zeros(len(x)), k + 1 + SPARE, tile)
        # Here each sample is among its own neighbours, the nearest.
        radii[rows] = _distances_to(x[rows], x, nearest.where).kthvalue(k + 1).values
        for i in rows[radii[rows].square() > nearest.values[:, -1]].tolist():
            radii[i] = _distances(x[i], x).kthvalue(k + 1).values
    return radii


def _neighbours(x: Tensor, count: int, tile: int) -> _Smallest:
    """For each sample the ``count`` others with the smallest bounds; the matrix is symmetric."""
    sieve = _Sieve(x, x.mean(0), tile)
    nearest = _Smallest.of(len(x), count, sieve.shrunk)
    for rows, columns in combinations_with_replacement(_slices(len(x), tile), 2):
        bounds = sieve.bounds(rows, sieve, columns)
        if rows == columns:
            nearest.see(rows, columns, bounds.fill_diagonal_(math.inf))
        else:
            nearest.see(rows, columns, bounds)
            nearest.see(columns, rows, bounds.T)
    return nearest


def _search(queries: Tensor, x: Tensor, offsets: Tensor, count: int, tile: int) -> _Smallest:
    """For each query the ``count`` samples x of smallest bound − offset, by float64 products."""
    centre = x.mean(0)
    left, right = (_Sieve(points, centre, tile, fine=True) for points in (queries, x))
    found = _Smallest.of(len(queries), min(count, len(x)), left.shrunk)
    rows = slice(0, len(queries))
    for columns in _slices(len(x), tile):
        found.see(rows, columns, left.bounds(rows, right, columns) - offsets[columns])
    return found


def _covered(
    real: Tensor, real_radii: Tensor, fake: Tensor, fake_radii: Tensor, tile: int
) -> tuple[Tensor, Tensor]:
    """Whether each fake sample is in the ball of a real one, (M,), and the reverse, (N,)."""
    centre = real.mean(0)
    left, right = _Sieve(real, centre, tile), _Sieve(fake, centre, tile)
    left_balls = real_radii.square().to(left.dtype)
    right_balls = fake_radii.square().to(left.dtype)
    into_real = _Smallest.of(len(fake), 1, left_balls)
    into_fake = _Smallest.of(len(real), 1, left_balls)
    for rows, columns in product(_slices(len(real), tile), _slices(len(fake), tile)):
        bounds = left.bounds(rows, right, columns)
        into_real.see(columns, rows, (bounds - left_balls[rows, None]).T)
        into_fake.see(rows, columns, bounds.sub_(right_balls[columns]))
    fake_covered = _settle(fake, real, real_radii, into_real, tile)
    return fake_covered, _settle(real, fake, fake_radii, into_fake, tile)


def _settle(x: Tensor, centres: Tensor, radii: Tensor, deepest: _Smallest, tile: int) -> Tensor:
    """Whether each x is in some ball, by the true distances to the most promising balls."""

    def inside(rows: Tensor | slice, balls: Tensor) -> Tensor:
        return (_distances_to(x[rows], centres, balls) <= radii[balls]).any(1)

    covered = inside(slice(None), deepest.where[:, :1])
    possible = deepest.values[:, 0] <= 0
    for rows in _parts(~covered & possible, tile):
        finer = _search(x[rows], centres, radii.square(), 1 + SPARE, tile)
        covered[rows] = inside(rows, finer.where)
        # Balls outside the candidates are at least as far as the last candidate's bound.
        for i in rows[~covered[rows] & (finer.values[:, -1] <= 0)].tolist():
            covered[i] = (_distances(x[i], centres) <= radii).any()
    return covered


def _distances(point: Tensor, x: Tensor) -> Tensor:
    """‖x − point‖ in float64: (d,), (N, d) → (N,), by differences."""
    everywhere = torch.zeros_like(x[:, :1], dtype=torch.long)
    return _distances_to(x, point[None], everywhere)[:, 0]


def _distances_to(x: Tensor, y: Tensor, where: Tensor) -> Tensor:
    """‖xᵢ − y[whereᵢⱼ]‖ in float64: (N, d), (M, d), (N, c) → (N, c), by differences."""
    distances = torch.empty(where.shape, dtype=torch.float64, device=x.device)
    for rows in _slices(len(x), max(1, 2**20 // (x.shape[1] * where.shape[1]))):
        difference = y[where[rows]].double() - x[rows, None].double()
        distances[rows] = difference.square_().sum(-1).sqrt_()
    return distances


def _radii_piq(x: Tensor, k: int, tile: int) -> Tensor:
    """The (k + 1)-th smallest distance, including the distance 0 of a sample to itself."""
    nearest = _Smallest.of(len(x), k + 1, x)
    for rows, columns in product(_slices(len(x), tile), repeat=2):
        nearest.see(rows, columns, _distances_piq(x, rows, x, columns))
    return nearest.values[:, -1]


def _covered_piq(
    real: Tensor, real_radii: Tensor, fake: Tensor, fake_radii: Tensor, tile: int
) -> tuple[Tensor, Tensor]:
    """As :func:`_covered`, but recall, too, accepts distances close to the *real* radius."""
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
    """A block of distances, with products if torch would use them for the whole matrix."""
    products = max(len(x), len(y)) > 25
    how = "use_mm_for_euclid_dist" if products else "donot_use_mm_for_euclid_dist"
    return torch.cdist(x[rows], y[columns], compute_mode=how)


_METHODS = {"exact": (_radii, _covered), "piq": (_radii_piq, _covered_piq)}


def _slices(length: int, tile: int) -> list[slice]:
    return [slice(i, min(i + tile, length)) for i in range(0, length, tile)]


def _parts(flags: Tensor, tile: int) -> list[Tensor]:
    """The indices of the raised flags, at most ``tile`` at a time."""
    raised = flags.nonzero().flatten()
    return [raised[part] for part in _slices(len(raised), tile)]


def _share(flags: Tensor) -> float:
    return int(flags.sum()) / len(flags)


def _check_options(mode: str, tile: int) -> None:
    require(tile >= 1, "precision_recall: tile", tile, "an integer ≥ 1")
    require(mode in _METHODS, "precision_recall: mode", mode, "'exact' or 'piq'")


def _check_samples(where: str, x: Tensor, k: int) -> None:
    require(x.ndim == 2 and x.numel() > 0, f"{where}: shape", tuple(x.shape), "(samples, dims)")
    floats = (torch.float32, torch.float64)
    require(x.dtype in floats, f"{where}: dtype", x.dtype, "torch.float32 or torch.float64")
    low, high = x.aminmax(dim=1)
    bad = (~((low > -LARGEST) & (high < LARGEST))).nonzero().flatten().tolist()
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
    bad = radii[~((radii >= 0) & radii.isfinite())].tolist()
    require(not bad, f"{where}: values", bad[:1], "finite distances ≥ 0")
