"""The experiment behind the chapter on Theorem 3.1."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from stochrestore import config
from stochrestore.errors import InputError
from stochrestore.estimators.base import SecondCoordinate, restore
from stochrestore.estimators.zigzag import TwistedSampler, Zigzag
from stochrestore.experiments import registry
from stochrestore.experiments.theorem_3_1 import (
    Settings,
    both_sensitivities,
    check_gaussian,
    check_theorem,
    conditional_wasserstein,
    marginal_wasserstein,
    perception_distortion,
    precision_and_recall,
    random_gaussian,
    random_problem,
    train_gan,
    two_gaussian_pixels,
    uniform_on_fibres,
)
from stochrestore.metrics.sensitivity import scalar_sensitivity
from stochrestore.metrics.wasserstein import wasserstein_discrete
from stochrestore.problems.finite import as_array, two_pixel_images
from stochrestore.problems.square import Square
from stochrestore.problems.toy import Disk

SETTINGS = Settings(preset="smoke", inputs=12, problems=60, gaussians=10)


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_valid(preset):
    assert registry.load("theorem_3_1", preset).preset == preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 3}, "levels: got 3"),
        ({"problems": 0}, "problems: got 0"),
        ({"gan_steps": 1.5}, "gan_steps: got 1.5"),
        ({"colour": 1}, "colour: unknown parameter"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InputError, match=message):
        registry.load("theorem_3_1", "smoke", **change)


def test_random_problems_are_of_every_kind():
    found = check_theorem(SETTINGS)
    assert found.posterior_fails == found.other_estimators == found.identity_fails == 0
    assert 0 < found.ambiguous < found.problems == 60
    assert min(found.without_consistency, found.without_perfection) > 0
    rng = np.random.default_rng(0)
    assert any(0 in random_problem(rng).mass for _ in range(20))


def test_a_wrong_posterior_would_be_found(monkeypatch):
    from stochrestore.problems.finite import FiniteProblem

    true = FiniteProblem.posterior.fget
    monkeypatch.setattr(FiniteProblem, "posterior", property(lambda p: true(p)[::-1]))
    assert check_theorem(SETTINGS).posterior_fails > 0
    assert check_theorem(SETTINGS).other_estimators > 0


def test_gaussian_problems():
    found = check_gaussian(SETTINGS)
    assert max(found.gain, found.posterior, found.twice) < 1e-8
    assert found.least_mse < 1e-5


def test_random_gaussian_problems_magnify_rounding_by_1600_at_most():
    rng = np.random.default_rng(0)
    problems = [random_gaussian(rng) for _ in range(500)]
    assert max(np.linalg.cond(p.input_covariance) for p in problems) <= 1600
    assert min(np.linalg.eigvalsh(p.covariance)[0] for p in problems) > 0.0999
    assert {p.degradation.shape for p in problems} == {
        (m, n) for n in range(2, 7) for m in range(1, n)
    }


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_gaussian_errors_stay_far_below_what_the_chapter_allows(seed):
    found = check_gaussian(SETTINGS.model_copy(update={"seed": seed, "gaussians": 300}))
    assert max(found.gain, found.posterior, found.twice, found.least_mse) < 1e-11


def test_a_critic_without_y_finds_the_posterior_only_if_consistent():
    problem = two_pixel_images(4)
    masked = train_gan(problem, consistent=True, steps=300, seed=1)
    assert masked.conditional[-1] < 1e-3
    np.testing.assert_allclose(masked.estimator, as_array(problem.posterior), atol=1e-3)
    free = train_gan(problem, consistent=False, steps=300, seed=1)
    assert free.marginal[-1] < 0.1 < 1 < free.conditional[-1]


def test_gan_history_measures_its_estimator():
    problem = two_pixel_images(4)
    history = train_gan(problem, consistent=True, steps=7, seed=0)
    assert history.step == list(range(8))
    assert history.marginal[-1] == marginal_wasserstein(problem, history.estimator)
    assert history.conditional[-1] == conditional_wasserstein(problem, history.estimator)
    np.testing.assert_allclose(history.estimator.sum(0), 1)


def test_conditional_distance_bounds_the_marginal_one():
    problem, rng = two_pixel_images(4), np.random.default_rng(0)
    for _ in range(20):
        table = rng.dirichlet(np.ones(len(problem.points)), len(problem.inputs)).T
        marginal = marginal_wasserstein(problem, table)
        assert marginal <= conditional_wasserstein(problem, table) + 1e-9


def test_equal_supports_make_precision_and_recall_perfect():
    problem = two_pixel_images(4)
    uniform = uniform_on_fibres(problem)
    assert precision_and_recall(problem, uniform) == (1, 1)
    assert problem.output(uniform) != problem.mass
    only_first = [[Fraction(i == 0)] * len(problem.inputs) for i in range(len(problem.points))]
    precision, recall = precision_and_recall(problem, only_first)
    assert (precision, recall) == (1, problem.mass[0])


def test_perception_distortion_families():
    problem = two_gaussian_pixels()
    families = perception_distortion(problem, points=21)
    sampler, curve, best = families.values()
    assert sampler.wasserstein[-1] == pytest.approx(0, abs=1e-9)
    assert sampler.mse[-1] == pytest.approx(2 * problem.mmse)
    assert sampler.inconsistency.max() == pytest.approx(0, abs=1e-12)
    assert curve.inconsistency.max() == pytest.approx(0, abs=1e-12)
    assert curve.wasserstein.min() > 0.5
    assert best.wasserstein[-1] == pytest.approx(0, abs=1e-9)
    assert best.mse[-1] < 1.75 * problem.mmse
    assert best.inconsistency[-1] > 0.05
    w0 = best.wasserstein[0]
    np.testing.assert_allclose(best.wasserstein, w0 * np.linspace(1, 0, 21), atol=1e-9)
    np.testing.assert_allclose(best.mse, problem.mmse + (w0 - best.wasserstein) ** 2, atol=1e-9)


@pytest.mark.parametrize("problem", [Square(), Disk()], ids=["square", "disk"])
def test_shared_seeds_bound_the_optimal_coupling(problem):
    straight = both_sensitivities(TwistedSampler(problem, 0), problem, SETTINGS)
    assert straight.shared_seed == pytest.approx(straight.wasserstein, abs=1e-18, rel=1e-9)
    for rate in (1, 3, 20):
        turned = both_sensitivities(TwistedSampler(problem, rate), problem, SETTINGS)
        assert turned.wasserstein == pytest.approx(straight.wasserstein, rel=1e-3, abs=1e-12)
        assert turned.shared_seed > 100 * turned.wasserstein


def test_shared_seed_on_the_square_in_closed_form():
    for rate in (1, 10, 50):
        found = both_sensitivities(TwistedSampler(Square(), rate), Square(), SETTINGS, 0.01)
        shift = rate * 0.01
        assert found.shared_seed == pytest.approx(shift * (1 - shift), abs=1e-6)


def test_the_optimal_coupling_is_that_of_the_network_simplex():
    y = torch.tensor([[0.3], [-0.8]], dtype=torch.float64)
    z = ((torch.arange(30, dtype=torch.float64) + 0.5) / 30)[:, None, None].expand(-1, 2, 1)
    sampler = SecondCoordinate(TwistedSampler(Disk(), 7.0))
    found = scalar_sensitivity(sampler, y, z, 0.05, half_grid=1).wasserstein
    here, *there = (restore(sampler, y + d, z).numpy() for d in (0, -0.05, 0.05))
    worst = [
        max(wasserstein_discrete(here[:, k], moved[:, k]) ** 2 for moved in there) for k in (0, 1)
    ]
    assert found == pytest.approx(np.mean(worst), rel=1e-6)


def test_for_deterministic_estimators_both_are_eq_3():
    zigzag = Zigzag(4)
    found = both_sensitivities(zigzag, Square(), SETTINGS, epsilon=0.01)
    assert found.wasserstein == pytest.approx(found.shared_seed)
    assert found.wasserstein == pytest.approx(zigzag.sensitivity(0.01), rel=1e-6)
