"""Figures of the chapters on Theorem 3.1 and on Appendix C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stochrestore.estimators.zigzag import (
    Zigzag,
    horizontal_transport,
    lipschitz_bound,
    optimal_transport,
)
from stochrestore.figures.style import BESIDE, COLORS, DATA, ONE_PANEL, WIDTH, name_measure
from stochrestore.problems.finite import FiniteProblem

if TYPE_CHECKING:  # names of results only: a chapter does not depend on the other's experiment
    from stochrestore.experiments.appendix_c import SampledDistance, TradeOff
    from stochrestore.experiments.theorem_3_1 import Curve, GanHistory

Array = NDArray[np.float64]

PERCEPTUAL_INDEX = r"$W_2(p_X,\, p_{\hat X})$"
INK, MUTED = COLORS["posterior_sampler"], "#6B7280"
IN_DATA = {"angles": "xy", "scale_units": "xy", "scale": 1}  # arrows as long as they say
CURVE, FREE, WRONG = COLORS["erratic_sine"], COLORS["robust_sto_gan"], COLORS["erratic_gan"]


# --- Theorem 3.1 -----------------------------------------------------------------------------

CHECKS = {
    "problems": "problems",
    "ambiguous": "… in which D is not invertible on the support of p_X",
    "posterior_fails": "… whose posterior is inconsistent or not of perfect quality",
    "other_estimators": "… in which another estimator has both properties",
    "without_consistency": "… in which several estimators have perfect quality",
    "without_perfection": "… in which several estimators are consistent",
    "identity_fails": "… in which total variation is not the mean distance to the posterior",
    "gain": "A − A* = (Cov X̂ − Σ)Hᵀ C_Y⁻¹",
    "posterior": "the posterior sampler is consistent, and Cov X̂ = Σ",
    "twice": "its MSE is twice the MMSE",
    "least_mse": "the least MSE of perfect quality is MMSE + W₂²",
}
"""What the fields of the chapter's checks say, in words."""


def check_table(found: Mapping[str, float], name: str, form: str) -> pd.DataFrame:
    """The results of a check of Theorem 3.1, a row each.

    Args:
        found: from the names of :data:`CHECKS` to numbers.
        name: the head of the column.
        form: the format of a number.
    """
    words = {CHECKS[key]: format(value, form) for key, value in found.items()}
    return pd.Series(words, name=name).to_frame()


def output_distributions(
    problem: FiniteProblem, outputs: Mapping[str, Array], captions: Mapping[str, str]
) -> Figure:
    """p_X̂ of several estimators on a square grid of two-pixel images, one per panel.

    Args:
        outputs: from a panel's title to the probabilities of the points in their order, (n,).
        captions: from a panel's title to the text under it.
    """
    figure, axes = plt.subplots(1, len(outputs), figsize=(WIDTH, 2.75), sharey=True)
    levels = 1 + max(max(point) for point in problem.points)
    largest = max(float(p.max()) for p in outputs.values())
    for axis, (title, probabilities) in zip(axes, outputs.items(), strict=True):
        table = np.zeros((levels, levels))
        for (first, second), p in zip(problem.points, probabilities, strict=True):
            table[second, first] = p
        axis.imshow(table, cmap="Blues", vmin=0, vmax=largest, origin="lower")
        for (row, column), p in np.ndenumerate(table):
            if p > 5e-4:
                shade = "white" if p > 0.6 * largest else INK
                middle = {"ha": "center", "va": "center", "fontsize": 9, "color": shade}
                axis.text(column, row, f"{100 * p:.0f}", **middle)
        axis.set_title(title, fontsize=10, fontweight="bold")
        axis.set(xticks=range(levels), yticks=range(levels))
        axis.set_xlabel(f"known pixel y\n\n{captions[title]}", fontsize=8)
        axis.grid(False)
    name_measure(axes, "restored pixel")
    figure.tight_layout()
    return figure


def entry_ranges(
    problem: FiniteProblem, ranges: Mapping[str, tuple[Array, Array]], posterior: Array
) -> Figure:
    """The ranges of all p(x̂ | y) with D(x̂) = y in several polytopes, one per panel."""
    figure, axes = plt.subplots(1, len(ranges), figsize=(WIDTH, 2.7), sharey=True)
    entries = np.argwhere(problem.consistent_entries)
    entries = entries[np.lexsort((entries[:, 0], entries[:, 1]))]
    rows, columns = entries.T
    place = np.arange(len(entries)) + 0.8 * columns
    for axis, (title, (low, high)) in zip(axes, ranges.items(), strict=True):
        low, high = low[rows, columns], high[rows, columns]
        axis.vlines(place, low, high, color=WRONG, lw=4.5, alpha=0.55, label="possible values")
        axis.plot(place, posterior[rows, columns], "o", ms=4, color=INK, label="posterior")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([place[columns == j].mean() for j in np.unique(columns)])
        axis.set_xticklabels([f"y = {y}" for y in problem.inputs])
        axis.grid(axis="x", visible=False)
    name_measure(axes, "p(x̂ | y)")
    axes[0].set_ylim(-0.04, 1.04)
    axes[0].legend(loc="upper center", fontsize=8.5)
    figure.tight_layout()
    return figure


def perception_distortion(curves: Mapping[str, Curve], mmse: float) -> Figure:
    """W₂ against MSE for families of linear estimators of the Gaussian problem."""
    figure, axis = plt.subplots(figsize=ONE_PANEL, layout="constrained")
    look = {
        "consistent, stochastic": (FREE, "-"),
        "consistent, deterministic": (CURVE, "-"),
        "least MSE": (WRONG, "--"),
    }
    for name, curve in curves.items():
        color, line = look[name]
        label = "least MSE for each W₂, inconsistent" if name == "least MSE" else name
        axis.plot(curve.mse / mmse, curve.wasserstein, line, color=color, lw=2, label=label)
    sampler, best = curves["consistent, stochastic"], curves["least MSE"]
    slip = best.inconsistency[-1]
    for curve, color, text, place in (
        (sampler, FREE, "posterior sampler:\nMSE exactly doubled", (1.66, 0.2)),
        (best, WRONG, f"perfect quality,\nE‖HX̂ − Y‖² = {slip:.2f}", (0.98, 0.015)),
    ):
        end = (curve.mse[-1] / mmse, curve.wasserstein[-1])
        axis.plot(*end, "o", color=color, ms=8, clip_on=False)
        axis.text(*place, text, fontsize=9, color=color)
    axis.plot(1, sampler.wasserstein[0], "s", color=COLORS["posterior_mean"], ms=8)
    axis.text(1.16, 0.455, "MMSE estimator", fontsize=9.5, color=MUTED)
    axis.set(
        xlabel="MSE / MMSE", ylabel=PERCEPTUAL_INDEX + ", the perceptual index", xlim=(0.96, 2.4)
    )
    axis.set_ylim(bottom=0)
    figure.legend(fontsize=9.5, loc="outside lower center")
    return figure


def gan_training(histories: Mapping[str, GanHistory]) -> Figure:
    """W₂ of the marginals, and of the conditionals given Y, during the training of exact GANs."""
    figure, axes = plt.subplots(1, len(histories), figsize=(WIDTH, 2.9), sharey=True)
    for axis, (title, history) in zip(axes, histories.items(), strict=True):
        given, marginal = "given Y, to the posterior", "marginal, to p_X"
        axis.plot(history.step, history.conditional, color=WRONG, lw=2, label=given)
        axis.plot(history.step, history.marginal, color=INK, lw=1.4, ls="--", label=marginal)
        axis.set(title=title, xlabel="step", yscale="log", ylim=(1e-7, 5))
    name_measure(axes, "W₂")
    axes[0].legend(fontsize=8.5)
    figure.tight_layout()
    return figure


def twisted_seeds(rates: Sequence[float], sensitivities: Mapping[str, Array]) -> Figure:
    """√R̃ (Eq. 7) and √R (Eq. 5) against the rate at which a sampler's seed turns with y.

    Args:
        rates: turns of the seed per unit of y.
        sensitivities: from a problem's name to R̃ and R at each rate, (len(rates), 2).
    """
    figure, axis = plt.subplots(figsize=ONE_PANEL, layout="constrained")
    for (name, values), color in zip(sensitivities.items(), (CURVE, WRONG), strict=True):
        shared, optimal = np.sqrt(values).T
        axis.plot(rates, shared, "-o", color=color, label=f"{name}: √R̃, shared seed (Eq. 7)")
        axis.plot(rates, optimal, "--", color=color, label=f"{name}: √R, optimal (Eq. 5)")
    axis.set_xscale("symlog", linthresh=1)
    axis.set(xlabel="turns of the seed per unit of y", ylabel="root sensitivity", xlim=(0, None))
    axis.set_xticks(rates, [f"{r:g}" for r in rates])
    figure.legend(fontsize=9.5, loc="outside lower center", ncols=1)
    return figure


# --- Appendix C ------------------------------------------------------------------------------


def figure_6(f: int) -> Figure:
    """The zigzag in the square, with arrows for the paper's map T₀ and for the optimal map."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharey=True)
    maps = {
        "T₀ keeps the height (Eq. 13)": horizontal_transport,
        "the optimal map": optimal_transport,
    }
    first = torch.linspace(0.035, 0.965, max(8, 4 * f), dtype=torch.float64)
    x = torch.cartesian_prod(first, torch.linspace(0.06, 0.94, 9, dtype=torch.float64))
    for axis, (title, transport) in zip(axes, maps.items(), strict=True):
        _draw_zigzag(axis, f)
        step, drawn = transport(x, f) - x, {"color": INK, "alpha": 0.75}
        axis.quiver(*x.T, *step.T, **IN_DATA, width=0.0035, headwidth=5, zorder=3, **drawn)
        axis.plot(x[:, 0], x[:, 1], "o", ms=2, **drawn)
        axis.set(title=title, xlabel="X⁽¹⁾ = Y")
    name_measure(axes, "X⁽²⁾")
    figure.tight_layout()
    return figure


def _draw_zigzag(axis: Axes, f: int) -> None:
    axis.add_patch(Rectangle((0, 0), 1, 1, facecolor=DATA, alpha=0.55, edgecolor="none"))
    kinks = torch.linspace(0, 1, 2 * f + 1, dtype=torch.float64)
    axis.plot(kinks, Zigzag(f).curve(kinks), color=CURVE, lw=2.2, zorder=2)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axis.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.grid(False)


def wasserstein_against_frequency(
    frequencies: Sequence[int], sampled: Mapping[int, SampledDistance], samples: int
) -> Figure:
    """Left: W₂ against f, exact and estimated from samples. Right: W₂ between its bounds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.5, 1))
    exact = np.array([Zigzag(f).wasserstein() for f in frequencies])
    left.plot(frequencies, exact, "-o", ms=4, color=CURVE, label="exact, closed form")
    few = list(sampled)
    raw = np.array([sampled[f].raw.mean() for f in few])
    left.plot(few, raw, "s", ms=5, color=WRONG, label=f"optimal transport of {samples} samples")
    squares = np.array([sampled[f].corrected for f in few])
    mean, error = squares.mean(1), squares.std(1, ddof=1) / np.sqrt(squares.shape[1])
    seen = mean > 2 * error  # the other estimates of W₂² cannot be distinguished from 0
    middle = np.sqrt(mean[seen])
    ends = [middle - np.sqrt((mean - error)[seen]), np.sqrt((mean + error)[seen]) - middle]
    bars = {"fmt": "D", "ms": 4, "capsize": 3, "label": "the same, corrected for their number"}
    left.errorbar(np.array(few)[seen], middle, ends, color=FREE, **bars)
    level = float(np.mean([sampled[f].reference.mean() for f in few]))
    left.axhline(level, color=MUTED, lw=1, ls=":")
    said, place = "two samples of X, where the truth is 0", (frequencies[-1], level)
    left.annotate(said, place, (0, 4), **BESIDE, ha="right", fontsize=8, color=MUTED)
    left.set(xscale="log", yscale="log", xlabel="f", ylabel=PERCEPTUAL_INDEX)
    left.legend(fontsize=8, loc="lower left")
    first = np.array(frequencies[:6])
    bound = np.array([Zigzag(int(f)).transport_bound() for f in first])
    lower = np.array([Zigzag(int(f)).distance_bound() for f in first])
    between = {"color": DATA, "alpha": 0.55, "label": "between the two bounds"}
    right.fill_between(first, lower / bound, 1, **between)
    right.plot(first, exact[:6] / bound, "-o", ms=4, color=CURVE, label="exact")
    right.set(xscale="log", xlabel="f", ylabel="W₂ / T₀'s bound (Eq. 14)", ylim=(0.88, 1.01))
    right.legend(fontsize=8, loc="lower right")
    for axis in (left, right):
        ticks = frequencies if axis is left else first
        axis.set_xticks(ticks, [str(f) for f in ticks])
        axis.minorticks_off()
    figure.tight_layout()
    return figure


def trade_off(damped: Mapping[int, TradeOff], erratic: Sequence[int]) -> Figure:
    """W₂ against slope: zigzags, the posterior, and the region without deterministic estimators."""
    figure, axis = plt.subplots(figsize=ONE_PANEL, layout="constrained")
    slopes = np.geomspace(0.02, 200, 300)
    bound = np.array([lipschitz_bound(float(s)) for s in slopes])
    axis.fill_between(slopes, 1e-4, bound, color=DATA, alpha=0.55, lw=0)
    axis.plot(slopes, bound, color=MUTED, lw=1.5)
    nobody = "no deterministic consistent\nestimator is here"
    axis.text(0.04, 0.02, nobody, color="#374151", fontsize=10)
    label: str | None = "zigzags damped about ½"
    for family in damped.values():
        axis.plot(family.slope, family.wasserstein, color=CURVE, lw=1, alpha=0.45, label=label)
        label = None  # one entry in the legend for all
    points = [Zigzag(f) for f in erratic]
    slope, distance = [z.slope for z in points], [z.wasserstein() for z in points]
    label = f"the paper's zigzags, f = {', '.join(map(str, erratic))}"
    axis.plot(slope, distance, "o", color=CURVE, ms=6, label=label)
    for height, marker, color, label in (
        (bound[0], "s", COLORS["posterior_mean"], "posterior mean, slope 0"),
        (1.4e-3, "D", INK, "posterior sampler, slope 0 and W₂ 0 (off the axes)"),
    ):
        axis.plot(slopes[0], height, marker, color=color, ms=9, label=label, clip_on=False)
    axis.set(xscale="log", yscale="log", xlim=(slopes[0], slopes[-1]), ylim=(1.4e-3, 0.5))
    axis.set(xlabel="slope L: how far X̂⁽²⁾ moves per unit of y", ylabel=PERCEPTUAL_INDEX)
    figure.legend(fontsize=9.5, loc="outside lower center")
    return figure
