"""Figures and tables of the image chapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from stochrestore.figures.style import (
    BESIDE,
    COLORS,
    LABEL,
    NAMES,
    WIDTH,
    data_name,
    draw_intervals,
    label_color,
    legend_above,
    look,
    name_measure,
    panels,
)
from stochrestore.figures.tables import QUANTITIES, in_order
from stochrestore.metrics.restoration import AttackChecks

Rows = Sequence[Mapping[str, Any]]
Groups = Sequence[tuple[str, Tensor]]
GROUND = "#EEF0F3"
BAR: dict[str, Any] = {"clip_on": False, "solid_capstyle": "butt"}
TITLE, APART = 0.5, 0.35  # inches: a sheet's title with the space above it, and that space
RULE = 0.02  # inches between images and the bar over them, below their title
PADDING: dict[str, Any] = {"w_pad": 0.03, "h_pad": 0.02, "wspace": 0.0}


def sample_sheet(groups: Groups, *, notes: Mapping[str, str] | None = None) -> Figure:
    """Images in a grid with a row per input and a group of columns per estimator.

    Args:
        groups: pairs of a title and images (columns, rows, C, S, S). A title that is an
            estimator's key is replaced by the estimator's name, in its colour.
        notes: what stands in a second line below a title, e.g. :func:`behaviour_notes`.
    """
    return sample_sheets({"": groups}, notes=notes)


def sample_sheets(
    sheets: Mapping[str, Groups], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Several sheets of :func:`sample_sheet`, one below the other, each with its title."""
    sheets = {title: in_paper_order(groups) for title, groups in sheets.items()}
    columns = max(sum(images.shape[0] for _, images in groups) for groups in sheets.values())
    tile = min(0.75, WIDTH / columns)
    heights = [
        tile * groups[0][1].shape[1] + _heading(groups, notes) + (TITLE if title else 0)
        for title, groups in sheets.items()
    ]
    figure = plt.figure(figsize=(tile * columns, sum(heights)), dpi=170)
    figure.patch.set_alpha(0)  # photographs are shown as they are, whatever the page's theme
    bottom = sum(heights)
    for (title, groups), height in zip(sheets.items(), heights, strict=True):
        if title:
            place = (0.0, (bottom - APART) / sum(heights))
            figure.text(*place, title, fontsize=10.5, fontweight="bold", va="top", color=LABEL)
        bottom -= height
        _draw_sheet(figure, groups, tile, bottom, notes=notes)
    return figure


def figure_1(groups: Groups, attacked: Mapping[str, Tensor]) -> dict[str, Groups]:
    """Figure 1 as the paper groups it: the stochastic models, and the deterministic ones.

    Under the restorations of each input are those of the attacked input.

    Args:
        groups: of :func:`stochrestore.experiments.inpaint.figure_1`.
        attacked: from ``"input"`` and each model to images under attack, (columns, n, C, S, S).

    Returns:
        Sheets for :func:`sample_sheets`.
    """
    of = {name: _interleaved(images, attacked.get(name)) for name, images in in_paper_order(groups)}
    stochastic = [n for n in of if n in ("sto_gan", "robust_sto_gan")]
    others = [n for n in of if n not in ("input", "image", *stochastic)]
    sheets: dict[str, Groups] = {}
    for title, names in (("Stochastic", stochastic), ("Deterministic", others)):
        if names:
            more = " and true posterior" if "posterior_sampler" in names else ""
            sheets[title + more] = [(name, of[name]) for name in ("input", "image", *names)]
    return sheets


def in_paper_order(groups: Groups) -> list[tuple[str, Tensor]]:
    """The groups of a sheet with the models as in the paper's Figure 1, others where they were."""
    of = dict(groups)
    names = [name for name in of if name in NAMES]
    return [(n, of[n]) for n in of if n not in names] + [(n, of[n]) for n in in_order(names)]


def _interleaved(images: Tensor, attacked: Tensor | None) -> Tensor:
    """Each row of images followed by its row under attack, or by an empty one, which is NaN."""
    below = torch.full_like(images, torch.nan) if attacked is None else attacked[: len(images)]
    return torch.stack([images, below], 2).flatten(1, 2)


def _draw_sheet(
    figure: Figure,
    groups: Groups,
    tile: float,
    bottom: float,
    *,
    notes: Mapping[str, str] | None,
) -> None:
    """Draw a row of groups whose images all stand in one grid of tiles, in inches."""
    width, height = figure.get_size_inches()
    column = 0
    for title, images in groups:
        side = images.shape[-1]
        sizes = [tile * (n - 1 / (side + 1)) for n in images.shape[:2]]
        box = (column * tile / width, bottom / height, sizes[0] / width, sizes[1] / height)
        axis = figure.add_axes(box)
        axis.imshow(mosaic(images), interpolation="nearest", aspect="auto")
        narrow = images.shape[0] == 1
        label = _label(title, images, notes)
        color = label_color(title)
        axis.set_title(label, fontsize=9, color=color, pad=5, loc="center" if narrow else "left")
        axis.set_axis_off()
        if title in COLORS and title != "posterior_sampler":  # a bar over the columns of a model
            above = [1 + RULE / sizes[1]] * 2
            axis.plot([0, 1], above, transform=axis.transAxes, color=color, **BAR)
        column += images.shape[0]


def _label(title: str, images: Tensor, notes: Mapping[str, str] | None) -> str:
    narrow = images.shape[0] == 1
    label = NAMES.get(title, title)
    if narrow and len(label) > 8:
        label = label.replace("GAN", "\nGAN")
    if notes and title in notes:
        label += "\n" + (notes[title].replace(" · ", "\n") if narrow else notes[title])
    return label


def _heading(groups: Groups, notes: Mapping[str, str] | None) -> float:
    """Inches of what stands above the columns of a sheet."""
    lines = max(_label(title, images, notes).count("\n") + 1 for title, images in groups)
    return 0.08 + 0.15 * lines


def mosaic(images: Tensor) -> NDArray[np.float32]:
    """Images (columns, rows, C, h, w) as one picture (H, W, 4), with clear lines between them.

    An image of NaN is left clear.
    """
    columns, rows, _, height, width = images.shape
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), np.float32)
    pixels = images.detach().clamp(0, 1).cpu().numpy()
    for c in range(columns):
        for r in range(rows):
            if np.isnan(pixels[c, r]).all():
                continue
            top, left = r * (height + 1), c * (width + 1)
            tile = np.moveaxis(pixels[c, r], 0, -1)
            sheet[top : top + height, left : left + width, :3] = tile
            sheet[top : top + height, left : left + width, 3] = 1
    return sheet


AMPLIFIED = 3
"""By how much :func:`attack_sheet` multiplies differences."""


def attack_sheet(rows: Sequence[tuple[str, Sequence[Tensor]]]) -> Figure:
    """The effect of an attack, a row per estimator.

    Args:
        rows: estimator, and pictures (C, S, S): the input, the attacked input, both outputs, and
            the outputs' difference, which is shown :data:`AMPLIFIED`.
    """
    headings = (
        "input",
        "attacked input",
        "output",
        "output, attacked",
        f"difference, ×{AMPLIFIED}",
    )
    of = dict(rows)
    size = len(rows), len(headings)
    figure, axes = plt.subplots(
        *size, figsize=(1.2 * size[1] + 0.5, 1.2 * size[0] + 0.3), dpi=150, layout="constrained"
    )
    figure.get_layout_engine().set(**PADDING)  # type: ignore[union-attr]
    figure.patch.set_alpha(0)
    for line, name in zip(np.atleast_2d(axes), in_order(list(of)), strict=True):
        *pictures, difference = of[name]
        for axis, picture in zip(line, [*pictures, AMPLIFIED * difference], strict=True):
            axis.imshow(mosaic(picture[None, None]), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.patch.set_alpha(0)
            for spine in axis.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(NAMES[name], color=label_color(name), fontsize=8.5, fontweight="bold")
    for axis, heading in zip(np.atleast_2d(axes)[0], headings, strict=True):
        axis.set_title(heading, fontsize=8.5, color=LABEL)
    return figure


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
    return pd.DataFrame(shown).set_index("").rename_axis(None)


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
    return pd.DataFrame(lines).set_index("").rename_axis(None)


def size_table(networks: Mapping[str, nn.Module]) -> pd.DataFrame:
    """The number of weights of each network."""
    sizes = {name: sum(w.numel() for w in n.parameters()) for name, n in networks.items()}
    return pd.Series(sizes, name="weights").map("{:,}".format).to_frame()


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
    figure, (axes,) = panels(1, len(quantities), (WIDTH, 3.0), dpi=130)
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
        axis.set(xlabel=r"$\lambda_R$", ylabel=label)
        axis.set_ylim(bottom=0)
    legend_above(figure, columns=2)
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
    name_measure(axes, "per-pixel std")
    return figure


OPTION_COLUMNS = ("fid", "recall", "std", "robustness")
"""The quantities of :func:`over_options`, a column each."""


OPTION_NAMES = {
    "critic_residual": "critic's branches ×",
    "critic_input": "critic's input",
    "seed_scale": "seed ×",
    "robustness_weight": r"$\lambda_R$",
    "lr": "estimator's rate",
}
VALUE_NAMES = {"unit": "[0, 1]", "symmetric": "[−1, 1]", "0.0001": "10⁻⁴", "0.0004": "4·10⁻⁴"}


def over_options(rows: Rows) -> Figure:
    """What each option changes: a row of panels an option, a column a quantity.

    The value of the recipe stands on grey.

    Args:
        rows: ``estimator``, ``option``, ``value`` (a text), ``recipe``, and quantities as
            :class:`Interval`, whose bars are drawn. Empty panels where there are none.
    """
    options = list(dict.fromkeys(row["option"] for row in rows)) or [""]
    size = (WIDTH, 1.5 * len(options) + 0.6)
    figure, axes = panels(len(options), len(OPTION_COLUMNS), size, dpi=130)
    for line, option in zip(axes, options, strict=True):
        shown = [row for row in rows if row["option"] == option]
        for axis, quantity in zip(line, OPTION_COLUMNS, strict=True):
            _over_values(axis, shown, quantity)
            axis.set_title("{0} {2}".format(*QUANTITIES[quantity]), fontsize=9)
            axis.set_xlabel(OPTION_NAMES.get(option, option))
    if rows:
        legend_above(figure, columns=2)
    return figure


def _over_values(axis: Any, rows: Rows, quantity: str) -> None:
    """Draw a quantity over the values of one option, in their order, with a line a model."""
    values = list(dict.fromkeys(row["value"] for row in rows))
    axis.set_xticks(range(len(values)), [VALUE_NAMES.get(value, value) for value in values])
    axis.set_xlim(-0.5, max(len(values), 1) - 0.5)
    axis.grid(visible=False, axis="x")
    for name in dict.fromkeys(row["estimator"] for row in rows):
        own = [row for row in rows if row["estimator"] == name]
        places = [values.index(row["value"]) for row in own]
        style = {"markersize": 5, "linewidth": 1.4, "capsize": 2, "label": NAMES[name]}
        draw_intervals(axis, places, [row[quantity] for row in own], **style, **look(name))
    for place in {values.index(row["value"]) for row in rows if row["recipe"]}:
        axis.axvspan(place - 0.3, place + 0.3, color=GROUND, zorder=0)
    if rows and quantity != "robustness":
        axis.set_ylim(0, 1.08 * max(row[quantity].high for row in rows))


FIGURE_4 = ("precision", "recall", "fid", "std", "robustness")
"""The rows of the paper's Figure 4, in its order."""


def over_scale(rows: Rows) -> Figure:
    """Fig. 4: quantities (rows) against the scale, with a line per estimator and a column per set.

    Args:
        rows: ``data``, ``scale``, ``estimator``, ``features`` and quantities as
            :class:`Interval`, whose bars are drawn, or None if not defined.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    size = (WIDTH if len(sets) > 1 else 4.0, 1.6 * len(FIGURE_4) + 0.6)
    figure, axes = panels(len(FIGURE_4), len(sets), size, dpi=130, sharex="col")
    for column, data in enumerate(sets):
        shown = [row for row in rows if row["data"] == data]
        scales = sorted({row["scale"] for row in shown})
        names = in_order(list(dict.fromkeys(row["estimator"] for row in shown)))
        apart = 1.08 if len(scales) == 1 else 1.0  # or they would lie upon each other
        for line, quantity in enumerate(FIGURE_4):
            axis = axes[line][column]
            for place, name in enumerate(names):
                beside = apart ** (place - (len(names) - 1) / 2)
                own = [r for r in shown if r["estimator"] == name]
                _line_over_scale(axis, own, quantity, beside)
            axis.set_xscale("log", base=2)
            axis.set_xlim(scales[0] / 1.2, scales[-1] * 1.2)  # also if there is only one scale
            axis.set_xticks(scales, [f"×{scale}" for scale in scales])
            axis.minorticks_off()
            axis.ticklabel_format(axis="y", useOffset=False)
            axis.set_ylim(bottom=0 if quantity != "robustness" else None)
            label, _, better = QUANTITIES[quantity]
            axis.set_ylabel(f"{label} {better}")  # of each: narrow screens stack the columns
        title = f"{data_name(data)} (FID: {shown[0]['features']})"
        axes[0][column].set_title(title, fontsize=9)
    legend_above(figure, columns=2)  # no wider than a column of panels
    return figure


def _line_over_scale(axis: Any, rows: Rows, quantity: str, beside: float) -> None:
    """Draw one estimator's line, with bars for the intervals, its scales times ``beside``."""
    name = rows[0]["estimator"]
    points = [(beside * row["scale"], row[quantity]) for row in rows if row[quantity] is not None]
    style = {"markersize": 5, "linewidth": 1.6, "capsize": 2, "label": NAMES[name], **look(name)}
    if points:
        draw_intervals(axis, *zip(*points, strict=True), **style)


def cost_of_one_answer(rows: Rows) -> Figure:
    """How much higher the FID of deterministic models is, against the bits that D removes.

    Args:
        rows: ``data``, ``scale``, ``estimator``, ``bits`` and ``cost``, the difference in FID.
    """
    sets = list(dict.fromkeys(row["data"] for row in rows))
    figure, (axes,) = panels(1, len(sets), (WIDTH if len(sets) > 1 else 4.0, 2.8), dpi=130)
    for axis, data in zip(axes, sets, strict=True):
        for name in dict.fromkeys(row["estimator"] for row in rows):
            line = [r for r in rows if r["data"] == data and r["estimator"] == name]
            style = {**look(name), "markersize": 6}
            bits = [row["bits"] for row in line]
            axis.plot(bits, [row["cost"] for row in line], label=NAMES[name], **style)
        for scale in dict.fromkeys(row["scale"] for row in rows if row["data"] == data):
            here = [r for r in rows if (r["data"], r["scale"]) == (data, scale)]
            top = (here[0]["bits"], max(row["cost"] for row in here))
            beside = (-3, 5)  # to the left, where no line rises
            axis.annotate(f"×{scale}", top, beside, **BESIDE, fontsize=8, ha="right")
        axis.axhline(0.0, color="#6B7280", linewidth=0.8, linestyle=":")
        axis.set(title=data_name(data), xlabel="bits lost, at most")
        axis.set(ylabel="FID, det. − stochastic")
        axis.margins(0.22, 0.2)  # also for the labels
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, -0.5), max(high, 0.5))  # a difference near 0 looks like one
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
