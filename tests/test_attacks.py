import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sr_networks
from stochrestore.attacks import Attack, SignAttack, sign_attack, worst_perturbation
from stochrestore.errors import InputError
from stochrestore.estimators.base import no_seed


class Linear:
    """X̂ = Σ w·y, with a weight for each pixel; the worst sign of each is known."""

    def __init__(self, weights):
        self.weights = weights

    def seed(self, y, n, *, generator):
        return no_seed(y, n)

    def __call__(self, y, z):
        return (self.weights * y).flatten(1).sum(1, keepdim=True)


def attacked(network, y, attack, *, seeds=1, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    z = network.seed(y, seeds, generator=generator)
    return sign_attack(network, y, z, attack, generator=generator, **more)


def test_a_linear_estimator_is_pushed_to_a_corner_of_the_box():
    weights = torch.tensor([[1.0, -2.0], [0.5, -0.1]])
    y = torch.full((3, 2, 2), 0.5)
    attack = SignAttack(0.1, 7, start="zero")
    worst = attacked(Linear(weights), y, attack, reference=torch.full((3, 1), -9.0))
    torch.testing.assert_close(worst, y + 0.1 * weights.sign())


def test_a_pixel_travels_no_further_than_the_radius_from_a_random_start():
    y = torch.full((50, 2, 2), 0.5)
    worst = attacked(Linear(torch.ones(2, 2)), y, SignAttack(0.1, 10), reference=-9 * y[:, 0, :1])
    assert (worst - y).min() > 0
    assert (worst - y).min() < 0.05


def test_against_the_clean_output_it_does_not_move_from_zero():
    network, y = sr_networks.edsr(), sr_networks.image()
    attack = SignAttack(8 / 255, 5, start="zero")
    assert torch.equal(attacked(network, y, attack), y)


def test_away_from_another_image_it_moves_from_zero():
    network, y = sr_networks.edsr(), sr_networks.image()
    attack = SignAttack(8 / 255, 5, start="zero")
    worst = attacked(network, y, attack, reference=torch.zeros(1, 3, 40, 48))
    assert (worst - y).abs().max() == pytest.approx(8 / 255, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    radius=st.floats(0, 0.3), steps=st.integers(1, 4), seed=st.integers(0, 99), n=st.integers(1, 3)
)
def test_stays_in_the_box_and_in_the_range(radius, steps, seed, n):
    y = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    worst = attacked(sr_networks.rrdb(), y, SignAttack(radius, steps), seed=seed)
    assert (worst - y).abs().max() <= radius + 1e-6
    assert worst.min() >= 0
    assert worst.max() <= 1


def direct(network, y, z, alpha, steps, start):
    """App. G read literally: a loop over images and seeds."""
    result = []
    for i in range(len(y)):
        x0 = y[i : i + 1]
        x = (x0 + start[i : i + 1]).clamp(0, 1)
        for _ in range(steps):
            x = x.detach().requires_grad_(True)
            loss = 0
            for s in range(len(z)):
                clean = network(x0, z[s, i : i + 1]).detach()
                loss = loss + (network(x, z[s, i : i + 1]) - clean).square().sum() / len(z)
            (gradient,) = torch.autograd.grad(loss, x)
            delta = (x - x0 + alpha / steps * gradient.sign()).clamp(-alpha, alpha)
            x = (x0 + delta).clamp(0, 1)
        result.append(x.detach())
    return torch.cat(result)


@pytest.mark.parametrize("at_once", [(None, None), (1, None), (2, 1), (None, 1)])
def test_agrees_with_the_direct_transcription_in_any_batches(at_once):
    network, y = sr_networks.srflow().double(), sr_networks.image(6, 6, n=2).double()
    generator = torch.Generator().manual_seed(0)
    z = network.seed(y, 3, generator=generator)
    state = generator.get_state()
    attack = SignAttack(8 / 255, 3, seeds_at_once=at_once[0], images_at_once=at_once[1])
    worst = sign_attack(network, y, z, attack, generator=generator)
    unit = torch.rand(y.shape, generator=generator.set_state(state), dtype=y.dtype)
    expected = direct(network, y, z, 8 / 255, 3, 8 / 255 * (2 * unit - 1))
    torch.testing.assert_close(worst, expected, atol=1e-9, rtol=0)


def test_an_output_that_overflows_does_not_spoil_the_input():
    class Overflowing(Linear):
        def __call__(self, y, z):
            return (1e30 * y) ** 2 - (1e30 * y) ** 2 + super().__call__(y, z)[..., None, None]

    y = torch.full((1, 2, 2), 0.5)
    worst = attacked(Overflowing(torch.ones(2, 2)), y, SignAttack(0.1, 3))
    assert (worst - y).abs().max() <= 0.1 + 1e-6


def test_the_same_seed_gives_the_same_attack_and_another_does_not():
    network, y = sr_networks.rrdb(), sr_networks.image()
    first, again, other = (attacked(network, y, SignAttack(0.05, 2), seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, r"SignAttack\.radius \(α\): got -1\.0"),
        ({"radius": 0.1, "steps": 0}, "SignAttack.steps: got 0"),
        ({"radius": 0.1, "start": "ones"}, "'random' or 'zero'"),
        ({"radius": 0.1, "seeds_at_once": 0}, "seeds_at_once: got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        SignAttack(**options)


def test_grey_levels_instead_of_fractions_are_refused():
    y = 255 * sr_networks.image()
    with pytest.raises(InputError, match=r"sign_attack: y: got '0 to 255'|allowed: 0\.0 to 1\.0"):
        attacked(sr_networks.edsr(), y, SignAttack(0.1, 1))


def test_seeds_at_once_bounds_every_pass(generator):
    """The clean pass too."""
    passed = []

    def estimator(y, z):
        passed.append(len(z))
        return y * z[:, :1]

    attack = Attack(radius=0.1, steps=2, lr=0.1, seeds_at_once=2)
    y, z = torch.rand(3, 4), torch.rand(5, 3, 1)
    worst_perturbation(estimator, y, z, attack, generator=generator)
    assert max(passed) == 2 * 3


@pytest.mark.parametrize("at_once", [0, -3])
def test_seeds_at_once_is_checked(at_once):
    with pytest.raises(InputError, match=r"Attack\.seeds_at_once: got"):
        Attack(radius=0.1, steps=2, lr=0.1, seeds_at_once=at_once)
