"""Intervals for precision and recall, over the draw of both sets.

Precision and recall are shares of *points* that the balls around *centres* cover: for recall the
points are real and the centres fake, for precision the reverse. Such a share varies because other
points may be drawn, and because other centres may be drawn. The second part is often larger: a
few outliers among the centres can have balls that cover much of the space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy import special  # scipy.stats takes a second to import
from torch import Tensor

from stochrestore.errors import require
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import TAIL, check_repeats, share_interval

TILE = 2048
"""The number of points whose distances to all centres are computed together."""


@torch.no_grad()
def coverage_interval(
    points: Tensor,
    centres: Tensor,
    k: int,
    share: float,
    *,
    generator: torch.Generator,
    repeats: int = 200,
) -> Interval:
    r"""The 95 % interval of a precision or recall, at these numbers of points and centres.

    .. math:: \operatorname{Var} = \frac{p(1 − p)}{N} + V, \quad
        V = \operatorname{Var}^* − \frac{1}{N^2}\sum_i p_i(1 − p_i)

    p(1 − p)/N is the variance over points, given the balls. V is the variance over centres: Var*
    is the variance of the share over random halves of the centres, whose balls are computed anew.
    (A bootstrap would repeat centres, and balls around repeated centres are too small.) The sum
    removes from Var* what each point contributes by itself: it is covered in a share p_i of the
    halves. The interval is Clopper and Pearson's for the effective number p(1 − p)/Var of points,
    as Korn and Graubard (1998) use it for surveys. Student's t widens it where V depends on few
    balls: if ball j alone covers u_j points, V has 2(Σ u²)²/Σ u⁴ degrees of freedom.

    With N = M = 500 and k = 3, it covers the mean in 95 to 99 % of simulations in 2 and 8
    dimensions: equal Gaussians, shifted ones, with outliers, and collapsed to a plane. In less
    regular cases, as for a shift by 2.8 in 2 dimensions, it is 93 %.

    Args:
        points: the samples or features that may be covered, (N, d).
        centres: the samples or features whose balls cover, (M, d), M ≥ 2.
        k: the neighbour at whose distance a ball ends.
        share: the value, as :func:`~stochrestore.metrics.precision_recall.precision_recall` has it.
        generator: draws the subsets, on the CPU.
        repeats: the number of subsets.

    Raises:
        InputError: other shapes, fewer than 2 centres, or fewer than 40 repeats.
    """
    shapes = tuple(points.shape), tuple(centres.shape)
    fits = points.ndim == centres.ndim == 2 and points.shape[1] == centres.shape[1]
    allowed = "(N, d), (M, d), M ≥ 2"
    require(fits and len(centres) >= 2, "coverage_interval: shapes", shapes, allowed)
    check_repeats(repeats)
    balls = _Balls(points, centres, k)
    shares, covered = [], torch.zeros(len(points), device=points.device)
    for _ in range(repeats):
        kept = torch.zeros(len(centres), dtype=torch.bool)
        kept[torch.randperm(len(centres), generator=generator)[: len(centres) // 2]] = True
        inside = balls.cover(kept.to(points.device))
        shares.append(inside.double().mean())
        covered += inside
    each = covered.double() / repeats
    own = (each * (1 - each)).sum().item() / len(points) ** 2
    over_centres = max(torch.stack(shares).var().item() - own, 0.0)
    # Half a point more of each kind: a share of 0 or 1 may still depend on the centres.
    p = (share * len(points) + 0.5) / (len(points) + 1)
    over_points = p * (1 - p) / len(points)
    total = over_points + over_centres
    # Satterthwaite's degrees of freedom of the sum.
    parts = over_points**2 / len(points) + over_centres**2 / balls.degrees_of_freedom()
    t = special.stdtrit(max(total**2 / parts, 1.0), 1 - TAIL)
    widening = float(t / special.ndtri(1 - TAIL)) ** 2
    return share_interval(share, len(points) * over_points / total / widening)


class _Balls:
    """The pairs of a point and a centre where the point can be inside, whichever are kept.

    A point is inside a centre's ball if fewer than k of the kept centres are nearer to this centre
    than the point is. So each pair needs only the point's rank among the centre's neighbours.
    """

    def __init__(self, points: Tensor, centres: Tensor, k: int) -> None:
        middle = centres.mean(0)  # distances by products lose fewer digits around 0
        points, centres = points - middle, centres - middle
        self.k, self.shape = k, (len(points), len(centres))
        count = min(6 * k + 12, len(centres) - 1)  # half of so many are hardly ever fewer than k
        found = [
            torch.cdist(x, centres).topk(count + 1, largest=False) for x in centres.split(TILE)
        ]
        near = torch.cat([each.values for each in found])[:, 1:].contiguous()
        self.neighbours = torch.cat([each.indices for each in found])[:, 1:]
        pairs = []
        for start, part in zip(range(0, len(points), TILE), points.split(TILE), strict=True):
            distances = torch.cdist(part, centres)
            point, centre = (distances <= near[:, -1]).nonzero().T
            rank = torch.searchsorted(near[centre], distances[point, centre][:, None])[:, 0]
            pairs.append(torch.stack([point + start, centre, rank]))
        self.point, self.centre, self.rank = torch.cat(pairs, 1)

    def _inside(self, kept: Tensor) -> Tensor:
        """Whether the point of each pair is inside, if these centres are kept, (M,)."""
        nearer = F.pad(kept[self.neighbours].cumsum(1), (1, 0))
        return kept[self.centre] & (nearer[self.centre, self.rank] < self.k)

    def cover(self, kept: Tensor) -> Tensor:
        """Which points the balls of the kept centres cover, (N,)."""
        covered = kept.new_zeros(self.shape[0])
        covered[self.point[self._inside(kept)]] = True
        return covered

    def degrees_of_freedom(self) -> float:
        """2(Σ u²)²/Σ u⁴, where ball j is the only one to cover u_j points; M if all u_j are 0."""
        inside = self._inside(self.point.new_ones(self.shape[1], dtype=torch.bool))
        point, centre = self.point[inside], self.centre[inside]
        alone = point.bincount(minlength=self.shape[0])[point] == 1
        square = centre[alone].bincount(minlength=self.shape[1]).double().square()
        fourth = square.square().sum().item()
        return 2 * square.sum().item() ** 2 / fourth if fourth else float(self.shape[1])
