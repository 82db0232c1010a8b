"""Eq. 2–7 on estimators whose sensitivity is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from stochrestore.attacks import Attack
from stochrestore.errors import InputError
from stochrestore.estimators.base import SecondCoordinate
from stochrestore.estimators.closed_form import PosteriorMean, PosteriorSampler, Sine
from stochrestore.experiments.toy_gans import exact_sensitivity, seed_quantiles
from stochrestore.experiments.toy_tradeoff import posterior_sensitivity
from stochrestore.metrics.sensitivity import scalar_sensitivity, sensitivity
from stochrestore.networks.mlp import MLPEstimator
from stochrestore.problems.toy import Disk, midpoints

EPSILON = 1e-3


def test_posterior_ceiling():
    """0.577·ε to leading order; 0.587 with the worse of ±ε and the edge, at ε = 10⁻³."""
    assert posterior_sensitivity(EPSILON) ** 0.5 / EPSILON == pytest.approx(0.5867, abs=5e-5)
    assert posterior_sensitivity(1e-7) ** 0.5 / 1e-7 == pytest.approx(3**-0.5, rel=1e-3)


def test_quadrature_agrees_with_the_closed_form_away_from_the_edge():
    y = torch.linspace(-0.8, 0.8, 41, dtype=torch.float64)[:, None]
    z = midpoints(2001)[:, None, None].expand(-1, 41, 1)
    found = scalar_sensitivity(SecondCoordinate(PosteriorSampler()), y, z, EPSILON)
    a = (1 - y.square()).sqrt()
    outward = (1 - (y.abs() + EPSILON).square()).sqrt()
    expected = ((a - outward).square() / 3).mean().item()
    assert found.wasserstein == pytest.approx(expected, rel=1e-5)
    assert found.shared_seed == pytest.approx(expected, rel=1e-5)


def test_sine_slope():
    """√R̃/ε → √(E[f′(Y)²]) for a smooth curve f."""
    alpha = 6.0

    def integrand(phi):  # y = sin φ, p_Y dy = (2/π) cos²φ dφ
        y, a = math.sin(phi), math.cos(phi)
        slope = alpha * a * math.cos(alpha * y) - y / a * math.sin(alpha * y)
        return slope**2 * a**2 * 2 / math.pi

    expected, _ = quad(integrand, -math.pi / 2, math.pi / 2)
    found = exact_sensitivity(Disk(), Sine(alpha), 1e-6, y_points=100_000, z_points=1)
    assert found.shared_seed**0.5 / 1e-6 == pytest.approx(expected**0.5, rel=1e-3)
    assert found.wasserstein == found.shared_seed


def test_posterior_mean_is_perfectly_robust():
    assert exact_sensitivity(Disk(), PosteriorMean(), EPSILON, y_points=64, z_points=1) == (
        0.0,
        0.0,
    )


class SwappingSampler:
    """The posterior of U[0, 1] given anything, with the seed turned round at y > 0."""

    def seed(self, y, n, *, generator):
        return torch.rand(n, len(y), 1, generator=generator, dtype=y.dtype)

    def __call__(self, y, z):
        return torch.where(y > 0, 1 - z, z)


def test_shared_seeds_can_be_a_bad_coupling():
    """Eq. 7 ≫ Eq. 5 = 0: the distribution does not change, the output for a fixed seed does."""
    y = torch.tensor([[-1e-4]], dtype=torch.float64)
    z = midpoints(1000)[:, None, None]
    found = scalar_sensitivity(SwappingSampler(), y, z, EPSILON)
    assert found.wasserstein == pytest.approx(0, abs=1e-20)
    assert found.shared_seed == pytest.approx(1 / 3, rel=1e-3)  # E[(1 − 2Z)²]


@given(st.integers(0, 50), st.floats(1e-4, 1.0))
def test_appendix_d_on_random_networks(seed, epsilon):
    """R ≤ R̃ (Eq. 20)."""
    torch.manual_seed(seed)
    network = MLPEstimator(8, stochastic=True).double()
    y = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    z = 20 * midpoints(16)[:, None, None].expand(-1, 9, 1)
    found = scalar_sensitivity(SecondCoordinate(network), y, z, epsilon)
    assert 0 <= found.wasserstein <= found.shared_seed * (1 + 1e-12)


def test_attack_never_exceeds_and_nearly_reaches_the_grid(generator):
    torch.manual_seed(1)
    measured = SecondCoordinate(MLPEstimator(16, stochastic=True).double())
    y = torch.linspace(-0.9, 0.9, 30, dtype=torch.float64)[:, None]
    z = measured.seed(y, 8, generator=generator)
    exact = scalar_sensitivity(measured, y, z, 0.01, half_grid=200).shared_seed
    found = sensitivity(measured, y, z, Attack(0.01, 30, 0.003), generator=generator)
    assert 0.97 * exact <= found <= exact * (1 + 1e-6)


def test_seed_quantiles_follow_the_seed_law():
    uniform = seed_quantiles(MLPEstimator(4, stochastic=True), 1000)
    normal = seed_quantiles(MLPEstimator(4, stochastic=True, seed_distribution="normal"), 1000)
    assert uniform.var().item() == pytest.approx(1 / 12, rel=1e-2)
    assert normal.var().item() == pytest.approx(1, rel=2e-2)
    assert seed_quantiles(MLPEstimator(4, stochastic=False), 1000).tolist() == [0.0]


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_epsilon_must_be_positive(epsilon):
    y = torch.zeros(1, 1)
    with pytest.raises(InputError, match="ε"):
        scalar_sensitivity(Sine(1.0), y, y[None], epsilon)
