"""Figures and tables of the toy chapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    ONE_PANEL,
    WIDTH,
    look,
)
from stochrestore.figures.tables import Cell, Table, in_order, mean_and_spread
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
OUTLINE: dict[str, Any] = {"fill": False, "edgecolor": "#4B5563", "linewidth": 0.9, "zorder": 5}


def supports_and_samples(
    names: Sequence[str],
    curves: Mapping[str, Tensor],
    samples: Mapping[str, tuple[Tensor, Tensor]],
    captions: Mapping[str, str],
    draw_support: Callable[[Axes], None],
    *,
    limit: tuple[float, float] = (1.08, 1.08),
    columns: int = 4,
) -> Figure:
    """Fig. 3 and Fig. 5: for each estimator its support, and samples below.

    Args:
        names: the keys of the estimators, from left to right.
        curves: from a key to X̂ at evenly spaced y, (n, 2).
        samples: from a key to data and restorations, (m, 2) each.
        captions: from a key to the text under the column.
        draw_support: a function that draws the support of p_X.
        limit: half the width and half the height of the axes.
        columns: estimators side by side; those that are left begin another row.
    """
    bands = math.ceil(len(names) / columns)
    width = WIDTH / columns if bands > 1 else min(WIDTH / len(names), 2.4)
    height = 2 * width * limit[1] / limit[0] + 0.45
    size = (width * min(columns, len(names)), bands * height)
    figure = plt.figure(figsize=size, dpi=170, layout="constrained")
    figure.get_layout_engine().set(**{"w_pad": 0.06})  # type: ignore[union-attr]
    axes = figure.subplots(
        2 * bands, min(columns, len(names)), squeeze=False, sharex=True, sharey=True
    )
    for axis in axes[-2:, len(names) - (bands - 1) * columns :].flat:
        axis.remove()
    for place, name in enumerate(names):
        band, column = divmod(place, columns)
        top, bottom = axes[2 * band, column], axes[2 * band + 1, column]
        color = COLORS[name]
        for axis in (top, bottom):
            axis.set(xlim=(-limit[0], limit[0]), ylim=(-limit[1], limit[1]), aspect="equal")
            axis.set(xticks=[-1, 0, 1], yticks=[-0.5, 0, 0.5] if limit[1] < 1 else [-1, 0, 1])
            axis.tick_params(labelsize=8, labelbottom=axis is bottom, labelleft=column == 0)
            if column == 0:
                axis.set_ylabel("X⁽¹⁾ = Y", fontsize=9)
        draw_support(top)
        top.scatter(curves[name][:, 1], curves[name][:, 0], s=0.4, color=color, rasterized=True)
        data, restored = samples[name]
        bottom.scatter(data[:, 1], data[:, 0], s=5, color="#9AA1AC", linewidths=0)
        bottom.scatter(restored[:, 1], restored[:, 0], s=16, marker="*", color=color, linewidths=0)
        top.set_title(NAMES[name], color=color, fontsize=9.5, fontweight="bold")
        bottom.set_xlabel(f"X⁽²⁾\n{captions[name]}", fontsize=9)
    return figure


def draw_disk(axis: Axes) -> None:
    """Draw the unit disk, its outline over what is drawn in it."""
    axis.add_patch(Circle((0, 0), 1, **SUPPORT_STYLE))
    axis.add_patch(Circle((0, 0), 1, **OUTLINE))


def draw_ring(ring: Ring) -> Callable[[Axes], None]:
    """A function that draws the ring between two ellipses."""

    def draw(axis: Axes) -> None:
        (outer_1, outer_2), (inner_1, inner_2) = ring.outer, ring.inner
        axis.add_patch(Ellipse((0, 0), 2 * outer_2, 2 * outer_1, **SUPPORT_STYLE))
        axis.add_patch(Ellipse((0, 0), 2 * inner_2, 2 * inner_1, facecolor="white"))
        for height, width in (ring.outer, ring.inner):
            axis.add_patch(Ellipse((0, 0), 2 * width, 2 * height, **OUTLINE))

    return draw


def captions(rows: Rows) -> dict[str, str]:
    """The text under each estimator's column: mean precision and recall over its runs."""
    mean = pd.DataFrame(rows).groupby("estimator")[["precision", "recall"]].mean()
    return {
        str(name): f"precision {row.precision:.2f}\nrecall {row.recall:.3f}"
        for name, row in mean.iterrows()
    }


def summary_table(rows: Rows, paper: Mapping[str, Mapping[str, float]]) -> Table:
    """Means ± standard deviations over runs, over the paper's values; √R̃ and √R in 10⁻³.

    Args:
        rows: of :func:`stochrestore.experiments.toy_tradeoff.figure_3_rows`.
        paper: the paper's value of each estimator and quantity; √R̃ in 10⁻³.
    """
    columns = {
        "precision ↑": ("precision", 1, 2),
        "recall ↑": ("recall", 1, 3),
        "√R̃ ·10³ ↓ (Eq. 7)": ("sensitivity", 1e3, 2),
        "√R ·10³ ↓ (Eq. 5)": ("w2_sensitivity", 1e3, 2),
    }
    lines = {}
    for name, group in pd.DataFrame(rows).groupby("estimator", sort=False):
        printed = paper.get(str(name), {})
        lines[NAMES[str(name)]] = [
            Cell(
                *mean_and_spread(factor * group[key], digits),
                f"{printed[key]:g}" if key in printed else "",
            )
            for key, factor, digits in columns.values()
        ]
    return Table(list(columns), {"": lines})


def attack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean |δ|/ε of each attack, and the share of the exact √R̃ that it finds, over networks."""
    columns = {"ball_used": "|δ|/ε", "share_of_exact": "√R̃ found / exact"}
    groups = rows.groupby("attack", sort=False)[list(columns)]
    return groups.agg(lambda v: " ".join(mean_and_spread(v, 3))).rename(columns=columns)


def variant_table(rows: Rows) -> Table:
    """Quality and √R̃ of both erratic models, trained with one change each; mean ± deviation."""
    digits = {"precision": (1, 2), "recall": (1, 3), "sensitivity": (1e3, 2)}
    words = {"precision": "precision ↑", "recall": "recall ↑", "sensitivity": "√R̃ ·10³ ↓"}
    blocks: dict[str, dict[str, list[Cell]]] = {}
    data = pd.DataFrame(rows)
    for name in in_order(list(data.estimator.unique())):
        of = data[data.estimator == name]
        blocks[NAMES[name]] = {
            words_of_change: [
                Cell(" ".join(mean_and_spread(c * of[of.variant == variant][key], n)))
                for key, (c, n) in digits.items()
            ]
            for variant, words_of_change in VARIANT_NAMES.items()
        }
    return Table(list(words.values()), blocks)


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
    figure, axis = plt.subplots(figsize=ONE_PANEL, layout="constrained")
    curve = (
        pd.DataFrame(sine)
        .groupby("alpha")
        .agg(slope=("sensitivity", "first"), recall=("recall", "mean"), spread=("recall", "std"))
    )
    curve["slope"] /= epsilon
    color = COLORS["erratic_sine"]
    axis.plot(curve.slope, curve.recall, color=color, lw=1.5, label=r"$\hat X_\alpha$, α = 1 … 100")
    low, high = curve.recall - curve.spread, curve.recall + curve.spread
    axis.fill_between(curve.slope, low, high, color=color, alpha=0.15, linewidth=0)
    _draw_trajectory(axis, pd.DataFrame(trajectory), epsilon)
    _draw_models(axis, pd.DataFrame(models), epsilon)
    axis.axvline(ceiling / epsilon, color=COLORS["posterior_sampler"], lw=1, ls=":")
    place = (ceiling / epsilon, 0.5)
    said = "what the exact\nposterior needs"
    axis.annotate(said, place, (6, 0), **BESIDE, ha="left", fontsize=9)
    axis.set(xscale="log", xlabel="√R̃ / ε: root-mean-square slope (lower is more robust)")
    axis.set(ylabel="recall", ylim=(-0.03, 1.06))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9.5)
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
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True, layout="constrained")
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
        axis.set(xscale="log", xlabel=r"$\lambda_R$, of R̃/ε²")
    axes[0].axhline(ceiling / epsilon, color=COLORS["posterior_sampler"], lw=1)
    axes[0].set(yscale="log", ylabel="√R̃ / ε")
    axes[1].set(ylabel="recall", ylim=(-0.03, 1.06))
    axes[1].get_legend().remove()
    return figure
