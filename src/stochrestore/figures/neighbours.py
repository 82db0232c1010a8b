"""The idea in one picture: to visit everywhere, an estimator must part neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stochrestore.figures.interactive import INK, MUTED, Frame, PictureBrowser, frame
from stochrestore.figures.style import COLORS, panels
from stochrestore.figures.toy import draw_disk

PARTING = {
    "a zigzag": "two outputs on opposite edges",
    "a flat curve": "two outputs side by side",
    "a stochastic one": "two overlapping bars of outputs",
}
MODEL = {
    "a zigzag": "erratic_gan",
    "a flat curve": "robust_gan",
    "a stochastic one": "robust_sto_gan",
}
"""The model in whose colour each is drawn."""


def neighbours_browser(frequencies: Sequence[int] = (1, 2, 4, 8)) -> PictureBrowser:
    """What three estimators of the disk answer to two neighbouring inputs y and y + δ.

    The distance δ is half a period of the last zigzag, so that its answers are as far apart as
    they can be.

    Args:
        frequencies: the zigzags to choose from, in periods over the disk, ascending.
    """
    delta = 1 / frequencies[-1]
    shown = {"all three": tuple(PARTING), **{name: (name,) for name in PARTING}}
    frames: dict[tuple[int, ...], Frame] = {}
    for (e, names), (i, f) in itertools.product(enumerate(shown.values()), enumerate(frequencies)):
        apart = abs(_zigzag(f, -delta / 2) - _zigzag(f, delta / 2))
        numbers = (
            f"With f = {f} the zigzag's two answers are {apart:.1f} apart, "
            f"and y and y + δ are {delta:g} apart."
        )
        alt = "The disk, two neighbouring inputs as lines, and what {} answers to them: {}."
        answers = {alt.format(name, PARTING[name]): _answers(name, f, delta) for name in names}
        frames[e, i] = frame(answers, numbers)
    choices = {"estimator": list(shown), "f": [str(f) for f in frequencies]}
    caption = (
        "To visit everywhere, neighbours must part. A zigzag that goes everywhere answers two "
        "neighbouring inputs, y and y + δ, at opposite edges of the disk. A flat curve answers "
        "them side by side, and misses the disk. A stochastic estimator answers each with a whole "
        "bar of outputs, and the two bars overlap."
    )
    return PictureBrowser("neighbours-browser", choices, frames, (0, len(frequencies) - 1), caption)


def _zigzag(f: int, y: float) -> float:
    """A triangle wave of f periods over [-1, 1] in a chord of the disk, 0 at y = 0."""
    return float((1 - y * y) ** 0.5 * 2 / np.pi * np.arcsin(np.sin(np.pi * f * y)))


def _answers(name: str, f: int, delta: float) -> Figure:
    """What the estimator of this name answers to y and to y + δ."""
    figure, ((axis,),) = panels(1, 1, (1.9, 1.85), dpi=150)
    axis.set(xlim=(-1.5, 1.1), ylim=(-1.08, 1.08), aspect="equal", xticks=[], yticks=[])
    axis.set_axis_off()
    draw_disk(axis)
    y, color = np.linspace(-1, 1, 2001), COLORS[MODEL[name]]
    if name != "a stochastic one":
        wave = [_zigzag(f, v) if name == "a zigzag" else 0.0 for v in y]
        axis.plot(wave, y, color=color, lw=1)
    for at, label in ((-delta / 2, "y"), (delta / 2, "y + δ")):
        axis.axhline(at, color=MUTED, lw=0.8, ls="--")
        side = "bottom" if at > 0 else "top"
        axis.text(-1.48, at, label, fontsize=9, ha="left", va=side, color=INK)
        half = (1 - at * at) ** 0.5
        if name == "a stochastic one":
            axis.plot([-half, half], [at, at], color=color, lw=5, alpha=0.55)
        else:
            axis.plot(_zigzag(f, at) if name == "a zigzag" else 0.0, at, "o", ms=7, color=color)
    axis.set_title(name, fontsize=10, color=color, fontweight="bold")
    return figure
