"""The maximisation of Eq. 6 and the pieces of Eq. 8, against closed forms and transcriptions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from stochrestore.attacks import Attack, initial_perturbation, project_on_ball, worst_perturbation
from stochrestore.errors import InputError
from stochrestore.estimators.base import SecondCoordinate
from stochrestore.estimators.closed_form import PosteriorSampler, Sine
from stochrestore.losses import (
    critic_gan_loss,
    estimator_gan_loss,
    r1_penalty,
    robustness_loss,
)
from stochrestore.metrics.sensitivity import sensitivity
from stochrestore.networks.mlp import MLPCritic, MLPEstimator


class Linear:
    """G(y, z) = A y + z, so that ‖G(y, z) − G(y + δ, z)‖ = ‖A δ‖."""

    def __init__(self, matrix):
        self.matrix = matrix

    def seed(self, y, n, *, generator):
        return torch.randn(n, len(y), len(self.matrix), generator=generator, dtype=y.dtype)

    def __call__(self, y, z):
        return y @ self.matrix.T + z


def attacked_linear_map(matrix, attack, generator):
    """‖A δ‖² of each of 6 attacked inputs, and the loss on them."""
    estimator = Linear(matrix)
    y = torch.randn(6, matrix.shape[1], generator=generator, dtype=torch.float64)
    z = estimator.seed(y, 4, generator=generator)
    delta = worst_perturbation(estimator, y, z, attack, generator=generator)
    loss = robustness_loss(estimator, y, z, attack, generator=generator)
    return (delta @ matrix.T).square().sum(1), loss.item()


def test_attack_on_a_scalar_input_finds_the_maximum(generator):
    matrix = torch.randn(5, 1, generator=generator, dtype=torch.float64)
    moved, loss = attacked_linear_map(matrix, Attack(0.5, 60, 0.05), generator)
    worst = 0.25 * matrix.square().sum()
    assert torch.allclose(moved, worst.expand(6))
    assert loss == pytest.approx(worst.item())


def test_attack_on_several_inputs_stops_at_sign_vectors(generator):
    """Adam's steps are equal in every coordinate, so projected Adam ends where all |δᵢ| are
    equal: below the true maximum ε·σ₁, above the mean over directions."""
    matrix = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    moved, _ = attacked_linear_map(matrix, Attack(0.5, 300, 0.05), generator)
    maximum = 0.25 * torch.linalg.matrix_norm(matrix, 2).square()
    assert (moved <= maximum * (1 + 1e-12)).all()
    assert moved.mean() > 0.25 * matrix.square().sum() / 3
    assert moved.max() < 0.95 * maximum


def test_attack_agrees_with_the_textbook_optimiser(generator):
    """The batched attack is torch's Adam with projection, input by input."""
    estimator, attack = Sine(4.0), Attack(radius=0.05, steps=6, lr=0.01)
    y = torch.linspace(-0.8, 0.8, 7, dtype=torch.float64)[:, None]
    z = estimator.seed(y, 1, generator=generator)
    start = initial_perturbation(y, attack, generator=torch.Generator().manual_seed(9))
    batched = worst_perturbation(
        estimator, y, z, attack, generator=torch.Generator().manual_seed(9)
    )
    for i in range(len(y)):
        delta = start[i : i + 1].clone().requires_grad_(True)
        adam = torch.optim.Adam([delta], lr=attack.lr, betas=attack.betas, maximize=True)
        for _ in range(attack.steps):
            adam.zero_grad()
            moved = estimator(y[i : i + 1] + delta, z[0, i : i + 1])
            (moved - estimator(y[i : i + 1], z[0, i : i + 1])).square().sum().backward()
            adam.step()
            with torch.no_grad():
                delta.clamp_(-attack.radius, attack.radius)
        assert torch.allclose(delta, batched[i : i + 1], atol=1e-12)


def test_from_zero_the_attack_never_moves(generator):
    """At δ = 0 the gradient of Eq. 6 vanishes: the reason for the random start."""
    y = torch.linspace(-0.9, 0.9, 20)[:, None]
    z = torch.zeros(1, 20, 1)
    attack = Attack(radius=1e-3, steps=4, lr=1e-4, start="zero")
    assert not worst_perturbation(Sine(9.0), y, z, attack, generator=generator).any()


@given(st.integers(1, 40), st.floats(1e-4, 10), st.integers(0, 1000))
def test_start_and_projection_stay_in_the_ball(dims, radius, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.zeros(50, dims, dtype=torch.float64)
    start = initial_perturbation(y, Attack(radius, 1, 1.0), generator=generator)
    assert (start.norm(dim=1) <= radius * (1 + 1e-12)).all()
    far = 3 * radius * torch.randn(50, dims, generator=generator, dtype=torch.float64)
    near = project_on_ball(far, radius)
    assert (near.norm(dim=1) <= radius * (1 + 1e-12)).all()
    inside = far.norm(dim=1) <= radius
    assert torch.equal(near[inside], far[inside])
    assert torch.allclose(F.cosine_similarity(near, far), torch.ones(50).double())


def test_start_is_uniform_in_the_ball(generator):
    start = initial_perturbation(torch.zeros(20_000, 4), Attack(2.0, 1, 1.0), generator=generator)
    inside = (start.norm(dim=1) < 1.0).double().mean().item()
    assert inside == pytest.approx(0.5**4, abs=0.006)
    assert start.mean(0).abs().max() < 0.03


def test_attack_takes_no_gradient_for_weights(generator):
    network = MLPEstimator(8, stochastic=True)
    y = torch.zeros(3, 1)
    z = network.seed(y, 2, generator=generator)
    delta = worst_perturbation(network, y, z, Attack(0.1, 2, 0.05), generator=generator)
    assert not delta.requires_grad
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("batched", [False, True])
def test_shared_clean_output_changes_nothing(batched):
    estimator = PosteriorSampler()
    y = torch.linspace(-0.9, 0.9, 11, dtype=torch.float64)[:, None]
    z = estimator.seed(y, 5, generator=torch.Generator().manual_seed(1))
    clean = torch.stack([estimator(y, zi) for zi in z]) if batched else None
    delta = worst_perturbation(
        estimator,
        y,
        z,
        Attack(0.01, 5, 0.005),
        generator=torch.Generator().manual_seed(2),
        clean=clean,
    )
    slope = y / (1 - y.square()).sqrt()
    outward = delta[y.abs() > 0.5].sign() == slope[y.abs() > 0.5].sign()
    assert outward.double().mean() >= 0.5
    assert delta.abs().max() <= 0.01


def test_robustness_loss_matches_a_plain_transcription(generator):
    """Value and weight gradients of Eq. 7, against loops over inputs and seeds."""
    network = MLPEstimator(8, stochastic=True).double()
    y = torch.linspace(-0.9, 0.9, 6, dtype=torch.float64)[:, None]
    z = network.seed(y, 3, generator=generator)
    attack = Attack(radius=0.1, steps=3, lr=0.05)
    loss = robustness_loss(network, y, z, attack, generator=torch.Generator().manual_seed(4))
    gradients = torch.autograd.grad(loss, list(network.parameters()))

    delta = worst_perturbation(network, y, z, attack, generator=torch.Generator().manual_seed(4))
    terms = [
        (network(y[i : i + 1], zi[i : i + 1]) - network((y + delta)[i : i + 1], zi[i : i + 1]))
        .square()
        .sum()
        for i in range(6)
        for zi in z
    ]
    plain = torch.stack(terms).mean()
    expected = torch.autograd.grad(plain, list(network.parameters()))
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    for got, want in zip(gradients, expected, strict=True):
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-14)


def test_robustness_scales(generator):
    estimator, y = Sine(3.0), torch.linspace(-0.5, 0.5, 9)[:, None]
    z = torch.zeros(1, 9, 1)
    values = {
        scale: robustness_loss(
            estimator,
            y,
            z,
            Attack(1e-2, 2, 1e-3),
            generator=torch.Generator().manual_seed(0),
            scale=scale,
        ).item()
        for scale in ("sum", "mean", "slope")
    }
    assert values["mean"] == pytest.approx(values["sum"] / 2)
    assert values["slope"] == pytest.approx(values["sum"] / 1e-4)


def test_robustness_loss_of_the_estimated_coordinate_is_its_squared_slope(generator):
    y = torch.full((4, 1), 0.2, dtype=torch.float64)
    z = torch.zeros(1, 4, 1, dtype=torch.float64)
    loss = robustness_loss(
        SecondCoordinate(Sine(5.0)),
        y,
        z,
        Attack(1e-5, 20, 1e-5),
        generator=generator,
        scale="slope",
    )
    a = math.sqrt(1 - 0.04)
    slope = 5 * a * math.cos(1.0) - 0.2 / a * math.sin(1.0)
    assert loss.item() == pytest.approx(slope**2, rel=1e-3)


def test_gan_losses_at_a_blind_critic():
    """Logits 0: every term is log 2."""
    zero = torch.zeros(7)
    assert estimator_gan_loss(zero).item() == pytest.approx(math.log(2))
    assert critic_gan_loss(zero, zero).item() == pytest.approx(2 * math.log(2))


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_gan_losses_are_cross_entropies(real, fake):
    r, f = torch.tensor([real]).double(), torch.tensor([fake]).double()
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(r, torch.ones(1).double()) + entropy(f, torch.zeros(1).double())
    assert torch.allclose(critic_gan_loss(r, f), expected)
    assert torch.allclose(estimator_gan_loss(f), entropy(f, torch.ones(1).double()))


@pytest.mark.parametrize(("convention", "factor"), [("half", 0.5), ("full", 1.0)])
def test_r1_of_a_linear_critic(convention, factor):
    """∇(w·x) = w everywhere, so R1 = c·γ·‖w‖²."""
    w = torch.tensor([3.0, -4.0], requires_grad=True)
    penalty = r1_penalty(lambda x: x @ w, torch.randn(10, 2), gamma=10.0, convention=convention)
    assert penalty.item() == pytest.approx(factor * 10 * 25)
    penalty.backward()
    assert torch.allclose(w.grad, factor * 10 * 2 * w.detach())


def test_r1_gradient_reaches_every_hidden_layer():
    critic = MLPCritic(8)
    r1_penalty(critic, torch.randn(20, 2), gamma=1.0).backward()
    assert all(
        p.grad is not None and p.grad.any() for n, p in critic.named_parameters() if "weight" in n
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"radius": 0.0, "steps": 1, "lr": 1.0}, "radius"),
        ({"radius": -1.0, "steps": 1, "lr": 1.0}, "radius"),
        ({"radius": math.nan, "steps": 1, "lr": 1.0}, "radius"),
        ({"radius": 1.0, "steps": 0, "lr": 1.0}, "steps"),
        ({"radius": 1.0, "steps": 1, "lr": 0.0}, "lr"),
        ({"radius": 1.0, "steps": 1, "lr": 1.0, "start": "middle"}, "start"),
        ({"radius": 1.0, "steps": 1, "lr": 1.0, "seeds_at_once": -3}, "seeds_at_once: got -3"),
    ],
)
def test_attack_refuses_bad_settings(arguments, named):
    with pytest.raises(InputError, match=named):
        Attack(**arguments)


class CountsRows(MLPEstimator):
    """Remembers the largest batch that passed."""

    largest = 0

    def forward(self, y, z):
        self.largest = max(self.largest, len(y))
        return super().forward(y, z)


def test_the_clean_pass_keeps_to_the_seeds_at_once(generator):
    """Ten seeds of five inputs, two seeds at once: never more than ten rows."""
    network, y = CountsRows(8, stochastic=True), torch.zeros(5, 1)
    z = network.seed(y, 10, generator=generator)
    attack = Attack(0.1, 2, 0.05, seeds_at_once=2)
    bounded = worst_perturbation(network, y, z, attack, generator=generator.manual_seed(3))
    sensitivity(network, y, z, attack, generator=generator)
    assert network.largest == 10
    whole = Attack(0.1, 2, 0.05)
    free = worst_perturbation(network, y, z, whole, generator=generator.manual_seed(3))
    torch.testing.assert_close(bounded, free)


def test_unknown_scale_and_negative_gamma_are_refused(generator):
    y, z = torch.zeros(2, 1), torch.zeros(1, 2, 1)
    with pytest.raises(InputError, match="scale"):
        robustness_loss(Sine(1.0), y, z, Attack(1, 1, 1), generator=generator, scale="max")
    with pytest.raises(InputError, match="gamma"):
        r1_penalty(MLPCritic(2), torch.zeros(2, 2), gamma=-1.0)
