"""The look of every figure: palette, names, and an opaque card that reads on light and dark."""

from __future__ import annotations

import matplotlib as mpl
import seaborn as sns

COLORS = {
    "robust_sine": "#56B4E9",
    "erratic_sine": "#0072B2",
    "robust_gan": "#E69F00",
    "erratic_gan": "#D55E00",
    "robust_sto_gan": "#009E73",
    "sto_gan": "#CC79A7",
    "posterior_sampler": "#222222",
    "posterior_mean": "#8C8C8C",
    "avoiding_hole": "#0072B2",
    "crossing_hole": "#D55E00",
    "edsr": "#0072B2",
    "esrgan": "#D55E00",
    "srflow": "#009E73",
}
"""One colour an estimator, everywhere (Okabe and Ito's, safe for the colour-blind)."""

NAMES = {
    "robust_sine": "X̂ (α = 1)",
    "erratic_sine": "X̂ (α = 50)",
    "robust_gan": "RobustGAN",
    "erratic_gan": "ErraticGAN",
    "robust_sto_gan": "RobustStoGAN",
    "sto_gan": "StoGAN",
    "posterior_sampler": "posterior sampler",
    "posterior_mean": "posterior mean",
    "avoiding_hole": "X̂₁",
    "crossing_hole": "X̂₂",
    "edsr": "EDSR",
    "esrgan": "ESRGAN",
    "srflow": "SRFlow",
}
"""How figures and tables call an estimator."""

DATA = "#C9CED6"
"""The colour of data and supports."""


def use() -> None:
    """Set the style for every figure drawn from here on."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "axes.labelsize": "medium",
            "grid.color": "#E6E8EC",
            "axes.edgecolor": "#6B7280",
            "legend.frameon": False,
            "font.size": 10,
        }
    )
