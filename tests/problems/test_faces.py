"""Procedural faces: what is known, what is hidden, and that the posterior is what it says."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import avg_pool2d

from stochrestore.errors import InputError
from stochrestore.estimators.base import restore
from stochrestore.estimators.face_posterior import FacePosterior
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE, Latents

SIZES = (16, 32, 64, 128)


def posterior(faces, latents, n, generator):
    """n exact samples of p(X | Y) for each face: (n, N, 3, S, S)."""
    sampler = FacePosterior(faces, latents)
    y = faces.render(latents)[:, :, -faces.known_rows :]
    return restore(sampler, y, sampler.seed(y, n, generator=generator))


def moved(uniforms, column, by):
    other = uniforms.clone()
    other[:, column] = (other[:, column] + by) % 1
    return other


@pytest.mark.parametrize("size", SIZES)
def test_hidden_latents_never_touch_the_known_rows(size, generator):
    faces = Faces(size)
    latents = faces.latents(3, 0, 32)
    x, known = faces.render(latents), size - size // 4
    extremes = torch.randint(0, 2, latents.hidden.shape, generator=generator) * (1 - 2**-24)
    for hidden in (torch.rand(latents.hidden.shape, generator=generator), extremes.float()):
        other = faces.render(Latents(latents.visible, hidden))
        assert torch.equal(other[:, :, known:], x[:, :, known:])
        assert ((other - x)[:, :, :known].abs().amax(dim=(1, 2, 3)) > 0.2).all()


@settings(max_examples=15)
@given(st.sampled_from([8, 16, 24]), st.data())
def test_any_number_of_rows_may_be_known(size, data):
    known_rows = data.draw(st.integers(1, size - 1))
    faces = Faces(size, known_rows)
    latents = faces.latents(data.draw(st.integers(0, 2**64 - 1)), 0, 2)
    draws = posterior(faces, latents, 3, torch.Generator().manual_seed(1))
    known = faces.render(latents)[:, :, size - known_rows :]
    assert torch.equal(draws[:, :, :, size - known_rows :], known.expand(3, -1, -1, -1, -1))


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("column", range(len(HIDDEN)), ids=[latent.name for latent in HIDDEN])
def test_every_hidden_latent_is_seen_in_the_upper_rows(column, size):
    faces = Faces(size)
    latents = faces.latents(0, 0, 64)
    other = Latents(latents.visible, moved(latents.hidden, column, 0.4))
    change = (faces.render(other) - faces.render(latents)).abs().amax(dim=(1, 2, 3))
    assert (change > 2 / 255).float().mean() > 0.1


@pytest.mark.parametrize("size", [16, 32, 64])
def test_visible_latents_can_be_read_off_the_known_rows(size):
    """The Jacobian of the known rows has full rank: no visible latent can hide, so p(X|Y) is
    the distribution with the visible latents fixed."""
    faces = Faces(size)
    latents = faces.latents(1, 0, 8)
    visible = latents.visible.double()
    columns = [i for i, latent in enumerate(VISIBLE) if not latent.classes]
    step = torch.where(visible < 0.5, 1e-5, -1e-5)

    def known(visible):
        return faces.render(Latents(visible, latents.hidden.double()))[:, :, size - size // 4 :]

    slopes = []
    for i in columns:
        shifted = visible.clone()
        shifted[:, i] += step[:, i]
        slopes.append(((known(shifted) - known(visible)) / 1e-5).flatten(1))
    smallest = torch.linalg.svdvals(torch.stack(slopes, dim=1))[:, -1]
    assert (smallest > 1e-3).all()


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("name", ["neckline", "pattern"])
def test_visible_classes_can_be_told_apart(name, size):
    faces = Faces(size)
    latents = faces.latents(2, 0, 32)
    column = [latent.name for latent in VISIBLE].index(name)
    edges = torch.tensor([0.0, *VISIBLE[column].weights]).cumsum(0)
    known = []
    for middle in (edges[1:] + edges[:-1]) / 2:
        visible = latents.visible.clone()
        visible[:, column] = middle
        known.append(faces.render(Latents(visible, latents.hidden))[:, :, size - size // 4 :])
    for i, first in enumerate(known):
        for second in known[:i]:
            assert ((first - second).abs().amax(dim=(1, 2, 3)) > 4 / 255).all()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=20)
def test_an_image_depends_on_its_seed_and_number_alone(seed, start, count, batch):
    faces = Faces(16)
    together = faces.images(seed, start, start + count)
    assert torch.equal(faces.images(seed, start, start + count, batch=batch), together)
    last = start + count - 1
    assert torch.equal(faces.images(seed, last, last + 1)[0], together[-1])


def test_the_faces_are_those_the_shipped_weights_were_trained_on():
    """Pinned: another drawing would need other weights."""
    images = Faces(32).images(0, 0, 64)
    digest = hashlib.sha256((images * 255).round().byte().numpy().tobytes()).hexdigest()
    assert digest == "9e29a26aa1e0f0ad15ea7d84603668827d7177b3f006fd5882959aac86b6a482"


@pytest.mark.parametrize("size", SIZES)
def test_images_are_float32_in_the_unit_interval(size):
    x = Faces(size).images(5, 0, 64)
    assert x.shape == (64, 3, size, size)
    assert x.dtype == torch.float32
    assert 0 <= x.min() < 0.2
    assert 0.8 < x.max() <= 1


@pytest.mark.parametrize("size", [16, 32, 64])
def test_sizes_show_the_same_picture(size):
    """Twice the size, averaged over 2×2 pixels, differs by antialiasing alone."""
    small, large = (Faces(s).images(5, 0, 64) for s in (size, 2 * size))
    assert (avg_pool2d(large, 2) - small).abs().mean() < 0.4 / size


def test_latents_are_uniform_and_unequal():
    latents = Faces().latents(0, 0, 5000)
    table = torch.cat([latents.visible, latents.hidden], dim=1)
    assert table.min() >= 0
    assert table.max() < 1
    for column in table.unbind(1):
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-4
    correlation = torch.corrcoef(table.T) - torch.eye(table.shape[1])
    assert correlation.abs().max() < 5 / 5000**0.5
    assert not torch.equal(Faces().latents(1, 0, 5).visible, latents.visible[:5])


def test_targets_name_every_latent_once_with_the_frequencies_it_says():
    faces = Faces()
    continuous, classes = faces.targets(faces.latents(0, 0, 5000))
    categorical = [latent for latent in VISIBLE + HIDDEN if latent.classes]
    assert continuous.shape[1] + classes.shape[1] == len(VISIBLE) + len(HIDDEN)
    assert len({latent.name for latent in VISIBLE + HIDDEN}) == len(VISIBLE) + len(HIDDEN)
    for latent, index in zip(categorical, classes.unbind(1), strict=True):
        counts = index.bincount(minlength=len(latent.classes))
        assert sum(latent.weights) == pytest.approx(1)
        expected = [5000 * w for w in latent.weights]
        assert stats.chisquare(counts.numpy(), expected, sum_check=False).pvalue > 1e-4


def test_posterior_samples_have_the_law_of_the_unknown_rows(generator):
    """Averaged over Y, posterior samples are distributed as X: any statistic of the upper rows
    that the visible latents do not decide must agree."""
    faces = Faces(16)
    latents = faces.latents(7, 0, 1500)
    x, drawn = faces.render(latents), posterior(faces, latents, 1, generator)[0]
    for row, column in ((1, 8), (7, 6), (10, 8), (3, 3)):
        one, other = x[:, :, row, column].mean(1), drawn[:, :, row, column].mean(1)
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-3


def test_posterior_is_spread_repeatable_and_one_draw_for_each_input():
    faces = Faces(32)
    latents = faces.latents(7, 0, 4)
    first, second = (
        posterior(faces, latents, 16, torch.Generator().manual_seed(2)) for _ in range(2)
    )
    assert first.shape == (16, 4, 3, 32, 32)
    assert torch.equal(first, second)
    spread = first.std(0)[:, :, :24].mean(dim=(1, 2, 3))
    assert (spread > 0.05).all()
    same_hidden = Latents(latents.visible[:1].expand(4, -1), latents.hidden)
    hair = faces.render(same_hidden)[:, :, 4]
    assert not torch.equal(hair[0], hair[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Faces(30), "size: got 30; allowed: a multiple of 4"),
        (lambda: Faces(4), "size: got 4"),
        (lambda: Faces(16, 16), r"known_rows: got 16; allowed: an integer in \[1, 15\]"),
        (lambda: Faces(16, 0), "known_rows: got 0"),
        (lambda: Faces().latents(-1, 0, 1), "seed: got -1"),
        (lambda: Faces().latents(2**64, 0, 1), "seed"),
        (lambda: Faces().latents(0, 3, 2), r"got \(3, 2\); allowed: 0 ≤ start ≤ stop"),
        (lambda: Faces(16).images(0, 0, 2, batch=0), "batch: got 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_no_images_are_an_empty_tensor():
    assert Faces(16).images(0, 5, 5).shape == (0, 3, 16, 16)
