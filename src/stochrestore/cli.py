"""The command ``stochrestore``: run notebooks, list claims, check the installation."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
import yaml

from stochrestore import (
    book_pages,
    book_pdf,
    claims_page,
    config,
    doctor,
    pages,
    provenance,
    runs,
)
from stochrestore.errors import InputError, require
from stochrestore.experiments._trainings import select, train_jobs
from stochrestore.problems import downloads
from stochrestore.training import TrainingDiverged

app = typer.Typer(
    help=__doc__,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Options of several commands.
Preset: TypeAlias = Annotated[str, typer.Option(help="smoke, laptop, gpu or paper")]
Parameters: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", help="name=value, in place of the preset's"),
]


def main() -> None:
    """Run the command; bad input ends in one line and status 2, a failed run in status 1."""
    try:
        app()
    except (InputError, pages.ExecutionError, TrainingDiverged) as error:
        print(f"stochrestore: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


data = typer.Typer(help="Data sets that are fetched on demand.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="set5, set14, bsd100 or fashion_mnist")],
    source: Annotated[
        str | None, typer.Option(help="address of a mirror with the same paths")
    ] = None,
) -> None:
    """Fetch a benchmark of super-resolution, ×4, or Fashion-MNIST; continues where it stopped.

    Everything is checked by sha256.
    """
    if name == "fashion_mnist":
        print(downloads.fetch_fashion_mnist(source=source or downloads.FASHION_MNIST))
    else:
        print(downloads.fetch(name, source=source or downloads.SELFEXSR))


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="name of the notebook, e.g. toy_tradeoff")],
    preset: Preset = "laptop",
    parameter: Parameters = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="default: _build/runs/<notebook>.ipynb"),
    ] = None,
) -> None:
    """Execute a notebook with its parameters checked first."""
    given = _assignments(parameter)
    written = pages.execute(notebook, preset, given, output)
    print(f"{notebook} ({preset}): {written}")


@app.command()
def train(
    experiment: Annotated[
        str,
        typer.Argument(help="an experiment with networks, e.g. inpaint; or attributes, fashion"),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="default: _build/weights/<experiment>/<preset>"),
    ] = None,
    preset: Preset = "laptop",
    parameter: Parameters = None,
    stochastic: Annotated[
        bool | None, typer.Option("--stochastic/--deterministic", help="only these models")
    ] = None,
    robust: Annotated[
        bool | None, typer.Option("--robust/--erratic", help="only these models")
    ] = None,
    only: Annotated[str, typer.Option(help="only trainings whose name starts so")] = "",
    workers: Annotated[int, typer.Option(min=1, help="trainings at a time")] = 1,
    tensorboard: Annotated[
        Path | None, typer.Option(help="folder for the losses, to watch with TensorBoard")
    ] = None,
) -> None:
    """Train an experiment's networks; when interrupted, call it again to continue."""
    given = _assignments(parameter)
    if experiment in ("attributes", "fashion"):  # features: no notebook, no presets
        _train_features(experiment, given, output)
        return
    settings = config.load(experiment, preset, **given)
    module = import_module(f"stochrestore.experiments.{experiment}")
    folder = output or provenance.checkout() / "_build" / "weights" / experiment / preset
    commit, dirty = provenance.revision(provenance.checkout())
    if hasattr(module, "train"):  # networks of several kinds, one after the other
        module.train(settings, folder, only=only, about={"commit": commit, "changed": dirty})
        print(f"{experiment} ({preset}): {folder}")
        return
    require(hasattr(module, "trainings"), "experiment", experiment, "one that trains networks")
    jobs, method, about = module.trainings(settings)
    train_jobs(
        select(jobs, only=only, stochastic=stochastic, robust=robust),
        folder,
        method,
        workers=workers,
        about={**about, "commit": commit, "changed": dirty},
        tensorboard=tensorboard,
    )
    print(f"{experiment} ({preset}): {folder}")


def _train_features(name: str, given: dict[str, Any], output: Path | None) -> None:
    """Train the network behind the features of faces or of clothes."""
    from stochrestore.experiments._attributes import AttributesSettings, train_attributes
    from stochrestore.experiments._fashion_classifier import FashionSettings, train_fashion

    folder = output or provenance.checkout() / "_build" / "weights" / "features"
    if name == "attributes":
        train_attributes(config.validated(AttributesSettings, given), folder)
        print(f"attributes: {folder}")
    else:
        record = train_fashion(config.validated(FashionSettings, given), folder)
        print(f"fashion: {folder}; accuracy {record['accuracy']}")


@app.command()
def reference(
    data: Annotated[str, typer.Argument(help="set5, set14, bsd100, or several joined by +")],
    preset: Preset = "laptop",
    parameter: Parameters = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder; default: book/reference")
    ] = None,
) -> None:
    """Run Figure 8 on a benchmark and write numbers, figure and page for the book."""
    from stochrestore import reference  # draws, which a machine that only trains need not

    given = _assignments(parameter)
    settings = config.load("srflow_robustness", preset, **{**given, "data": data})
    folder = output or provenance.checkout() / reference.FOLDER
    print(reference.write(reference.measure(settings, given), folder))


@app.command()
def claims(
    as_json: Annotated[bool, typer.Option("--json", help="a list of records")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="a page of the book")] = False,
    verify: Annotated[
        bool, typer.Option("--check", help="only verdicts that are not the expected ones")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--pages", help="executed notebooks; default: book/executed")
    ] = None,
) -> None:
    """Print every claim with what was found: our value, the paper's, and the verdict.

    With --check, status 1 where a verdict changed.
    """
    folder = folder or provenance.checkout() / "book" / "executed"
    rows = claims_page.records(folder)
    if verify:
        surprises = claims_page.surprises(rows)
        print("\n".join([claims_page.summary(rows), *surprises]))
        raise typer.Exit(bool(surprises))
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif as_markdown:
        titles = claims_page.titles(folder, provenance.notebooks())
        print(claims_page.markdown(rows, titles), end="")
    else:
        print(claims_page.text(rows))


@app.command("pages")
def write_pages(
    folder: Annotated[
        Path | None, typer.Argument(help="executed notebooks; default: book/executed")
    ] = None,
) -> None:
    """Write the book's pages that are made from its executed notebooks: results and others."""
    for path in book_pages.write(folder or provenance.checkout() / "book" / "executed"):
        print(path)


@app.command()
def keep(
    executed: Annotated[list[Path], typer.Argument(help="what `stochrestore run` wrote")],
    folder: Annotated[
        Path | None, typer.Option(help="of the records; default: book/reference/runs")
    ] = None,
) -> None:
    """Keep what runs cost and measured, for the book's pages on running and results."""
    for page in executed:
        print(runs.keep(page, folder or provenance.checkout() / runs.FOLDER))


@app.command()
def pdf(
    html: Annotated[Path | None, typer.Option(help="built pages; default: _build/html")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="default: _build/book.pdf")
    ] = None,
) -> None:
    """Print the built book to one PDF, with Chromium; minutes."""
    root = provenance.checkout()
    built, written = html or root / "_build" / "html", output or root / "_build" / "book.pdf"
    print(book_pdf.write(built, root / "_toc.yml", written))


@app.command("doctor")
def check(
    preset: Annotated[str, typer.Option(help="the book's preset")] = "laptop",
    only_pages: Annotated[
        bool, typer.Option("--pages", help="only whether the executed pages are up to date")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="only whether these built pages need no network")
    ] = None,
) -> None:
    """Check the installation, weights, data and executed pages, and say what to do.

    Status 1 where something is wrong.
    """
    if html is not None:
        findings = doctor.offline(html)
    else:
        findings = doctor.pages(preset) if only_pages else doctor.everything(preset)
    for finding in findings:
        print(f"{'ok ' if finding.good else 'BAD'} {finding.what}: {finding.said}")
        if finding.advice:
            print(f"    → {finding.advice}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


def _assignments(texts: list[str] | None) -> dict[str, Any]:
    return dict(_assignment(text) for text in texts or [])


def _assignment(text: str) -> tuple[str, Any]:
    """``name=value`` taken apart, with the value read as YAML, and ``1e-3`` as a number too."""
    name, equals, value = text.partition("=")
    require(bool(name and equals), "-p", text, "name=value")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value
    if isinstance(read, str):
        try:
            return name, float(read)
        except ValueError:
            pass
    return name, read
