"""What every estimator promises, whatever it is: tested over one list of all of them."""

import pytest
import torch

from stochrestore.degradations import FirstCoordinate
from stochrestore.estimators.base import SecondCoordinate, restore, sample
from stochrestore.estimators.closed_form import (
    PosteriorMean,
    PosteriorSampler,
    RingAvoidingHole,
    RingCrossingHole,
    Sine,
)
from stochrestore.estimators.zigzag import TwistedSampler, Zigzag
from stochrestore.networks.mlp import MLPEstimator
from stochrestore.problems.toy import Disk, Ring

DETERMINISTIC = {
    "sine": lambda: Sine(7.0),
    "posterior mean": PosteriorMean,
    "avoiding hole": RingAvoidingHole,
    "crossing hole": RingCrossingHole,
    "zigzag": lambda: Zigzag(3),
    "mlp, Z = 0": lambda: MLPEstimator(16, stochastic=False),
}
STOCHASTIC = {
    "disk posterior": PosteriorSampler,
    "ring posterior": lambda: PosteriorSampler(Ring()),
    "twisted sampler": lambda: TwistedSampler(Disk(), 2.0),
    "mlp, uniform Z": lambda: MLPEstimator(16, stochastic=True),
    "mlp, normal Z": lambda: MLPEstimator(16, stochastic=True, seed_distribution="normal"),
}
ALL = DETERMINISTIC | STOCHASTIC
every_estimator = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def inputs(n=40):
    return torch.linspace(-0.65, 0.65, n)[:, None]


@every_estimator
def test_consistent_by_construction(make, generator):
    y = inputs()
    assert torch.equal(FirstCoordinate().degrade(sample(make(), y, generator=generator)), y)


@every_estimator
def test_shapes_and_determinism_given_the_seed(make, generator):
    estimator, y = make(), inputs()
    z = estimator.seed(y, 3, generator=generator)
    assert z.shape == (3, len(y), 1)
    assert torch.equal(estimator(y, z[0]), estimator(y, z[0]))
    assert estimator(y, z[0]).shape == (len(y), 2)


@every_estimator
def test_restore_is_one_call_per_seed(make, generator):
    estimator, y = make(), inputs()
    z = estimator.seed(y, 4, generator=generator)
    one_by_one = torch.stack([estimator(y, zi) for zi in z])
    assert torch.allclose(restore(estimator, y, z), one_by_one, atol=1e-6)


@every_estimator
def test_gradient_in_y_is_finite(make, generator):
    estimator, y = make(), inputs().requires_grad_(True)
    sample(estimator, y, generator=generator)[:, 1].sum().backward()
    assert y.grad.isfinite().all()


@pytest.mark.parametrize("make", DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_deterministic_estimators_have_no_seed(make, generator):
    assert not make().seed(inputs(), 2, generator=generator).any()


@pytest.mark.parametrize("make", STOCHASTIC.values(), ids=STOCHASTIC)
def test_stochastic_estimators_use_their_seed_and_generator(make):
    estimator, y = make(), inputs()
    first = estimator.seed(y, 2, generator=torch.Generator().manual_seed(5))
    again = estimator.seed(y, 2, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first, again)
    restored = restore(estimator, y, first)
    assert (restored[0, :, 1] != restored[1, :, 1]).any()


def test_network_with_zero_seed_is_the_same_function_either_way(generator):
    """Deterministic = the same network with Z = 0 (App. E.1)."""
    torch.manual_seed(0)
    stochastic, deterministic = MLPEstimator(8, stochastic=True), MLPEstimator(8, stochastic=False)
    deterministic.load_state_dict(stochastic.state_dict())
    y = inputs()
    zero = torch.zeros_like(y)
    assert torch.equal(stochastic(y, zero), sample(deterministic, y, generator=generator))


def test_table_2_parameter_count():
    """2→512→512→512→512→1 with biases."""
    weights = 2 * 512 + 3 * 512 * 512 + 512
    biases = 4 * 512 + 1
    network = MLPEstimator(512, stochastic=True)
    assert sum(p.numel() for p in network.parameters()) == weights + biases


def test_second_coordinate_is_what_is_estimated(generator):
    estimator, y = Sine(3.0), inputs()
    alone = SecondCoordinate(estimator)
    z = alone.seed(y, 1, generator=generator)
    assert torch.equal(alone(y, z[0]), estimator.curve(y))
