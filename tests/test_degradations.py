"""Averaging against its definition, any linear filter against dense algebra; both consistent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.degradations import Averaging, LinearDegradation
from stochrestore.errors import InputError
from stochrestore.metrics.psnr import psnr
from stochrestore.networks.unet import UNet

CONSISTENT = 100  # dB, in float32


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian(sigma, radius=3):
    g = torch.exp(-torch.arange(-radius, radius + 1.0).square() / (2 * sigma**2))
    return torch.outer(g, g) / g.sum() ** 2


def box(scale):
    return torch.full((scale, scale), 1 / scale**2)


averagings = given(
    st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99)
)


@averagings
def test_averaging_is_the_mean_of_each_block(scale, rows, columns, channels, seed):
    x = rand(2, channels, scale * rows, scale * columns, seed=seed)
    y = Averaging(scale).degrade(x)
    assert y.shape == (2, channels, rows, columns)
    for i in range(rows):
        for j in range(columns):
            block = x[..., scale * i : scale * (i + 1), scale * j : scale * (j + 1)]
            assert torch.allclose(y[..., i, j], block.mean((-2, -1)), atol=1e-6)


@averagings
def test_averaging_s_projection_is_consistent_and_the_nearest(scale, rows, columns, channels, seed):
    """Also for a y that was attacked; what is projected stays; and no shorter way leads there."""
    averaging = Averaging(scale)
    x = 3 * rand(2, channels, scale * rows, scale * columns, seed=seed) - 1
    y = rand(2, channels, rows, columns, seed=seed + 1)
    y = y + 0.3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    found = averaging.project(x, y)
    assert (psnr(averaging.degrade(found), y) >= CONSISTENT).all()
    assert (psnr(averaging.project(found, y), found) >= CONSISTENT).all()
    move = (found - x).unflatten(-1, (columns, scale)).unflatten(-3, (rows, scale))
    assert torch.allclose(move, move[..., :1, :, :1].expand_as(move), atol=1e-6)  # in A's row space


def test_averaging_lifts_by_repeating_pixels():
    y = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    rows = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert torch.equal(Averaging(2).lift(y), torch.tensor([rows]).float())
    assert torch.equal(Averaging(2).degrade(Averaging(2).lift(y)), y)


@pytest.mark.parametrize("sides", [(9, 8), (8, 9), (2, 8)])
def test_averaging_needs_sides_that_the_scale_divides(sides):
    with pytest.raises(InputError) as caught:
        Averaging(4).degrade(rand(1, 3, *sides))
    assert str(sides) in str(caught.value)
    assert "multiples of 4" in str(caught.value)
    with pytest.raises(InputError, match=r"Averaging\.scale: got 0"):
        Averaging(0)


@given(st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 4), st.integers(0, 99))
def test_a_box_is_averaging(scale, channels, seed):
    averaging, linear = Averaging(scale), LinearDegradation(box(scale), scale, 16)
    x = rand(2, channels, 16, 16, seed=seed)
    y = rand(2, channels, 16 // scale, 16 // scale, seed=seed + 1)
    for name, images in (("degrade", (x,)), ("lift", (y,)), ("project", (x, y))):
        found, wanted = (getattr(d, name)(*images) for d in (linear, averaging))
        assert torch.allclose(found, wanted, atol=1e-5), name
    assert linear.rank == (16 // scale) ** 2


def dense(kernel, stride, size):
    """A by its definition, pixel by pixel: (outputs, pixels), float64."""
    side = size // stride
    a = torch.zeros(side, side, size, size, dtype=torch.float64)
    top, left = ((extent - stride) // 2 for extent in kernel.shape)
    for p in range(side):
        for q in range(side):
            for i, row in enumerate(kernel.tolist()):
                for j, value in enumerate(row):
                    u, v = stride * p + i - top, stride * q + j - left
                    a[p, q, u % size, v % size] += value
    return a.flatten(2).flatten(0, 1)


def assert_is_dense(degradation, a, threshold):
    """All three functions, for three channels, against A and its pseudo-inverse."""
    size, side = degradation.size, degradation.size // degradation.stride
    inverse = torch.linalg.pinv(a, rtol=threshold)
    x = rand(2, 3, size, size, dtype=torch.float64)
    y = rand(2, 3, side, side, seed=1, dtype=torch.float64)
    kept = a @ inverse  # the projection on what the removal of frequencies leaves of A's range
    flat_x, flat_y = x.flatten(2), y.flatten(2)
    wanted = {
        "degrade": flat_x @ a.T @ kept.T,
        "lift": flat_y @ inverse.T,
        "project": flat_x - (flat_x @ a.T - flat_y) @ inverse.T,
    }
    for name, images in (("degrade", (x,)), ("lift", (y,)), ("project", (x, y))):
        found = getattr(degradation, name)(*images).flatten(2)
        assert torch.allclose(found, wanted[name], atol=1e-8), name


@settings(max_examples=40)
@given(
    st.sampled_from([(1, 4), (2, 4), (1, 5), (4, 4), (3, 6), (2, 8)]),
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 999),
)  # fmt: skip
def test_any_kernel_and_stride_against_dense_algebra(sides, height, width, seed):
    """Kernels that are not symmetric, not square, not normalised, negative in part."""
    (stride, size), generator = sides, torch.Generator().manual_seed(seed)
    kernel = torch.randn(height, width, generator=generator, dtype=torch.float64)
    degradation = LinearDegradation(kernel, stride, size, threshold=1e-6)
    assert_is_dense(degradation, dense(kernel, stride, size), 1e-6)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_gaussian_blur_against_dense_algebra(stride):
    kernel, threshold = gaussian(1.5), 1e-2
    degradation = LinearDegradation(kernel, stride, 8, threshold=threshold)
    a = dense(kernel, stride, 8)
    assert_is_dense(degradation, a, threshold)
    singular = torch.linalg.svdvals(a)
    assert degradation.rank == int((singular >= threshold * singular[0]).sum())
    assert (degradation.rank < len(a)) == (stride < 4)


@given(
    st.sampled_from([1, 2, 4]), st.sampled_from([0.6, 1.0, 1.5, 2.5]),
    st.sampled_from([16, 32]), st.integers(0, 99),
)  # fmt: skip
def test_blur_is_consistent_in_float32_also_when_attacked(stride, sigma, size, seed):
    """For whatever A can give: y + δ is one of these once its removed frequencies are out."""
    degradation = LinearDegradation(gaussian(sigma), stride, size)
    x, other = (rand(2, 3, size, size, seed=seed + i) for i in range(2))
    y = degradation.degrade(other)
    delta = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)) / 20
    attacked = y + degradation.degrade(degradation.lift(delta))
    for given_y in (y, attacked):
        found = degradation.project(x, given_y)
        assert (psnr(degradation.degrade(found), given_y) >= CONSISTENT).all()
        assert (psnr(degradation.project(found, given_y), found) >= CONSISTENT).all()
    assert torch.allclose(degradation.project(other, y), other, atol=1e-5)


def test_the_threshold_bounds_what_a_perturbation_does():
    delta = torch.randn(50, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ratios, ranks = [], []
    for threshold in (1e-1, 1e-2, 1e-3):
        degradation = LinearDegradation(gaussian(1.5, 6), 1, 32, threshold=threshold)
        ratios.append((degradation.lift(delta).norm() / delta.norm() * threshold).item())
        ranks.append(degradation.rank)
    assert all(0.05 < ratio <= 1 for ratio in ratios)
    assert ranks[0] < ranks[1] < ranks[2] < 32 * 32


def test_gradients_reach_x_and_y():
    degradation = LinearDegradation(gaussian(1.0, 1), 2, 4)
    x = rand(1, 1, 4, 4, dtype=torch.float64).requires_grad_(True)
    y = rand(1, 1, 2, 2, seed=1, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(degradation.project, (x, y))


def test_the_u_net_takes_the_blur_of_the_docstring():
    g = torch.exp(-torch.arange(-6.0, 7.0).square() / (2 * 1.5**2))
    degradation = LinearDegradation(torch.outer(g, g) / g.sum() ** 2, stride=4, size=32)
    estimator = UNet(degradation, 32, 4, stochastic=True).eval()
    y = degradation.degrade(rand(2, 3, 32, 32))
    z = estimator.seed(y, 1, generator=torch.Generator().manual_seed(0))[0]
    with torch.no_grad():
        restored = estimator(y, z)
    assert restored.shape == (2, 3, 32, 32)
    assert (psnr(degradation.degrade(restored), y) >= CONSISTENT).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "options", "message"),
    [
        (torch.ones(3), 1, {}, r"shape of the kernel: got \(3,\); allowed: \(h, w\), each from 1"),
        (torch.ones(2, 9), 1, {}, r"shape of the kernel: got \(2, 9\).*to 8"),
        (torch.ones(0, 3), 1, {}, r"shape of the kernel: got \(0, 3\)"),
        (torch.zeros(2, 2), 1, {}, "kernel: got .*not all of them 0"),
        (torch.full((1, 1), torch.nan), 1, {}, "kernel: got .*finite numbers"),
        (torch.ones(3, 3), 3, {}, "stride: got 3; allowed: a divisor of the size, 8"),
        (torch.ones(3, 3), 0, {}, "stride: got 0"),
        (torch.ones(3, 3), 2, {"threshold": 1.0}, "threshold: got 1.0; allowed: between 0 and 1"),
        (torch.ones(3, 3), 2, {"threshold": 0.0}, "threshold: got 0.0"),
    ],
)
def test_unusable_filters_are_refused(kernel, stride, options, message):
    with pytest.raises(InputError, match=message):
        LinearDegradation(kernel, stride, 8, **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"sides of the image: got \(8, 16\); allowed: 8×8"):
        LinearDegradation(box(2), 2, 8).degrade(rand(1, 3, 8, 16))
