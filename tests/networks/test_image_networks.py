"""U-Net (Fig. 7), critic (Table 4), the MLP for small images, and inpainting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stochrestore.attacks import Attack
from stochrestore.degradations import Inpainting
from stochrestore.errors import InputError
from stochrestore.estimators.base import restore, sample
from stochrestore.estimators.face_posterior import FacePosterior
from stochrestore.losses import robustness_loss
from stochrestore.networks.mlp import ImageMLP
from stochrestore.networks.resnet_critic import ResNetCritic
from stochrestore.networks.unet import BatchNorm, StatisticsPerSeed, UNet
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import Latents


def face_posterior():
    faces = Faces(32)
    return FacePosterior(faces, faces.latents(3, 0, 5))


ESTIMATORS = {
    "U-Net 16": lambda: UNet(Inpainting(16), 16, 4, stochastic=True),
    "U-Net 32": lambda: UNet(Inpainting(32), 32, 4, stochastic=True),
    "U-Net 64, Z = 0": lambda: UNet(Inpainting(64), 64, 4, stochastic=False),
    "U-Net, gray": lambda: UNet(Inpainting(16), 16, 4, channels=1, stochastic=True),
    "MLP": lambda: ImageMLP(Inpainting(8), (1, 8, 8), 16, stochastic=True),
    "MLP, seed at the last layer": lambda: ImageMLP(
        Inpainting(8), (1, 8, 8), 16, stochastic=True, seed_dims=3, seed_layer=4
    ),
    "MLP, Z = 0": lambda: ImageMLP(Inpainting(8), (1, 8, 8), 16, stochastic=False),
}
every_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)


def images(estimator, n=5):
    shape = getattr(estimator, "shape", None)
    if shape is None:
        shape = (estimator.last.out_channels, *[estimator.seed_sides[0]] * 2)
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


@every_estimator
@pytest.mark.parametrize("training", [True, False])
def test_known_pixels_are_returned_to_the_bit(make, training, generator):
    estimator = make().train(training)
    x = images(estimator)
    y = estimator.degradation.degrade(x)
    restored = sample(estimator, y, generator=generator)
    assert restored.shape == x.shape
    assert torch.equal(estimator.degradation.degrade(restored), y)
    assert not torch.equal(restored, x)


@every_estimator
def test_one_flat_seed_a_sample(make, generator):
    estimator = make().eval()
    y = estimator.degradation.degrade(images(estimator))
    z = estimator.seed(y, 3, generator=generator)
    assert z.shape[:2] == (3, len(y))
    assert z.any() == estimator.stochastic
    together = restore(estimator, y, z)
    one_by_one = torch.stack([estimator(y, zi) for zi in z])
    assert torch.allclose(together, one_by_one, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0 or not estimator.stochastic


@every_estimator
def test_zero_seed_is_the_deterministic_network(make):
    """Deterministic = the same network with Z = 0 (App. E.1)."""
    estimator = make().eval()
    y = estimator.degradation.degrade(images(estimator))
    long = torch.zeros(len(y), getattr(estimator, "seed_dims", 0) or sum(
        side**2 for side in estimator.seed_sides))  # fmt: skip
    assert torch.equal(estimator(y, torch.zeros(len(y), 1)), estimator(y, long))


def test_each_part_of_the_seed_matters(generator):
    """Z₁, …, Z₄ enter at 16×16, 8×8, 4×4 and 2×2."""
    torch.manual_seed(0)
    network = UNet(Inpainting(16), 16, 4, stochastic=True).eval()
    y = network.degradation.degrade(images(network, 2))
    z = torch.zeros(2, 16**2 + 8**2 + 4**2 + 2**2)
    assert network.seed(y, 1, generator=generator).shape == (1, *z.shape)
    still = network(y, z)
    start = 0
    for side in (16, 8, 4, 2):
        moved = z.clone()
        moved[:, start : start + side**2] = 3.0
        assert not torch.equal(network(y, moved), still)
        start += side**2


def output_sizes(network, layers, x):
    sizes = []
    hooks = [
        m.register_forward_hook(lambda *a: sizes.append(tuple(a[2].shape[1:]))) for m in layers
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return sizes


def test_table_4_output_sizes():
    f = 4
    critic = ResNetCritic(64, f)
    blocks = [block for stage in critic.stages for block in stage]
    sizes = output_sizes(critic, [critic.first, *blocks], torch.rand(1, 3, 64, 64))
    widths = [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16]
    sides = [64, 64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2]
    assert sizes == [(w * f, s, s) for w, s in zip(widths, sides, strict=True)]
    assert critic.last.in_features == 16 * f * 2 * 2
    assert critic(torch.rand(3, 3, 64, 64)).shape == (3,)


@pytest.mark.parametrize("f", [16, 32])
def test_table_4_parameter_count(f):
    def conv(fan_in, fan_out):
        return 9 * fan_in * fan_out + fan_out

    rows = [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16)] + 4 * [(16, 16)]
    blocks = sum(
        conv(a * f, a * f) + conv(a * f, b * f) + (a * f * b * f if a != b else 0) for a, b in rows
    )
    expected = conv(3, f) + blocks + 16 * f * 2 * 2 + 1
    assert sum(p.numel() for p in ResNetCritic(64, f).parameters()) == expected


@pytest.mark.parametrize("s", [24, 32])
def test_figure_7_parameter_count(s):
    """Two 3×3 convolutions without bias, each with scale and shift; one channel for each Zᵢ."""

    def double(a, b):
        return 9 * a * b + 9 * b * b + 4 * b

    down = double(3, s) + double(s + 1, 2 * s) + double(2 * s + 1, 4 * s)
    down += double(4 * s + 1, 8 * s) + double(8 * s + 1, 8 * s)
    up = double(16 * s, 4 * s) + double(8 * s, 2 * s) + double(4 * s, s) + double(2 * s, s)
    network = UNet(Inpainting(64), 64, s, stochastic=True)
    assert sum(p.numel() for p in network.parameters()) == down + up + 9 * s * 3 + 3


@pytest.mark.parametrize(("size", "stages"), [(16, 4), (32, 5), (64, 6)])
def test_smaller_images_have_fewer_stages_and_end_at_2_by_2(size, stages):
    critic = ResNetCritic(size, 2)
    assert len(critic.stages) == stages
    assert critic(torch.rand(2, 3, size, size)).shape == (2,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(Inpainting(24), 24, 4, stochastic=True), "multiple of 16"),
        (lambda: ResNetCritic(48), "power of 2"),
        (lambda: ResNetCritic(8), "power of 2"),
        (lambda: Inpainting(8, 8), "1 to 7"),
        (lambda: Inpainting(8, 0), "1 to 7"),
        (lambda: ImageMLP(Inpainting(8), (1, 8, 8), stochastic=True, seed_layer=5), "0 to 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@given(size=st.integers(2, 20), data=st.data())
def test_inpainting_is_a_projection(size, data):
    known = data.draw(st.integers(1, size - 1))
    inpainting = Inpainting(size, known)
    x, other = torch.rand(2, 3, 2, size, size, generator=torch.Generator().manual_seed(size))
    y = inpainting.degrade(other)
    projected = inpainting.project(x, y)
    assert torch.equal(inpainting.degrade(projected), y)
    assert torch.equal(inpainting.project(projected, y), projected)
    assert torch.equal(inpainting.project(x, inpainting.degrade(x)), x)
    assert torch.equal(projected[..., : size - known, :], x[..., : size - known, :])
    assert torch.equal(inpainting.degrade(inpainting.lift(y)), y)
    assert not inpainting.lift(y)[..., : size - known, :].any()


class TestStatisticsPerSeed:
    def setup_method(self):
        torch.manual_seed(0)
        self.network = UNet(Inpainting(16), 16, 4, stochastic=True).double()
        self.measured = StatisticsPerSeed(self.network, 6)
        self.y = self.network.degradation.degrade(images(self.network, 6)).double()
        self.z = self.network.seed(self.y, 4, generator=torch.Generator().manual_seed(2))
        self.attack = Attack(0.6, 3, 1.0)

    def loss(self, attack):
        return robustness_loss(
            self.measured, self.y, self.z, attack, generator=torch.Generator().manual_seed(3)
        )

    def gradients(self, loss):
        return torch.autograd.grad(loss, list(self.network.parameters()))

    def test_each_seed_is_normalised_like_a_pass_of_its_own(self):
        together = restore(self.measured, self.y, self.z)
        for restored, z in zip(together, self.z, strict=True):
            assert torch.allclose(restored, self.network(self.y, z), atol=1e-12)

    def test_running_averages_stay_untouched(self):
        norms = [m for m in self.network.modules() if isinstance(m, BatchNorm)]
        before = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]
        self.gradients(self.loss(Attack(0.6, 3, 1.0, seeds_at_once=2)))
        for m, (mean, variance) in zip(norms, before, strict=True):
            assert torch.equal(m.running_mean, mean)
            assert torch.equal(m.running_var, variance)
        self.network(self.y, self.z[0])  # an ordinary pass moves them
        assert not torch.equal(norms[0].running_mean, before[0][0])

    @pytest.mark.parametrize("seeds_at_once", [1, 3])
    def test_fewer_seeds_at_once_give_the_same_loss_and_gradients(self, seeds_at_once):
        loss = self.loss(self.attack)
        other = self.loss(Attack(0.6, 3, 1.0, seeds_at_once=seeds_at_once))
        assert torch.allclose(loss, other, rtol=1e-9)
        for a, b in zip(self.gradients(loss), self.gradients(other), strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-10)


def test_posterior_sampler_keeps_the_known_rows_and_varies_the_others(generator):
    posterior, faces = face_posterior(), Faces(32)
    x = faces.render(posterior.latents)
    y = Inpainting(32).degrade(x)
    restored = restore(posterior, y, posterior.seed(y, 6, generator=generator))
    assert torch.equal(Inpainting(32).degrade(restored), y.expand(6, *y.shape))
    assert restored.std(0).mean() > 0.05
    hidden = torch.rand(6, *posterior.latents.hidden.shape, generator=generator)
    visible = posterior.latents.visible
    truth = torch.stack([faces.render(Latents(visible, drawn)) for drawn in hidden])
    assert truth.std(0).mean() == pytest.approx(restored.std(0).mean().item(), rel=0.35)


def test_critic_sees_every_pixel():
    critic = ResNetCritic(16, 2)
    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    assert (gradient != 0).all()
