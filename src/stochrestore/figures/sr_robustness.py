"""Figures of the chapter on Appendix G."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from stochrestore.data.downloads import called
from stochrestore.experiments.srflow_robustness import SHAVE, mean_over_images
from stochrestore.figures.style import (
    LABEL,
    NAMES,
    WIDTH,
    draw_intervals,
    label_color,
    look,
    name_measure,
)
from stochrestore.figures.tables import Cell, Table
from stochrestore.metrics.interval import Interval

if TYPE_CHECKING:  # names of results only
    from stochrestore.experiments.srflow_robustness import Attacked

Row = dict[str, Any]
INPUT = "#8C8C8C"
MAGNIFIED = 4
BARS: dict[str, Any] = {"ms": 4, "capsize": 3}


def figure_8(rows: Sequence[Row], channels: str = "rgb") -> Figure:
    """Output PSNR against α beside input PSNR, with 95 % intervals over images, a row a data set.

    Args:
        rows: of :func:`stochrestore.experiments.srflow_robustness.figure_8_rows`.
        channels: ``rgb``, or ``y`` for luma.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    size = (WIDTH, 3.3 * len(sets))
    figure, axes = plt.subplots(
        len(sets), 2, figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    what = "RGB" if channels == "rgb" else "luma"
    for line, data in zip(axes, sets, strict=True):
        of_set = [row for row in rows if row["data"] == data]
        for axis, key in zip(line, ("output", "input"), strict=True):
            _against_alpha(axis, of_set, f"{key}_{channels}")
        inputs = _over_images(of_set, f"input_{channels}")
        line[0].plot(*inputs, "--", color=INPUT, label="attacked input (AI-PSNR)")
        name_measure(line, f"PSNR, {what} (dB)")
        line[0].set_title(f"{called(data)}: outputs, less a border of {SHAVE} pixels")
        line[1].set_title(f"{called(data)}: attacked inputs (AI-PSNR)")
        for axis in line:
            axis.title.set_fontsize(9)
    axes[0, 0].legend(fontsize=8.5)
    return figure


def _over_images(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """The values of α, and the mean of a quantity at each."""
    alphas = sorted({row["alpha"] for row in rows})
    of = {alpha: [row[key] for row in rows if row["alpha"] == alpha] for alpha in alphas}
    return alphas, [sum(values) / len(values) for values in of.values()]


def _against_alpha(axis: Axes, rows: Sequence[Row], key: str) -> None:
    """Draw one panel of Fig. 8."""
    alphas = sorted({row["alpha"] for row in rows})
    for shift, network in zip((0.97, 1.0, 1.03), _networks(rows), strict=False):
        of = [row for row in rows if row["network"] == network]
        found = [
            mean_over_images(row[key] for row in of if row["alpha"] == alpha) for alpha in alphas
        ]
        style = {**look(network), "label": NAMES[network], **BARS}
        draw_intervals(axis, [shift * alpha for alpha in alphas], found, **style)
    axis.set_xscale("log", base=2)
    axis.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
    axis.set_xlabel("α, largest change of an input pixel, in 255ths")


def _networks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["network"] for row in rows))


def figure_8_table(rows: Sequence[Row]) -> Table:
    """The numbers of Fig. 8: PSNR of outputs and of attacked inputs, RGB, and luma below."""
    names = _networks(rows)
    columns = [*(NAMES[name] for name in names), "attacked input"]
    blocks: dict[str, dict[str, list[Cell]]] = {}
    for row in rows:
        blocks.setdefault(f"{row['data']}: PSNR, dB, RGB (below: luma)", {})
    for title, lines in blocks.items():
        of_set = [row for row in rows if title.startswith(f"{row['data']}: ")]
        for alpha in sorted({row["alpha"] for row in of_set}):
            here = [row for row in of_set if row["alpha"] == alpha]
            of = [[row for row in here if row["network"] == name] for name in names]
            lines[f"α = {alpha:g}/255"] = [
                *(_means(some, "output") for some in of),
                _means(here, "input"),
            ]
    return Table(columns, blocks)


def _means(rows: Sequence[Row], key: str) -> Cell:
    rgb, luma = (
        sum(row[f"{key}_{channels}"] for row in rows) / len(rows) for channels in ("rgb", "y")
    )
    return Cell(f"{rgb:.2f}", f"({luma:.2f})")


QUALITY = {
    "psnr": ("PSNR, dB ↑", 2),
    "psnr_y": ("PSNR of luma, dB ↑", 2),
    "ssim": ("SSIM ↑", 3),
    "lpips": ("LPIPS ↓", 3),
    "sharpness": ("sharpness", 3),
}


def quality_table(rows: Sequence[Row]) -> Table:
    """Means over images of what ``quality_rows`` measured of single restorations."""
    keys = [key for key in QUALITY if key in rows[0]]
    lines = {}
    for name in _networks(rows):
        of = [row for row in rows if row["network"] == name]
        means = {key: sum(row[key] for row in of) / len(of) for key in keys}
        lines[NAMES.get(name, name)] = [Cell(f"{means[k]:.{QUALITY[k][1]}f}") for k in keys]
    return Table([QUALITY[key][0] for key in keys], {"": lines})


def heats(rows: Sequence[Row], alpha: float) -> Figure:
    """SRFlow's robustness, fidelity and variability against its heat."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.0), layout="constrained")
    values = sorted({row["heat"] for row in rows})

    def over_images(key: str) -> list[Interval]:
        return [
            mean_over_images(row[key] for row in rows if row["heat"] == heat) for heat in values
        ]

    style = {**look("srflow"), "linestyle": "-", **BARS}
    attacked = {**style, "label": f"attacked, α = {alpha:g}/255"}
    draw_intervals(left, values, over_images("output_rgb"), **attacked)
    true = {"color": INPUT, "marker": "D", "ls": "--", "label": "against the true image", **BARS}
    draw_intervals(left, values, over_images("psnr"), **true)
    left.set(xlabel="heat of the seeds", ylabel="PSNR, RGB (dB), less the border")
    left.legend(fontsize=8.5)
    draw_intervals(right, values, over_images("spread"), **style)
    right.set(xlabel="heat of the seeds", ylabel="per-pixel std over seeds", ylim=(0, None))
    return figure


def pictures(results: Mapping[str, Attacked], image: int, alpha: float) -> Figure:
    """Clean and attacked inputs and outputs, and the change of the output, a row per network.

    Args:
        results: from a network's key to its attack.
        image: the index of the image in its group.
        alpha: α of the attack, in 255ths.
    """
    titles = (
        "input",
        f"attacked, α = {alpha:g}/255",
        "output",
        "output, attacked",
        f"change, ×{MAGNIFIED}",
    )
    size = (WIDTH, 1.55 * len(results))
    figure, axes = plt.subplots(len(results), len(titles), figsize=size, squeeze=False)
    for row, (name, result) in zip(axes, results.items(), strict=True):
        clean, moved = result.clean[0, image], result.moved[0, image]
        change = 0.5 + MAGNIFIED * (moved - clean)
        shown = (result.group.y[image], result.y[image], clean, moved, change)
        for axis, x in zip(row, shown, strict=True):
            _picture(axis, x)
        row[0].set_ylabel(NAMES[name], color=label_color(name), fontsize=9, fontweight="bold")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8.5, color=LABEL)
    figure.patch.set_alpha(0)
    figure.tight_layout(pad=0.4)
    return figure


def restorations(images: Mapping[str, Tensor]) -> Figure:
    """Images (3, H, W) in [0, 1] side by side, under their names."""
    figure, axes = plt.subplots(1, len(images), figsize=(WIDTH, WIDTH / len(images) + 0.3))
    for axis, (title, x) in zip(axes, images.items(), strict=True):
        _picture(axis, x)
        axis.set_title(title, fontsize=9, color=LABEL)
    figure.patch.set_alpha(0)
    figure.tight_layout(pad=0.4)
    return figure


def _picture(axis: Axes, x: Tensor) -> None:
    axis.imshow(x.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
