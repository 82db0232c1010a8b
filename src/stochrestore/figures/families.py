"""Figures and tables of the chapter on the families of stochastic estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from stochrestore.figures.style import (
    COLORS,
    DATA,
    MARKERS,
    NAMES,
    WIDTH,
    legend_above,
    look,
    panels,
)
from stochrestore.figures.tables import Cell, Table
from stochrestore.metrics.interval import Interval
from stochrestore.training.jobs import MODELS

Rows = Sequence[Mapping[str, Any]]
Samples = Sequence[tuple[str, Tensor]]
INK = COLORS["posterior_sampler"]
MEASURES = {
    "fid": ("FID ↓", 2),
    "precision": ("precision ↑", 2),
    "recall": ("recall ↑", 2),
    "posterior_distance": ("to the posterior ↓", 3),
    "std": ("std", 3),
    "robustness": ("dB ↑", 1),
    "sensitivity": ("√R̃/ε ↓", 2),
    "w2_sensitivity": ("√R/ε ↓", 2),
}
"""The head of a table's column, and its digits."""
AXES = {
    "fid": "FID",
    "recall": "recall",
    "posterior_distance": r"$\sqrt{E_Y W_2^2}$ to the posterior",
    "sensitivity": "√R̃/ε",
}


def table(groups: Mapping[str, Rows]) -> Table:
    """A row an estimator, a column a measure, and a block for each group, such as a problem.

    Args:
        groups: from a title to merged rows, whose measures are :class:`Interval`.
    """
    found = [row for rows in groups.values() for row in rows]
    shown = [name for name in MEASURES if any(name in row for row in found)]
    blocks = {
        title: {
            NAMES[row["estimator"]]: [Cell.of(row.get(m), MEASURES[m][1]) for m in shown]
            for row in rows
        }
        for title, rows in groups.items()
    }
    return Table([MEASURES[m][0] for m in shown], blocks)


def toy_samples(problems: Mapping[str, tuple[Samples, Sequence[Tensor]]]) -> Figure:
    """Restorations of toy problems, a panel an estimator, two rows a problem.

    Args:
        problems: from a problem's name to pairs of an estimator and its points, (N, 2), and to
            the lines (M, 2) around its support.
    """
    columns = 4
    counts = [-(-len(groups) // columns) for groups, _ in problems.values()]
    figure, axes = panels(sum(counts), columns, (WIDTH, 2.1 * sum(counts)), sharey=True)
    for axis in axes.flat:
        axis.set_axis_off()
    first = 0
    for (groups, outline), rows in zip(problems.values(), counts, strict=True):
        places = axes[first : first + rows].flat
        for axis, (name, points) in zip(places, groups, strict=False):
            for line in outline:
                axis.plot(line[:, 0], line[:, 1], color=DATA, lw=1.5)
            axis.plot(points[:, 0], points[:, 1], ".", color=COLORS[name], ms=1.6, alpha=0.7)
            axis.set_title(NAMES[name], fontsize=9, color=COLORS[name])
            axis.set(aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.25, 1.25))
        first += rows
    return figure


def price_of_robustness(panels_of: Sequence[tuple[str, str, Rows]]) -> Figure:
    """A measure of quality against √R̃/ε: a line for each family along λ_R, points for GANs.

    The largest marker of a line is the network that was trained without L_R.

    Args:
        panels_of: a title, the measure, and merged rows of several λ_R.
    """
    lines = -(-len(panels_of) // 2)
    figure, axes = panels(lines, 2, (WIDTH, 1.2 + 3.0 * lines))
    for axis in axes.flat[len(panels_of) :]:
        axis.set_axis_off()
    for axis, (title, measure, rows) in zip(axes.flat, panels_of, strict=False):
        for name in dict.fromkeys(row["estimator"] for row in rows):
            line = sorted((r for r in rows if r["estimator"] == name), key=lambda r: r["weight"])
            _along_weights(axis, name, line, measure)
        axis.set(title=title, xscale="log", xlabel="√R̃/ε", ylabel=AXES[measure])
        axis.set_ylim(bottom=0)
        _few_ticks(axis)
    legend_above(figure, columns=4)
    return figure


def _few_ticks(axis: Axes) -> None:
    """Plain numbers on a logarithmic axis: 1, 2 and 5 where it is short, else powers of ten."""
    low, high = axis.get_xlim()
    digits = (1.0, 2.0, 5.0) if high < 50 * low else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(subs=digits))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _along_weights(axis: Axes, name: str, line: Rows, measure: str) -> None:
    """The places of one estimator for each λ_R; those of a GAN or a closed form are points."""
    place = ([row["sensitivity"].value for row in line], [row[measure].value for row in line])
    if name in MODELS or name.startswith("posterior"):
        if place[0][0] > 0:  # a logarithmic axis has no place for what does not move
            open_marker: dict[str, Any] = {"color": INK, "mfc": "white", "ms": 6, "clip_on": False}
            axis.plot(*place, MARKERS[name], label=NAMES[name], **open_marker)
        return
    axis.plot(*place, ms=4.5, lw=1.2, label=NAMES[name], **look(name))
    axis.plot(place[0][:1], place[1][:1], MARKERS[name], color=COLORS[name], ms=9)


VARIED = {"source_noise": r"$\sigma_s$", "mean_steps": "steps that the mean learned"}


def over_variants(
    rows: Rows, by: str, measures: Sequence[str] = ("sensitivity", "fid", "recall")
) -> Figure:
    """Measures of PMRF against what its variants differ in, a line for each λ_R.

    Where it was measured, the sensitivity of the mean alone is drawn too, trained without L_R.

    Args:
        rows: merged rows with ``weight``, ``by`` and perhaps ``mean_sensitivity``.
        by: one of :data:`VARIED`.
    """
    figure, axes = panels(1, len(measures), (WIDTH, 3.5))
    weights = sorted({row["weight"] for row in rows})
    lines = {w: sorted((r for r in rows if r["weight"] == w), key=itemgetter(by)) for w in weights}
    shades = (COLORS["pmrf"], COLORS["coupling"], COLORS["flow"])
    for axis, measure in zip(axes[0], measures, strict=True):
        for (weight, line), color, mark, dash in zip(
            lines.items(), shades, "Xos", ("-", "--", ":"), strict=False
        ):
            style = {"color": color, "marker": mark, "linestyle": dash}
            _with_ends(axis, line, by, measure, label=rf"$\lambda_R$ = {weight:g}", **style)
        if measure == "sensitivity" and all("mean_sensitivity" in r for r in lines[weights[0]]):
            style = {"color": COLORS["posterior_mean"], "marker": ".", "linestyle": ":"}
            style["label"] = "the mean alone"
            _with_ends(axis, lines[weights[0]], by, "mean_sensitivity", **style)
        axis.set(xscale="log", xlabel=VARIED[by], ylabel=AXES[measure])
        axis.set_ylim(bottom=0)
        _few_ticks(axis)
    legend_above(figure, columns=4)
    return figure


def _with_ends(axis: Axes, line: Rows, by: str, measure: str, **style: Any) -> None:
    found = [row[measure] for row in line]
    value = np.array([f.value for f in found])
    ends = [value - [f.low for f in found], [f.high for f in found] - value]
    axis.errorbar([row[by] for row in line], value, ends, ms=5, capsize=2, **style)


def over_heat(panels_of: Sequence[tuple[str, str, Rows]]) -> Figure:
    """Measures against the heat of the seed, a line a family: means over its networks.

    Args:
        panels_of: a title, the measure, and rows with ``estimator`` and ``heat``.
    """
    figure, axes = panels(-(-len(panels_of) // 2), 2, (WIDTH, 2.9 * -(-len(panels_of) // 2)))
    for axis, (title, measure, rows) in zip(axes.flat, panels_of, strict=True):
        for name in dict.fromkeys(row["estimator"] for row in rows):
            heats = sorted({row["heat"] for row in rows})
            means = [
                np.mean([r[measure] for r in rows if (r["estimator"], r["heat"]) == (name, heat)])
                for heat in heats
            ]
            axis.plot(heats, means, ms=4.5, lw=1.2, label=NAMES[name], **look(name))
        axis.set(title=title, xlabel="heat", ylabel=AXES[measure])
    legend_above(figure, columns=4)
    return figure


def paired_table(
    groups: Mapping[str, tuple[Rows, Rows]], measures: Sequence[str], ways: tuple[str, str]
) -> Table:
    """Each measure of the same estimators in two ways, such as without L_R and with: a → b.

    Args:
        groups: from a title to merged rows of both ways; of those of the first, the estimators
            that the second have are shown.
        measures: keys of :data:`MEASURES`.
        ways: what the two are called, in the note below.
    """
    blocks: dict[str, dict[str, list[Cell]]] = {}
    for title, (first, second) in groups.items():
        before = {row["estimator"]: row for row in first}
        blocks[title] = {
            NAMES[row["estimator"]]: [
                _both(before[row["estimator"]][m], row[m], m) for m in measures
            ]
            for row in second
        }
    return Table([MEASURES[m][0] for m in measures], blocks, [" → ".join(ways)])


def _both(first: Interval, second: Interval, measure: str) -> Cell:
    digits = MEASURES[measure][1]
    return Cell(" → ".join(f"{found.value:.{digits}f}" for found in (first, second)))
