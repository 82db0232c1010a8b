"""How many seeds pass together: any number gives the same attack, and memory bounds it."""

import pytest
import torch

from stochrestore.attacks import Attack, SignAttack, sign_attack, worst_perturbation
from stochrestore.estimators import batches
from stochrestore.estimators.base import normal_seed
from stochrestore.networks.mlp import MLPCritic, MLPEstimator
from stochrestore.training.adversarial import AlternatingTrainer, TrainingSettings

SEEDS, MOST = 6, 2


class Estimator:
    """x̂ = sin(3 y + z), out of memory where more than ``most`` seeds pass together."""

    def __init__(self, most=SEEDS):
        self.most, self.tried = most, []

    def __call__(self, y, z):
        self.tried.append(len(y) // 4)
        if len(y) > 4 * self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.sin(3 * y + z)


def problem():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(4, 1, generator=generator, dtype=torch.float64)
    return y, normal_seed(y, SEEDS, generator=generator)


def attacked(estimator, at_once, kind):
    generator = torch.Generator().manual_seed(1)
    y, z = problem()
    if kind == "adam":
        attack = Attack(0.3, 4, 0.1, seeds_at_once=at_once)
        return worst_perturbation(estimator, y, z, attack, generator=generator)
    attack = SignAttack(0.3, 4, seeds_at_once=at_once)
    return sign_attack(estimator, y, z, attack, generator=generator)


@pytest.mark.parametrize("kind", ["adam", "sign"])
@pytest.mark.parametrize("at_once", [1, 2, 4, "auto"])
def test_the_attack_is_the_same_for_any_number_of_seeds_at_once(kind, at_once):
    estimator = Estimator()
    expected = attacked(estimator, None, kind)
    torch.testing.assert_close(attacked(estimator, at_once, kind), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["adam", "sign"])
def test_auto_halves_where_memory_does_not_suffice_and_stays_there(kind):
    estimator = Estimator(MOST)
    found = attacked(estimator, "auto", kind)
    torch.testing.assert_close(found, attacked(Estimator(), None, kind), atol=1e-12, rtol=0)
    tried = [n for n in estimator.tried if n > 1]
    assert tried[:3] == [6, 3, 2]
    assert max(tried[3:]) == MOST


@pytest.mark.parametrize(("most", "at_once"), [(0, "auto"), (MOST, None), (MOST, 3)])
def test_what_cannot_fit_is_said(most, at_once):
    with pytest.raises(torch.OutOfMemoryError):
        attacked(Estimator(most), at_once, "adam")


@pytest.mark.parametrize(("free", "expected"), [(1e9, SEEDS), (300, 2), (0, 1)])
def test_on_the_cpu_free_memory_bounds_auto(monkeypatch, free, expected):
    """One seed keeps 4 cosines and the 4 inputs of 8 bytes each at most, 64 bytes."""
    monkeypatch.setattr(batches, "free_memory", lambda device: free)
    y, z = problem()
    kept = batches.bytes_kept(lambda: Estimator()(y.requires_grad_(), z[0]))
    assert 32 <= kept <= 64
    monkeypatch.setattr(batches, "bytes_kept", lambda compute: 64)
    assert batches.SeedBatches(Estimator(), y, z, "auto").at_once == expected


def trained(at_once, forward=None):
    torch.manual_seed(0)
    settings = TrainingSettings(
        batch_size=4, robustness_weight=1.0, robustness_seeds=SEEDS, seeds_at_once=at_once
    )
    estimator = MLPEstimator(4, stochastic=True)
    if forward:
        estimator.forward = forward(estimator.forward)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20, 2, generator=generator)
    trainer = AlternatingTrainer(
        estimator, MLPCritic(4), images, lambda x: x[:, :1], settings, generator=generator
    )
    for _ in range(3):
        trainer.advance()
    return trainer


def test_a_training_finds_once_how_many_seeds_fit_and_draws_nothing_for_it():
    rows = []

    def bounded(forward):
        def call(y, z):
            rows.append(len(y))
            if len(y) > 4 * MOST:
                raise torch.OutOfMemoryError
            return forward(y, z)

        return call

    found, expected = trained("auto", bounded), trained(MOST)
    assert found.seeds_that_fit == MOST
    assert rows.count(4 * SEEDS) == 1
    for a, b in zip(found.estimator.parameters(), expected.estimator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(found.generator.get_state(), expected.generator.get_state())
