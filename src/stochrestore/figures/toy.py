"""Figures and tables of the toy chapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from torch import Tensor

from stochrestore.figures.style import (
    BESIDE,
    COLORS,
    DATA,
    LINES,
    MARKERS,
    NAMES,
    look,
    panels,
)
from stochrestore.problems.toy import Ring

Rows = Sequence[Mapping[str, Any]]
VARIANT_NAMES = {
    "half_r1": "none",
    "full_r1": "R1 without ½",
    "normal_z": "Z normal",
    "batch_32": "batch of 32",
    "averaged": "averaged weights",
}
SUPPORT_STYLE: dict[str, Any] = {"facecolor": DATA, "alpha": 0.55, "edgecolor": "none"}


def supports_and_samples(
    names: Sequence[str],
    curves: Mapping[str, Tensor],
    samples: Mapping[str, tuple[Tensor, Tensor]],
    captions: Mapping[str, str],
    draw_support: Callable[[Axes], None],
    *,
    limit: tuple[float, float] = (1.08, 1.08),
    column: float = 1.36,
) -> Figure:
    """Fig. 3 and Fig. 5: a column per estimator, with its support above and samples below.

    Args:
        names: the keys of the estimators, from left to right.
        curves: from a key to X̂ at evenly spaced y, (n, 2).
        samples: from a key to data and restorations, (m, 2) each.
        captions: from a key to the text under the column.
        draw_support: a function that draws the support of p_X.
        limit: half the width and half the height of the axes.
        column: the width of a column in inches.
    """
    size = (column * len(names), 2 * column * limit[1] / limit[0] + 0.85)
    figure, axes = panels(2, len(names), size, dpi=170, sharex=True, sharey=True)
    for name, (top, bottom) in zip(names, axes.T, strict=True):
        color = COLORS[name]
        draw_support(top)
        top.scatter(curves[name][:, 1], curves[name][:, 0], s=0.4, color=color, rasterized=True)
        data, restored = samples[name]
        bottom.scatter(data[:, 1], data[:, 0], s=5, color="#9AA1AC", linewidths=0)
        bottom.scatter(restored[:, 1], restored[:, 0], s=16, marker="*", color=color, linewidths=0)
        top.set_title(NAMES[name], color=color, fontsize=9, fontweight="bold")
        bottom.set_xlabel(captions[name], fontsize=9)
    for axis in axes.flat:
        axis.set(xlim=(-limit[0], limit[0]), ylim=(-limit[1], limit[1]), aspect="equal")
        axis.set(xticks=[-1, 0, 1], yticks=[-0.5, 0, 0.5] if limit[1] < 1 else [-1, 0, 1])
        axis.tick_params(labelsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("X⁽¹⁾ = Y", fontsize=9)
    figure.supxlabel("X⁽²⁾ (estimated)", fontsize=9)
    return figure


def draw_disk(axis: Axes) -> None:
    """Draw the unit disk."""
    axis.add_patch(Circle((0, 0), 1, **SUPPORT_STYLE))


def draw_ring(ring: Ring) -> Callable[[Axes], None]:
    """A function that draws the ring between two ellipses."""

    def draw(axis: Axes) -> None:
        (outer_1, outer_2), (inner_1, inner_2) = ring.outer, ring.inner
        axis.add_patch(Ellipse((0, 0), 2 * outer_2, 2 * outer_1, **SUPPORT_STYLE))
        axis.add_patch(Ellipse((0, 0), 2 * inner_2, 2 * inner_1, facecolor="white"))

    return draw


def captions(rows: Rows) -> dict[str, str]:
    """The text under each estimator's column: mean precision and recall over its runs."""
    mean = pd.DataFrame(rows).groupby("estimator")[["precision", "recall"]].mean()
    return {
        str(name): f"precision {row.precision:.2f}\nrecall {row.recall:.3f}"
        for name, row in mean.iterrows()
    }


def summary_table(rows: Rows, paper: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Means ± standard deviations over runs beside the paper's values; √R̃ and √R in 10⁻³.

    Args:
        rows: of :func:`stochrestore.experiments.toy_tradeoff.figure_3_rows`.
        paper: the paper's value of each estimator and quantity; √R̃ in 10⁻³.
    """
    data = pd.DataFrame(rows)
    groups = data.groupby("estimator", sort=False)
    columns = {
        "precision": ("precision", 1, 2),
        "recall": ("recall", 1, 3),
        "√R̃ ·10³ (Eq. 7)": ("sensitivity", 1e3, 2),
        "√R ·10³ (Eq. 5)": ("w2_sensitivity", 1e3, 2),
    }
    table: dict[tuple[str, str], pd.Series] = {}
    for title, (key, factor, digits) in columns.items():
        table[title, "here"] = groups[key].agg(
            lambda values, c=factor, d=digits: mean_and_spread(c * values, d)
        )
        quoted = pd.Series(
            {name: f"{value[key]:g}" for name, value in paper.items() if key in value}
        )
        if len(quoted):
            table[title, "paper"] = quoted
    return pd.DataFrame(table).reindex(groups.groups).fillna("").rename(index=NAMES)


def attack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean |δ|/ε of each attack, and the share of the exact √R̃ that it finds, over networks."""
    columns = {"ball_used": "|δ|/ε", "share_of_exact": "√R̃ found / exact"}
    groups = rows.groupby("attack", sort=False)[list(columns)]
    return groups.agg(lambda values: mean_and_spread(values, 3)).rename(columns=columns)


def variant_table(rows: Rows) -> pd.DataFrame:
    """Quality and √R̃ of both erratic models, trained with one change each; mean ± deviation."""
    columns = {"precision": "precision", "recall": "recall", "sensitivity": "√R̃ ·10³"}
    data = pd.DataFrame(rows).assign(sensitivity=lambda d: 1e3 * d.sensitivity)
    groups = data.groupby(["variant", "estimator"], sort=False)[list(columns)]
    digits = {"precision": 2, "recall": 3, "sensitivity": 2}
    table = groups.agg(lambda values: mean_and_spread(values, digits[str(values.name)]))
    table = table.rename(columns=columns).unstack("estimator").swaplevel(axis=1)
    table = table.sort_index(axis=1, sort_remaining=False)
    table = table.reindex(VARIANT_NAMES).rename(index=VARIANT_NAMES, columns=NAMES)
    return table.rename_axis(index="change", columns=(None, None))


def mean_and_spread(values: Iterable[float], digits: int) -> str:
    """The text ``mean ± standard deviation``."""
    series = pd.Series(list(values))
    return f"{series.mean():.{digits}f} ± {series.std():.{digits}f}"


def tradeoff(
    sine: Rows, models: Rows, trajectory: Rows, *, ceiling: float, epsilon: float
) -> Figure:
    """Recall against √R̃: the curve of X̂_α, all models, and a GAN during its training.

    Args:
        sine: rows of ``sine_rows``.
        models: rows of ``figure_3_rows``.
        trajectory: rows of ``trajectory_rows`` for the erratic deterministic GAN.
        ceiling: √R of the exact posterior sampler, which a vertical line shows.
        epsilon: ε, which turns √R̃ into a root-mean-square slope √R̃/ε.
    """
    figure, axis = plt.subplots(figsize=(7.6, 4.6))
    columns = {"slope": ("sensitivity", "first"), "spread": ("recall", "std")}
    curve = pd.DataFrame(sine).groupby("alpha").agg(recall=("recall", "mean"), **columns)
    curve["slope"] /= epsilon
    color = COLORS["erratic_sine"]
    axis.plot(curve.slope, curve.recall, color=color, lw=1.5, label="X̂_α, α = 1 … 100")
    low, high = curve.recall - curve.spread, curve.recall + curve.spread
    axis.fill_between(curve.slope, low, high, color=color, alpha=0.15, linewidth=0)
    _draw_trajectory(axis, pd.DataFrame(trajectory), epsilon)
    _draw_models(axis, pd.DataFrame(models), epsilon)
    axis.axvline(ceiling / epsilon, color=COLORS["posterior_sampler"], lw=1, ls=":")
    place = (ceiling / epsilon, 0.5)
    said = "what the exact\nposterior needs"
    axis.annotate(said, place, (-6, 0), **BESIDE, ha="right", fontsize=8.5)
    axis.set(xscale="log", xlabel="√R̃ / ε: root-mean-square slope (lower is more robust)")
    axis.set(ylabel="recall", ylim=(-0.03, 1.06))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure


def _draw_trajectory(axis: Axes, data: pd.DataFrame, epsilon: float) -> None:
    path = data.groupby("step")[["sensitivity", "recall"]].mean()
    style: dict[str, Any] = {"ms": 2.5, "lw": 0.8, "alpha": 0.6, "color": COLORS["erratic_gan"]}
    label = "ErraticGAN while it trains"
    axis.plot(path.sensitivity / epsilon, path.recall, "--o", label=label, **style)


def _draw_models(axis: Axes, data: pd.DataFrame, epsilon: float) -> None:
    for name, group in data.groupby("estimator", sort=False):
        if name == "posterior_mean":  # its slope 0 cannot be on a logarithmic axis
            continue
        slope, recall, key = group["sensitivity"] / epsilon, group["recall"], str(name)
        style: dict[str, Any] = {"fmt": MARKERS[key], "color": COLORS[key], "label": NAMES[key]}
        axis.errorbar(
            slope.mean(), recall.mean(), recall.std(), slope.std(), ms=8, capsize=0, **style
        )


def weight_sweep(
    sweep: Rows, erratic: Rows, *, printed: float, chosen: float, ceiling: float, epsilon: float
) -> Figure:
    """√R̃ and recall against λ_R, for deterministic and stochastic models.

    Args:
        sweep: rows of the sweep.
        erratic: rows of the same models, trained for as many steps without L_R.
        printed: λ_R as printed in the paper, for R̃/ε².
        chosen: the value with which the chapter's models were trained.
        ceiling: √R of the exact posterior sampler.
        epsilon: ε, which turns √R̃ into a root-mean-square slope √R̃/ε.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), sharex=True, layout="constrained")
    data, baseline = pd.DataFrame(sweep), pd.DataFrame(erratic)
    data["slope"], baseline["slope"] = data.sensitivity / epsilon, baseline.sensitivity / epsilon
    pairs = {"robust_gan": "erratic_gan", "robust_sto_gan": "sto_gan"}
    for axis, quantity in zip(axes, ("slope", "recall"), strict=True):
        for name, without in pairs.items():
            rows, style = data[data.estimator == name], {**look(name), "label": NAMES[name]}
            sns.lineplot(rows, x="weight", y=quantity, ax=axis, errorbar="sd", **style)
            level = baseline[baseline.estimator == without][quantity].mean()
            axis.axhline(level, color=COLORS[name], lw=1, ls=LINES[name])
        for weight, text in ((printed, "as printed"), (chosen, "used here")):
            axis.axvline(weight, color="#6B7280", lw=1, ls=":")
            top = {"xycoords": ("data", "axes fraction"), "fontsize": 8, "color": "#4B5563"}
            axis.annotate(text, (weight, 1.0), (3, -9), **BESIDE, **top)
        axis.set(xscale="log", xlabel="λ_R, of R̃/ε²")
    axes[0].axhline(ceiling / epsilon, color=COLORS["posterior_sampler"], lw=1)
    axes[0].set(yscale="log", ylabel="√R̃ / ε")
    axes[1].set(ylabel="recall", ylim=(-0.03, 1.06))
    axes[1].get_legend().remove()
    return figure
