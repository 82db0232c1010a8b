"""Theorem 3.1 on finite problems, in exact arithmetic, and what its hypotheses are for."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.estimators.polytope import (
    Polytope,
    inconsistency,
    least_total_variation,
    least_wasserstein,
    row_echelon,
    squared_error,
)
from stochrestore.experiments.theorem_3_1 import (
    conditional_variation,
    is_ambiguous,
    marginal_wasserstein,
    only_the_posterior,
    random_consistent,
    satisfies_both,
)
from stochrestore.metrics.wasserstein import wasserstein_discrete
from stochrestore.problems.finite import (
    FiniteProblem,
    as_array,
    total_variation,
    two_pixel_images,
)


@st.composite
def problems(draw, largest=5):
    points = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 4)),
            min_size=1,
            max_size=largest,
            unique=True,
        )
    )
    weights = draw(st.lists(st.integers(0, 5), min_size=len(points), max_size=len(points)))
    assume(any(weights))
    images = draw(st.lists(st.sampled_from("abc"), min_size=len(points), max_size=len(points)))
    return FiniteProblem.from_weights(
        dict(zip(points, weights, strict=True)), dict(zip(points, images, strict=True))
    )


def examples(n):
    return settings(max_examples=n, derandomize=True, deadline=None)


def table_of(problem, choice):
    return np.array([[float(i == k) for k in choice] for i in range(len(problem.points))])


@examples(300)
@given(problems())
def test_theorem_3_1(problem):
    assert satisfies_both(problem, problem.posterior)
    assert only_the_posterior(problem)


@examples(40)
@given(problems(largest=4))
def test_linear_programmes_leave_only_the_posterior(problem):
    low, high = Polytope(problem).ranges()
    np.testing.assert_allclose(low, as_array(problem.posterior), atol=1e-9)
    np.testing.assert_allclose(high, as_array(problem.posterior), atol=1e-9)


@examples(100)
@given(problems())
def test_without_a_hypothesis_there_are_more_estimators(problem):
    support = sum(m > 0 for m in problem.mass)
    without_consistency = Polytope(problem, consistent=False).freedom()
    assert without_consistency == (support - 1) * (len(problem.inputs) - 1)
    without_perfection = Polytope(problem, perfect=False).freedom()
    assert without_perfection == sum(len(problem.fibre(y)) - 1 for y in problem.inputs)


@examples(40)
@given(problems(largest=4))
def test_freedom_is_what_the_linear_programmes_see(problem):
    for consistent, perfect in product((True, False), repeat=2):
        polytope = Polytope(problem, consistent, perfect)
        low, high = polytope.ranges()
        assert (polytope.freedom() > 0) == bool((high - low).max() > 1e-7)


@examples(100)
@given(problems(), st.data())
def test_a_perturbed_posterior_is_caught(problem, data):
    columns = [j for j, y in enumerate(problem.inputs) if len(problem.fibre(y)) > 1]
    assume(columns)
    j = data.draw(st.sampled_from(columns))
    first, second, *_ = problem.fibre(problem.inputs[j])
    table = [list(row) for row in problem.posterior]
    giver, taker = (first, second) if table[first][j] > 0 else (second, first)
    assume(table[giver][j] > 0)
    moved = table[giver][j] / 1000
    table[giver][j] -= moved
    table[taker][j] += moved
    assert not satisfies_both(problem, table)
    assert conditional_variation(problem, table) == moved * problem.p_y[j]


def test_consistency_alone_or_quality_alone_does_not_satisfy_both():
    problem = two_pixel_images(4)
    map_estimator = table_of(problem, [0, 5, 10, 15])
    assert inconsistency(problem, map_estimator) == 0
    assert not satisfies_both(problem, [[Fraction(int(v)) for v in row] for row in map_estimator])
    blind = [[m] * len(problem.inputs) for m in problem.mass]  # p_X whatever y is
    assert problem.output(blind) == problem.mass
    assert not satisfies_both(problem, blind)


@examples(200)
@given(problems(), st.integers(0, 2**32))
def test_index_in_total_variation_is_the_distance_to_the_posterior(problem, seed):
    estimator = random_consistent(problem, np.random.default_rng(seed))
    index = total_variation(problem.output(estimator), problem.mass)
    assert conditional_variation(problem, estimator) == index


@examples(60)
@given(problems())
def test_best_deterministic_estimators_by_exhaustion(problem):
    choices = list(product(*(problem.fibre(y) for y in problem.inputs)))
    p_y = np.array([float(p) for p in problem.p_y])
    mass = as_array([problem.mass])[0]
    variations = [np.abs(table_of(problem, c) @ p_y - mass).sum() / 2 for c in choices]
    assert float(least_total_variation(problem)) == pytest.approx(min(variations), abs=1e-12)
    distances = [marginal_wasserstein(problem, table_of(problem, c)) for c in choices]
    best = least_wasserstein(problem)
    assert best.wasserstein == pytest.approx(min(distances), abs=1e-6)
    own = marginal_wasserstein(problem, table_of(problem, best.choice))
    assert own == pytest.approx(min(distances), abs=1e-6)


@examples(200)
@given(problems())
def test_deterministic_and_perfect_only_where_nothing_is_ambiguous(problem):
    assert (least_total_variation(problem) > 0) == is_ambiguous(problem)


@examples(40)
@given(problems())
def test_least_mse_of_perfect_quality(problem):
    best = Polytope(problem, consistent=False).minimiser(squared_error(problem))
    mse = (squared_error(problem) * best).sum()
    posterior_mse = (squared_error(problem) * as_array(problem.posterior)).sum()
    p_y, mass = as_array([problem.p_y])[0], as_array([problem.mass])[0]
    means = as_array(problem.posterior).T @ problem.coordinates
    w2 = wasserstein_discrete(means, problem.coordinates, p_y, mass)
    assert mse == pytest.approx(posterior_mse / 2 + w2**2, abs=1e-9)  # MMSE + W₂²
    if mse < posterior_mse - 1e-9:
        assert inconsistency(problem, best) > 0


def test_super_resolution_of_two_pixels_needs_no_inconsistency():
    problem = two_pixel_images(4, sum)
    best = Polytope(problem, consistent=False).minimiser(squared_error(problem))
    posterior_mse = (squared_error(problem) * as_array(problem.posterior)).sum()
    assert (squared_error(problem) * best).sum() == pytest.approx(posterior_mse)


@pytest.mark.parametrize("levels", [4, 5, 6])
def test_inpainting_of_two_pixels_does(levels):
    problem = two_pixel_images(levels)
    best = Polytope(problem, consistent=False).minimiser(squared_error(problem))
    posterior_mse = (squared_error(problem) * as_array(problem.posterior)).sum()
    assert (squared_error(problem) * best).sum() < 0.99 * posterior_mse
    assert inconsistency(problem, best) > 0.01


def test_inputs_that_never_occur_have_no_column():
    problem = FiniteProblem.from_weights({(0,): 1, (1,): 0, (2,): 0}, {(0,): 0, (1,): 0, (2,): 1})
    assert problem.inputs == (0,)
    assert problem.p_y == (1,)
    assert problem.posterior == ((1,), (0,), (0,))


def test_the_only_point_needs_one_point():
    with pytest.raises(InputError, match=r"free dimensions: got 3; allowed: 0"):
        Polytope(two_pixel_images(2), consistent=False).the_only_point()


def test_row_echelon_knows_dependent_rows():
    half = Fraction(1, 2)
    rows, pivots = row_echelon([[half, 1, 0], [1, 2, 0], [0, 0, Fraction(3)]])
    assert rows == [[1, 2, 0], [0, 0, 1]]
    assert pivots == [0, 2]


@pytest.mark.parametrize(
    ("points", "mass", "image", "message"),
    [
        (((0,), (1,)), (Fraction(1, 2), Fraction(1, 3)), (0, 1), r"sum: got '5/6'.*exactly 1"),
        (((0,), (1,)), (Fraction(3, 2), Fraction(-1, 2)), (0, 1), r"got \['-1/2'\].*≥ 0"),
        (((0,), (1,)), (Fraction(1), float("nan")), (0, 1), r"got \[nan\].*fractions"),
        (((0,), (1,)), (Fraction(1), 0.0), (0, 1), r"got \[0.0\].*fractions"),
        (((0,), (0,)), (Fraction(1), Fraction(0)), (0, 1), r"each point once"),
        (((0,), (1,)), (Fraction(1), Fraction(0)), (0, None), r"without image: got \[\(1,\)\]"),
        (((0,),), (Fraction(1), Fraction(0)), (0,), r"lengths.*got \(1, 2, 1\)"),
        ((), (), (), r"lengths.*got \(0, 0, 0\)"),
    ],
)
def test_bad_problems(points, mass, image, message):
    with pytest.raises(InputError, match=message):
        FiniteProblem(points, mass, image)


def test_bad_weights():
    with pytest.raises(InputError, match=r"points without image: got \[\(1,\)\]"):
        FiniteProblem.from_weights({(0,): 1, (1,): 1}, {(0,): 0})
    with pytest.raises(InputError, match=r"weights: sum: got 0"):
        FiniteProblem.from_weights({(0,): 0}, {(0,): 0})
    with pytest.raises(InputError, match=r"weights: got \[-1\]"):
        FiniteProblem.from_weights({(0,): -1}, {(0,): 0})
    with pytest.raises(InputError, match=r"weights: got \[nan\]"):
        FiniteProblem.from_weights({(0,): float("nan")}, {(0,): 0})
    with pytest.raises(InputError, match="levels: got 1"):
        two_pixel_images(1)
