"""Figures that a reader can change: pictures computed in advance, of which one is shown.

A choice is a row of HTML radio buttons, and a style sheet shows the chosen picture. So it works
in a static page without a network, a kernel or scripts, and with the arrow keys. A page grows by
the pictures only, while plotting libraries for browsers need a megabyte or more.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from stochrestore.errors import require
from stochrestore.estimators.closed_form import Sine
from stochrestore.estimators.zigzag import Zigzag, lipschitz_bound
from stochrestore.figures.images import mosaic
from stochrestore.figures.numbers import typeset
from stochrestore.figures.style import COLORS, DATA, NAMES, label_color, look, panels
from stochrestore.figures.tables import in_order
from stochrestore.figures.toy import draw_disk
from stochrestore.metrics.psnr import psnr

Rows = Sequence[Mapping[str, Any]]
INK, MUTED = COLORS["posterior_sampler"], "#6B7280"


@dataclass(frozen=True)
class Frame:
    """What a :class:`PictureBrowser` shows for one choice.

    Args:
        pictures: from the description of a panel, for readers who cannot see it, to its image
            file, WebP. Panels stand side by side where there is room, else below each other, so
            that letters can be read on a telephone.
        text: the numbers under the pictures.
    """

    pictures: Mapping[str, bytes] = field(repr=False)
    text: str


@dataclass(frozen=True)
class PictureBrowser:
    """Pictures from which the reader chooses one, by one or several choices.

    Args:
        name: letters, digits and hyphens, unique on the page.
        choices: from the label of a choice to the labels of its values.
        frames: from the indices of the chosen values to the picture, for every combination.
        first: the indices of the picture that is shown at first, in print, and by browsers
            without ``:has``.
        caption: what stands under the picture, after the number.
        photographs: whether the pictures show images, whose colours no theme may change.

    Raises:
        InputError: a combination has no picture, or ``first`` is not a combination.
    """

    name: str
    choices: Mapping[str, Sequence[str]]
    frames: Mapping[tuple[int, ...], Frame]
    first: tuple[int, ...]
    caption: str = ""
    photographs: bool = False

    def __post_init__(self) -> None:
        every = set(itertools.product(*(range(len(values)) for values in self.choices.values())))
        allowed = "one for each combination of choices"
        require(self.frames.keys() == every, "frames of", self.name, allowed)
        require(self.first in every, "first", self.first, "the index of a value for each choice")

    def _repr_html_(self) -> str:
        parts = [
            f"<style>{self._css()}</style>",
            *self._fieldsets(),
            '<div aria-live="polite" tabindex="0">',
        ]
        parts += [self._frame(index, frame) for index, frame in self.frames.items()]
        kind = "picture-browser photographs" if self.photographs else "picture-browser"
        number = f"Interactive figure {NUMBERS[self.name]}. " if self.name in NUMBERS else ""
        caption = f"<figcaption>{number}{html.escape(self.caption)}</figcaption>"
        inside = f"{''.join(parts)}</div>{caption}"
        return f'<figure class="{kind}" id="{self.name}" tabindex="-1">{inside}</figure>'

    def _css(self) -> str:
        shown = [
            "".join(f":has(#{self._button(c, v)}:checked)" for c, v in enumerate(index))
            for index in self.frames
        ]
        rules = [
            f"#{self.name}{condition} .{_class(index)}{{display:block}}"
            for condition, index in zip(shown, self.frames, strict=True)
        ]
        most = max(len(frame.pictures) for frame in self.frames.values())
        alone = (
            "" if most > 1 or self.photographs else "#NAME .pictures{max-width:33rem;margin:auto}"
        )
        style = (_STYLE + alone).replace("#NAME", f"#{self.name}").replace("MOST", str(most))
        return style.replace("FIRST", _class(self.first)) + (
            f"@media screen{{@supports selector(:has(*)){{#{self.name} .frame{{display:none}}"
            f"{''.join(rules)}}}}}"
        )

    def _fieldsets(self) -> list[str]:
        return [
            f"<fieldset><legend>{html.escape(legend)}</legend>"
            + "".join(
                f'<label><input type="radio" name="{self.name}-{c}" id="{self._button(c, v)}"'
                f"{' checked' if v == self.first[c] else ''}>"
                f"<span>{html.escape(label)}</span></label>"
                for v, label in enumerate(labels)
            )
            + "</fieldset>"
            for c, (legend, labels) in enumerate(self.choices.items())
        ]

    def _button(self, choice: int, value: int) -> str:
        return f"{self.name}-{choice}-{value}"

    def _frame(self, index: tuple[int, ...], frame: Frame) -> str:
        images = "".join(
            f'<img src="data:image/webp;base64,{base64.b64encode(picture).decode()}" '
            f'alt="{html.escape(alt)}">'
            for alt, picture in frame.pictures.items()
        )
        return (
            f'<div class="frame {_class(index)}"><div class="pictures">{images}</div>'
            f"<p>{html.escape(frame.text)}</p></div>"
        )


NUMBERS = {
    "neighbours-browser": 1,
    "sine-browser": 2,
    "weight-browser": 3,
    "zigzag-browser": 4,
    "restoration-browser": 5,
}
"""The numbers of the interactive figures, in the order of the book."""


def _class(index: tuple[int, ...]) -> str:
    return "frame-" + "-".join(map(str, index))


_STYLE = """
#NAME{max-width:48rem;margin:1rem auto;padding:.8rem 1rem;border-radius:.5rem;
border:1px solid var(--pst-color-border,#9ca3af);background:var(--pst-color-background,#fff);
color:var(--pst-color-text-base,#1f2937);font-size:.9rem}
#NAME fieldset{border:0;margin:0 0 .4rem;padding:0;min-width:0}
#NAME legend{float:left;width:auto;margin:0 .6rem 0 0;padding:.15rem 0;
font-size:inherit;font-weight:600;color:inherit}
#NAME label{position:relative;display:inline-block;margin:0 .2rem .3rem 0}
#NAME input{position:absolute;inset:0;opacity:0;width:100%;height:100%;margin:0;cursor:pointer}
#NAME label span{display:block;min-width:2.1rem;padding:.1rem .5rem;text-align:center;
border:1px solid #6b7280;border-radius:1rem}
#NAME input:checked+span{background:#1f4e79;border-color:#1f4e79;color:#fff}
#NAME input:focus-visible+span{outline:3px solid #c68200;outline-offset:1px}
#NAME .pictures{display:grid;gap:.5rem;grid-template-columns:
repeat(auto-fill,minmax(min(100%,max(26rem/MOST,(100% - .5rem*(MOST - 1))/MOST)),1fr))}
#NAME img{display:block;width:100%;height:auto;margin:0}
#NAME p{margin:.3rem 0 0}
#NAME figcaption{margin:.5rem 0 0;color:inherit;text-align:left;font-weight:400}
#NAME .frame:not(.FIRST){display:none}
@media print{#NAME fieldset{display:none}}
"""
_ALONE = "#NAME .pictures{max-width:33rem;margin:auto}"


def webp(figure: Figure) -> bytes:
    """Close a figure and return it as a WebP file. Method 6 takes ten times as long for 1 %."""
    buffer = io.BytesIO()
    size = figure.bbox_inches  # "savefig.bbox" of the style would cut each picture differently
    figure.savefig(buffer, format="webp", bbox_inches=size, pil_kwargs={"quality": 82, "method": 5})
    plt.close(figure)
    return buffer.getvalue()


def frame(figures: Mapping[str, Figure], text: str) -> Frame:
    """A :class:`Frame` of figures, each by its description, which are closed."""
    return Frame({alt: webp(figure) for alt, figure in figures.items()}, text)


# --- X̂_α -------------------------------------------------------------------------------------


def sine_browser(rows: Rows, epsilon: float, *, pictures: int = 12) -> PictureBrowser:
    """X̂_α for several α: its curve in the disk beside its precision and recall.

    Args:
        rows: of :func:`stochrestore.experiments.toy_tradeoff.sine_rows`.
        epsilon: ε, which turns √R̃ into a slope √R̃/ε.
        pictures: the largest number of α to choose from; they are spread over those of the rows.
    """
    means = pd.DataFrame(rows).groupby("alpha")[["precision", "recall", "sensitivity"]].mean()
    offered = means.index[np.unique(np.linspace(0, len(means) - 1, pictures).round().astype(int))]
    frames: dict[tuple[int, ...], Frame] = {}
    for i, alpha in enumerate(offered):
        at = means.loc[alpha]
        numbers = f"precision {at.precision:.2f}, recall {at.recall:.2f}"
        panels_of = {
            f"The curve of the estimator for α = {alpha:g} in the disk.": _sine_curve(alpha),
            f"Precision and recall over α, marked at {alpha:g}: {numbers}.": _sine_quality(
                alpha, means
            ),
        }
        slope = f"root-mean-square slope {at.sensitivity / epsilon:.2g}"
        frames[(i,)] = frame(panels_of, f"α = {alpha:g}: {numbers}, {slope}")
    labels = {"α": [f"{alpha:g}" for alpha in offered]}
    caption = "The estimator X̂_α for a chosen α. The more of the disk it covers, the steeper it is."
    return PictureBrowser("sine-browser", labels, frames, (len(offered) // 2,), caption)


def _panel() -> tuple[Figure, Any]:
    """One of two panels that stand side by side."""
    figure, ((axis,),) = panels(1, 1, (2.7, 2.6), dpi=150)
    return figure, axis


def _sine_curve(alpha: float) -> Figure:
    figure, axis = _panel()
    draw_disk(axis)
    y = torch.linspace(-1, 1, 20_001)[:, None]
    points = Sine(alpha)(y, torch.zeros_like(y))
    axis.plot(points[:, 1], points[:, 0], color=COLORS["erratic_sine"], lw=1)
    axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xticks=[-1, 0, 1])
    axis.set(yticks=[-1, 0, 1], xlabel="X⁽²⁾ (estimated)", ylabel="X⁽¹⁾ = Y")
    return figure


def _sine_quality(alpha: float, means: pd.DataFrame) -> Figure:
    figure, axis = _panel()
    for quantity, color, line in (("precision", MUTED, "--"), ("recall", INK, "-")):
        axis.plot(means.index, means[quantity], line, color=color, label=quantity)
        axis.plot(alpha, means.loc[alpha, quantity], "o", ms=8, color=color)
    axis.axvline(alpha, color=COLORS["erratic_sine"], lw=1, ls=":")
    axis.set(xscale="log", xlabel="α", ylim=(-0.03, 1.06))
    axis.legend(loc="center left", fontsize=9)
    return figure


# --- The zigzag ------------------------------------------------------------------------------


def zigzag_browser(
    frequencies: Sequence[int] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64), first: int = 3
) -> PictureBrowser:
    """Figure 6 for several f, beside the W₂ and the slope of each.

    Args:
        frequencies: f ≥ 1, ascending.
        first: the f that is shown at first; it is added if it is missing.
    """
    offered = sorted({first, *frequencies})
    frames: dict[tuple[int, ...], Frame] = {}
    for i, f in enumerate(offered):
        zigzag = Zigzag(f)
        numbers = f"W₂ to the square {zigzag.wasserstein():.4f}"
        marked = f"marked at this one: {numbers}, slope {zigzag.slope:.0f}."
        panels_of = {
            f"The zigzag of frequency {f} in the unit square.": _zigzag_curve(f),
            f"W₂ falling with the slope from zigzag to zigzag, {marked}": _zigzag_distance(
                f, offered
            ),
        }
        attacked = f"an attack on y is multiplied by {zigzag.slope:.0f}"
        frames[(i,)] = frame(panels_of, f"f = {f}: {numbers}; {attacked}")
    choices = {"f": [str(f) for f in offered]}
    caption = "The zigzag for a chosen f. The nearer it comes to the square, the steeper it is."
    return PictureBrowser("zigzag-browser", choices, frames, (offered.index(first),), caption)


def _zigzag_curve(f: int) -> Figure:
    figure, axis = _panel()
    kinks = torch.linspace(0, 1, 2 * f + 1, dtype=torch.float64)
    axis.set_facecolor(DATA)
    axis.plot(kinks, Zigzag(f).curve(kinks), color=COLORS["erratic_sine"], lw=1.3)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.set(xlabel="X⁽¹⁾ = Y", ylabel="X⁽²⁾")
    axis.grid(False)
    return figure


def _zigzag_distance(f: int, offered: Sequence[int]) -> Figure:
    figure, axis = _panel()
    slopes = np.geomspace(1, 2.2 * offered[-1], 100)
    bound = [lipschitz_bound(float(slope)) for slope in slopes]
    axis.fill_between(slopes, 1e-9, bound, color=DATA, alpha=0.55, lw=0)
    every = [Zigzag(g) for g in offered]
    axis.plot([z.slope for z in every], [z.wasserstein() for z in every], "o", ms=4, color=MUTED)
    axis.plot(Zigzag(f).slope, Zigzag(f).wasserstein(), "o", ms=10, color=COLORS["erratic_sine"])
    axis.text(1.15, 1.3 * bound[-1], "no deterministic\nestimator is here", fontsize=9)
    axis.set(xscale="log", yscale="log", xlim=(1, slopes[-1]), ylim=(0.9 * bound[-1], 0.4))
    axis.set(xlabel="slope: how far X̂⁽²⁾\nmoves per unit of y", ylabel="W₂ to the square")
    return figure


# --- λ_R -------------------------------------------------------------------------------------


def weight_browser(sweep: Rows, epsilon: float) -> PictureBrowser:
    """Recall against slope for several λ_R, for deterministic and stochastic models.

    Args:
        sweep: rows with estimator, weight, recall and sensitivity.
        epsilon: ε, which turns √R̃ into a slope √R̃/ε.
    """
    data = pd.DataFrame(sweep).assign(slope=lambda table: table.sensitivity / epsilon)
    means = data.groupby(["estimator", "weight"])[["slope", "recall"]].mean()
    weights = sorted(data.weight.unique())
    frames: dict[tuple[int, ...], Frame] = {}
    for i, weight in enumerate(weights):
        at = means.xs(weight, level="weight")
        said = [
            f"{NAMES[str(name)]}: recall {row.recall:.2f} at slope {row.slope:.2g}"
            for name, row in at.iterrows()
        ]
        chosen = f"λ_R = {typeset(f'{weight:g}')}"
        alt = "Recall against root-mean-square slope, a line per model, large markers at "
        panel = {f"{alt}{chosen}: {'; '.join(said)}.": _weight_figure(weight, means)}
        frames[(i,)] = frame(panel, f"{chosen}. {'; '.join(said)}")
    labels = {"λ_R": [typeset(f"{weight:g}") for weight in weights]}
    caption = "The recall and the slope of both models for a chosen λ_R."
    return PictureBrowser("weight-browser", labels, frames, (len(weights) // 2,), caption)


def _weight_figure(weight: float, means: pd.DataFrame) -> Figure:
    figure, axis = plt.subplots(figsize=(3.9, 2.8), dpi=150, layout="constrained")
    for key, line in means.groupby("estimator"):
        name = str(key)
        style = look(name)
        axis.plot(line.slope, line.recall, ms=4, lw=1, alpha=0.7, label=NAMES[name], **style)
        axis.plot(*line.xs(weight, level="weight").iloc[0][["slope", "recall"]], ms=13, **style)
    axis.set(xscale="log", xlabel="√R̃ / ε: root-mean-square slope")
    axis.set(ylabel="recall", ylim=(-0.05, 1.08))
    axis.legend(fontsize=9, loc="center left")
    return figure


# --- Restorations under attack -----------------------------------------------------------------


def restoration_browser(
    restored: Mapping[str, Tensor],
    factors: Sequence[float],
    posterior: Tensor | None = None,
    attacked: Mapping[str, Tensor] | None = None,
    name: str = "restoration-browser",
) -> PictureBrowser:
    """Restorations for several seeds and several strengths of the attack on their inputs.

    Args:
        restored: from ``"input"`` or an estimator's key to images (factors, seeds, inputs, C, S,
            S) in [0, 1]; see :func:`stochrestore.experiments.attack_grid.attack_grid`.
        factors: the radius of each attack, in units of ε; the first is 0, no attack.
        posterior: draws from the true posterior given the clean inputs, (≥ seeds, inputs, C, S,
            S); an attacked input may have no posterior.
        attacked: from an estimator's key to its inputs under attack (factors, inputs, C, h, w),
            which are drawn below its restorations.
        name: the name of the :class:`PictureBrowser`.
    """
    seeds = next(iter(restored.values())).shape[1]
    models = in_order([key for key in restored if key != "input"])
    order = [*(key for key in restored if key == "input"), *models]
    frames: dict[tuple[int, ...], Frame] = {}
    for s, (f, factor) in itertools.product(range(seeds), enumerate(factors)):
        rows = {key: restored[key][f, s] for key in order}
        if posterior is not None:
            rows["posterior_sampler"] = posterior[s]
        below = {key: images[f] for key, images in (attacked or {}).items()}
        attack = f"under an attack of {factor:g} ε" if factor else "of inputs as they are"
        numbers = _decibels(restored, attacked or {}, models, f, s) if factor else ""
        strips = ", each above the input that it restores" if attacked else ""
        alt = f"A row per estimator and a column per input: restorations {attack}, seed {s + 1}"
        panel = {f"{alt}{strips}.": _restoration_figure(rows, below)}
        frames[s, f] = frame(panel, f"Seed {s + 1}, restorations {attack}.{numbers}")
    choices = {
        "seed": [str(s + 1) for s in range(seeds)],
        "attack, in ε": [f"{factor:g}" for factor in factors],
    }
    caption = "The figure shows what a seed and what an attack change. "
    caption += "Deterministic estimators have no seed."
    if attacked:
        caption += " Below each estimator's restorations are the inputs under the attack on it."
    if posterior is not None:
        caption += " The posterior is that of the inputs as they are."
    return PictureBrowser(name, choices, frames, (0, len(factors) // 2), caption, photographs=True)


def _decibels(
    restored: Mapping[str, Tensor],
    attacked: Mapping[str, Tensor],
    models: Sequence[str],
    f: int,
    s: int,
) -> str:
    """The PSNR of outputs, and of attacked inputs over the whole image, in a sentence."""
    said = []
    for key in models:
        output = psnr(restored[key][f, s], restored[key][0, s]).mean().item()
        text = f"{NAMES.get(key, key)} {output:.1f} dB"
        if key in attacked:
            whole = restored[key][0, s, 0].numel() / attacked[key][0, 0].numel()
            moved = psnr(attacked[key][f], attacked[key][0]).mean().item()
            text += f" ({moved + 10 * math.log10(whole):.1f})"
        said.append(text)
    of_inputs = " (and of the input)" if attacked else ""
    return f" PSNR of the output{of_inputs} against no attack: {', '.join(said)}."


def _restoration_figure(rows: Mapping[str, Tensor], below: Mapping[str, Tensor]) -> Figure:
    pictures = {}
    for name, images in rows.items():
        pictures[name] = mosaic(images[:, None])
        if name in below:
            gap = np.zeros((1, *pictures[name].shape[1:]), np.float32)
            strip = mosaic(below[name][:, None])
            pictures[name] = np.concatenate([pictures[name], gap, strip])
    columns = next(iter(rows.values())).shape[0]
    heights = [len(picture) / next(iter(rows.values())).shape[-2] for picture in pictures.values()]
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(0.8 * columns + 1.5, 0.82 * sum(heights)),
        dpi=110,
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    figure.patch.set_alpha(0)
    for axis, (name, picture) in zip(axes[:, 0], pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_axis_off()
        axis.set_anchor("E")  # what is left over is for the names
        place = {"transform": axis.transAxes, "ha": "right", "va": "center"}
        label = NAMES.get(name, name).replace(" ", "\n")
        color = label_color(name)
        axis.text(-0.02, 0.5, label, fontsize=11.5, fontweight="bold", color=color, **place)
    return figure
