"""Samplers of Gaussian data, where the exact velocity is linear and all noises add up."""

import math
import types
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.estimators import samplers

F64 = {"dtype": torch.float64}
DATA = [(0.0, 1.0), (0.7, 0.5), (-1.0, 2.0)]
"""Means and standard deviations."""


def flow_velocity(mean, std):
    """v of rectified flow from N(0, 1) to N(μ, σ²).

    u_t = (1−t)z + tu has variance S = (1−t)² + t²σ² and Cov(u − z, u_t) = tσ² − (1−t), so
    v = E[u − z | u_t] = μ + (tσ² − (1−t))/S·(u_t − tμ).
    """

    def velocity(u, t):
        variance = (1 - t) ** 2 + (t * std) ** 2
        return mean + (t * std**2 - (1 - t)) / variance * (u - t * mean)

    return velocity


def diffusion_v(mean, covariance):
    """v of a diffusion of N(μ, Σ).

    u_φ = cos φ·u₀ + sin φ·n has covariance C = cos²φ Σ + sin²φ I, so with w = C⁻¹(u_φ − cos φ·μ),
    E[u₀|u_φ] = μ + cos φ·Σw, E[n|u_φ] = sin φ·w, and v = cos φ·E[n|u_φ] − sin φ·E[u₀|u_φ].
    """
    mean, covariance = (torch.as_tensor(each, **F64) for each in (mean, covariance))

    def predict(u, angle):
        cos, sin = math.cos(angle), math.sin(angle)
        noisy = cos**2 * covariance + sin**2 * torch.eye(len(covariance), **F64)
        w = torch.linalg.solve(noisy, (u - cos * mean).T).T
        return cos * sin * w - sin * (mean + cos * w @ covariance)

    return predict


def one_number(mean, std):
    return diffusion_v([mean], [[std**2]])


def knows(data):
    """v of a network that knows u₀: cos φ·u_φ − sin φ·v = u₀."""
    return lambda u, angle: (math.cos(angle) * u - data) / math.sin(angle)


def recorded(predict, angles):
    """Also keeps the points that it is asked at, by angle."""

    def ask(u, angle):
        angles[angle] = u
        return predict(u, angle)

    return ask


def unit_noises(steps, dims=1):
    """(steps, N, dims): every number of the noise is 1 in one row; in the last row, none is."""
    n = steps * dims
    return torch.eye(n + 1, n, **F64).unflatten(1, (steps, dims)).movedim(1, 0)


def moments(u):
    """Mean and variance of what is linear in its noises, from its values at the unit noises."""
    gains = u[:-1] - u[-1]
    return u[-1], gains.square().sum(0)


# --- Flows -------------------------------------------------------------------------------------


def flow_error(mean, std, steps):
    z = torch.linspace(-2, 2, 9, **F64)[:, None]
    end = samplers.flow_ode(flow_velocity(mean, std), z, steps)
    return float((end - mean - std * z).abs().max())


@pytest.mark.parametrize(("mean", "std"), DATA)
def test_a_flow_ends_at_the_data_to_second_order_at_least(mean, std):
    """To third order: of this velocity, the terms of second order cancel over the whole path."""
    coarse, fine = (flow_error(mean, std, steps) for steps in (32, 64))
    assert 1e-7 < fine < 1e-3
    assert coarse / fine == pytest.approx(8, rel=0.05)


def test_half_the_step_leaves_a_quarter_of_the_error():
    """du/dt = t·u from 1 ends at √e."""
    ends = [samplers.flow_ode(lambda u, t: t * u, torch.ones(1, 1, **F64), n) for n in (32, 64)]
    coarse, fine = (abs(float(end) - math.exp(0.5)) for end in ends)
    assert coarse / fine == pytest.approx(4, rel=0.05)


def test_a_straight_path_takes_one_step():
    """All the data are at μ: each velocity is μ − z, wherever it is asked for."""
    assert flow_error(0.7, 0.0, 1) < 1e-12


def test_a_flow_asks_for_the_velocity_at_the_middle_of_each_step():
    asked = []
    samplers.flow_ode(lambda u, t: asked.append(t) or 0 * u, torch.zeros(1, 1), 4)
    assert asked == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]


def test_an_ode_in_time_alone_is_integrated_by_midpoints():
    end = samplers.flow_ode(lambda u, t: torch.full_like(u, t**2), torch.ones(1, 1, **F64), 2)
    assert float(end) == pytest.approx(1 + (0.25**2 + 0.75**2) / 2)


# --- Diffusions --------------------------------------------------------------------------------


@given(st.integers(1, 200))
@settings(max_examples=20)
def test_angles_go_from_noise_to_data_in_equal_steps(steps):
    found = samplers.angles(steps)
    assert len(found) == steps
    assert (found[0][0], found[-1][1]) == (math.pi / 2, 0)
    assert all(now - later == pytest.approx(math.pi / 2 / steps) for now, later in found)
    assert all(a[1] == b[0] for a, b in pairwise(found))


@given(st.floats(0.01, math.pi / 2), st.floats(0.01, 0.99))
@settings(max_examples=30)
def test_the_posterior_is_as_wide_as_that_of_ho_et_al(now, share):
    """Their Eq. 7: β̃ = (1 − ᾱ')/(1 − ᾱ)·(1 − ᾱ/ᾱ'), where ᾱ = cos²."""
    later = now * share
    kept, before = math.cos(now) ** 2, math.cos(later) ** 2
    variance = (1 - before) / (1 - kept) * (1 - kept / before)
    assert samplers.posterior_width(now, later) ** 2 == pytest.approx(variance, rel=1e-9)


def ddim_error(mean, std, steps):
    z = torch.linspace(-2, 2, 9, **F64)[:, None]
    end = samplers.ddim(one_number(mean, std), z, steps)
    return float((end - mean - std * z).abs().max())


@pytest.mark.parametrize(("mean", "std"), DATA)
def test_ddim_ends_at_the_data_to_first_order(mean, std):
    coarse, fine = (ddim_error(mean, std, steps) for steps in (64, 128))
    assert 1e-3 < fine < 0.05
    assert coarse / fine == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_diffusion_of_a_point_ends_there(steps):
    noise = torch.randn(steps, 5, 1, generator=torch.Generator().manual_seed(0), **F64)
    predict = one_number(0.7, 0.0)
    ends = [samplers.ddim(predict, noise[0], steps), samplers.ancestral(predict, noise, steps)]
    for end in ends:
        torch.testing.assert_close(end, torch.full_like(end, 0.7), atol=1e-12, rtol=0)


@given(st.integers(1, 30), st.floats(-2, 2))
@settings(max_examples=20)
def test_given_the_data_an_ancestral_path_has_the_forward_distribution(steps, data):
    """N(cos φ·u₀, sin²φ) at each angle, and Cov(u_s, u_φ) = cos φ/cos s·sin²s for s < φ."""
    points = {}
    predict = recorded(knows(data), points)
    end = samplers.ancestral(predict, unit_noises(steps), steps)
    torch.testing.assert_close(end, torch.full_like(end, data), atol=1e-9, rtol=0)
    gains = []
    for angle, u in points.items():
        mean, variance = moments(u)
        assert float(mean) == pytest.approx(math.cos(angle) * data, abs=1e-9)
        assert float(variance) == pytest.approx(math.sin(angle) ** 2, rel=1e-9)
        gains.append((angle, (u[:-1] - u[-1]).flatten()))
    for (now, a), (later, b) in pairwise(gains):
        covariance = math.cos(now) / math.cos(later) * math.sin(later) ** 2
        assert float(a @ b) == pytest.approx(covariance, rel=1e-9, abs=1e-12)


def chain_moments(mean, std, steps):
    """Mean and variance at the end of the chain of Ho et al. (2020), Eq. 6–7, by ᾱ = cos²."""
    levels = [math.cos(math.pi / 2 * (1 - i / steps)) ** 2 for i in range(steps + 1)]
    m, variance = 0.0, 1.0
    for kept, before in pairwise(levels):
        noisy = kept * std**2 + 1 - kept
        gain = math.sqrt(kept) * std**2 / noisy  # of E[u₀|u_φ]
        offset = mean - gain * math.sqrt(kept) * mean
        of_data = math.sqrt(before) * (1 - kept / before) / (1 - kept)
        of_u = math.sqrt(kept / before) * (1 - before) / (1 - kept)
        m = of_data * (gain * m + offset) + of_u * m
        added = (1 - before) / (1 - kept) * (1 - kept / before)
        variance = (of_data * gain + of_u) ** 2 * variance + added
    return m, variance


@pytest.mark.parametrize("steps", [1, 2, 12, 50])
@pytest.mark.parametrize(("mean", "std"), DATA)
def test_the_ancestral_chain_is_that_of_ho_et_al(mean, std, steps):
    end = samplers.ancestral(one_number(mean, std), unit_noises(steps), steps)
    m, variance = moments(end)
    assert (float(m), float(variance)) == pytest.approx(chain_moments(mean, std, steps), rel=1e-9)


@pytest.mark.parametrize(("mean", "std"), DATA)
def test_ancestral_samples_have_the_mean_of_the_data_and_tend_to_their_variance(mean, std):
    errors = []
    for steps in (64, 128):
        end = samplers.ancestral(one_number(mean, std), unit_noises(steps), steps)
        m, variance = moments(end)
        assert float(m) == pytest.approx(mean, abs=1e-9)
        errors.append(abs(float(variance) - std**2))
    assert errors[1] < 0.05 * max(1, std**2)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


# --- DDRM --------------------------------------------------------------------------------------


def two_numbers(correlation, mean=(0.3, -0.4)):
    return diffusion_v(mean, [[1.0, correlation], [correlation, 1.0]])


def ddrm_gains(correlation, steps, churn, mean=(0.0, 0.0)):
    """Of DDRM's output: its value at 0, its slope in what is told, and its gains of the noises."""
    noise = unit_noises(steps, 2)
    predict = two_numbers(correlation, mean)
    out = [
        samplers.ddrm(predict, torch.full((noise.shape[1], 1), a, **F64), noise, steps, churn=churn)
        for a in (0.0, 1.0)
    ]
    at_zero = out[0][-1]
    gains = (out[0][:-1] - at_zero).flatten().unflatten(0, (steps, 2))
    return float(at_zero), float(out[1][-1] - at_zero), gains


def by_the_papers_equations(denoise, told, noise, steps, churn):
    """DDRM as Kawar et al. (2022) print it, Eq. 7–8, with σ_y = 0 and η_b = 1.

    Their x_t = x₀ + σ_t·n is u_φ/cos φ with σ = tan φ. At φ = π/2 nothing is known of x₀ but its
    mean.
    """
    known = told.shape[1]
    sigmas = [math.tan(math.pi / 2 * (1 - i / steps)) for i in range(1, steps)] + [0.0]
    expected = denoise(noise[0], math.inf)
    direction = noise[0]  # (x_{t+1} − x_θ)/σ_{t+1}
    for i, sigma in enumerate(sigmas):
        fresh = noise[i + 1] if sigma else torch.zeros_like(noise[0])
        x = expected + sigma * (math.sqrt(1 - churn**2) * direction + churn * fresh)
        x[:, :known] = told + sigma * fresh[:, :known]
        if sigma:
            expected = denoise(x, sigma)
            direction = (x - expected) / sigma
    return x[:, known:]


@pytest.mark.parametrize("churn", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_ddrm_is_that_of_its_paper(churn, steps, generator):
    mean = torch.tensor([0.3, -0.4, 0.1], **F64)
    root = torch.randn(3, 3, generator=generator, **F64)
    covariance = root @ root.T

    def denoise(x, sigma):
        if sigma == math.inf:
            return mean.expand_as(x)
        noisy = covariance + sigma**2 * torch.eye(3, **F64)
        return mean + torch.linalg.solve(noisy, (x - mean).T).T @ covariance

    told = torch.randn(4, 2, generator=generator, **F64)
    noise = torch.randn(steps, 4, 3, generator=generator, **F64)
    found = samplers.ddrm(diffusion_v(mean, covariance), told, noise, steps, churn=churn)
    expected = by_the_papers_equations(denoise, told, noise, steps, churn)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_where_coordinates_are_independent_ddrm_tends_to_the_posterior():
    errors = []
    for steps in (64, 128):
        at_zero, slope, gains = ddrm_gains(0.0, steps, 0.85, mean=(0.3, -0.4))
        assert at_zero == pytest.approx(-0.4, abs=1e-9)
        assert slope == pytest.approx(0, abs=1e-12)
        assert not gains[:, 0].any()
        errors.append(abs(float(gains.square().sum()) - 1))
    assert errors[1] < errors[0] < 0.4


@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.95])
def test_with_fresh_noise_alone_ddrm_tends_to_the_posterior_mean(correlation):
    """With less variance than the posterior has: the slope is right, not the distribution."""
    slopes = []
    for steps in (8, 32, 128):
        at_zero, slope, gains = ddrm_gains(correlation, steps, 1.0)
        assert at_zero == pytest.approx(0, abs=1e-12)
        assert float(gains.square().sum()) < 1 - correlation**2 or steps == 8
        slopes.append(slope)
    assert slopes[0] < slopes[1] < slopes[2] < correlation
    assert slopes[2] == pytest.approx(correlation, abs=0.05)


def test_where_y_tells_everything_ddrm_tends_to_it_without_noise():
    found = [ddrm_gains(1.0, steps, 0.85) for steps in (8, 32, 128)]
    assert [slope for _, slope, _ in found] == sorted(slope for _, slope, _ in found)
    assert found[-1][1] == pytest.approx(1, abs=0.01)
    assert float(found[-1][2].square().sum()) < 1e-3


def test_which_noises_ddrm_uses_depends_on_its_churn():
    """η = 0: of the open coordinate, the first alone; η = 1: all but the first."""
    none, all_fresh, some = (ddrm_gains(0.5, 6, churn)[2] for churn in (0.0, 1.0, 0.85))
    assert none[0, 1] != 0
    assert not none[1:, 1].any()
    assert all_fresh[0].abs().max() < 1e-15
    assert all_fresh[1:].all()
    assert some[1:].all()
    assert some[0, 1] != 0
    assert some[0, 0] == pytest.approx(0, abs=1e-15)


@given(st.integers(2, 20), st.floats(0, 1))
@settings(max_examples=20)
def test_given_the_data_all_noise_levels_of_ddrm_are_right(steps, churn):
    """sin²φ around cos φ·u₀ in the open coordinate, and around what y tells in the other."""
    points = {}
    predict = recorded(knows(torch.tensor([2.0, -1.0], **F64)), points)
    noise = unit_noises(steps, 2)
    told = torch.full((noise.shape[1], 1), 0.5, **F64)
    out = samplers.ddrm(predict, told, noise, steps, churn=churn)
    torch.testing.assert_close(out, torch.full_like(out, -1.0), atol=1e-9, rtol=0)
    for angle, u in points.items():
        mean, variance = moments(u)
        centre = math.cos(angle) * torch.tensor([0.5, -1.0], **F64)
        torch.testing.assert_close(mean, centre, atol=1e-9, rtol=0)
        expected = torch.full((2,), math.sin(angle) ** 2, **F64)
        torch.testing.assert_close(variance, expected, atol=1e-9, rtol=0)


def test_ddrm_agrees_with_that_of_deepinv(monkeypatch, generator):
    """An image of 3×3 pixels, of which the lowest row is known.

    deepinv divides all noises by √2, and starts at a finite noise level, our second.
    """
    deepinv = pytest.importorskip("deepinv")
    steps, churn = 10, 0.85
    root = torch.randn(9, 9, generator=generator, **F64) / 3
    covariance = root @ root.T
    order = [6, 7, 8, 0, 1, 2, 3, 4, 5]  # ours has the known ones first
    predict = diffusion_v(torch.zeros(9), covariance[order][:, order])
    x = torch.randn(2, 9, generator=generator, **F64) @ root.T
    noise = torch.randn(steps, 2, 9, generator=generator, **F64)
    ours = samplers.ddrm(predict, x[:, 6:], noise, steps, churn=churn)

    noise = noise[..., torch.tensor(order).argsort()]
    noise[1, :, :6] = math.sqrt(1 - churn**2) * noise[0, :, :6] + churn * noise[1, :, :6]
    draws = iter([*noise[1:], noise[0]])  # at the end, σ = 0: the last one does nothing
    later = types.SimpleNamespace(**vars(torch))
    later.randn_like = lambda like: math.sqrt(2) * next(draws).view_as(like)
    monkeypatch.setattr("deepinv.sampling.diffusion.torch", later)

    def denoise(x, sigma):
        noisy = covariance + sigma**2 * torch.eye(9, **F64)
        return (torch.linalg.solve(noisy, x.flatten(1).T).T @ covariance).view_as(x)

    mask = torch.zeros(1, 1, 3, 3, **F64)
    mask[..., 2, :] = 1
    exact = deepinv.physics.GaussianNoise(0.0)
    physics = deepinv.physics.Inpainting((1, 3, 3), mask=mask[0], noise_model=exact)
    sigmas = [*(math.tan(later) for _, later in samplers.angles(steps)[:-1]), 0.0]
    model = deepinv.sampling.DDRM(denoise, sigmas, eta=churn, etab=1.0, eps=0.0)
    theirs = model(x.view(2, 1, 3, 3) * mask, physics).flatten(1)
    torch.testing.assert_close(theirs[:, 6:], x[:, 6:])
    torch.testing.assert_close(theirs[:, :6], ours, atol=1e-6, rtol=0)
