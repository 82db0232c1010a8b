"""Precision and recall against the definition, its invariances, and piq."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.metrics.precision_recall import PrecisionRecall, knn_radii, precision_recall
from stochrestore.metrics.torchvision_ops import import_piq


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def clusters(seed=0, spread=1e-4):
    """Ten tight clusters for the real samples, five of them for the fake ones, (300, 80)."""
    centres = normal(10, 80)
    real = centres.repeat(30, 1) + spread * normal(300, 80, seed=seed + 1)
    fake = centres[:5].repeat(60, 1) + spread * normal(300, 80, seed=seed + 2)
    return real, fake


def by_definition(real, fake, k):
    """The definition, sample by sample, in float64."""

    def distance(a, b):
        return (a.double() - b.double()).square().sum().sqrt().item()

    def radius(x, i):
        return sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    between = [[distance(x, y) for y in fake] for x in real]
    rows, columns = range(len(real)), range(len(fake))
    precise = [any(between[i][j] <= real_radii[i] for i in rows) for j in columns]
    recalled = [any(between[i][j] <= fake_radii[j] for j in columns) for i in rows]
    return PrecisionRecall(sum(precise) / len(fake), sum(recalled) / len(real))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    dims=st.sampled_from([1, 2, 70]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    offset=st.sampled_from([0.0, 1e4]),
    lattice=st.booleans(),
    tile=st.sampled_from([1, 5, 2048]),
)
def test_the_definition(data, dims, dtype, offset, lattice, tile):
    """Whatever the rounding of products: offsets, duplicates and ties of a lattice included."""
    n, m = data.draw(st.integers(2, 20)), data.draw(st.integers(2, 20))
    k = data.draw(st.integers(1, min(n, m) - 1))
    real, fake = normal(n, dims, seed=n), normal(m, dims, seed=100 + m)
    if lattice:
        real, fake = real.round(), fake.round()
    real, fake = (real + offset).to(dtype), (fake + offset).to(dtype)
    assert precision_recall(real, fake, k, tile=tile) == by_definition(real, fake, k)


@pytest.mark.parametrize("spread", [1e-2, 1e-5])
def test_tight_clusters_beyond_the_resolution_of_float32_products(spread):
    real, fake = clusters(spread=spread)
    assert precision_recall(real[:60], fake[:60], 3) == by_definition(real[:60], fake[:60], 3)


def test_a_large_ball_behind_many_small_ones_closer_than_float32_products_resolve():
    places = normal(3, 1, 80)
    twins = (places + 1e-5 * normal(3, 15, 80, seed=1)).flatten(0, 1).repeat(2, 1)
    outer = (places + 3e-5 * normal(3, 4, 80, seed=2)).flatten(0, 1)
    fake = (places + 1e-6 * normal(3, 10, 80, seed=3)).flatten(0, 1)
    real = torch.cat([twins, outer])
    assert knn_radii(real, 1)[:90].max() == 0
    result = precision_recall(real, fake, 1)
    assert result == by_definition(real, fake, 1)
    assert result.precision > 0


def test_near_duplicates_beyond_the_resolution_of_float64_products():
    line = 1e-12 * torch.arange(40, dtype=torch.float64)[:, None] + torch.zeros(1, 70)
    real, fake = torch.cat([line, line + 1e3]), line[1::2] + 3e-13
    assert precision_recall(real, fake, 2) == by_definition(real, fake, 2)
    distances = torch.cdist(real, real, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.allclose(knn_radii(real, 2), distances.kthvalue(3).values, rtol=1e-9, atol=0)


def test_radii_of_points_on_a_line():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert knn_radii(x, 1).tolist() == [1, 1, 2, 4]
    assert knn_radii(x, 2).tolist() == [3, 2, 3, 6]
    assert knn_radii(x, 3).tolist() == [7, 6, 4, 7]


def test_a_sample_on_the_sphere_counts_and_one_beyond_it_does_not():
    real = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    on = torch.tensor([[2.0], [9.0]], dtype=torch.float64)
    assert precision_recall(real, on, 1).precision == 0.5
    assert precision_recall(real, on + 1e-12, 1).precision == 0


def test_one_mode_of_two_is_precise_and_half_recalled():
    mode = normal(50, 3)
    real = torch.cat([mode, mode + 1000])
    assert precision_recall(real, mode, 3) == (1.0, 0.5)
    assert precision_recall(mode, real, 3) == (0.5, 1.0)


@pytest.mark.parametrize("dims", [2, 128])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("tile", [7, 2048])
def test_a_set_covers_itself(dims, k, tile):
    for x in (normal(150, dims), normal(150, dims).round(), normal(75, dims).repeat(2, 1)):
        assert precision_recall(x, x, k, tile=tile) == (1.0, 1.0)
        shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
        assert precision_recall(x, shuffled, k, tile=tile) == (1.0, 1.0)


@pytest.mark.parametrize("dims", [2, 128])
def test_memory_is_bounded_by_tiles_that_change_nothing(dims):
    """No distance depends on the tiles, so neither do the results, whatever their side."""
    real, fake = normal(301, dims), 0.9 * normal(260, dims, seed=1)
    whole = precision_recall(real, fake, 3)
    assert 0 < whole.recall < 1
    assert all(precision_recall(real, fake, 3, tile=tile) == whole for tile in (16, 100, 260))


def test_no_tile_is_larger_than_asked(monkeypatch):
    module = sys.modules[precision_recall.__module__]
    shapes = []
    original = module._linear
    monkeypatch.setattr(
        module, "_linear", lambda *args: shapes.append((out := original(*args)).shape) or out
    )
    precision_recall(*clusters(), 3, tile=32)
    assert max(max(shape) for shape in shapes) == 32


@pytest.mark.parametrize("dims", [2, 70])
def test_order_does_not_matter(dims):
    real, fake = normal(120, dims), 0.9 * normal(110, dims, seed=1)
    order = torch.randperm(110, generator=torch.Generator().manual_seed(2))
    expected = precision_recall(real, fake, 3)
    assert precision_recall(real.flip(0), fake[order], 3) == expected


@pytest.mark.parametrize("dims", [2, 70])
def test_rigid_motions_do_not_matter(dims):
    real = normal(120, dims, dtype=torch.float64)
    fake = 0.9 * normal(110, dims, seed=1, dtype=torch.float64)
    rotation = torch.linalg.qr(normal(dims, dims, seed=2, dtype=torch.float64)).Q
    moved = precision_recall(real @ rotation + 50, fake @ rotation + 50, 3)
    assert moved == precision_recall(real, fake, 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), dims=st.sampled_from([1, 2, 70]))
def test_a_larger_k_lowers_nothing(seed, dims):
    real, fake = normal(30, dims, seed=seed), 0.7 * normal(25, dims, seed=seed + 1) + 0.3
    results = [precision_recall(real, fake, k) for k in (1, 2, 4, 8, 24)]
    for column in zip(*results, strict=True):
        assert list(column) == sorted(column)


def test_swapping_the_sets_swaps_the_shares():
    real, fake = normal(90, 5), 0.8 * normal(100, 5, seed=1)
    assert precision_recall(real, fake, 3) == precision_recall(fake, real, 3)[::-1]


@pytest.mark.parametrize("mode", ["exact", "piq"])
def test_radii_computed_before_give_the_same(mode):
    real, fake = normal(90, 5), 0.8 * normal(100, 5, seed=1)
    radii = knn_radii(real, 3, mode=mode)
    given_radii = precision_recall(real, fake, 3, mode=mode, real_radii=radii)
    assert given_radii == precision_recall(real, fake, 3, mode=mode)


def test_radii_given_are_the_ones_used():
    real, fake = normal(90, 5), 0.8 * normal(100, 5, seed=1)
    assert precision_recall(real, fake, 3, real_radii=torch.zeros(90)).precision == 0
    assert precision_recall(real, fake, 3, real_radii=torch.full((90,), 99.0)).precision == 1


@pytest.mark.parametrize(
    ("n", "m", "dims", "k"), [(1000, 1000, 2, 5), (400, 300, 64, 3), (20, 22, 3, 2)]
)
def test_piq_numbers_with_their_defect(n, m, dims, k):
    real, fake = normal(n, dims), 0.9 * normal(m, dims, seed=1)
    precision, recall = (v.item() for v in import_piq().PR(nearest_k=k)(real, fake))
    ours = precision_recall(real, fake, k, mode="piq")
    assert ours == pytest.approx((precision, recall), abs=1e-6)
    tiled = precision_recall(real, fake, k, mode="piq", tile=128)
    assert tiled == pytest.approx((precision, recall), abs=2.5 / min(n, m))


def test_piq_inflates_recall_in_high_dimension():
    """A real sample counts where some distance is close to its own radius: chance, not cover."""
    real, fake = normal(2000, 64), 0.6 * normal(2000, 64, seed=1)
    assert precision_recall(real, fake, 5).recall < 0.01
    assert precision_recall(real, fake, 5, mode="piq").recall > 0.03


def test_no_gradient_is_taken():
    real = normal(20, 3).requires_grad_(True)
    assert precision_recall(real, normal(20, 3, seed=1), 2) == precision_recall(
        real.detach(), normal(20, 3, seed=1), 2
    )
    assert not knn_radii(real, 2).requires_grad


GOOD = normal(20, 3)
BAD_ROWS = GOOD.index_put((torch.tensor([4, 7]), torch.tensor([0, 1])), torch.tensor(math.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"real: k: got 0; allowed: an integer, 1 ≤ k < N = 20"),
        ({"k": 20}, r"real: k: got 20"),
        ({"k": 1.5}, r"real: k: got 1\.5"),
        ({"k": True}, r"real: k: got True"),
        ({"fake": GOOD[:3]}, r"fake: k: got 3; allowed: an integer, 1 ≤ k < N = 3"),
        ({"real": GOOD[:0]}, r"real: shape"),
        ({"real": GOOD[:, :0]}, r"real: shape"),
        ({"real": GOOD[0]}, r"real: shape: got \(3,\)"),
        ({"fake": GOOD[None]}, r"fake: shape: got \(1, 20, 3\)"),
        ({"real": BAD_ROWS}, r"real: rows with NaN.*got \[4, 7\]"),
        ({"fake": GOOD / 0}, r"fake: rows with NaN.*got \[0, 1, 2, 3, 4\]"),
        ({"fake": GOOD * 1e16}, r"fake: rows with NaN, infinity or ≥ 1e\+15"),
        ({"real": GOOD.half()}, r"real: dtype: got torch\.float16; allowed: torch\.float32"),
        ({"fake": GOOD.double()}, r"dims, dtype, device of fake"),
        ({"fake": GOOD[:, :2]}, r"dims, dtype, device of fake: got \(2,"),
        ({"mode": "approximate"}, r"mode: got 'approximate'; allowed: 'exact' or 'piq'"),
        ({"real_radii": torch.ones(19)}, r"real_radii: shape: got \(19,\); allowed: \(20,\)"),
        ({"real_radii": -torch.ones(20)}, r"real_radii: values: got \[-1\.0\]"),
        ({"real_radii": torch.ones(20) / 0}, r"real_radii: values: got \[inf\]"),
        ({"tile": 0}, r"tile: got 0; allowed: an integer ≥ 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        precision_recall(**{"real": GOOD, "fake": normal(20, 3, seed=1), "k": 3, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k": 20}, "k: got 20"), ({"x": BAD_ROWS}, "NaN"), ({"mode": "x"}, "mode")],
)
def test_bad_input_of_the_radii(arguments, message):
    with pytest.raises(InputError, match=message):
        knn_radii(**{"x": GOOD, "k": 3, **arguments})


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", [2, 128])
def test_the_same_in_small_tiles_on_every_device(dims, device):
    real, fake = normal(500, dims), 0.9 * normal(500, dims, seed=1)
    there = precision_recall(real.to(device), fake.to(device), 3, tile=128)
    assert there == precision_recall(real, fake, 3)
