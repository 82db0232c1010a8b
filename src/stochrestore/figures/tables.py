"""Tables of results: the interval under a value, and the paper's value in grey under both."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stochrestore.figures.style import NAMES
from stochrestore.metrics.interval import Interval

Rows = Sequence[Mapping[str, Any]]
ORDER = ("sto_gan", "robust_sto_gan", "erratic_gan", "robust_gan")
"""The columns of the paper's Table 1."""

QUANTITIES = {
    "fid": ("FID", 2, "↓"),
    "precision": ("precision", 3, "↑"),
    "recall": ("recall", 3, "↑"),
    "std": ("per-pixel std", 3, "↑"),
    "robustness": ("robustness, dB", 1, "↑"),
    "ai_psnr": ("AI-PSNR, dB", 1, ""),
    "ball_used": ("share of the ε-ball", 2, ""),
    "consistency": ("consistency, dB", 1, "↑"),
}
"""The label and the number of digits of each quantity of a row, and where it is better."""
REAL = "real images"
NOTHING = "–"
"""What stands where nothing is measured."""


@dataclass(frozen=True)
class Cell:
    """A number as text, its interval, and what the paper prints."""

    value: str
    interval: str = ""
    paper: str = ""

    @classmethod
    def of(cls, measured: Interval | None, digits: int, paper: str = "") -> Cell:
        """A measured interval, rounded; None is a dash."""
        if measured is None or math.isinf(measured.value):
            return cls(NOTHING if measured is None else "∞", "", paper)
        ends = (measured.value, measured.low, measured.high)
        value, low, high = (f"{number:.{digits}f}" for number in ends)
        return cls(value, "" if low == value == high else f"[{low}, {high}]", paper)

    def entry(self) -> str:
        """Its ``td``. One without a number is marked: where rows are blocks it is left out."""
        kind = ' class="nothing"' if self.value == NOTHING else ""
        return f"<td{kind}>{self._repr_html_()}</td>"

    def _repr_html_(self) -> str:
        lines = [html.escape(self.value)]
        lines += [f"<small>{html.escape(self.interval)}</small>"] if self.interval else []
        paper = f'<small class="paper">paper {html.escape(self.paper)}</small>'
        return "<br>".join([*lines, paper] if self.paper else lines)


@dataclass(frozen=True)
class Table:
    """A table as the page shows it.

    Args:
        columns: the heads of the columns, without that of the row labels.
        blocks: from a title, which may be empty, to rows; from a row's label to its cells.
        notes: lines under the table.
    """

    columns: Sequence[str]
    blocks: Mapping[str, Mapping[str, Sequence[Cell]]]
    notes: Sequence[str] = ()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *self.columns))
        lines = []
        for title, rows in self.blocks.items():
            if title:
                span = len(self.columns) + 1
                lines.append(
                    f'<tr><th class="block" colspan="{span}">{html.escape(title)}</th></tr>'
                )
            for label, cells in rows.items():
                shown = "".join(cell.entry() for cell in cells)
                lines.append(f"<tr><th>{html.escape(label)}</th>{shown}</tr>")
        notes = "".join(f'<p class="table-note">{html.escape(note)}</p>' for note in self.notes)
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        return f'<table class="dataframe results">{table}</table>{notes}'


def in_order(names: Sequence[str]) -> list[str]:
    """Estimators in the order of the paper's Table 1; those that it lacks come last."""
    return [name for name in ORDER if name in names] + [n for n in names if n not in ORDER]


def comparison(groups: Mapping[str, Rows], paper: Mapping[str, Mapping[str, str]] = {}) -> Table:
    """Table 1: a column per estimator in the paper's order, and a block of rows per group.

    What is the same for all estimators, such as an infinite consistency, stands in a note.

    Args:
        groups: from a title to rows, one per estimator; quantities are :class:`Interval`, or None
            where they are not defined. A title says also which features FID compares.
        paper: from a quantity to the paper's text for each estimator.
    """
    names = in_order(list(dict.fromkeys(r["estimator"] for rows in groups.values() for r in rows)))
    names.sort(key=lambda name: name == REAL)  # the ceiling comes last
    blocks, notes = {}, []
    for title, rows in groups.items():
        of = {row["estimator"]: row for row in rows}
        lines, same = {}, []
        for key, (label, digits, better) in QUANTITIES.items():
            printed = paper.get(key, {})
            cells = [
                Cell.of(of.get(name, {}).get(key), digits, printed.get(name, "")) for name in names
            ]
            shown = {cell.value for cell in cells} - {NOTHING}
            if len(shown) == 1 and key in ("ai_psnr", "ball_used", "consistency"):
                theirs = ", ".join(printed[name] for name in names if name in printed)
                same.append(f"{label} {shown.pop()}" + (f" (paper: {theirs})" if theirs else ""))
            elif shown:
                lines[f"{label} {better}".strip()] = cells
        heading = f"{title}: " if title else ""
        features = ", ".join(dict.fromkeys(row["features"] for row in rows))
        blocks[f"{heading}features: {features}"] = lines
        notes += [f"{heading}The same for all: {'; '.join(same)}."] if same else []
    return Table([NAMES.get(name, name) for name in names], blocks, notes)


def real_images(controls: Rows) -> dict[str, Any]:
    """A row for :func:`comparison`: what the features of the data say of real images.

    Args:
        controls: of :func:`stochrestore.experiments.image_controls.controls`.
    """
    found = next(row for row in controls if row["images"] == "real")
    values = {key: Interval.exact(found[key]) for key in ("fid", "precision", "recall")}
    return {"estimator": REAL, "features": found["features"], **values}


def mean_and_spread(values: Any, digits: int) -> tuple[str, str]:
    """Mean and standard deviation as texts."""
    series = pd.Series(list(values))
    return f"{series.mean():.{digits}f}", f"± {series.std():.{digits}f}"
