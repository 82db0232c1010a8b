"""The look of all figures: colours, markers, names, and an opaque white background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes

from stochrestore.metrics.intervals import Interval

COLORS = {
    "robust_sine": "#3493FF",
    "erratic_sine": "#0072B2",
    "robust_gan": "#C68200",
    "erratic_gan": "#A53F00",
    "robust_sto_gan": "#009E73",
    "sto_gan": "#A8477F",
    "posterior_sampler": "#222222",
    "posterior_mean": "#8C8C8C",
    "avoiding_hole": "#0072B2",
    "crossing_hole": "#A53F00",
    "edsr": "#0072B2",
    "esrgan": "#A53F00",
    "srflow": "#009E73",
}
"""The colour of each estimator in all figures.

The hues are Okabe and Ito's, which colour-blind readers can distinguish. Those of their colours
that are too light for lines on white are darkened to a contrast of 3:1.
"""

MARKERS = {
    "robust_sine": "P",
    "erratic_sine": "X",
    "robust_gan": "s",
    "erratic_gan": "^",
    "robust_sto_gan": "o",
    "sto_gan": "v",
    "posterior_sampler": "D",
    "posterior_mean": "*",
    "edsr": "o",
    "esrgan": "^",
    "srflow": "s",
}
"""The marker of each estimator that figures show as points, for readers without colours."""

LINES: dict[str, str | tuple[int, tuple[float, ...]]] = {
    "robust_gan": "--",
    "erratic_gan": "-.",
    "robust_sto_gan": "-",
    "sto_gan": ":",
    "posterior_sampler": (0, (7, 2, 1, 2, 1, 2)),
    "edsr": "-",
    "esrgan": "-.",
    "srflow": ":",
}
"""The dashes of each estimator that figures show as lines; -- is the attacked input in Fig. 8."""

NAMES = {
    "robust_sine": "X̂ (α = 1)",
    "erratic_sine": "X̂ (α = 50)",
    "robust_gan": "RobustGAN",
    "erratic_gan": "ErraticGAN",
    "robust_sto_gan": "RobustStoGAN",
    "sto_gan": "StoGAN",
    "posterior_sampler": "posterior sampler",
    "posterior_mean": "posterior mean",
    "avoiding_hole": "X̂₁",
    "crossing_hole": "X̂₂",
    "edsr": "EDSR",
    "esrgan": "ESRGAN",
    "srflow": "SRFlow",
}
"""The name of each estimator in figures and tables."""

WIDTH = 7.3
"""Inches of a figure as wide as the text, 96 to the inch on a screen of 1300 pixels."""

LABEL = "#757575"
"""The grey of labels beside photographs, legible on white and on black."""

DATA = "#C9CED6"
"""The colour of data and supports."""


def draw_intervals(
    axis: Axes, places: Sequence[float], found: Sequence[Interval], **look: Any
) -> None:
    """Draw values against places, joined by a line, each with a bar for its interval."""
    below = [interval.value - interval.low for interval in found]
    above = [interval.high - interval.value for interval in found]
    axis.errorbar(places, [interval.value for interval in found], [below, above], **look)


def use() -> None:
    """Set the style of all figures that are drawn afterwards."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "grid.color": "#E6E8EC",
            "axes.edgecolor": "#6B7280",
            "legend.frameon": False,
            "font.size": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
        }
    )
