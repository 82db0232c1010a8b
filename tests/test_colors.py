"""The palette as the colour-blind see it, after Machado, Oliveira and Fernandes (2009)."""

import itertools

import numpy as np
import pytest
from skimage.color import rgb2lab

from stochrestore.figures.style import COLORS, NAMES

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


def seen(color, matrix):
    """CIELAB of ``#rrggbb`` after a matrix on linear sRGB."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    moved = np.clip(matrix @ linear, 0, 1)
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


def test_every_estimator_has_a_colour_and_a_name():
    assert COLORS.keys() == NAMES.keys()
    assert {name for names in TOGETHER.values() for name in names} <= COLORS.keys()
