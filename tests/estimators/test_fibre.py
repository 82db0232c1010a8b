"""Coordinates of what y tells and what it leaves open: complete, orthonormal and consistent."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.degradations import Averaging, FirstCoordinate, Inpainting, LinearDegradation
from stochrestore.estimators.fibre import Fibre, gram_schmidt

BLUR = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16
CASES = {
    "first coordinate": (FirstCoordinate(), (2,), 1),
    "quarter of digits": (Inpainting(8), (1, 8, 8), 16),
    "one row in colours": (Inpainting(4, 1), (3, 4, 5), 15),
    "all rows but one": (Inpainting(5, 4), (1, 5, 3), 12),
    "means of 2×2": (Averaging(2), (3, 4, 6), 18),
    "means of 4×4": (Averaging(4), (1, 8, 8), 4),
    "nothing deleted": (Averaging(1), (1, 3, 3), 9),
    "blur and every second pixel": (LinearDegradation(BLUR, 2, 6), (1, 6, 6), 9),
    "blur alone": (LinearDegradation(BLUR, 1, 6), (1, 6, 6), 25),
}
"""Each with the number of numbers that y tells."""
FIBRES = {}


def fibre_of(name):
    if name not in FIBRES:
        degradation, shape, _ = CASES[name]
        FIBRES[name] = Fibre(degradation, shape, centre=0.3, scale=2.5)
    return FIBRES[name]


def images(fibre, seed=0, n=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *fibre.shape, generator=generator)


def close(a, b, atol=2e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


every_case = pytest.mark.parametrize("name", CASES)


@every_case
def test_the_bases_are_orthonormal_and_complete(name):
    fibre = fibre_of(name)
    both = torch.cat([fibre.known_basis, fibre.open_basis])
    assert (fibre.known, fibre.open) == (CASES[name][2], math.prod(fibre.shape) - CASES[name][2])
    close(both @ both.T, torch.eye(len(both)), 1e-6)
    close(both.T @ both, torch.eye(math.prod(fibre.shape)), 1e-6)


@every_case
def test_what_the_open_basis_adds_is_deleted(name):
    fibre = fibre_of(name)
    step = fibre.open_basis.unflatten(1, fibre.shape)
    close(fibre.degradation.degrade(step), fibre.degradation.degrade(torch.zeros_like(step)), 1e-6)


@every_case
def test_an_image_is_its_two_parts(name):
    fibre = fibre_of(name)
    x = images(fibre)
    y = fibre.degradation.degrade(x)
    a, u = fibre.split(x)
    assert (a.shape, u.shape) == ((len(x), fibre.known), (len(x), fibre.open))
    close(fibre.assemble(y, u), x)
    close(fibre.told(y), a)


@every_case
def test_lengths_are_kept_up_to_the_scale(name):
    """Around the centre, ‖a‖² + ‖u‖² = s²‖x − c‖²."""
    fibre = fibre_of(name)
    x = images(fibre)
    a, u = fibre.split(x)
    distance = 2.5**2 * (x - 0.3).flatten(1).square().sum(1)
    torch.testing.assert_close(a.square().sum(1) + u.square().sum(1), distance)


@every_case
def test_whatever_is_open_the_result_is_consistent_and_keeps_it(name):
    """y is D of another image: not every y is in the range of a blur."""
    fibre = fibre_of(name)
    y = fibre.degradation.degrade(images(fibre, 1))
    u = 3 * torch.randn(len(y), fibre.open, generator=torch.Generator().manual_seed(2))
    x = fibre.assemble(y, u)
    close(fibre.degradation.degrade(x), y)
    close(fibre.split(x)[1], u)


def test_the_known_rows_are_those_of_y_to_the_bit():
    fibre = fibre_of("quarter of digits")
    y = torch.rand(4, 1, 2, 8, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(fibre.degradation.degrade(fibre.assemble(y, torch.ones(4, 48))), y)


def test_the_centre_is_where_both_parts_are_zero():
    for name in CASES:
        fibre = fibre_of(name)
        a, u = fibre.split(torch.full((1, *fibre.shape), 0.3))
        assert not a.any()
        assert not u.any()


def test_gradients_in_y_are_those_of_the_projection():
    """x = A⁺y + what is open: each known pixel moves itself alone."""
    fibre = fibre_of("quarter of digits")
    y = torch.zeros(1, 1, 2, 8)
    jacobian = torch.autograd.functional.jacobian(
        lambda y: fibre.assemble(y, torch.ones(1, 48)).flatten(), y
    ).flatten(1)
    close(jacobian, torch.eye(64)[:, 48:])


def test_of_known_rows_the_coordinates_are_the_pixels_in_their_order():
    """So a training's numbers mean the same on every machine."""
    fibre = fibre_of("quarter of digits")
    assert torch.equal(torch.cat([fibre.open_basis, fibre.known_basis]), torch.eye(64))


def test_the_basis_belongs_to_no_file_and_moves_with_the_module():
    fibre = Fibre(Averaging(2), (1, 4, 4))
    assert not fibre.state_dict()
    x = images(fibre).double()
    a, u = fibre.double().split(x)
    assert a.dtype == u.dtype == torch.float64
    close(fibre.assemble(fibre.degradation.degrade(x), u), x, 1e-6)


# --- Gram–Schmidt ------------------------------------------------------------------------------


def matrix(rows, columns, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, rank), (rank, columns))
    left, right = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return left @ right


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_gram_schmidt_gives_an_orthonormal_basis_of_the_span(rows, columns, rank, seed):
    vectors = matrix(rows, columns, rank, seed)
    basis = gram_schmidt(vectors)
    assert len(basis) == min(rows, columns, rank)
    close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), 1e-9)
    scale = float(vectors.abs().max()) + 1
    close(vectors @ basis.T @ basis / scale, vectors / scale, 1e-6)


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_each_row_is_in_the_span_of_the_basis_up_to_it(n, seed):
    """In their order: the coefficients are a triangle with a positive diagonal."""
    vectors = matrix(n, n, n, seed)
    basis = gram_schmidt(vectors)
    if len(basis) == n:
        coefficients = vectors @ basis.T / vectors.norm()
        close(coefficients.triu(1), torch.zeros_like(coefficients), 1e-9)
        assert (coefficients.diagonal() > 0).all()


@given(st.integers(0, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_dependent_rows_change_nothing(place, seed):
    vectors = matrix(5, 7, 5, seed)
    repeated = torch.cat([vectors, vectors[: place + 1].sum(0)[None], torch.zeros(1, 7)])
    mixed = torch.cat([repeated[: place + 1], 2 * vectors[:1], repeated[place + 1 :]])
    close(gram_schmidt(mixed), gram_schmidt(vectors), 1e-12)


def test_nearly_parallel_rows_are_still_orthogonal():
    """One pass would leave the rounding of the first row, magnified a hundred thousand times."""
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(1, 30, generator=generator, dtype=torch.float64)
    vectors = row + 1e-5 * torch.randn(10, 30, generator=generator, dtype=torch.float64)
    basis = gram_schmidt(vectors)
    assert len(basis) == 10
    close(basis @ basis.T, torch.eye(10, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize(("smallest", "rank"), [(1e-6, 2), (1e-2, 1)])
def test_what_is_no_longer_than_the_smallest_depends_on_the_rest(smallest, rank):
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1e-3]], dtype=torch.float64)
    assert len(gram_schmidt(vectors, smallest=smallest)) == rank


def test_in_single_precision_the_basis_is_the_same():
    for name in ("means of 4×4", "quarter of digits"):
        fibre = fibre_of(name)
        unit = torch.eye(64).unflatten(1, fibre.shape)
        y = torch.zeros_like(fibre.degradation.degrade(unit))
        found = gram_schmidt(fibre.degradation.project(unit, y).flatten(1))
        close(found, fibre.open_basis, 1e-5)
