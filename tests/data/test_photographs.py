from itertools import pairwise, permutations

import pytest
import torch

from stochrestore.data.photographs import (
    HELD_OUT,
    PHOTOGRAPHS,
    TRAINING,
    Pair,
    Patches,
    digest,
    held_out_crops,
    photograph,
    training_pairs,
)
from stochrestore.data.resize import low_resolution
from stochrestore.errors import InputError


def test_split_by_photograph_and_licences_named():
    assert set(HELD_OUT).isdisjoint(TRAINING)
    assert set(HELD_OUT) | set(TRAINING) == set(PHOTOGRAPHS)
    assert all(source.licence for source in PHOTOGRAPHS.values())


def test_photographs_come_with_the_packages_and_have_three_channels():
    for name in PHOTOGRAPHS:
        pixels = photograph(name)
        assert pixels.shape[0] == 3
        assert pixels.dtype == torch.uint8
    assert torch.equal(photograph("camera")[0], photograph("camera")[2])
    with pytest.raises(InputError, match="photograph: got 'lena'"):
        photograph("lena")


def test_crops_are_held_out_and_do_not_overlap():
    crops = held_out_crops(96, 3)
    assert len(crops) == 3 * len(HELD_OUT)
    first = photograph(HELD_OUT[0]).float() / 255
    _, height, width = first.shape
    row = first[:, (height - 96) // 2 :][:, :96]
    columns = [x for crop in crops[:3] for x in range(width - 95) if _at(row, crop, x)]
    assert len(columns) == 3
    assert all(b - a >= 96 for a, b in pairwise(columns))
    with pytest.raises(InputError, match="held_out_crops: side: got 400"):
        held_out_crops(400, 1)


def _at(row, crop, column):
    return torch.equal(row[:, :, column : column + 96], crop)


def ramp_pair(h=40, w=48):
    high = torch.arange(h * w).remainder(251).byte().reshape(1, h, w).expand(3, -1, -1).contiguous()
    return Pair(high, low_resolution(high))


def test_patches_of_both_resolutions_show_the_same_place():
    patches = Patches(training_pairs()[:4], 8)
    x, y = patches.draw(16, generator=torch.Generator().manual_seed(0))
    assert x.shape == (16, 3, 32, 32)
    assert y.shape == (16, 3, 8, 8)
    again = low_resolution((255 * x).round().byte()).float() / 255
    inside = (..., slice(2, -2), slice(2, -2))  # borders were not borders in the photograph
    # A turned patch is rounded along its other axis first: up to two grey levels.
    assert (again - y)[inside].abs().max() <= 2.01 / 255
    assert (again - y)[inside].abs().mean() <= 0.2 / 255


def test_patches_are_decided_by_the_generator_and_vary():
    patches = Patches([ramp_pair()], 4)
    first, again, other = (
        patches.draw(3, generator=torch.Generator().manual_seed(s))[0] for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(InputError, match="Patches: side"):
        Patches([ramp_pair()], 20)


def test_channels_in_random_order_are_the_same_in_both_resolutions():
    levels = torch.arange(3).byte()[:, None, None].expand(3, 64, 64).contiguous()
    patches = Patches([Pair(levels, low_resolution(levels))], 8, permute_colours=True)
    x, y = patches.draw(64, generator=torch.Generator().manual_seed(0))
    orders = (255 * x[:, :, 0, 0]).round().int()
    assert torch.equal(orders, (255 * y[:, :, 0, 0]).round().int())
    assert {tuple(order) for order in orders.tolist()} == set(permutations(range(3)))
    assert (x == x[:, :, :1, :1]).all()


def test_digest_changes_with_any_pixel():
    pair = ramp_pair()
    before = digest([pair])
    pair.low[0, 0, 0] += 1
    assert digest([pair]) != before
