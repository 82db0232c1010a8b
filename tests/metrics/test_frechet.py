"""The Fréchet distance against closed forms, the definition, its invariances, and piq."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from benchmarks.frechet import by_samples, by_sqrtm
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.metrics.frechet import Moments, frechet_distance, frechet_from_moments
from stochrestore.metrics.torchvision_ops import import_piq
from stochrestore.metrics.wasserstein import wasserstein_gaussian


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def whitened(n, dims, seed=0):
    """n samples of mean 0 and covariance exactly the identity."""
    x = normal(n, dims, seed=seed)
    q = torch.linalg.qr(x - x.mean(0)).Q
    return q * math.sqrt(n - 1)


def rotation(dims, seed=9):
    return torch.linalg.qr(normal(dims, dims, seed=seed)).Q


def test_in_one_dimension_means_and_deviations_differ():
    x = normal(50, 1)
    y = 3 * x + 2
    expected = (y.mean() - x.mean()) ** 2 + (y.std() - x.std()) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-12)


def test_commuting_covariances():
    """Same axes: the distance is ‖Δμ‖² + Σ (σᵢ − τᵢ)²."""
    axes = rotation(6)
    sigma, tau = torch.linspace(0.1, 3, 6).double(), torch.linspace(2, 0, 6).double()
    shift = normal(6, seed=3)
    real = (whitened(40, 6) * sigma) @ axes
    fake = (whitened(30, 6, seed=1) * tau) @ axes + shift
    expected = shift.square().sum() + (sigma - tau).square().sum()
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), rel=1e-12)


def test_the_squared_w2_distance_of_gaussians():
    real, fake = normal(200, 7) @ normal(7, 7, seed=1), 2 + normal(90, 7, seed=2)
    expected = wasserstein_gaussian(
        np.cov(real.T), np.cov(fake.T), real.mean(0).numpy(), fake.mean(0).numpy()
    )
    assert frechet_distance(real, fake) == pytest.approx(expected**2, rel=1e-9)


@pytest.mark.parametrize("dims", [1, 3, 60])
def test_scipy_s_square_root(dims):
    real, fake = normal(300, dims), 0.8 * normal(200, dims, seed=1) + 0.1
    a, b = np.cov(real.T).reshape(dims, dims), np.cov(fake.T).reshape(dims, dims)
    shift = (real.mean(0) - fake.mean(0)).square().sum().item()
    root = scipy.linalg.sqrtm(a @ b).real
    expected = shift + np.trace(a) + np.trace(b) - 2 * np.trace(root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert by_sqrtm(real, fake) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 30),
    m=st.integers(2, 30),
    dims=st.integers(1, 40),
    decay=st.sampled_from([0.0, 3.0, 15.0]),
    offset=st.sampled_from([0.0, 1e4]),
    repeated=st.booleans(),
)
def test_whatever_the_rank(n, m, dims, decay, offset, repeated):
    """Fewer samples than dimensions, repeated and constant features, features of any size."""
    scale = torch.linspace(0, -decay, dims, dtype=torch.float64).exp()
    real, fake = normal(n, dims, seed=n) * scale, 1.3 * normal(m, dims, seed=99 + m) * scale
    if repeated:
        real, fake = torch.cat([real, real], 1), torch.cat([fake, 2 * fake], 1)
        real[:, 0] = 0.5
    expected = by_samples(real, fake)
    distance = frechet_distance(real + offset, fake + offset)
    assert distance == pytest.approx(expected, rel=1e-9 if offset == 0 else 1e-8)


def test_a_small_distance_of_rank_deficient_sets_keeps_its_digits():
    real = normal(60, 200) * torch.linspace(0, -8, 200).exp()
    assert frechet_distance(real, 1.001 * real) == pytest.approx(
        by_samples(real, 1.001 * real), rel=1e-7
    )


@pytest.mark.parametrize("shape", [(100, 5), (20, 50)])
def test_a_set_is_at_no_distance_from_itself(shape):
    x = normal(*shape) @ normal(shape[1], shape[1], seed=1)
    spread = x.var(0).sum().item()
    assert frechet_distance(x, x) <= 1e-12 * spread
    assert frechet_distance(x, x.flip(0)) <= 1e-12 * spread


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(40, 6), (8, 20)]))
def test_symmetry_rigid_motions_and_scale(seed, shape):
    real, fake = normal(*shape, seed=seed), 0.5 * normal(*shape, seed=seed + 1) + 0.3
    distance = frechet_distance(real, fake)
    assert frechet_distance(fake, real) == pytest.approx(distance, rel=1e-10)
    turn = rotation(shape[1])
    assert frechet_distance(real @ turn - 7, fake @ turn - 7) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(3 * real, 3 * fake) == pytest.approx(9 * distance, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 50), max_size=5), offset=st.sampled_from([0.0, 1e6]))
def test_batches_of_any_size_gather_the_moments_of_the_whole(cuts, offset):
    x = normal(50, 4) + offset
    streamed = Moments(4)
    edges = [0, *sorted(cuts), 50]
    for start, stop in pairwise(edges):
        streamed.update(x[start:stop])
    assert streamed.count == 50
    assert np.allclose(streamed.mean, x.mean(0).numpy(), rtol=1e-13)
    assert np.allclose(streamed.covariance, np.cov(x.T), rtol=1e-9, atol=1e-9)


def test_merging_is_as_good_as_updating():
    x, parts = normal(70, 3) + 5, [Moments.of(part) for part in normal(70, 3).add(5).split(20)]
    whole = Moments(3)
    for part in parts:
        whole.merge(part)
    whole.merge(Moments(3))
    assert np.allclose(whole.covariance, np.cov(x.T), rtol=1e-12)
    assert frechet_from_moments(whole, Moments.of(x)) <= 1e-12


def test_the_features_may_be_a_view_in_single_precision():
    x = normal(30, 8, dtype=torch.float32)
    left, right = x[:, ::2], x.T.contiguous().T[:, 1::2]
    expected = frechet_distance(left.double().clone(), right.double().clone())
    assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-12)


def test_piq_s_number_is_its_own():
    real, fake = normal(80, 10), normal(90, 10, seed=1) + 0.2
    expected = import_piq().FID().compute_metric(real, fake).item()
    assert frechet_distance(real, fake, mode="piq") == expected
    assert expected == pytest.approx(frechet_distance(real, fake), rel=1e-3)


def test_piq_is_biased_high_where_sets_are_close():
    """The iteration stops before the trace of the root is reached: a large share of little."""
    real = normal(600, 128) * torch.linspace(0, -6, 128).exp()
    fake = 1.05 * real
    assert frechet_distance(real, fake, mode="piq") > 1.2 * frechet_distance(real, fake)


GOOD = normal(20, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real": GOOD[0]}, r"shape: got \(3,\)"),
        ({"real": GOOD[:1]}, r"samples: got 1; allowed: at least 2"),
        ({"fake": GOOD[:0]}, r"samples: got 0"),
        ({"fake": GOOD[:, :2]}, r"dims: got \(3, 2\); allowed: equal"),
        ({"fake": GOOD / 0}, r"NaN or infinity"),
        ({"real": torch.where(GOOD > 1, math.nan, GOOD)}, r"NaN or infinity"),
        ({"mode": "fast"}, r"mode: got 'fast'; allowed: 'exact' or 'piq'"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        frechet_distance(**{"real": GOOD, "fake": normal(20, 3, seed=1), **arguments})
    assert "\n" not in str(caught.value)


def test_batches_must_agree_in_their_dimensions():
    moments = Moments.of(GOOD)
    with pytest.raises(InputError, match=r"shape: got \(20, 2\); allowed: \(samples, 3\)"):
        moments.update(GOOD[:, :2])
    with pytest.raises(InputError, match="dims: got 0"):
        Moments(0)
