"""Intervals against closed forms, coverage, and what resampling does to each measurement."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stochrestore.errors import InputError
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import (
    difference,
    frechet_interval,
    mean_interval,
    share_interval,
    student_interval,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def ordered(interval):
    return interval.low <= interval.value <= interval.high


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
def test_the_interval_over_seeds_is_students(values):
    measured = student_interval(values)
    assert measured.value == pytest.approx(sum(values) / len(values), abs=1e-9)
    error = stats.sem(values)
    if error > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=measured.value, scale=error)
        assert (measured.low, measured.high) == pytest.approx((low, high))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_one_run_has_no_spread(values):
    with pytest.raises(InputError, match=r"number of runs: got .*at least 2"):
        student_interval(values)


@pytest.mark.parametrize("bounds", [(1, 2, 3), (3, 1, 2), (math.nan, 0, 1)])
def test_an_interval_holds_its_value(bounds):
    with pytest.raises(InputError, match="low ≤ value ≤ high"):
        Interval(*bounds)


def test_student_s_interval_of_three_values_of_equal_ones_and_of_infinite_ones():
    interval = student_interval([1.0, 2.0, 3.0])
    assert interval.value == 2.0
    assert interval.high - 2.0 == pytest.approx(4.302652729911275 / 3**0.5)
    assert student_interval([0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert student_interval([float("inf")] * 2).value == float("inf")


def test_a_mean_s_interval_is_its_standard_error(generator):
    values = normal(500) * 3 + 20
    found = mean_interval(values, generator=generator)
    half = 1.96 * values.std(unbiased=False).item() / math.sqrt(500)
    assert found.value == pytest.approx(values.mean().item(), rel=1e-12)
    assert found.low == pytest.approx(found.value - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.1 * half)


def test_a_mean_s_interval_follows_the_skew(generator):
    found = mean_interval(normal(60).mul(1.5).exp(), generator=generator)
    assert found.high - found.value > 1.15 * (found.value - found.low)


def test_19_intervals_of_20_hold_the_mean(generator):
    draws = torch.randn(400, 60, generator=generator)
    found = [mean_interval(row, generator=generator, repeats=200) for row in draws]
    hits = sum(interval.low <= 0 <= interval.high for interval in found)
    assert 0.90 <= hits / 400 <= 0.98


def test_blocks_of_memory_do_not_matter(generator, monkeypatch):
    values = normal(30)
    whole = mean_interval(values, generator=torch.Generator().manual_seed(1), repeats=100)
    monkeypatch.setattr("stochrestore.metrics.intervals._BLOCK", 90)
    assert mean_interval(values, generator=generator.manual_seed(1), repeats=100) == whole


def test_one_value_has_an_interval_of_no_width(generator):
    assert mean_interval(torch.tensor([2.0]), generator=generator) == Interval.exact(2)


@settings(max_examples=30)
@given(st.integers(1, 400), st.data())
def test_a_share_s_interval_is_scipy_s(n, data):
    hits = data.draw(st.integers(0, n))
    found = share_interval(hits / n, n)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert ordered(found)
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_a_share_is_what_resampling_gives(generator):
    """The binomial percentiles are those of resampled indicators."""
    inside = torch.rand(800, generator=generator) < 0.3
    resampled = mean_interval(inside.double(), generator=generator)
    found = share_interval(inside.double().mean().item(), 800)
    assert found.low == pytest.approx(resampled.low, abs=0.005)
    assert found.high == pytest.approx(resampled.high, abs=0.005)


def test_a_recall_of_nothing_is_not_certain():
    assert share_interval(0.0, 1000).high == pytest.approx(0.00368, abs=1e-5)
    assert share_interval(1.0, 1000).low == pytest.approx(1 - 0.00368, abs=1e-5)


def test_fresh_sets_vary_as_the_distance_s_interval_says(generator):
    def draw(seed):
        return normal(300, 4, seed=2 * seed), 1.2 * normal(250, 4, seed=2 * seed + 1) + 0.3

    fresh = torch.tensor([frechet_distance(*draw(seed)) for seed in range(200)])
    found = frechet_interval(*draw(500), generator=generator)
    assert ordered(found)
    assert (found.high - found.low) / (4 * fresh.std().item()) == pytest.approx(1, abs=0.25)
    assert found.value == frechet_distance(*draw(500))


def test_resampled_sets_seem_further_apart_and_the_interval_does_not(generator):
    """Few samples in many dimensions: every replicate is above the value."""
    real, fake = normal(60, 20), normal(60, 20, seed=1)
    found = frechet_interval(real, fake, generator=generator, repeats=100)
    rows = torch.randint(60, (60,), generator=generator)
    assert frechet_distance(real[rows], fake[rows.flip(0)]) > found.high
    assert found.low < found.value < found.high


def test_the_distance_of_a_set_from_itself_is_not_negative(generator):
    x = normal(50, 2)
    assert frechet_interval(x, x, generator=generator, repeats=40).low >= 0


def test_difference_of_independent_means(generator):
    a, b = normal(400) + 5, 2 * normal(300, seed=1)
    found = difference(
        *(mean_interval(values, generator=generator, repeats=4000) for values in (a, b))
    )
    half = 1.96 * math.sqrt(1 / 400 + 4 / 300)
    assert found.value == pytest.approx((a.mean() - b.mean()).item())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_difference_looks_to_the_right_sides():
    assert difference(Interval(1, 1, 4), Interval(0, -4, 0)) == Interval(1, 1, 6)
    assert difference(Interval(1, -2, 1), Interval(0, 0, 4)) == Interval(1, -4, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: mean_interval(normal(3, 2), generator=g), r"shape: got \(3, 2\)"),
        (lambda g: mean_interval(normal(0), generator=g), r"shape: got \(0,\)"),
        (lambda g: mean_interval(normal(3) / 0, generator=g), "NaN or infinity: got 3"),
        (lambda g: mean_interval(normal(3), generator=g, repeats=39), "repeats: got 39"),
        (lambda g: frechet_interval(normal(3, 2), normal(3, 2), generator=g, repeats=1), "repeats"),
        (lambda g: share_interval(0.5, 0), "n: got 0"),
        (lambda g: share_interval(1.1, 10), r"share: got 1\.1"),
        (lambda g: share_interval(math.nan, 10), "share: got nan"),
    ],
)
def test_bad_input_is_refused(call, message, generator):
    with pytest.raises(InputError, match=message):
        call(generator)


def test_an_interval_of_a_share_is_cut_where_shares_end():
    """Of recalls of 0.98, 1 and 1 it reached above 1."""
    values = [0.98, 1.0, 1.0]
    assert student_interval(values).high > 1
    cut = student_interval(values, within=(0, 1))
    assert (cut.high, cut.low) == (1, student_interval(values).low)
    assert student_interval([0.0, 0.0, 0.02], within=(0, 1)).low == 0
