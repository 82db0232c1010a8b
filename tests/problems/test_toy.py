"""The toy distributions against their own geometry, and the closed-form estimators on them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from stochrestore.errors import InputError
from stochrestore.estimators.closed_form import RingAvoidingHole, RingCrossingHole, Sine
from stochrestore.problems.toy import Disk, Ring, half_chord, triangle_wave

PROBLEMS = [Disk(), Ring(), Ring(outer=(2.0, 1.5), inner=(0.3, 1.0))]


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_samples_lie_in_the_support(problem, generator):
    x = problem.sample(5000, generator=generator)
    assert x.shape == (5000, 2)
    assert problem.contains(x).all()


def test_disk_samples_are_uniform(generator):
    x = Disk().sample(20_000, generator=generator)
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    assert stats.kstest(radius.square(), "uniform").pvalue > 1e-3
    assert stats.kstest((angle + math.pi) / (2 * math.pi), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_posterior_quantile_inverts_the_sampled_posterior(problem, generator):
    """Given y, X⁽²⁾ sampled by rejection and by the quantile function have one distribution."""
    x = problem.sample(20_000, generator=generator)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    drawn = problem.posterior_quantile(x[:, 0], u)
    assert problem.contains(torch.stack([x[:, 0], drawn], dim=1)).double().mean() > 0.999
    scale = half_chord(x[:, 0], *(problem.outer if isinstance(problem, Ring) else (1, 1)))
    assert stats.ks_2samp(drawn / scale, x[:, 1] / scale).pvalue > 1e-3


def test_input_quantile_inverts_the_distribution_of_y():
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)
    y = Disk().input_quantile(u)
    cdf = 0.5 + (y * half_chord(y) + y.asin()) / math.pi
    assert torch.allclose(cdf, u, atol=1e-14, rtol=0)


@pytest.mark.parametrize("ring", [Ring(), Ring((1.2, 0.5), (0.3, 0.45))])
def test_input_quantile_of_the_ring_inverts_the_area_between_its_chords(ring):
    u = torch.tensor([1e-4, 0.1, 0.3, 0.5, 0.75, 0.9999], dtype=torch.float64)
    a = ring.outer[0]

    def length(y):
        inner, outer = ring.bounds(torch.tensor([y], dtype=torch.float64))
        return 2 * (outer - inner).item()

    area = math.pi * (math.prod(ring.outer) - math.prod(ring.inner))
    for y, share in zip(ring.input_quantile(u).tolist(), u.tolist(), strict=True):
        edges = [p for p in (-ring.inner[0], ring.inner[0]) if -a < p < y]
        below, _ = quad(length, -a, y, points=edges, limit=200)
        assert below / area == pytest.approx(share, abs=1e-7)


@given(st.floats(-2, 2), st.floats(0.2, 2), st.floats(0.2, 2))
def test_half_chord_is_the_ellipse(y, a1, a2):
    value = half_chord(torch.tensor(y, dtype=torch.float64), a1, a2).item()
    if abs(y) >= a1:
        assert value == 0
    else:
        assert (y / a1) ** 2 + (value / a2) ** 2 == pytest.approx(1)


def test_half_chord_has_a_finite_gradient_beyond_the_edge():
    y = torch.tensor([-1.5, -1.0, 0.3, 1.0, 1.5], requires_grad=True)
    half_chord(y).sum().backward()
    assert y.grad.isfinite().all()
    assert y.grad[2].item() == pytest.approx(-0.3 / math.sqrt(1 - 0.09))


@given(st.floats(-10, 10))
def test_triangle_wave(t):
    value = triangle_wave(torch.tensor(t, dtype=torch.float64)).item()
    assert value == pytest.approx(math.acos(math.cos(2 * math.pi * t)) / math.pi, abs=1e-6)


@pytest.mark.parametrize(
    "estimator", [RingAvoidingHole(), RingCrossingHole(), Sine(50.0)], ids=repr
)
def test_deterministic_curves_are_continuous_and_stay_inside(estimator):
    ring = estimator.ring if hasattr(estimator, "ring") else None
    height = ring.outer[0] if ring else 1.0
    y = torch.linspace(-height, height, 400_001, dtype=torch.float64)[:, None]
    curve = estimator.curve(y)
    assert curve.diff(dim=0).abs().max() < 0.01
    bound = ring.bounds(y)[1] if ring else half_chord(y)
    assert (curve.abs() <= bound + 1e-12).all()


def test_avoiding_the_hole_overshoots_as_much_as_it_says():
    ring = Ring()
    y = torch.linspace(-0.4, 0.4, 10_001, dtype=torch.float64)[:, None]
    lowest = RingAvoidingHole(overshoot=0.2, ring=ring).curve(y) / ring.bounds(y)[0]
    assert lowest.min().item() == pytest.approx(0.8, abs=1e-2)
    assert (RingAvoidingHole(overshoot=0.0, ring=ring).curve(y) >= ring.bounds(y)[0] - 1e-12).all()


@pytest.mark.parametrize(
    ("outer", "inner"), [((1.0, 1.0), (1.0, 0.5)), ((1.0, 1.0), (0.5, 0.0)), ((1.0, 1.0), (0.2, 2))]
)
def test_ring_rejects_ill_ordered_axes(outer, inner):
    with pytest.raises(InputError, match="inner < outer"):
        Ring(outer=outer, inner=inner)


@pytest.mark.parametrize("problem", [Disk(), Ring()], ids=repr)
def test_sampling_nothing_is_an_error(problem, generator):
    with pytest.raises(InputError, match="n: got 0"):
        problem.sample(0, generator=generator)
