"""Writes the pages that are made from executed notebooks: results, environment and running."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from stochrestore import config
from stochrestore.book import (
    claims_page,
    cluster,
    equations,
    launch,
    notebook,
    provenance,
    runs,
    speed,
)
from stochrestore.book.claims import (
    MIME_TYPE,
    measured_text,
    rows_as_table,
    small_effect,
    verdict_text,
)
from stochrestore.book.runs import Run
from stochrestore.data.downloads import called
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry

Record = Mapping[str, Any]

# The figures, tables and sections that claims are about, in the paper's order. A claim belongs to
# the first one whose pattern is found in its field `where`.
_ITEMS = {
    "Theorem 3.1 (Sec. 2 and 3, App. A)": r"Thm|Sec\. 3|App\. A|Sec\. 2",
    "Figure 3 and the toy problem (Sec. 4 and 5)": r"Fig\. 3",
    "Table 3 (App. E.1)": r"Table 3|App\. E\.1",
    "Figure 5 (App. B.1)": r"Fig\. 5|App\. B\.1",
    "Figure 1 and Table 1: inpainting (Sec. 6.1)": r"Fig\. 1|Table 1",
    "Figure 4: super-resolution (Sec. 6.1)": r"Fig\. 4",
    "Figure 8: attacks on SRFlow, ESRGAN and EDSR (App. G)": r"Fig\. 8|App\. G",
    "Figure 6 and the zigzag (App. C)": r"App\. C|Fig\. 6",
    "Sensitivity (Sec. 4 and 5, App. D)": r"App\. D|Sec\. 4|Sec\. 5",
}
_OTHER = "New in this book"
_MIB = 2**20
Part = tuple[float, float, float, float]
"""The left, upper, right and lower end of a part of a picture, in shares of width and height."""
FRONT_FIGURES: dict[str, list[list[Part]]] = {
    "fig-toy-estimators": [[(0, 0, 0.525, 0.5)]],
    "fig-theorem-gallery": [[(0, 0, 0.5, 1)]],
    "fig-zigzag-trade-off": [[(0, 0, 1, 1)]],
    "fig-inpaint-clothes": [[(0, 0, 0.092, 0.555), (0.5, 0, 1, 0.555)]],
    "fig-sr-figure-8": [[(0, 0, 0.5, 1)]],
    "fig-families-noise": [[(0, 0, 0.34, 0.08)], [(0.667, 0.17, 1, 1)]],
}
"""The figures of the front page, by their names in the chapters, and the rows of parts shown."""
FRONT_WIDTH = 560
"""Pixels across, at most: letters can be read, and narrow screens show the picture whole."""


def write(folder: Path) -> list[Path]:
    """Write every page into the folder of executed notebooks, and return the paths."""
    titles = claims_page.titles(folder, provenance.notebooks())
    here = runs.of_pages(folder)
    kept = provenance.checkout() / runs.FOLDER
    more = runs.beyond(here, runs.kept(kept))
    references = [runs.of_reference(path) for path in sorted(kept.parent.glob("srflow_*.json"))]
    makers: dict[str, Callable[[], str]] = {
        "equations": partial(equations.markdown, titles),
        "results": partial(results, claims_page.records(folder), folder, [*more, *references]),
        "environment": partial(environment, here, titles),
        "running": partial(running, here, more, titles),
    }
    paths = []
    for name, make in makers.items():
        path = folder / f"{name}.md"
        path.write_text(make(), "utf-8")
        paths.append(path)
    paths += front_figures(folder)
    return [
        *paths,
        idea(folder / "figures" / "neighbours.html"),
        *student_pages(folder / "exercises"),
    ]


def student_pages(folder: Path) -> list[Path]:
    """Write the exercises as students get them, without solutions, to be read on the site."""
    source = provenance.checkout() / "notebooks" / "exercises"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = os.path.relpath(source / "expected", folder)
    paths = []
    for path in notebook.sources(source):
        found = notebook.read(path)
        cells = [
            cell
            | {"source": notebook.unsolved(cell["source"]).replace("](expected/", f"]({pictures}/")}
            for cell in found["cells"]
            if cell["id"] != launch.ID
        ]
        paths.append(folder / path.name)
        notebook.write(paths[-1], found | {"cells": cells})
    return paths


def front_figures(folder: Path) -> list[Path]:
    """Write small copies of :data:`FRONT_FIGURES` into the folder's subfolder ``figures``.

    Args:
        folder: holds the executed notebooks; a figure whose notebook is missing is left out.

    Raises:
        InputError: all notebooks are there, and none of them holds one of the figures.
    """
    (folder / "figures").mkdir(exist_ok=True)
    paths = []
    for page in sorted(folder.glob("*.ipynb")):
        for name, png in _figures(page):
            if name in FRONT_FIGURES:
                picture = put_together(Image.open(io.BytesIO(png)), FRONT_FIGURES[name])
                picture.thumbnail((FRONT_WIDTH, 9000))
                paths.append(folder / "figures" / f"{name}.webp")
                picture.save(paths[-1], quality=85, method=6)
    missing = sorted(set(FRONT_FIGURES) - {path.stem for path in paths})
    whole = all((folder / f"{name}.ipynb").exists() for name in provenance.notebooks())
    require(not (whole and missing), "figures of the front page", missing, "all in the chapters")
    return paths


def put_together(picture: Image.Image, rows: Sequence[Sequence[Part]]) -> Image.Image:
    """Parts of a picture side by side in each row, and the rows below each other."""
    across, down = picture.size
    whole = Image.new("RGBA", picture.size)
    width = y = 0
    for row in rows:
        x = height = 0
        for left, upper, right, lower in row:
            box = (int(left * across), int(upper * down), int(right * across), int(lower * down))
            whole.paste(picture.convert("RGBA").crop(box), (x, y))
            x, height = x + box[2] - box[0], max(height, box[3] - box[1])
        width, y = max(width, x), y + height
    return whole.crop((0, 0, width, y))


def idea(path: Path) -> Path:
    """Write the interactive figure of the front page, to be included there."""
    # Only here: matplotlib is slow to start, and each command would write to the user's folders.
    from stochrestore.figures import style
    from stochrestore.figures.neighbours import neighbours_browser

    style.use()
    path.write_text(neighbours_browser()._repr_html_(), "utf-8")
    return path


def _figures(page: Path) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each named figure of an executed notebook."""
    for cell, png in notebook.outputs(page, "image/png"):
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if name:
            yield name, base64.b64decode(png)


# --- Results ---------------------------------------------------------------------------------


def item(place: str) -> str:
    """The heading of the results page under which a place like ``Sec. 5, Fig. 3`` is listed."""
    if place.startswith("new"):
        return _OTHER
    return next((name for name, pattern in _ITEMS.items() if re.search(pattern, place)), _OTHER)


def results(rows: Sequence[Record], folder: Path, more: Sequence[Run] = ()) -> str:
    """The page of results: each figure and table with its claims, numbers and verdicts.

    Args:
        rows: see :func:`stochrestore.book.claims_page.records`.
        folder: holds the executed notebooks, from which the page names the cell that measured.
        more: runs at other presets, whose numbers are shown below those of this build.
    """
    parts = [
        "# Results, figure by figure",
        "What the paper states and prints beside what this book measures, in the paper's order. "
        "What an interval is over is said with it. The verdict is about the whole interval. How "
        "verdicts and their thresholds are made is explained where the claims stand by chapter, "
        "with remarks: [](claims.md). Counted by what they rest on:",
        claims_page.by_kind(rows),
    ]
    published = provenance.published(provenance.checkout())
    more = [run for run in more if run.measured]
    if more:
        files = "; ".join(f"{_record(run, published)}, at {run.at}" for run in more)
        parts.append(
            "Below a number, in grey, is what a run at another preset or on other data found, if "
            "that preset is large enough to test the claim. Its verdict is given only where it "
            f"differs. The records of these runs: {files}."
        )
    for name in (*_ITEMS, _OTHER):
        group = [row for row in rows if item(row["where"]) == name]
        if group:
            says = "this book says" if name == _OTHER else "the paper says"
            cells = (_cells(row, folder, more, published) for row in group)
            table = rows_as_table((says, "paper", "here", "verdict"), cells)
            parts += [f"## {name}", f"{claims_page.summary(group)}.", table]
    return "\n\n".join(parts) + "\n"


def _cells(row: Record, folder: Path, more: Sequence[Run], published: str) -> Iterator[str]:
    place = f"{row['where']}: {row['quantity']}"
    yield f"{html.escape(row['statement'])} <small>({html.escape(place)})</small>"
    yield html.escape(row["paper"])
    yield measured_text(row) + "".join(_also(row, *found) for found in runs.rows(more, row["id"]))
    line = _source(published, "src/stochrestore/book/claims.yaml", source_line(row["id"]))
    number = cell_number(folder / f"{row['notebook']}.ipynb", row["id"])
    cell = f'<a href="{row["notebook"]}.html#claims">cell [{number}]</a>; ' if number else ""
    preset = f"at {row['preset']}; " if row["preset"] else ""
    made = f"<small>{preset}{cell}{line}</small>"
    yield f"{verdict_text(row)}{small_effect(row)}<br>{made}"


def _also(row: Record, run: Run, found: Record) -> str:
    """What another run found for a row's claim: a second line."""
    where = called(run.data) if run.data else run.preset
    device = " on a GPU" if run.on_gpu else ""
    verdict = "" if found["verdict"] == row["verdict"] else f", {found['verdict']}"
    return f"<br><small>{where}{device}:&nbsp;{measured_text(found)}{verdict}</small>"


def _record(run: Run, published: str) -> str:
    return _source(published, run.path.as_posix())


def _source(published: str, file: str, line: int | None = None) -> str:
    """A file's name and line, linked where the sources are published."""
    name, place = (f"{Path(file).name}:{line}", f"#L{line}") if line else (Path(file).name, "")
    text = f"<code>{name}</code>"
    return f'<a href="{published}/{file}{place}">{text}</a>' if published else text


def source_line(identity: str) -> int:
    """The line of ``claims.yaml`` where a claim begins, from 1."""
    text = resources.files("stochrestore.book").joinpath("claims.yaml").read_text("utf-8")
    return text.splitlines().index(f"- id: {identity}") + 1


def cell_number(page: Path, identity: str) -> int | None:
    """The number of the cell of an executed notebook whose output measured a claim."""
    found = notebook.outputs(page, MIME_TYPE) if page.exists() else ()
    measured = (cell for cell, rows in found if any(row["id"] == identity for row in rows))
    return next((int(cell["execution_count"]) for cell in measured), None)


# --- Environment -----------------------------------------------------------------------------


def environment(here: Sequence[Run], titles: Mapping[str, str]) -> str:
    """The page that says with which versions, on what hardware and how long the chapters ran.

    Args:
        here: the runs of this build.
        titles: title by notebook.
    """
    lines = ["| chapter | preset | device | time | commit |", "|:--|:--|:--|--:|:--|"]
    packages: dict[str, set[str]] = {}
    for run in here:
        chapter = f"[{titles[run.notebook]}]({run.notebook}.ipynb)"
        commit = f"`{run.commit[:12]}`{', changed' if run.dirty else ''}"
        cells = (chapter, run.preset, run.device, duration(run.seconds), commit)
        lines.append(f"| {' | '.join(cells)} |")
        for package, version in run.versions.items():
            packages.setdefault(package, set()).add(version)
    versions = ["| package | version |", "|:--|:--|"]
    versions += [f"| {name} | {', '.join(sorted(found))} |" for name, found in packages.items()]
    total = duration(sum(run.seconds for run in here))
    parts = [
        "# The environment of this build",
        f"Executing all {len(here)} chapters took {total} of wall time, summed; they run side by "
        "side. All versions, down to the last dependency, are in `requirements.lock`. The "
        "settings, and the checksums of weights and data, are at the end of each chapter.",
        "## Chapters",
        "\n".join(lines),
        "## Versions",
        "\n".join(versions),
    ]
    return "\n\n".join(parts) + "\n"


def duration(seconds: float) -> str:
    """A number of seconds as text that stays on one line: ``45 s``, ``3 min`` or ``1.5 h``."""
    if seconds < 90:
        number, unit = f"{seconds:.0f}", "s"
    elif seconds < 5400:
        number, unit = f"{seconds / 60:.0f}", "min"
    else:
        number, unit = f"{seconds / 3600:.1f}", "h"
    return f"{number}\N{NO-BREAK SPACE}{unit}"


# --- Running ---------------------------------------------------------------------------------

_MEANING = {
    "smoke": "trains every network for a few steps, in under a minute, to see that it runs",
    "laptop": "the preset of this book: built-in data and shipped networks that this code trained; "
    "takes minutes",
    "gpu": "trains the paper's networks anew on built-in data; planned for hours on one GPU",
    "paper": "the paper's settings and data sets; planned for days on one GPU",
}


def running(here: Sequence[Run], more: Sequence[Run], titles: Mapping[str, str]) -> str:
    """The page that says how to run each notebook at each preset, and what that costs.

    Args:
        here: the runs of this build.
        more: other runs whose records are kept.
        titles: title by notebook.
    """
    parts = [
        "# Running the notebooks",
        "`make book` sets everything up and runs all notebooks at the preset `laptop`. This page "
        "shows how to run one notebook with parameters of your own. Each line works from the root "
        "of the checkout, with `.venv/bin` on the path. `stochrestore run` checks names and values "
        "before anything runs, and writes to `_build/runs`. Plain papermill does the same work "
        "from any folder, but only warns of a name that it does not know; its lines are folded "
        "below.",
        "## Presets",
        "\n".join(f"- `{preset}`: {_MEANING[preset]}" for preset in config.PRESETS),
        "A table below each notebook's commands says what they took, where that was measured. "
        "*Clock* is the wall time of the run, which is longer on a machine that has other work. "
        "*Processor* is the computing time, summed over the cores. *Memory* is the most that the "
        "run held at once. *Disk* is the size of the page that was written and, after the plus, "
        f"of the shipped weights that were loaded.{_without_gpu([*here, *more])}",
    ]
    for name in provenance.notebooks():
        own = [(run, "this build") for run in here if run.notebook == name]
        own += [(run, f"at {run.at}") for run in more if run.notebook == name]
        parts += [f"## {titles.get(name, name)}", *_section(name, own)]
    parts += [
        speed.page(provenance.checkout()),
        "## What the trainings cost",
        "Counted by `stochrestore plan` before anyone starts: the steps and operations of each "
        "training, its hours at the rate given, the tensors and images that it holds at once, and "
        "the disk that all weights take, with one checkpoint after the plus. `stochrestore plan "
        "paper` also says what is missing; `profiles/README.md`, how the trainings are sent to a "
        "cluster. At `smoke` and `laptop` its hours are those of a processor in float32, which one "
        "that is not faster in bf16 computes in whatever the settings say. The networks of "
        "Appendix G are trained, small, at these two presets; `gpu` "
        "loads those that are shipped, and `paper` is for the published ones.",
        *_planned(),
        "## What a wrong parameter says",
        "Names and values are checked before anything runs. What does not fit ends "
        "`stochrestore run` in one line:",
        *_refusals(),
    ]
    return "\n\n".join(parts) + "\n"


def _without_gpu(measured: Sequence[Run]) -> str:
    return "" if any(run.on_gpu for run in measured) else " No run on a GPU was measured."


def _section(name: str, measured: Sequence[tuple[Run, str]]) -> Iterator[str]:
    ours = [f"stochrestore run {name} --preset {preset}" for preset in config.PRESETS]
    yield "```bash\n" + "\n".join(ours) + "\n```"
    theirs = [
        f"papermill notebooks/{name}.ipynb {name}-{preset}.ipynb \\\n    -p preset {preset}"
        for preset in config.PRESETS
    ]
    yield "````{dropdown} With papermill\n```bash\n" + "\n".join(theirs) + "\n```\n````"
    lines = [
        "| preset | clock | processor | memory | disk | on | when |",
        "|:--|--:|--:|--:|--:|:--|:--|",
    ]
    for preset in config.PRESETS:
        found = [_cost(run, when) for run, when in measured if run.preset == preset]
        lines += found or [f"| `{preset}` | – | | | | | not\N{NO-BREAK SPACE}measured |"]
    yield "\n".join(lines)
    fields = registry.chapter(name).Settings.model_fields
    source = provenance.checkout() / "notebooks" / f"{name}.ipynb"
    allowed = [n for n in notebook.parameter_names(source) if n in fields]
    rows = [f"| `{n}` | {fields[n].description or ''} |".replace("\n", " ") for n in allowed]
    body = "\n".join(["| parameter | meaning |", "|:--|:--|", *rows])
    yield f"````{{dropdown}} Parameters, each given by -p NAME VALUE\n{body}\n````"


def _cost(run: Run, when: str) -> str:
    """What a run took, a row of the table."""
    processor = duration(run.cpu_seconds) if run.cpu_seconds else ""
    memory = f"{run.memory / _MIB:.0f} MiB" if run.memory else ""
    weights = f" + {run.weights / _MIB:.1f}" if run.weights else ""
    disk = f"{run.written / _MIB:.1f}{weights} MiB"
    texts = (duration(run.seconds), processor, memory, disk, run.device, when)
    whole = (text.replace(" ", "\N{NO-BREAK SPACE}") for text in texts)
    return f"| `{run.preset}` | {' | '.join(whole)} |"


def _planned() -> Iterator[str]:
    """The tables of the plans of big presets, as they were kept."""
    from stochrestore.experiments import plan  # torch: see :mod:`stochrestore.book.cluster`

    for preset in plan.ON_GPU:
        planned = cluster.recorded_plan(preset)
        head, *rows = plan.table(planned["rows"], planned["rates"])
        aligned = ["|:--|--:|--:|--:|--:|--:|--:|"]  # the first three columns are one: it fits
        joined = ([", ".join(filter(None, row[:3])), *row[3:]] for row in (head, *rows))
        lines = [f"| {' | '.join(row)} |" for row in joined]
        table = "\n".join([lines[0], *aligned, *lines[1:]])
        rate = max(planned["rates"].values())  # they are one
        yield f"Preset `{preset}`, on a GPU that reaches {rate:g} TFLOP/s:\n\n{table}"


def _refusals() -> Iterator[str]:
    """A few wrong parameters, and what is really said."""
    name = provenance.notebooks()[0]
    for preset, parameter, text in (
        ("huge", "seed", "1"),
        ("laptop", "sed", "1"),
        ("laptop", "seed", "1.5"),
        ("laptop", "seed", "-1"),
    ):
        try:
            registry.load(name, preset, **{parameter: yaml.safe_load(text)})
        except InputError as error:
            command = f"stochrestore run {name} --preset {preset} -p {parameter}={text}"
            yield f"```text\n$ {command}\nstochrestore: {error}\n```"
