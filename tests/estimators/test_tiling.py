import pytest
import torch
from benchmarks.measure import isolated, peak_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

import sr_networks
from stochrestore.attacks import SignAttack, sign_attack
from stochrestore.errors import InputError
from stochrestore.estimators.base import restore
from stochrestore.estimators.tiling import Tiled
from stochrestore.networks.rrdb import RRDBNet

REACH = {"edsr": 10, "rrdb": 34, "srflow": 60}
"""Margins beyond the receptive fields of the test networks, pixels of y."""


def seeds(network, y, n=1):
    return network.seed(y, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["edsr", "rrdb", "srflow"])
@pytest.mark.parametrize("size", [(40, 52), (37, 51), (8, 8)])
def test_seams_are_below_a_grey_level(name, size):
    network, y = sr_networks.NETWORKS[name](), sr_networks.image(*size)
    z = seeds(network, y)[0]
    whole = network(y, z)
    tiled = Tiled(network, tile=16, margin=10)(y, z)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() <= max(1.0, whole.std().item()) / 255


@pytest.mark.parametrize("name", ["edsr", "rrdb", "srflow"])
def test_beyond_the_receptive_field_results_and_gradients_are_those_of_one_piece(name):
    network, y = sr_networks.NETWORKS[name]().double(), sr_networks.image(9, 91).double()
    z = seeds(network, y, 2)
    y.requires_grad_(True)
    whole, tiled = (
        restore(estimator, y, z)
        for estimator in (network, Tiled(network, tile=24, margin=REACH[name]))
    )
    torch.testing.assert_close(tiled, whole, atol=1e-9, rtol=0)
    gradients = [torch.autograd.grad(x.square().sum(), y)[0] for x in (whole, tiled)]
    assert sr_networks.relative_error(*gradients) < 1e-9


@settings(max_examples=20)
@given(h=st.integers(2, 40), w=st.integers(2, 40), tile=st.integers(1, 10), seed=st.integers(0, 99))
def test_every_pixel_comes_from_its_own_place_and_seed(h, w, tile, seed):
    flow = sr_networks.srflow()

    class Pointwise:
        """The seed's own pixel, added to that of y: no receptive field at all."""

        crop_seed = flow.crop_seed

        def __call__(self, y, z):
            even = torch.nn.functional.pad(y, (0, y.shape[-1] % 2, 0, y.shape[-2] % 2))
            split = z[:, 24 * even[0, 0].numel() :].unflatten(
                1, (6, *[2 * n for n in even.shape[-2:]])
            )
            near = torch.nn.functional.interpolate(split[:, :3], scale_factor=2.0)
            near = near[..., : 4 * y.shape[-2], : 4 * y.shape[-1]]
            return near + torch.nn.functional.interpolate(y, scale_factor=4.0)

    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(2, 3, h, w, generator=generator)
    z = flow.seed(y, 1, generator=generator)[0]
    assert torch.equal(Tiled(Pointwise(), tile=2 * tile, margin=2)(y, z), Pointwise()(y, z))


def test_without_a_margin_there_are_seams():
    network, y = sr_networks.rrdb(), sr_networks.image(32, 32)
    z = seeds(network, y)[0]
    assert (Tiled(network, tile=16, margin=0)(y, z) - network(y, z)).abs().max() > 1 / 255


def test_no_window_is_larger_than_tile_and_margins():
    sides = []

    def network(y, z):
        sides.append(max(y.shape[-2:]))
        return y.repeat_interleave(4, -1).repeat_interleave(4, -2)

    y = torch.rand(1, 3, 50, 90)
    x = Tiled(network, tile=16, margin=4)(y, torch.zeros(1, 1))
    assert max(sides) == 24
    assert torch.equal(x, network(y, None))


def attack_memory(tile):
    """Bytes that an attack on an image of 1024×1024 adds to the process."""
    torch.set_num_threads(1)
    network = sr_networks.fill(RRDBNet(16, 1, 4))
    y = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    estimator = Tiled(network, tile=tile, margin=8)
    before = peak_bytes()
    attack = SignAttack(8 / 255, 1)
    sign_attack(estimator, y, seeds(network, y), attack, generator=torch.Generator())
    return peak_bytes() - before


@pytest.mark.slow
def test_memory_of_a_large_image_is_that_of_a_window_and_of_the_result():
    whole, tiled = (isolated(attack_memory, tile) for tile in (256, 32))
    assert tiled <= whole / 2
    assert tiled <= 25 * 3 * 1024 * 1024 * 4  # several tensors of the result's size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 15}, "Tiled: tile: got 15; allowed: an even number ≥ 2"),
        ({"tile": 0}, "Tiled: tile: got 0"),
        ({"margin": -2}, "Tiled: margin: got -2; allowed: an even number ≥ 0"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Tiled(sr_networks.rrdb(), **options)
