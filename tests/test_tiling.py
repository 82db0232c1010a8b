import pytest
import torch

import sr_networks
from stochrestore.errors import InputError
from stochrestore.estimators.tiling import restore_in_tiles


@pytest.mark.parametrize("name", ["edsr", "rrdb", "srflow"])
@pytest.mark.parametrize("size", [(40, 52), (37, 51), (8, 8)])
def test_seams_are_below_a_grey_level(name, size):
    network, y = sr_networks.NETWORKS[name](), sr_networks.image(*size)
    z = network.seed(y, 1, generator=torch.Generator().manual_seed(0))[0]
    whole = network(y, z)
    tiled = restore_in_tiles(network, y, z, tile=16, margin=10)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() <= max(1.0, whole.std().item()) / 255


def test_without_a_margin_there_are_seams():
    network, y = sr_networks.rrdb(), sr_networks.image(32, 32)
    z = network.seed(y, 1, generator=torch.Generator())[0]
    tiled = restore_in_tiles(network, y, z, tile=16, margin=0)
    assert (tiled - network(y, z)).abs().max() > 1 / 255


def test_no_window_is_larger_than_tile_and_margins():
    sides = []

    def network(y, z):
        sides.append(max(y.shape[-2:]))
        return y.repeat_interleave(4, -1).repeat_interleave(4, -2)

    y = torch.rand(1, 3, 50, 90)
    x = restore_in_tiles(network, y, torch.zeros(1, 1), tile=16, margin=4)
    assert torch.equal(x, network(y, None))
    assert max(sides[:-1]) == 24


def test_odd_tiles_are_refused():
    with pytest.raises(InputError, match="tile: got 15"):
        restore_in_tiles(sr_networks.rrdb(), torch.rand(1, 3, 8, 8), torch.zeros(1, 1), tile=15)
