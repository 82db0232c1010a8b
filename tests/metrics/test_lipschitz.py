"""The bounds on the Lipschitz constant, their inverses, and W₂ between cells."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.estimators.zigzag import lipschitz_bound
from stochrestore.metrics.lipschitz import (
    Cells,
    Difficulty,
    least_index,
    least_slope,
    lipschitz_envelope,
    root_constants,
    steepest,
    wasserstein_cells,
)
from stochrestore.metrics.wasserstein import wasserstein_1d, wasserstein_discrete

SQUARE = Difficulty(1 / 12, 12**-0.5)
COPIES = st.sampled_from([1, 2])


@st.composite
def difficulties(draw):
    mmse = draw(st.floats(1e-3, 10))
    return Difficulty(mmse, draw(st.floats(0, 1)) * math.sqrt(mmse))


@given(st.floats(0, 1e3))
def test_on_the_square_the_perceptual_bound_is_that_of_appendix_c(slope):
    assert least_index(slope, SQUARE) == pytest.approx(lipschitz_bound(slope), rel=1e-12)


@given(difficulties(), st.floats(1e-2, 1e4), COPIES)
def test_one_bound_is_the_inverse_of_the_other(difficulty, slope, copies):
    index = least_index(slope, difficulty, copies)
    assert least_slope(index, difficulty, copies) == pytest.approx(slope, rel=1e-5, abs=1e-6)


@given(difficulties(), st.floats(1e-4, 1e2), COPIES)
def test_the_slope_and_the_index_satisfy_the_theorem_with_equality(difficulty, index, copies):
    slope = least_slope(index, difficulty, copies)
    apart = max(difficulty.mean_index - index, 0)
    right = difficulty.mmse + apart**2
    assert (1 + slope**2 / copies) * index**2 >= right * (1 - 1e-9)
    assert slope == 0 or (1 + slope**2 / copies) * index**2 == pytest.approx(right, rel=1e-6)


@given(difficulties(), st.floats(1e-4, 1e2), st.floats(1e-2, 1e2))
def test_the_form_with_a_root_is_weaker_whatever_t_is(difficulty, index, t):
    m1, m2 = root_constants(difficulty, t)
    weaker = m1 / math.sqrt(index) - m2
    assert weaker <= math.sqrt(difficulty.mmse) / index - 1 + 1e-9 * m1 / math.sqrt(index)
    assert weaker <= least_slope(index, difficulty) + 1e-9 * (1 + m1 / math.sqrt(index))


def test_the_root_touches_where_it_should():
    m1, m2 = root_constants(SQUARE, 4.0)
    index = math.sqrt(SQUARE.mmse) / 4
    assert m1 / math.sqrt(index) - m2 == pytest.approx(4 - 1)


def test_where_y_determines_x_nothing_is_asked():
    known = Difficulty(0, 0)
    assert least_slope(0, known) == least_slope(1, known) == least_index(5, known) == 0
    assert least_slope(0, SQUARE) == math.inf


def test_cells_enclose_the_distance_of_what_they_stand_for():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 5, 2))
    b = np.sort(b, axis=0) + 0.3
    found = wasserstein_cells(Cells.of(a), Cells.of(b))
    true = wasserstein_discrete(a.reshape(-1, 2), b.reshape(-1, 2))
    assert found.low <= true <= found.high
    one = Cells.of(np.array([[[0.0], [2.0]]]))
    assert (one.means.item(), one.variance) == (1.0, 1.0)
    point = Cells.of(np.array([[[1.0]]]))
    assert wasserstein_cells(one, point).high == pytest.approx(wasserstein_1d([0.0, 2.0], [1.0]))


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30), st.floats(0.1, 20))
def test_the_envelope_is_lipschitz_below_and_nothing_if_it_need_not(values, slope):
    g = np.array(values)
    y = np.linspace(0, 1, len(g))
    below = lipschitz_envelope(y, g, slope)
    assert (below <= g + 1e-9).all()
    assert steepest(y, below) <= slope * (1 + 1e-6) + 1e-9
    brute = (g + slope * np.abs(np.subtract.outer(y, y))).min(1)
    np.testing.assert_allclose(below, brute, atol=1e-9)
    np.testing.assert_allclose(lipschitz_envelope(y, g, steepest(y, g) + 1e-6), g, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Difficulty(-1, 0), "Difficulty.mmse: got -1; allowed"),
        (lambda: Difficulty(1, 2), "mean_index .*: got 2; allowed: 0 ≤ P"),
        (lambda: least_slope(-0.1, SQUARE), "index .*: got -0.1; allowed: a number ≥ 0"),
        (lambda: least_slope(math.nan, SQUARE), "index .*: got nan"),
        (lambda: least_slope(1, SQUARE, 3), "copies of y: got 3; allowed: 1 or 2"),
        (lambda: least_index(math.inf, SQUARE), "slope .*: got inf"),
        (lambda: root_constants(SQUARE, 0), "root_constants: t: got 0"),
        (lambda: Cells.of(np.zeros((0, 1, 2))), r"Cells.of: shape: got \(0, 1, 2\)"),
        (lambda: Cells.of(np.full((1, 1, 2), np.nan)), "Cells.of: points: got 'NaN"),
    ],
)
def test_bad_input_is_said_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
