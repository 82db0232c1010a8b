"""One large run of a chapter, kept whole: networks, curves, executed notebook, numbers and page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stochrestore.book import claims_page, execute, notebook, provenance, runs
from stochrestore.book.claims import measured_text, verdict_text
from stochrestore.errors import require
from stochrestore.experiments import registry
from stochrestore.figures import style, trainings
from stochrestore.store import read_record, write_atomically, write_record
from stochrestore.training.jobs import MODELS, train_jobs


def make(experiment: str, preset: str, given: Mapping[str, Any], folder: Path) -> Path:
    """Train a chapter's networks, execute its notebook with them, and write a page of both.

    Networks lie in the folder's ``weights``, each with a record that holds its curve. What is done
    already is kept: an interrupted run goes on when it is asked for again.

    Args:
        experiment: a chapter's name.
        preset: one of :data:`stochrestore.config.PRESETS`.
        given: parameters that replace the preset's.
        folder: for all that is written.

    Returns:
        The path of the page, ``<experiment>.md``.

    Raises:
        InputError: weights are given, which are this run's own; a bad value; a folder that
            cannot be written.
        TrainingDiverged: a training makes no sense; the others are kept.
        ExecutionError: a cell of the notebook failed.
    """
    require("weights" not in given, "reference: weights", given.get("weights"), "its own: none")
    settings = registry.load(experiment, preset, **given)
    page, weights = folder / f"{experiment}.ipynb", folder / "weights"
    execute.writable(page)
    parameters = dict(given)
    if getattr(settings, "train", False):
        module = registry.trained(experiment)
        commit, dirty = provenance.revision(provenance.checkout())
        about = {"commit": commit, "changed": dirty}
        train_jobs(module.all_jobs(settings).values(), weights, module.METHOD, about=about)
        parameters["weights"] = os.path.relpath(weights)
    if not _is_of(page, parameters, preset):
        execute.execute(experiment, preset, parameters, page)
    run = runs.of_page(page)
    assert run is not None  # it was stamped just now
    told = run.model_dump(mode="json") | {"given": dict(given)}
    write_record(folder / f"{experiment}.json", told)
    pictures = _curves(weights, folder / f"{experiment}_curves.png")
    text = markdown(told, list(claims_page.page_records(page)), pictures)
    write_atomically(folder / f"{experiment}.md", text.encode())
    return folder / f"{experiment}.md"


def _is_of(page: Path, parameters: Mapping[str, Any], preset: str) -> bool:
    """Whether an executed page is there, of these parameters and today's sources."""
    if not page.exists() or provenance.damage(page):
        return False
    mark = notebook.stamp(page) or {}
    now = provenance.sources(page.stem, preset)
    return bool((mark["given"], mark["preset"], mark["sources"]) == (dict(parameters), preset, now))


def _curves(weights: Path, picture: Path) -> str:
    """Draws what was measured along the trainings of images; the picture's name, or nothing."""
    records: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(weights.rglob("*.json")):
        record, model = read_record(path), path.stem.split("-")[0]
        if model in MODELS and any("fid" in row for row in record["history"]):
            records.setdefault(model, []).append(record)
    if not records:
        return ""
    style.use()
    figure = trainings.curves(records)
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return picture.name


def markdown(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pictures: str = "") -> str:
    """The page of a run.

    Args:
        run: its record, see :class:`stochrestore.book.runs.Run`.
        rows: of its claims, see :func:`stochrestore.book.claims_page.page_records`.
        pictures: name of the picture of the curves beside the page.
    """
    name = run["notebook"]
    given = [f"-p {key}={value}" for key, value in run["given"].items()]
    command = " ".join([f"stochrestore reference {name} --preset {run['preset']}", *given])
    told = [row for row in rows if row["value"] is not None]
    table = ["| the paper says | paper | this run | verdict |", "|:--|:--|:--|:--|"]
    table += [
        f"| {row['statement']} | {row['paper']} | {measured_text(row)} | {verdict_text(row)} |"
        for row in told
    ]
    versions = ", ".join(f"{key} {found}" for key, found in run["versions"].items())
    changed = ", with local changes" if run["dirty"] else ""
    parts = [
        "---\norphan: true\n---",
        f"# Reference run: {name}, preset {run['preset']}",
        f"The numbers below were written by\n\n    {command}\n\nand are not made again when the "
        f"book is built. The executed notebook is `{name}.ipynb` beside this page; `weights` holds "
        "the networks, and a record of each with its curve.",
        "## Claims",
        f"{claims_page.summary(rows)}.",
        *(["\n".join(table)] if told else []),
    ]
    if pictures:
        alt = "FID, precision, recall, standard deviation and robustness along each training."
        figure = f"```{{figure}} {pictures}\n:alt: {alt}\n\nAlong the trainings.\n```"
        parts += ["## Curves", figure]
    parts += [
        "## Made from",
        f"- commit `{run['commit'][:12]}`{changed}\n- on {run['device']}\n"
        f"- the notebook took {run['seconds'] / 60:.0f} min\n- {versions}",
    ]
    return "\n\n".join(parts) + "\n"
