"""All claims with what the executed notebooks found, as records, as text and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from stochrestore.book import claims, notebook
from stochrestore.book.claims import Kind

Record = Mapping[str, Any]
_MARKS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "not tested": "–"}

INTRODUCTION = (
    "Each statement that this book tests, the relation that must hold for it to count as "
    "reproduced, and what was measured. Where the whole interval satisfies the relation, the "
    "statement is *reproduced*. Where none of it does, it is *not reproduced*. Otherwise it "
    "is *inconclusive*: the interval is too wide to say. An interval is over trainings, or over "
    "images with the networks given. In the latter case another training may give another value. "
    "A fact holds by the way it is measured, whatever was trained, and is not counted. Proofs, a "
    "toy, small networks on images, and statements of this book that the paper does not make are "
    "counted apart:"
)
THRESHOLDS = (
    "**Thresholds.** A threshold follows from what the paper says. It is 0 where the paper states "
    "a direction. It is the rounding of the arithmetic where "
    "something is exact. Otherwise it lies between the paper's number and the number that would "
    "contradict the statement, and nearer to the latter, since the networks here are smaller. "
    "Each difference or ratio that the paper prints satisfies its relation, except for the heading "
    "of Table 3, and a test checks that."
)


def records(folder: Path) -> list[Record]:
    """Every claim of ``claims.yaml``, in its order, with what the pages of a folder found.

    Args:
        folder: holds executed notebooks; a claim whose notebook is missing counts as not tested.

    Returns:
        Records as :func:`stochrestore.book.claims.record` makes them.
    """
    notebooks = {claim.notebook for claim in claims.registry().values()}
    pages = (folder / f"{name}.ipynb" for name in sorted(notebooks))
    found = {row["id"]: row for page in pages if page.exists() for row in page_records(page)}
    return [
        found.get(claim.id) or claims.record(claim, None) for claim in claims.registry().values()
    ]


def page_records(page: Path) -> Iterator[Record]:
    """The records of claims in the outputs of an executed notebook."""
    return (row for _, rows in notebook.outputs(page, claims.MIME_TYPE) for row in rows)


def summary(rows: Iterable[Record]) -> str:
    """The number of claims of each verdict, in words; facts are not counted."""
    count = Counter(row["verdict"] for row in rows if not row["fact"])
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in _MARKS)


def by_kind(rows: Iterable[Record]) -> str:
    """The numbers of verdicts by what they rest on, as a table in Markdown."""
    rows, known = [row for row in rows if not row["fact"]], claims.registry()
    lines = [f"| they rest on | {' | '.join(_MARKS)} |", "|:--|" + "--:|" * len(_MARKS)]
    for kind in get_args(Kind):
        count = Counter(row["verdict"] for row in rows if known[row["id"]].kind == kind)
        lines.append(f"| {kind} | {' | '.join(str(count[verdict]) for verdict in _MARKS)} |")
    return "\n".join(lines)


def surprises(rows: Iterable[Record]) -> list[str]:
    """Claims whose verdict is not the one expected at their preset, one line each."""
    return [
        f"{row['id']} is {row['verdict']}, expected at {row['preset']}: {row['expected']}"
        for row in rows
        if claims.surprising(row)
    ]


def text(rows: Sequence[Record]) -> str:
    """The claims as text for a terminal: three lines a claim, grouped by notebook."""
    lines = []
    for name, group in _by_notebook(rows):
        lines.append(name)
        for row in group:
            relation, here = f"{row['quantity']} {row['relation']}", claims.measured_text(row)
            lines += [
                f"  {_MARKS[row['verdict']]} {row['id']}: {claims.verdict_text(row)}",
                f"    {row['statement']} ({row['where']})",
                f"    {relation}; here {here}, paper {row['paper']}",
            ]
    return "\n".join([*lines, summary(rows)])


def markdown(rows: Sequence[Record], titles: Mapping[str, str]) -> str:
    """The claims as a page of the book, in MyST Markdown.

    Args:
        rows: see :func:`records`.
        titles: title by name of those notebooks that have a page beside this one.
    """
    parts = ["# Claims", INTRODUCTION, by_kind(rows), THRESHOLDS]
    for name, group in _by_notebook(rows):
        title = titles.get(name)
        link = f"[{title}]({name}.ipynb)" if title else name
        parts += [f"## {link}", f"{summary(group)}{_presets(group)}.", claims.html_table(group)]
        parts += [f"- *{row['id']}*: {row['note']}" for row in group if row["note"]]
    return "\n\n".join(parts) + "\n"


def _presets(rows: Iterable[Record]) -> str:
    presets = sorted({row["preset"] for row in rows if row["preset"]})
    return f", at preset {', '.join(presets)}" if presets else ""


def _by_notebook(rows: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    for name in dict.fromkeys(row["notebook"] for row in rows):
        yield name, [row for row in rows if row["notebook"] == name]


def titles(folder: Path, notebooks: Iterable[str]) -> dict[str, str]:
    """The first heading of each executed notebook of a folder, by the notebook's name."""
    pages = {name: folder / f"{name}.ipynb" for name in notebooks}
    return {name: notebook.title(page) for name, page in pages.items() if page.exists()}
