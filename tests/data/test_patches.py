"""Natural patches: where they come from, that no pixel leaks, that they are repeatable."""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stochrestore.data import patches as module
from stochrestore.data.images import ByteImages, load_images
from stochrestore.data.patches import SOURCES, TILE, natural_patches, tiles
from stochrestore.data.photographs import Source, photograph
from stochrestore.errors import InputError


def use(monkeypatch, photographs):
    """These photographs, (3, H, W) uint8, in place of the real ones."""
    names = {str(i): Source("test", "none") for i in range(len(photographs))}
    monkeypatch.setattr(module, "SOURCES", names)
    monkeypatch.setattr(module, "photograph", lambda name: photographs[int(name)])


def chessboard(size=512, *, first=0):
    """A photograph whose pixels are 0 in tiles for training and 255 in those for validation."""
    x = torch.empty(3, size, size, dtype=torch.uint8)
    for value, part in zip((0, 255), tiles(x), strict=True):
        for tile in part:
            tile.fill_(value)
    x[0] = first
    return x


def test_sources_are_colour_photographs_with_licences():
    for name, source in SOURCES.items():
        x = photograph(name)
        assert source.licence, name
        assert min(x.shape[1:]) >= 2 * TILE
        assert not torch.equal(x[0], x[1])


def test_sources_come_with_the_packages_and_are_not_fetched(monkeypatch):
    import socket

    def refuse(*_, **__):
        pytest.fail("asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in SOURCES:
        photograph(name)


@given(st.integers(TILE, 1000), st.integers(TILE, 1000))
def test_tiles_cover_a_photograph_once(height, width):
    x = torch.zeros(1, height, width)
    parts = tiles(x)
    for tile in [*parts[0], *parts[1]]:
        assert min(tile.shape[1:]) >= TILE
        tile += 1
    assert (x == 1).all()
    assert 0 <= len(parts[0]) - len(parts[1]) <= 1


@pytest.mark.parametrize("size", [1, 8, 16, 32, 64])
def test_no_pixel_serves_both_parts(size, monkeypatch):
    use(monkeypatch, [chessboard(first=10), chessboard(384, first=20)])
    train, validation = natural_patches(size, 0, 60, 60)
    assert (train[:, 1:] == 0).all()
    assert (validation[:, 1:] == 255).all()
    assert set(train[:, 0].unique().tolist()) == {10, 20}


@pytest.mark.parametrize(("size", "reductions"), [(8, {1, 2, 4, 8}), (32, {1, 2}), (64, {1})])
def test_patches_are_reduced_crops_of_any_place(size, reductions, monkeypatch):
    """Red counts rows, green counts columns: both step by the reduction, back where mirrored."""
    count = torch.arange(256, dtype=torch.uint8)
    use(monkeypatch, [torch.stack([count[:, None].expand(-1, 256), count.expand(256, -1)] * 2)[:3]])
    red, green, _ = natural_patches(size, 3, 400, 1)[0].int().unbind(1)
    step = red[:, 1, 0] - red[:, 0, 0]
    assert set(step.tolist()) == reductions
    assert (red.diff(dim=1) == step[:, None, None]).all()
    assert (red.diff(dim=2) == 0).all()
    across = green[:, 0, 1] - green[:, 0, 0]
    assert torch.equal(across.abs(), step)
    assert 120 < (across < 0).sum() < 280
    assert (green.diff(dim=2) == across[:, None, None]).all()
    for channel in (red, green):
        first, last = channel.flatten(1).amin(1), channel.flatten(1).amax(1)
        assert torch.equal(first // TILE, last // TILE)  # in one tile
        assert len((first % TILE)[step == 1].unique()) > 20
    assert torch.equal(red[:, 0, 0] // TILE, green[:, 0, 0] // TILE)  # a black one


def test_patches_depend_on_the_seed_alone():
    train, validation = natural_patches(16, 5, 300, 200)
    again = natural_patches(16, 5, 40, 30)
    assert torch.equal(again[0], train[:40])
    assert torch.equal(again[1], validation[:30])
    other = natural_patches(16, 6, 300, 200)
    assert not torch.equal(other[0], train)
    assert not torch.equal(train[:200], validation)
    assert len(train.unique(dim=0)) == 300


def test_patches_show_all_photographs_alike(monkeypatch):
    use(monkeypatch, [chessboard(256, first=i) for i in range(5)])
    firsts = natural_patches(8, 0, 4000, 1)[0][:, 0, 0, 0]
    assert (firsts.bincount() - 800).abs().max() < 120  # 4.7 standard deviations


def test_both_parts_show_the_same_scenes():
    """Their mean colours differ by less than what the colours of photographs do."""
    train, validation = (x.float().flatten(2).mean(2) for x in natural_patches(16, 0, 4000, 4000))
    between = torch.stack([photograph(n).float().flatten(1).mean(1) for n in SOURCES]).std(0)
    assert ((train.mean(0) - validation.mean(0)).abs() < between / 3).all()


def test_loaded_as_bytes():
    found = load_images("patches", 16, seed=1, training_images=50, validation_images=20)
    assert isinstance(found.train, ByteImages)
    assert found.train.shape == (50, 3, 16, 16)
    assert torch.equal(found.validation.pixels, natural_patches(16, 1, 50, 20)[1])


@pytest.mark.parametrize(("size", "seed"), [(65, 0), (0, 0), (16, -1), (16, 2**63)])
def test_out_of_range(size, seed):
    with pytest.raises(InputError, match=r"patches: (size: got (65|0)|seed: got)"):
        natural_patches(size, seed, 1, 1)


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError, match=r"patches: need scikit-image .*pip install"):
        natural_patches(16, 0, 1, 1)
