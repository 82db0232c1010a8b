"""What is seen of the trainings of the image chapters: controls, curves and health."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from stochrestore.figures.style import NAMES, WIDTH, look
from stochrestore.figures.tables import QUANTITIES, Rows


def controls_table(rows: Rows) -> pd.DataFrame:
    """What features say of real images, and of real images with a defect, against real ones.

    Args:
        rows: ``features``, ``images``, ``fid``, ``precision`` and ``recall``.
    """
    shown = [
        {
            "features": row["features"],
            "images": row["images"],
            **{QUANTITIES[q][0]: f"{row[q]:.2f}" for q in ("fid", "precision", "recall")},
        }
        for row in rows
    ]
    return pd.DataFrame(shown).set_index(["features", "images"])


def health_table(records: Mapping[str, Rows], control: float) -> pd.DataFrame:
    """How often a fresh critic tells the restorations of each network from images.

    Args:
        records: of the networks of each kind, with ``two_sample_accuracy`` where it was measured.
        control: the same where images stand for restorations.
    """
    lines = []
    for name, runs in records.items():
        found = [run["two_sample_accuracy"] for run in runs if "two_sample_accuracy" in run]
        if found:
            each = ", ".join(f"{value:.3f}" for value in found)
            lines.append({"": NAMES[name], "mean": f"{np.mean(found):.3f}", "each network": each})
    lines.append({"": "images", "mean": f"{control:.3f}", "each network": "–"})
    return pd.DataFrame(lines).set_index("").rename_axis(None)


CURVES = ("fid", "precision", "recall", "std", "robustness")


def has_curves(records: Mapping[str, Rows]) -> bool:
    """Whether a training of these was measured along its way."""
    return any(
        CURVES[0] in row for runs in records.values() for run in runs for row in run["history"]
    )


def curves(records: Mapping[str, Rows], title: str = "") -> Figure:
    """What was measured along the trainings: a panel a quantity, a line a network.

    Args:
        records: of the networks of each kind; those without curves are left out.
        title: of the figure.
    """
    figure, grid = plt.subplots(2, 3, figsize=(WIDTH, 4.4), dpi=130, layout="constrained")
    *axes, corner = grid.flat
    corner.set_axis_off()
    corner.set_title(title)
    for axis, quantity in zip(axes, CURVES, strict=True):
        for name, runs in records.items():
            label = NAMES[name]
            for run in runs:
                points = [row for row in run["history"] if quantity in row]
                if points:
                    steps = [row["step"] for row in points]
                    values = [row[quantity] for row in points]
                    style = {**look(name), "marker": "", "linewidth": 1.3, "alpha": 0.85}
                    axis.plot(steps, values, label=label, **style)
                    label = ""  # one entry in the legend for all networks of a kind
        axis.set_title("{0} {2}".format(*QUANTITIES[quantity]), fontsize=9)
        axis.set(xlabel="step")
        if quantity == "fid":
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(NullFormatter())
        elif quantity != "robustness":
            axis.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        corner.legend(handles, labels, loc="center", fontsize=10)
    return figure
