"""Figures and tables of the image chapters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray
from torch import Tensor

from stochrestore.figures.style import BESIDE, COLORS, NAMES, draw_intervals, look, panels
from stochrestore.metrics.intervals import Interval
from stochrestore.metrics.restoration import AttackChecks

Rows = Sequence[Mapping[str, Any]]
Groups = Sequence[tuple[str, Tensor]]
PADDING: dict[str, Any] = {"w_pad": 0.03, "h_pad": 0.02, "wspace": 0.0}


def sample_sheet(groups: Groups, *, notes: Mapping[str, str] | None = None) -> Figure:
    """Images in a grid with a row per input and a group of columns per estimator.

    Args:
        groups: pairs of a title and images (columns, rows, C, S, S). A title that is an
            estimator's key is replaced by the estimator's name, in its colour.
        notes: what stands in a second line below a title, e.g. :func:`behaviour_notes`.
    """
    figure = plt.figure(figsize=_sheet_size(groups), dpi=170, layout="constrained")
    figure.get_layout_engine().set(**PADDING)  # type: ignore[union-attr]
    _draw_sheet(figure, groups, notes)
    return figure


def sample_sheets(sheets: Mapping[str, Groups]) -> Figure:
    """Several sheets of :func:`sample_sheet`, one below the other, each with its title."""
    sizes = [_sheet_size(groups) for groups in sheets.values()]
    heights = [height + 0.25 for _, height in sizes]
    figure = plt.figure(
        figsize=(max(width for width, _ in sizes), sum(heights)), dpi=120, layout="constrained"
    )
    figure.get_layout_engine().set(**PADDING)  # type: ignore[union-attr]
    parts = figure.subfigures(len(sheets), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (title, groups) in zip(parts, sheets.items(), strict=True):
        _draw_sheet(part, groups)
        part.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
    return figure


def _sheet_size(groups: Groups) -> tuple[float, float]:
    """Width and height in inches."""
    columns = sum(images.shape[0] for _, images in groups)
    return 0.62 * columns + 0.12 * len(groups), 0.62 * groups[0][1].shape[1] + 0.35


def _draw_sheet(figure: FigureBase, groups: Groups, notes: Mapping[str, str] | None = None) -> None:
    side = groups[0][1].shape[-1]
    widths = [images.shape[0] * (side + 1) - 1 for _, images in groups]  # so that rows align
    axes = figure.subplots(1, len(groups), width_ratios=widths, squeeze=False)
    for axis, (title, images) in zip(axes[0], groups, strict=True):
        axis.imshow(mosaic(images), interpolation="nearest")
        color = COLORS.get(title, "black")
        narrow = images.shape[0] == 1
        label = NAMES.get(title, title)
        if notes and title in notes:
            label += "\n" + (notes[title].replace(" · ", "\n") if narrow else notes[title])
        axis.set_title(label, fontsize=6.5 if narrow else 8, color=color, pad=3)
        axis.set_axis_off()
        for line in range(1, images.shape[0]):
            axis.axvline(line * (side + 1) - 1, color="white", linewidth=0.6)


def mosaic(images: Tensor) -> NDArray[np.float32]:
    """Images (columns, rows, C, S, S) as one picture (H, W, 3), separated by white lines."""
    columns, rows, _, side, _ = images.shape
    sheet = np.ones((rows * (side + 1) - 1, columns * (side + 1) - 1, 3), np.float32)
    pixels = images.detach().clamp(0, 1).cpu().numpy()
    for c in range(columns):
        for r in range(rows):
            top, left = r * (side + 1), c * (side + 1)
            tile = np.moveaxis(pixels[c, r], 0, -1)
            sheet[top : top + side, left : left + side] = np.broadcast_to(tile, (side, side, 3))
    return sheet


def attack_sheet(rows: Sequence[tuple[str, Sequence[Tensor]]], headings: Sequence[str]) -> Figure:
    """The effect of an attack: a row per estimator, with a picture (C, S, S) in each column."""
    size = (1.15 * len(headings) + 0.9, 1.12 * len(rows) + 0.3)
    figure, axes = panels(len(rows), len(headings), size, dpi=150)
    figure.get_layout_engine().set(**PADDING)
    for line, (name, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(mosaic(picture[None, None]), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(NAMES[name], color=COLORS[name], fontsize=8.5, fontweight="bold")
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=8.5)
    return figure


def with_interval(interval: Interval, digits: int) -> str:
    """The text ``value [low, high]``, or the value alone if both ends are equal to it."""
    if math.isinf(interval.value):
        return "∞"
    value, low, high = (
        f"{number:.{digits}f}" for number in (interval.value, interval.low, interval.high)
    )
    return value if low == value == high else f"{value} [{low}, {high}]"


QUANTITIES = {
    "fid": ("FID", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "std": ("per-pixel std", 3),
    "robustness": ("robustness, dB", 1),
    "ai_psnr": ("AI-PSNR, dB", 1),
    "ball_used": ("share of the ε-ball", 2),
    "consistency": ("consistency, dB", 1),
}
"""The label and the number of digits of each quantity of a row."""


def table(rows: Rows) -> pd.DataFrame:
    """Table 1: a column per estimator, and each quantity with its interval.

    Args:
        rows: one per estimator; quantities are :class:`Interval`, or None if not defined.
    """
    columns: dict[str, list[str]] = {"": [NAMES[row["estimator"]] for row in rows]}
    columns["features"] = [row["features"] for row in rows]
    for quantity, (label, digits) in QUANTITIES.items():
        values = [row[quantity] for row in rows]
        columns[label] = [with_interval(v, digits) if v is not None else "–" for v in values]
    return pd.DataFrame(columns).set_index("").T


def paper_table(printed: Mapping[str, Mapping[str, str]], features: str) -> pd.DataFrame:
    """The paper's numbers, which are of other images and features, arranged as in :func:`table`."""
    names = list(next(iter(printed.values())))
    columns = {"": [NAMES[name] for name in names], "features": [features] * len(names)}
    for quantity, values in printed.items():
        columns[QUANTITIES[quantity][0]] = [values[name] for name in names]
    return pd.DataFrame(columns).set_index("").T


def behaviour_notes(rows: Rows) -> dict[str, str]:
    """Per-pixel std and robustness of each estimator in a few words, to stand over its samples."""
    return {
        row["estimator"]: f"std {row['std'].value:.2f}"
        + (f" · {row['robustness'].value:.0f} dB" if row["robustness"] else "")
        for row in rows
    }


def piq_table(rows: Rows) -> pd.DataFrame:
    """FID, precision and recall of the first runs, by definition and by piq 0.8."""
    shown = [
        {
            "": f"{NAMES[row['estimator']]}, run {row['run']}",
            **{
                f"{label}{how}": f"{value:.4f}"
                for key, label in (("fid", "FID"), ("precision", "precision"), ("recall", "recall"))
                for how, value in (("", row[key].value), (" (piq)", row[f"{key}_piq"]))
            },
        }
        for row in rows
        if row["run"] == 0
    ]
    return pd.DataFrame(shown).set_index("")


def training_table(records: Mapping[str, Rows]) -> pd.DataFrame:
    """The cost of each kind of network, and its final losses, as means over runs."""
    lines = []
    for name, runs in records.items():
        last = [run["history"][-1] for run in runs]
        lines.append(
            {
                "": NAMES[name],
                "networks": len(runs),
                "steps": runs[0]["settings"]["steps"],
                "device": runs[0]["device"],
                "critic's loss": f"{np.mean([row['critic_loss'] for row in last]):.2f}",
                "estimator's loss": f"{np.mean([row['estimator_loss'] for row in last]):.2f}",
                "commit": str(runs[0].get("commit", "–"))[:10],
                "sha256 (run 0)": runs[0]["sha256"][:12],
            }
        )
    return pd.DataFrame(lines).set_index("")


def credibility_table(checks: Mapping[str, AttackChecks]) -> pd.DataFrame:
    """Mean output PSNR under the attack, under noise of its norm and under stronger attacks."""
    labels = ("the attack", "noise of its norm", "ball of twice ε", "four times the steps")
    return pd.DataFrame(
        {
            NAMES[name]: {
                **{label: f"{x.mean():.2f}" for label, x in zip(labels, check, strict=True)},
                "credible": "yes" if check.credible() else "no",
            }
            for name, check in checks.items()
        }
    ).T


def over_weight(rows: Rows, quantities: Mapping[str, str]) -> Figure:
    """Quantities against λ_R, one per panel: means and ranges over runs; λ_R = 0 is at the left.

    Args:
        rows: ``estimator``, ``weight``, and the quantities.
        quantities: from the name in the rows to the label.
    """
    frame = pd.DataFrame(rows)
    weights = sorted(w for w in frame.weight.unique() if w > 0)
    left = weights[0] / 10 if weights else 1.0
    figure, (axes,) = panels(1, len(quantities), (3.4 * len(quantities), 3.0), dpi=130)
    for axis, (quantity, label) in zip(axes, quantities.items(), strict=True):
        for name, group in frame.groupby("estimator"):
            by_weight = group.groupby("weight")[quantity]
            x = by_weight.mean().index.to_series().replace(0.0, left)
            mean, low, high = by_weight.mean(), by_weight.min(), by_weight.max()
            style = {**look(str(name)), "markersize": 5}
            axis.plot(x, mean, label=NAMES[str(name)], **style)
            axis.fill_between(x, low, high, color=COLORS[str(name)], alpha=0.18, linewidth=0)
        axis.set_xscale("log")
        axis.set_xticks([left, *weights], ["0", *(f"{w:g}" for w in weights)])
        axis.minorticks_off()
        axis.set(xlabel="λ_R", ylabel=label)
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    return figure


def seed_use(rows: Rows) -> Figure:
    """Per-pixel std of stochastic models against the seed's length, with a line per layer."""
    frame = pd.DataFrame(rows, columns=["estimator", "layer", "length", "std"])
    models = [name for name in ("sto_gan", "robust_sto_gan") if name in set(frame.estimator)]
    models = models or ["sto_gan"]  # an empty panel where only deterministic models are shown
    figure, (axes,) = panels(1, len(models), (3.6 * len(models), 3.0), dpi=130, sharey=True)
    for axis, name in zip(axes, models, strict=True):
        for i, (layer, group) in enumerate(frame[frame.estimator == name].groupby("layer")):
            by_dims = group.groupby("length")["std"]
            mean = by_dims.mean()
            line = {"linestyle": ("-", "--", ":")[i % 3], "marker": "osD"[i % 3], "markersize": 5}
            shade = {"color": COLORS[name], "alpha": 1 - 0.22 * i}
            axis.plot(mean.index, mean, label=f"layer {layer}", **line, **shade)
            axis.vlines(mean.index, by_dims.min(), by_dims.max(), **shade)
        axis.set_xscale("log", base=2)
        dims = sorted(frame.length.unique())
        axis.set_xticks(dims, [str(d) for d in dims])
        axis.set(title=NAMES[name], xlabel="length of the seed", ylim=(0, None))
        if rows:
            axis.legend(fontsize=8, title="Z enters at", title_fontsize=8)
    axes[0].set_ylabel("per-pixel std")
    return figure


FIGURE_4 = ("fid", "precision", "recall", "std", "robustness")


def over_scale(rows: Rows) -> Figure:
    """Fig. 4: quantities (rows) against the scale, with a line per estimator and a column per set.

    Args:
        rows: ``data``, ``scale``, ``estimator``, ``features`` and quantities as
            :class:`Interval`, whose bars are drawn, or None if not defined.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    size = (3.3 * len(sets) + 0.6, 2.0 * len(FIGURE_4) + 0.6)
    figure, axes = panels(len(FIGURE_4), len(sets), size, dpi=130, sharex="col")
    for column, data in enumerate(sets):
        shown = [row for row in rows if row["data"] == data]
        scales = sorted({row["scale"] for row in shown})
        for line, quantity in enumerate(FIGURE_4):
            axis = axes[line][column]
            for name in dict.fromkeys(row["estimator"] for row in shown):
                _line_over_scale(axis, [r for r in shown if r["estimator"] == name], quantity)
            axis.set_xscale("log", base=2)
            axis.set_xlim(scales[0] / 1.2, scales[-1] * 1.2)  # also if there is only one scale
            axis.set_xticks(scales, [f"×{scale}" for scale in scales])
            axis.minorticks_off()
            axis.ticklabel_format(axis="y", useOffset=False)
            axis.set_ylim(bottom=0 if quantity != "robustness" else None)
            if column == 0:
                axis.set_ylabel(QUANTITIES[quantity][0])
        axes[0][column].set_title(f"{data} (FID: {shown[0]['features']})", fontsize=9.5)
    lines = {
        label: handle
        for axis in axes[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=5, fontsize=9)
    return figure


def _line_over_scale(axis: Any, rows: Rows, quantity: str) -> None:
    """Draw one estimator's line, with bars for the intervals."""
    name = rows[0]["estimator"]
    points = [(row["scale"], row[quantity]) for row in rows if row[quantity] is not None]
    style = {"markersize": 5, "linewidth": 1.6, "capsize": 2, "label": NAMES[name], **look(name)}
    if points:
        draw_intervals(axis, *zip(*points, strict=True), **style)


def cost_of_one_answer(rows: Rows) -> Figure:
    """How much higher the FID of deterministic models is, against the bits that D removes.

    Args:
        rows: ``data``, ``scale``, ``estimator``, ``bits`` and ``cost``, the difference in FID.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    figure, (axes,) = panels(1, len(sets), (3.3 * len(sets) + 0.6, 3.0), dpi=130)
    for axis, data in zip(axes, sets, strict=True):
        for name in dict.fromkeys(row["estimator"] for row in rows):
            line = [r for r in rows if r["data"] == data and r["estimator"] == name]
            style = {**look(name), "markersize": 6}
            bits = [row["bits"] for row in line]
            axis.plot(bits, [row["cost"] for row in line], label=NAMES[name], **style)
        for scale in dict.fromkeys(row["scale"] for row in rows if row["data"] == data):
            here = [r for r in rows if (r["data"], r["scale"]) == (data, scale)]
            top = (here[0]["bits"], max(row["cost"] for row in here))
            axis.annotate(f"×{scale}", top, (0, 7), **BESIDE, fontsize=8, ha="center")
        axis.axhline(0.0, color="#6B7280", linewidth=0.8, linestyle=":")
        axis.set(title=data, xlabel="bits lost, at most")
        axis.margins(0.15, 0.2)
    axes[0].set_ylabel("FID, deterministic − stochastic")
    axes[0].legend(fontsize=8)
    return figure


def grid_table(records: Mapping[int, Mapping[str, Rows]]) -> pd.DataFrame:
    """The training cost of the networks of each scale and kind."""
    lines = []
    for scale, models in records.items():
        for name, runs in models.items():
            steps, seconds = runs[0]["settings"]["steps"], sum(run["seconds"] for run in runs)
            lines.append(
                {
                    "scale": f"×{scale}",
                    "model": NAMES[name],
                    "networks": len(runs),
                    "steps each": steps,
                    "steps a second": f"{len(runs) * steps / seconds:.0f}" if seconds else "–",
                    "minutes in all": f"{seconds / 60:.1f}",
                    "sha256 (run 0)": runs[0]["sha256"][:12],
                }
            )
    return pd.DataFrame(lines).set_index(["scale", "model"])
