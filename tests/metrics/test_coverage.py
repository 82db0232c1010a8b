"""Intervals for precision and recall: how often they hold the mean, and what they are made of."""

import math
from itertools import product

import pytest
import torch

from stochrestore.errors import InputError
from stochrestore.metrics.coverage import _Balls, coverage_interval
from stochrestore.metrics.intervals import difference, share_interval
from stochrestore.metrics.precision_recall import knn_radii, precision_recall

K = 3


def equal(fake, generator):
    return fake


def shifted(fake, generator):
    return fake + 2 / fake.shape[1] ** 0.5


def with_outliers(fake, generator):
    far = torch.rand(len(fake), generator=generator) < 0.05
    return torch.where(far[:, None], 3 * fake, fake)


def narrow_with_outliers(fake, generator):
    far = torch.rand(len(fake), generator=generator) < 0.02
    return torch.where(far[:, None], 6 * fake, fake / 2)


def collapsed(fake, generator):
    """To a plane, or in two dimensions to a line."""
    kept = 2 if fake.shape[1] > 2 else 1
    return fake * (torch.arange(fake.shape[1]) < kept)


CASES = (equal, shifted, with_outliers, narrow_with_outliers, collapsed)


def sets(case, dims, n, generator):
    real, fake = torch.randn(2, n, dims, generator=generator)
    return real, case(fake, generator)


def intervals(case, dims, n, runs, generator):
    """Precision's and recall's intervals of several draws of both sets."""
    found = []
    for _ in range(runs):
        real, fake = sets(case, dims, n, generator)
        quality = precision_recall(real, fake, K)
        options = {"generator": generator, "repeats": 100}
        found.append(
            (
                coverage_interval(fake, real, K, quality.precision, **options),
                coverage_interval(real, fake, K, quality.recall, **options),
            )
        )
    return list(zip(*found, strict=True))


def rates(found):
    """The mean, the share of intervals that hold it, and of pairs whose difference excludes 0."""
    mean = math.fsum(interval.value for interval in found) / len(found)
    held = sum(interval.low <= mean <= interval.high for interval in found) / len(found)
    gaps = [difference(a, b) for a, b in zip(found[::2], found[1::2], strict=True)]
    return mean, held, sum(not gap.low <= 0 <= gap.high for gap in gaps) / len(gaps)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "dims"), list(product(CASES, (2, 8))))
def test_intervals_cover_the_mean(case, dims, generator):
    """Of 95 % intervals, at least 93 %, and at most 98 % where the mean is no extreme.

    The error of 800 runs is about a hundredth; where they come near the upper bound, 2400 decide.
    """
    found = intervals(case, dims, 500, 800, generator)
    if any(held > 0.97 and 0.1 <= mean <= 0.9 for mean, held, _ in map(rates, found)):
        more = intervals(case, dims, 500, 1600, generator)
        found = [few + many for few, many in zip(found, more, strict=True)]
    for name, one in zip(("precision", "recall"), found, strict=True):
        mean, held, apart = rates(one)
        print(f"{case.__name__}, {dims} dims, {name}, {len(one)} runs: {mean:.3f} {held:.4f}")
        assert held >= 0.93
        assert held <= 0.98 or not 0.1 <= mean <= 0.9
        assert apart <= 0.07


def test_the_interval_covers_where_the_binomial_one_does_not(generator):
    """Recall of shifted samples: the fake balls vary more than the real points in them."""
    _, found = intervals(shifted, 8, 200, 120, generator)
    mean, held, apart = rates(found)
    given_the_balls = [share_interval(interval.value, 200) for interval in found]
    assert sum(i.low <= mean <= i.high for i in given_the_balls) / len(found) < 0.85
    assert held >= 0.9
    assert apart <= 0.1


@pytest.mark.parametrize("dims", [2, 8])
def test_the_balls_are_those_of_precision_and_recall(dims, generator):
    real, fake = sets(narrow_with_outliers, dims, 150, generator)
    real, fake = real.double(), fake.double()
    kept = torch.rand(150, generator=generator) < 0.5
    for chosen in (kept, torch.ones_like(kept)):
        covered = _Balls(real, fake, K).cover(chosen)
        radii = knn_radii(fake[chosen], K)
        assert torch.equal(covered, (torch.cdist(real, fake[chosen]) <= radii).any(1))
    share = precision_recall(real, fake, K).recall
    assert covered.double().mean().item() == pytest.approx(share, abs=1e-12)


def test_tiles_do_not_matter(generator, monkeypatch):
    real, fake = sets(shifted, 3, 100, generator)
    again = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = coverage_interval(real, fake, K, 0.5, generator=again[0], repeats=40)
    monkeypatch.setattr("stochrestore.metrics.coverage.TILE", 17)
    assert coverage_interval(real, fake, K, 0.5, generator=again[1], repeats=40) == whole


def test_a_few_balls_that_cover_much_widen_the_interval(generator):
    """One centre among 100 has a ball that covers half of the points by itself."""
    points = torch.cat([torch.randn(50, 2, generator=generator), torch.full((50, 2), 30.0)])
    points[50:] += torch.randn(50, 2, generator=generator)
    centres = torch.randn(100, 2, generator=generator)
    usual = coverage_interval(points[:50], centres, K, 0.9, generator=generator)
    centres[0] = 25.0
    few = coverage_interval(points, centres, K, 0.9, generator=generator)
    assert few.value - few.low > 3 * (usual.value - usual.low)
    assert _Balls(points, centres, K).degrees_of_freedom() < 2.2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_none_or_all_has_the_binomial_interval(share, generator):
    """Points that no ball reaches, and points that large balls cover whichever are kept."""
    centres = torch.randn(60, 2, generator=generator)
    points = centres.mean(0).expand(500, 2) + (0 if share else 100)
    found = coverage_interval(points, centres, 20, share, generator=generator)
    assert (found.low, found.high) == pytest.approx(
        (share_interval(share, 500).low, share_interval(share, 500).high), abs=1e-4
    )


def test_two_samples_a_side_suffice(generator):
    found = coverage_interval(torch.randn(2, 2), torch.randn(2, 2), 1, 0.5, generator=generator)
    assert 0 <= found.low < 0.5 < found.high <= 1


@pytest.mark.parametrize(
    ("points", "centres", "repeats", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1), 40, r"shapes: got \(\(3, 2\), \(3, 1\)\)"),
        (torch.zeros(3, 2), torch.zeros(1, 2), 40, "M ≥ 2"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 39, "repeats: got 39"),
    ],
)
def test_bad_input_is_refused(points, centres, repeats, message, generator):
    with pytest.raises(InputError, match=message):
        coverage_interval(points, centres, 1, 0.5, generator=generator, repeats=repeats)
