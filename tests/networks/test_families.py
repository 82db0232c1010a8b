"""What every family promises, on a toy's and on an image's fibre; and the loss of each."""

import copy
import math

import pytest
import torch
from torch import nn

from stochrestore.degradations import FirstCoordinate, Inpainting
from stochrestore.estimators.base import restore
from stochrestore.estimators.fibre import Fibre
from stochrestore.networks import families
from stochrestore.networks.families import (
    PMRF,
    ConditionalVAE,
    CouplingFlow,
    Diffusion,
    PosteriorDiffusion,
    PosteriorMeanOf,
    RectifiedFlow,
)

STEPS = 3
MAKE = {
    "flow": lambda fibre: RectifiedFlow(fibre, 8, STEPS),
    "pmrf": lambda fibre: PMRF(fibre, 8, STEPS, 0.1),
    "ddim": lambda fibre: Diffusion(fibre, 8, STEPS, path=False),
    "ancestral": lambda fibre: Diffusion(fibre, 8, STEPS, path=True),
    "ddrm": lambda fibre: PosteriorDiffusion(fibre, 8, STEPS),
    "vae": lambda fibre: ConditionalVAE(fibre, 8, 3, 0.3),
    "coupling": lambda fibre: CouplingFlow(fibre, 8, 4, 0.1),
}
FIBRES = {
    "toy": Fibre(FirstCoordinate(), (2,), scale=2.0),
    "digits": Fibre(Inpainting(8), (1, 8, 8), centre=0.5, scale=2.5),
}
SEED_DIMS = {
    "flow": lambda known, open_: open_,
    "pmrf": lambda known, open_: open_,
    "ddim": lambda known, open_: open_,
    "ancestral": lambda known, open_: STEPS * open_,
    "ddrm": lambda known, open_: STEPS * (known + open_),
    "vae": lambda known, open_: 3,
    "coupling": lambda known, open_: max(2, open_),
}
every_family = pytest.mark.parametrize("family", MAKE)
every_fibre = pytest.mark.parametrize("problem", FIBRES)


def network(family, problem):
    torch.manual_seed(0)
    return MAKE[family](copy.deepcopy(FIBRES[problem]))


def data(problem, n=6):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, *FIBRES[problem].shape, generator=generator)


def observed(problem):
    return FIBRES[problem].degradation.degrade(data(problem))


def draws(seed=2):
    return torch.Generator().manual_seed(seed)


@every_fibre
@every_family
def test_consistent_by_construction(family, problem):
    estimator, y = network(family, problem), observed(problem)
    z = 5 * estimator.seed(y, 1, generator=draws())[0]
    x = estimator(y, z)
    assert x.shape == data(problem).shape
    assert torch.equal(FIBRES[problem].degradation.degrade(x), y)


@every_fibre
@every_family
def test_the_seed_decides_and_is_standard_normal(family, problem):
    estimator, y, fibre = network(family, problem), observed(problem), FIBRES[problem]
    z = estimator.seed(y, 2, generator=draws())
    assert z.shape == (2, len(y), SEED_DIMS[family](fibre.known, fibre.open))
    assert torch.equal(z, estimator.seed(y, 2, generator=draws()))
    many = estimator.seed(y, 400, generator=draws())
    assert abs(many.mean()) < 0.1
    assert many.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(estimator(y, z[0]), estimator(y, z[0]))
    assert not torch.equal(estimator(y, z[0]), estimator(y, z[1]))


@every_family
def test_rows_do_not_mix(family):
    """So many seeds at once are as many calls."""
    estimator, y = network(family, "digits"), observed("digits")
    z = estimator.seed(y, 3, generator=draws())
    one_by_one = torch.stack([estimator(y, each) for each in z])
    torch.testing.assert_close(restore(estimator, y, z), one_by_one, atol=1e-5, rtol=0)


@every_family
def test_every_number_of_the_seed_is_used(family):
    estimator, y = network(family, "digits"), observed("digits")
    z = estimator.seed(y, 1, generator=draws())[0].requires_grad_()
    (gradient,) = torch.autograd.grad(estimator(y, z).square().sum(), z)
    assert gradient.isfinite().all()
    assert gradient.any(0).all()


@every_fibre
@every_family
def test_gradients_in_y_are_finite_and_not_only_those_of_consistency(family, problem):
    estimator = network(family, problem)
    y = observed(problem).requires_grad_()
    z = estimator.seed(y, 1, generator=draws())[0]
    chosen = FIBRES[problem].split(estimator(y, z))[1]
    (gradient,) = torch.autograd.grad(chosen.square().sum(), y)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-6


@every_fibre
@every_family
def test_the_loss_is_a_number_that_trains_all_that_a_sample_uses(family, problem):
    estimator, x = network(family, problem), data(problem)
    loss = estimator.loss(x, generator=draws())
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    for name, parameter in estimator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert torch.equal(estimator.loss(x, generator=draws()), loss)
    assert not torch.equal(estimator.loss(x, generator=draws(3)), loss)


@every_family
def test_a_few_updates_lower_the_loss(family):
    estimator = network(family, "digits")
    generator, x = draws(), data("digits", 64)
    optimizer = torch.optim.Adam(estimator.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = estimator.loss(x, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize(
    ("family", "evaluations"),
    [("flow", 6), ("pmrf", 7), ("ddim", 3), ("ancestral", 3), ("ddrm", 3), ("vae", 1)],
)
def test_evaluations_are_how_often_a_network_is_asked(family, evaluations):
    """The coupling flow has one for each coupling, and its encoder only trains."""
    estimator, y = network(family, "digits"), observed("digits")
    asked = []
    for name, module in estimator.named_children():
        if name != "fibre":
            module.register_forward_hook(lambda *_, name=name: asked.append(name))
    estimator(y, estimator.seed(y, 1, generator=draws())[0])
    assert len(asked) == estimator.evaluations == evaluations


# --- Networks that are replaced by the exact answers of a Gaussian -------------------------------


def gaussian_pairs(n=100_000, slope=0.5, width=0.3):
    """u = slope·a + N(0, width²) on the toy's fibre."""
    a = torch.randn(n, 1, generator=draws())
    return a, slope * a + width * torch.randn(n, 1, generator=draws(3))


class Exact(nn.Module):
    """Stands where a timed network does."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *vectors, t):
        return self.answer(*vectors, t)


def flow_answer(a, u, t, slope=0.5, width=0.3):
    """Of test_samplers' flow velocity, around the mean slope·a."""
    mean, variance = slope * a, (1 - t) ** 2 + (t * width) ** 2
    return mean + (t * width**2 - (1 - t)) / variance * (u - t * mean)


def diffusion_answer(a, u, t, slope=0.5, width=0.3):
    cos, sin = (math.pi / 2 * t).cos(), (math.pi / 2 * t).sin()
    gap = (u - cos * slope * a) / (cos**2 * width**2 + sin**2)
    return cos * sin * gap - sin * (slope * a + cos * width**2 * gap)


def off(answer):
    """A slightly wrong one."""
    return lambda a, u, t: answer(a, u, t) + 0.1 * u.sign()


@pytest.mark.parametrize(
    ("family", "part", "answer"),
    [("flow", "velocity", flow_answer), ("ddim", "predictor", diffusion_answer)],
)
def test_the_exact_answer_has_the_least_loss(family, part, answer):
    """Adding ±0.1 costs 0.01: the answer is the conditional mean of the target, given all."""
    a, u = gaussian_pairs()
    estimator = network(family, "toy")
    losses = []
    for each in (answer, off(answer)):
        setattr(estimator, part, Exact(each))
        losses.append(float(estimator.fit(a, u, draws(7))))
    assert losses[1] - losses[0] == pytest.approx(0.01, abs=2e-3)


@pytest.mark.parametrize(
    ("family", "part", "answer"),
    [
        ("flow", "velocity", flow_answer),
        ("ddim", "predictor", diffusion_answer),
        ("ancestral", "predictor", diffusion_answer),
    ],
)
def test_with_the_exact_answer_samples_are_those_of_the_posterior(family, part, answer):
    estimator = {
        "flow": RectifiedFlow(FIBRES["toy"], 8, 60),
        "ddim": Diffusion(FIBRES["toy"], 8, 60, path=False),
        "ancestral": Diffusion(FIBRES["toy"], 8, 60, path=True),
    }[family]
    setattr(estimator, part, Exact(answer))
    a = torch.full((4000, 1), 1.2)
    u = estimator.choose(a, torch.randn(4000, estimator.seed_dims, generator=draws()))
    assert float(u.mean()) == pytest.approx(0.6, abs=0.02)
    assert float(u.std()) == pytest.approx(0.3, abs=0.03)


def test_ddrm_s_network_sees_known_numbers_first():
    estimator = network("ddrm", "digits")
    seen = []
    estimator.predictor = Exact(lambda u, t: seen.append((u, t)) or 0 * u)
    a = torch.full((2, 16), 7.0)
    z = torch.zeros(2, STEPS, 64)
    assert estimator.choose(a, z.flatten(1)).shape == (2, 48)
    assert [float(t) for _, t in seen] == pytest.approx([1, 2 / 3, 1 / 3])
    for (u, _), angle in zip(seen[1:], (math.pi / 3, math.pi / 6), strict=True):
        torch.testing.assert_close(u[:, :16], math.cos(angle) * a)
        assert not u[:, 16:].any()


def test_a_path_s_seed_is_one_noise_for_each_step_in_order():
    z = torch.arange(12.0).view(2, 6)
    assert torch.equal(families._path(z, 3)[:, 0], torch.tensor([[0.0, 1], [2, 3], [4, 5]]))
    assert torch.equal(families._path(z, 3)[1], torch.tensor([[2.0, 3], [8, 9]]))


# --- PMRF --------------------------------------------------------------------------------------


def test_pmrf_starts_at_the_mean_and_its_noise():
    estimator = network("pmrf", "digits")
    a, _ = FIBRES["digits"].split(data("digits"))
    z = torch.randn(len(a), 48, generator=draws())
    estimator.velocity = Exact(lambda a, u, t: torch.zeros_like(u))
    torch.testing.assert_close(estimator.choose(a, z), estimator.mean(a) + 0.1 * z)
    estimator.source_noise = 0.0
    torch.testing.assert_close(estimator.choose(a, z), estimator.mean(a))


def test_the_mean_of_pmrf_is_an_estimator_with_no_seed():
    pmrf, y = network("pmrf", "digits"), observed("digits")
    mean = PosteriorMeanOf(pmrf)
    z = mean.seed(y, 2, generator=draws())
    assert z.shape == (2, len(y), 1)
    assert not z.any()
    a, _ = FIBRES["digits"].split(data("digits"))
    torch.testing.assert_close(FIBRES["digits"].split(mean(y, z[0]))[1], pmrf.mean(a))
    assert torch.equal(mean(y, z[0]), mean(y, z[1] + 3))
    x = data("digits")
    expected = (pmrf.mean(a) - FIBRES["digits"].split(x)[1]).square().mean()
    torch.testing.assert_close(mean.loss(x, generator=draws()), expected)


def test_the_flow_of_pmrf_trains_no_mean():
    """The mean's gradient is that of its own squared error."""
    pmrf, x = network("pmrf", "digits"), data("digits")
    pmrf.loss(x, generator=draws()).backward()
    found = [p.grad.clone() for p in pmrf.mean.parameters()]
    pmrf.zero_grad()
    PosteriorMeanOf(pmrf).loss(x, generator=draws()).backward()
    for gradient, parameter in zip(found, pmrf.mean.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


# --- VAE ---------------------------------------------------------------------------------------


class Fixed(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


def test_the_bound_of_a_linear_gaussian_vae_is_its_likelihood():
    """u = a + Lz + d·n, and the encoder is the exact posterior of z: no gap is left.

    Then the loss is −log N(u; a, L² + d²) with d's and the π's constants: −log d − log √2π less.
    """
    gain, width = 0.8, 0.3
    variance = gain**2 + width**2
    vae = ConditionalVAE(FIBRES["toy"], 8, 1, width)
    vae.decoder = Fixed(lambda x: x[:, :1] + gain * x[:, 1:])
    std = width / math.sqrt(variance)

    def encoder(x):
        a, u = x[:, :1], x[:, 1:]
        mean = gain / variance * (u - a)
        return torch.cat([mean, torch.full_like(mean, math.log(std))], 1)

    vae.encoder = Fixed(encoder)
    a = torch.randn(200_000, 1, generator=draws())
    u = a + math.sqrt(variance) * torch.randn(a.shape, generator=draws(3))
    likelihood = (u - a).square().mean() / 2 / variance + math.log(variance) / 2
    found = vae.fit(a, u, draws(4))
    assert float(found) == pytest.approx(float(likelihood) - math.log(width), abs=0.01)


def test_the_divergence_of_a_vae_is_torch_s():
    """With a decoder that is right, nothing else is left; it is a mean over the numbers of u."""
    vae = network("vae", "digits")
    a, u = FIBRES["digits"].split(data("digits"))
    vae.decoder = Fixed(lambda x: u)
    mean, log_std = vae.encoder(torch.cat([a, u], 1)).chunk(2, 1)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0))
    expected = divergence.sum(1).mean() / 48
    torch.testing.assert_close(vae.fit(a, u, draws()), expected)


# --- Coupling flow -----------------------------------------------------------------------------


@every_fibre
def test_encoding_inverts_sampling(problem):
    flow = network("coupling", problem).double()
    fibre = FIBRES[problem]
    a = torch.randn(5, fibre.known, generator=draws(), dtype=torch.float64)
    z = torch.randn(5, flow.dims, generator=draws(3), dtype=torch.float64)
    kept = []
    for coupling in flow.couplings:
        coupling.register_forward_hook(lambda *_: kept.append(1))
    u, determinant = flow.encode(a, z)  # any point is a sample of some seed
    assert len(kept) == 4
    assert determinant.shape == (5,)
    back = torch.stack([flow.choose(a, u), z[:, : fibre.open]])
    torch.testing.assert_close(back[0], back[1], atol=1e-10, rtol=0)


@every_fibre
def test_the_determinant_is_that_of_autograd(problem):
    flow = network("coupling", problem).double()
    a = torch.randn(1, FIBRES[problem].known, generator=draws(), dtype=torch.float64)
    u = torch.randn(1, flow.dims, generator=draws(3), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda u: flow.encode(a, u)[0][0], u)[:, 0]
    _, expected = torch.linalg.slogdet(jacobian)
    torch.testing.assert_close(flow.encode(a, u)[1][0], expected)


def test_each_coupling_moves_every_second_number_by_turns():
    """And leaves the others to the bit."""
    flow = CouplingFlow(FIBRES["digits"], 8, 1)
    a, z = torch.randn(3, 16, generator=draws()), torch.randn(3, 48, generator=draws(3))
    moved = flow.choose(a, z) != z
    assert moved[:, ::2].all()
    assert not moved[:, 1::2].any()
    assert (CouplingFlow(FIBRES["digits"], 8, 2).choose(a, z) != z).all()


def test_the_likelihood_of_an_untouched_flow_is_that_of_the_normal():
    flow = CouplingFlow(FIBRES["digits"], 8, 2)
    for parameter in flow.parameters():
        nn.init.zeros_(parameter)
    a, u = FIBRES["digits"].split(data("digits"))
    expected = u.square().sum(1).mean() / 2 / 48
    torch.testing.assert_close(flow.fit(a, u, draws()), expected)


def test_a_coupling_flow_with_scaled_numbers_has_their_likelihood():
    """u = 2z exactly: log|∂z/∂u| = −log 2 a number."""
    flow = CouplingFlow(FIBRES["digits"], 8, 2)
    for parameter in flow.parameters():
        nn.init.zeros_(parameter)
    raw = 2 * math.atanh(math.log(2) / 2)
    for coupling in flow.couplings:
        nn.init.constant_(coupling[-1].bias[:24], raw)
    a, u = FIBRES["digits"].split(data("digits"))
    expected = (u / 2).square().sum(1).mean() / 2 / 48 + math.log(2)
    torch.testing.assert_close(flow.fit(a, u, draws()), expected)
    torch.testing.assert_close(flow.choose(a, u), 2 * u)


def test_no_coupling_scales_beyond_e_squared():
    flow = CouplingFlow(FIBRES["digits"], 8, 1)
    nn.init.constant_(flow.couplings[0][-1].bias[:24], 1e6)
    z = torch.ones(1, 48)
    assert flow.choose(torch.zeros(1, 16), z).max() < math.exp(2.1) + 2


def test_dequantisation_adds_noise_of_its_size():
    plain, noisy = CouplingFlow(FIBRES["digits"], 8, 2), CouplingFlow(FIBRES["digits"], 8, 2, 0.5)
    for flow in (plain, noisy):
        for parameter in flow.parameters():
            nn.init.zeros_(parameter)
    a, u = torch.zeros(2000, 16), torch.zeros(2000, 48)
    assert plain.fit(a, u, draws()).item() == 0
    assert noisy.fit(a, u, draws()).item() == pytest.approx(0.5**2 / 2, rel=0.02)


# --- Time --------------------------------------------------------------------------------------


def test_a_timed_network_takes_one_time_for_all_or_one_each():
    torch.manual_seed(0)
    net = families.TimedMLP(3, 2, 8)
    a, u = torch.randn(5, 1, generator=draws()), torch.randn(5, 2, generator=draws(3))
    same = net(a, u, t=torch.full((1, 1), 0.3))
    torch.testing.assert_close(net(a, u, t=torch.full((5, 1), 0.3)), same)
    times = torch.linspace(0, 1, 5)[:, None]
    each = torch.cat([net(a[i : i + 1], u[i : i + 1], t=times[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(net(a, u, t=times), each)
    assert not torch.allclose(net(a, u, t=torch.zeros(1, 1)), net(a, u, t=torch.ones(1, 1)))
