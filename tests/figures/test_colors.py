"""The palette as the colour-blind see it, after Machado, Oliveira and Fernandes (2009)."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2lab

from stochrestore.figures.style import COLORS, LINES, MARKERS, NAMES, label_color

STYLE_SHEET = Path(__file__).parents[2] / "book" / "_static" / "book.css"

TOGETHER = {
    "toy": (
        "robust_sine",
        "erratic_sine",
        "robust_gan",
        "erratic_gan",
        "robust_sto_gan",
        "sto_gan",
        "posterior_sampler",
    ),
    "ring": ("avoiding_hole", "crossing_hole", "posterior_sampler"),
    "super-resolution": ("edsr", "esrgan", "srflow"),
    "families": ("flow", "ddim", "ancestral", "ddrm", "vae", "coupling", "pmrf"),
}
SEEN_BY = {
    "everyone else": np.eye(3),
    "protanopes": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopes": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopes": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
DISTINCT = 12  # distance in CIELAB; about five just noticeable differences
VISIBLE = 3  # contrast of graphics against what is beside them (WCAG 2.2, 1.4.11)


def channels(color):
    """``#rrggbb`` as sRGB in [0, 1]."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def linear_light(srgb):
    """sRGB as amounts of light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """Contrast of two colours in sRGB, from 1 to 21."""
    light = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(linear_light(c) @ light + 0.05 for c in (a, b))
    return high / low


HALF_TURN = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
"""``hue-rotate(180deg)`` of the W3C's Filter Effects, on sRGB."""
DARK = "#121212"  # the theme's page


def in_dark_mode(srgb):
    """What book.css makes of a plot: ``filter: invert(0.93) hue-rotate(180deg)``."""
    return np.clip(HALF_TURN @ (0.93 - 0.86 * srgb), 0, 1)


def seen(color, matrix):
    """CIELAB of ``#rrggbb`` after a matrix on linear sRGB."""
    moved = np.clip(matrix @ linear_light(channels(color)), 0, 1)
    back = np.where(moved <= 0.0031308, 12.92 * moved, 1.055 * moved ** (1 / 2.4) - 0.055)
    return rgb2lab(back[None, None])[0, 0]


@pytest.mark.parametrize("viewer", SEEN_BY)
@pytest.mark.parametrize("figure", TOGETHER)
def test_estimators_of_a_figure_are_told_apart(figure, viewer):
    for a, b in itertools.combinations(TOGETHER[figure], 2):
        distance = np.linalg.norm(
            seen(COLORS[a], SEEN_BY[viewer]) - seen(COLORS[b], SEEN_BY[viewer])
        )
        assert distance > DISTINCT, (a, b)


def test_red_and_green_of_one_lightness_would_not_be():
    red, green = (seen(color, SEEN_BY["deuteranopes"]) for color in ("#b06a4f", "#7d8a4a"))
    assert np.linalg.norm(red - green) < DISTINCT


@pytest.mark.parametrize("shown", [np.array, in_dark_mode], ids=["light", "dark"])
@pytest.mark.parametrize("name", COLORS)
def test_an_estimator_stands_out_from_the_page(name, shown):
    assert contrast(shown(channels(COLORS[name])), shown(np.ones(3))) >= VISIBLE


@pytest.mark.parametrize("page", ["#ffffff", DARK])
@pytest.mark.parametrize("name", COLORS)
def test_a_name_beside_photographs_stands_out_from_the_page(name, page):
    assert contrast(channels(label_color(name)), channels(page)) >= VISIBLE


def test_dark_mode_is_that_of_the_style_sheet():
    assert "filter: invert(0.93) hue-rotate(180deg)" in STYLE_SHEET.read_text("utf-8")


def test_contrast_is_that_of_the_standard():
    assert contrast(np.zeros(3), np.ones(3)) == pytest.approx(21)
    assert contrast(channels("#767676"), np.ones(3)) == pytest.approx(4.54, abs=5e-3)


@pytest.mark.parametrize("looks", [MARKERS, LINES], ids=["markers", "dashes"])
@pytest.mark.parametrize("figure", TOGETHER)
def test_estimators_of_a_figure_are_told_apart_without_colours(figure, looks):
    shown = [looks[name] for name in TOGETHER[figure] if name in looks]
    assert len(set(shown)) == len(shown)


def test_every_curve_over_a_parameter_has_a_marker_and_a_dash():
    assert LINES.keys() <= MARKERS.keys()
    assert MARKERS.keys() == COLORS.keys() - set(TOGETHER["ring"]) | {"posterior_sampler"}


def test_every_estimator_has_a_colour_and_a_name():
    assert COLORS.keys() == NAMES.keys()
    assert {name for names in TOGETHER.values() for name in names} <= COLORS.keys()
