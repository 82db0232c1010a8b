"""Figures of the chapter on the Lipschitz constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stochrestore.figures.style import (
    COLORS,
    DATA,
    MARKERS,
    NAMES,
    ONE_PANEL,
    WIDTH,
    legend_above,
    name_measure,
    panels,
)
from stochrestore.metrics.lipschitz import Difficulty, least_index, root_constants

if TYPE_CHECKING:
    from stochrestore.experiments.lipschitz import Steepness

Array = NDArray[np.float64]

JOINT_INDEX = r"joint index  $W_2(p_{X,Y},\, p_{\hat X,Y})$"
INK, MUTED = COLORS["posterior_sampler"], "#6B7280"
CURVE, FREE, WRONG = COLORS["erratic_sine"], COLORS["robust_sto_gan"], COLORS["erratic_gan"]
LOOKS = {
    "even zigzags": ("o", CURVE),
    "X̂ (α), flattened at the ends": (MARKERS["erratic_sine"], COLORS["robust_sine"]),
    NAMES["robust_gan"]: (MARKERS["robust_gan"], COLORS["robust_gan"]),
    NAMES["erratic_gan"]: (MARKERS["erratic_gan"], COLORS["erratic_gan"]),
}
"""Marker and colour of each family of estimators on the disk."""
LEAST = 0.1
"""The lowest sensitivity on an axis; what is less lies on the axis itself."""


def price(
    square: Sequence[Steepness],
    disk: Mapping[str, Sequence[Steepness]],
    difficulties: tuple[Difficulty, Difficulty],
    constants: Sequence[float] = (1.0, 10.0),
) -> Figure:
    """The joint index against the slope, with the bounds: on the square (left) and the disk.

    Args:
        square: the paper's zigzags.
        disk: families of estimators, by the names of :data:`LOOKS`.
        difficulties: of the square and of the disk.
        constants: values of t for the bounds of the form m₁/√W − m₂.
    """
    figure, axes = panels(1, 2, (WIDTH, 4.4))
    slopes = np.geomspace(0.3, 600, 200)
    for axis, title, difficulty in zip(axes[0], ("square", "disk"), difficulties, strict=True):
        _bounds(axis, slopes, difficulty, constants)
        axis.set(title=title, xscale="log", yscale="log", xlim=(0.3, 600), ylim=(7e-4, 0.9))
        axis.set_xlabel("slope L")
    left, right = axes[0]
    name_measure((left, right), JOINT_INDEX)
    place = [s.slope for s in square], [s.index.value for s in square]
    left.plot(*place, "o", color=CURVE, ms=5, label="the paper's zigzags (exact)")
    for name, family in disk.items():
        marker, color = LOOKS[name]
        value = np.array([s.index.value for s in family])
        above = np.array([s.index.high for s in family]) - value
        look = {"fmt": marker, "color": color, "ms": 5.5, "lw": 1, "label": name}
        right.errorbar([s.slope for s in family], value, [0 * above, above], **look)
    legend_above(figure, columns=2)
    return figure


def _bounds(axis: Axes, slopes: Array, difficulty: Difficulty, constants: Sequence[float]) -> None:
    """The region that consistent deterministic estimators avoid, and the weaker bounds in it."""
    consistent, general = (
        np.array([least_index(float(s), difficulty, copies) for s in slopes]) for copies in (2, 1)
    )
    axis.fill_between(slopes, 1e-5, consistent, color=DATA, alpha=0.55, lw=0)
    axis.plot(slopes, consistent, color=INK, lw=1.6, label="bound, consistent estimators")
    axis.plot(slopes, general, "--", color=INK, lw=1.3, label="bound, all deterministic estimators")
    for t, dash in zip(constants, (":", "-."), strict=True):
        m1, m2 = root_constants(difficulty, t)
        label = f"m₁/√W − m₂ with t = {t:g}"
        axis.plot(slopes, (m1 / (slopes + m2)) ** 2, dash, color=FREE, lw=1.5, label=label)


def posterior_sensitivities(found: Mapping[str, tuple[Array, Array]]) -> Figure:
    """√R/ε of posterior samplers against ε.

    Args:
        found: from a problem's name to ε and √R/ε.
    """
    figure, axes = panels(1, 1, ONE_PANEL)
    axis = axes[0, 0]
    looks = ((CURVE, "o", "-"), (WRONG, "^", "-."), (COLORS["sto_gan"], "v", ":"), (INK, "s", "--"))
    for (name, (epsilon, root)), (color, marker, dash) in zip(found.items(), looks, strict=True):
        label = f"{name}: 0, drawn on the axis" if root.max() == 0 else name
        shown = np.maximum(root, LEAST)
        look = {"linestyle": dash, "marker": marker, "color": color, "ms": 5, "clip_on": False}
        axis.plot(epsilon, shown, label=label, **look)
    axis.set(xscale="log", yscale="log", xlabel="ε", ylabel="√R/ε of the posterior")
    axis.set_ylim(LEAST, 60)
    figure.legend(fontsize=9.5, loc="outside lower center", ncols=2)
    return figure


def exploring(
    square: Mapping[str, tuple[Array, Array]], disk: Mapping[str, tuple[Array, Array]]
) -> Figure:
    """How far perturbed inputs lead from the posterior: square against fε, disk against ε.

    Args:
        square: from a label to fε and the distance.
        disk: from a label to ε and the distance.
    """
    figure, axes = panels(1, 2, (WIDTH, 3.7))
    left, right = axes[0]
    for (label, line), (color, dash) in zip(
        square.items(), ((CURVE, "-"), (MUTED, "--")), strict=True
    ):
        left.plot(*line, dash, color=color, lw=2, label=label)
    left.set(title="square", xlabel="fε", ylim=(0, None))
    name_measure((left, right), r"$\sqrt{E_Y W_2^2}$ to the posterior")
    left.legend(fontsize=8.5)
    looks = [
        (COLORS["robust_sine"], "P", "-"),
        (COLORS["erratic_sine"], "X", "-"),
        (COLORS["robust_gan"], "s", "--"),
        (COLORS["erratic_gan"], "^", "-."),
    ]
    for (label, line), (color, marker, dash) in zip(disk.items(), looks, strict=True):
        right.plot(*line, dash, marker=marker, color=color, ms=5, label=label)
    right.set(title="disk", xlabel="ε", xscale="log", ylim=(0, None))
    right.legend(fontsize=8.5)
    return figure
