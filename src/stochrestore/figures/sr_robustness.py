"""Figures of the chapter on Appendix G."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from stochrestore.experiments.srflow_robustness import SHAVE
from stochrestore.figures.style import NAMES, draw_intervals, look
from stochrestore.metrics.intervals import Interval, mean_interval

if TYPE_CHECKING:  # names of results only
    from stochrestore.experiments.srflow_robustness import Attacked

Row = dict[str, Any]
INPUT = "#8C8C8C"
MAGNIFIED = 4
BARS: dict[str, Any] = {"ms": 4, "capsize": 3}


def figure_8(rows: Sequence[Row], channels: str = "rgb") -> Figure:
    """Output and input PSNR against α, with 95 % intervals over images, one data set per panel.

    Args:
        rows: of :func:`stochrestore.experiments.srflow_robustness.figure_8_rows`.
        channels: ``rgb``, or ``y`` for luma.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    size = (2.0 + 4.2 * len(sets), 4.0)
    figure, axes = plt.subplots(1, len(sets), figsize=size, sharey=True, squeeze=False)
    for axis, data in zip(axes[0], sets, strict=True):
        _against_alpha(axis, [row for row in rows if row["data"] == data], channels)
        axis.set_title(data)
    what = "RGB" if channels == "rgb" else "luma"
    axes[0, 0].set_ylabel(f"PSNR, {what} (dB)\noutputs less a border of {SHAVE} pixels")
    axes[0, 0].legend()
    figure.tight_layout()
    return figure


def _against_alpha(axis: Axes, rows: Sequence[Row], channels: str) -> None:
    """Draw one panel of Fig. 8."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    alphas = sorted({row["alpha"] for row in rows})

    def over_images(key: str, alpha: float, *chosen: str) -> Interval:
        kept = (row for row in rows if row["alpha"] == alpha and row["network"] in chosen)
        return interval(row[f"{key}_{channels}"] for row in kept)

    for shift, network in zip((0.97, 1.0, 1.03), networks, strict=False):
        found = [over_images("output", alpha, network) for alpha in alphas]
        style = {**look(network), "label": NAMES[network], **BARS}
        draw_intervals(axis, [shift * alpha for alpha in alphas], found, **style)
    inputs = [over_images("input", alpha, *networks).value for alpha in alphas]
    axis.plot(alphas, inputs, "--", color=INPUT, label="attacked input (AI-PSNR)")
    axis.set_xscale("log", base=2)
    axis.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
    axis.set_xlabel("α, largest change of an input pixel, in 255ths")


def heats(rows: Sequence[Row], alpha: float) -> Figure:
    """SRFlow's robustness, fidelity and variability against its heat."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
    values = sorted({row["heat"] for row in rows})

    def over_images(key: str) -> list[Interval]:
        return [interval(row[key] for row in rows if row["heat"] == heat) for heat in values]

    style = {**look("srflow"), "linestyle": "-", **BARS}
    attacked = {**style, "label": f"attacked, α = {alpha:g}/255"}
    draw_intervals(left, values, over_images("output_rgb"), **attacked)
    true = {"color": INPUT, "marker": "D", "ls": "--", "label": "against the true image", **BARS}
    draw_intervals(left, values, over_images("psnr"), **true)
    left.set(xlabel="heat of the seeds", ylabel="PSNR, RGB (dB), less the border")
    left.legend()
    draw_intervals(right, values, over_images("spread"), **style)
    right.set(xlabel="heat of the seeds", ylabel="per-pixel std over seeds", ylim=(0, None))
    figure.tight_layout()
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
    size = (10.0, 2.15 * len(results))
    figure, axes = plt.subplots(len(results), len(titles), figsize=size, squeeze=False)
    for row, (name, result) in zip(axes, results.items(), strict=True):
        clean, moved = result.clean[0, image], result.moved[0, image]
        change = 0.5 + MAGNIFIED * (moved - clean)
        shown = (result.group.y[image], result.y[image], clean, moved, change)
        for axis, x in zip(row, shown, strict=True):
            _picture(axis, x)
        row[0].set_ylabel(NAMES[name])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    return figure


def restorations(images: Mapping[str, Tensor]) -> Figure:
    """Images (3, H, W) in [0, 1] side by side, under their names."""
    figure, axes = plt.subplots(1, len(images), figsize=(2.2 * len(images), 2.6))
    for axis, (title, x) in zip(axes, images.items(), strict=True):
        _picture(axis, x)
        axis.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    return figure


def interval(values: Iterable[float]) -> Interval:
    """The mean over images with its 95 % bootstrap interval, always from the same draws."""
    generator = torch.Generator().manual_seed(0)
    return mean_interval(torch.tensor(list(values)), generator=generator)


def _picture(axis: Axes, x: Tensor) -> None:
    axis.imshow(x.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
