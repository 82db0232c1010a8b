"""The look of all figures: colours, markers, names, and an opaque white background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stochrestore.metrics.interval import Interval

Dashes: TypeAlias = str | tuple[int, tuple[float, ...]]
_DASHES = (0, (7.0, 2.0, 1.0, 2.0, 1.0, 2.0))
# The name of each estimator, its colour, its marker and the dashes of its line.
_LOOKS: dict[str, tuple[str, str, str, Dashes]] = {
    "robust_sine": ("X̂ (α = 1)", "#3493FF", "P", ""),
    "erratic_sine": ("X̂ (α = 50)", "#0072B2", "X", ""),
    "robust_gan": ("RobustGAN", "#C68200", "s", "--"),
    "erratic_gan": ("ErraticGAN", "#A53F00", "^", "-."),
    "robust_sto_gan": ("RobustStoGAN", "#009E73", "o", "-"),
    "sto_gan": ("StoGAN", "#A8477F", "v", ":"),
    "posterior_sampler": ("posterior sampler", "#222222", "D", _DASHES),
    "posterior_mean": ("posterior mean", "#8C8C8C", "*", ""),
    "avoiding_hole": ("X̂₁", "#0072B2", "", ""),
    "crossing_hole": ("X̂₂", "#A53F00", "", ""),
    "edsr": ("EDSR", "#0072B2", "o", "-"),
    "esrgan": ("ESRGAN", "#A53F00", "^", "-."),
    "srflow": ("SRFlow", "#009E73", "s", ":"),
    "flow": ("rectified flow", "#0072B2", "o", "-"),
    "ddim": ("DDIM", "#3493FF", "s", "--"),
    "ancestral": ("ancestral", "#009E73", "^", "-."),
    "ddrm": ("DDRM", "#555555", "*", ":"),
    "vae": ("VAE", "#C68200", "v", (0, (5.0, 1.0, 1.0, 1.0))),
    "coupling": ("coupling flow", "#A8477F", "P", (0, (3.0, 1.0, 1.0, 1.0, 1.0, 1.0))),
    "pmrf": ("PMRF", "#A53F00", "X", (0, (9.0, 2.0))),
}
NAMES = {key: name for key, (name, *_) in _LOOKS.items()}
"""The name of each estimator in figures and tables."""

COLORS = {key: color for key, (_, color, *_) in _LOOKS.items()}
"""The colour of each estimator in all figures.

The hues are Okabe and Ito's, which colour-blind readers can distinguish. Those of their colours
that are too light for lines on white are darkened to a contrast of 3:1.
"""

MARKERS = {key: marker for key, (*_, marker, _) in _LOOKS.items() if marker}
"""The marker of each estimator that figures show as points, for readers without colours."""

LINES = {key: dashes for key, (*_, dashes) in _LOOKS.items() if dashes}
"""The dashes of each estimator that figures show as lines; -- is the attacked input in Fig. 8."""

BESIDE: dict[str, Any] = {"textcoords": "offset points"}
"""For an annotation whose text stands a few points beside its place."""

WIDTH = 7.3
"""Inches of a figure as wide as the text, 96 to the inch on a screen of 1300 pixels."""

_ON_PHOTOGRAPHS = {"#A53F00": "#BF5000", "#A8477F": "#B84F97", "#555555": "#757575"}

ONE_PANEL = (4.4, 3.8)
"""Inches of a plot alone, of which a narrow screen shows the text at a legible size."""

_BELOW_LEGEND = 0.35
"""Inches between a legend and what is below it; less would be taken for one picture."""

LABEL = "#757575"
"""The grey of labels beside photographs, legible on white and on black."""

DATA = "#C9CED6"
"""The colour of data and supports."""


def label_color(name: str) -> str:
    """The colour of an estimator's name beside photographs, legible on white and on black."""
    if name == "posterior_sampler":
        return LABEL
    color = COLORS.get(name, LABEL)
    return _ON_PHOTOGRAPHS.get(color, color)


def data_name(kind: str) -> str:
    """What text calls a kind of data."""
    return {"fashion": "clothes", "fashion_mnist": "clothes"}.get(kind, kind)


def look(key: str) -> dict[str, Any]:
    """The colour, marker and dashes of an estimator's line."""
    return {"color": COLORS[key], "marker": MARKERS[key], "linestyle": LINES[key]}


def panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """A figure of a size in inches, and a grid of axes (rows, columns) whose labels fit."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def legend_above(figure: Figure, *, columns: int) -> None:
    """One legend above all panels, each label once, with the panels' layout below it.

    So much space is between them that a narrow screen can show the legend by itself.
    """
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        found, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    legend = figure.legend(
        list(handles.values()),
        list(handles),
        loc="upper left",
        borderaxespad=0.0,
        frameon=False,
        fontsize=8.5,
        ncols=columns,
    )
    height = legend.get_window_extent().height / figure.bbox.height
    below = 1 - height - _BELOW_LEGEND / figure.get_figheight()
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(rect=(0, 0, 1, below))


def name_measure(axes: Iterable[Axes], measure: str) -> None:
    """Name the vertical axis at every panel, with its numbers: narrow screens part the panels."""
    for axis in axes:
        axis.set_ylabel(measure)
        axis.tick_params(labelleft=True)


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
