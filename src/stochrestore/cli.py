"""The command ``stochrestore``: run notebooks, train networks, list claims, check the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
import yaml

from stochrestore.book import claims_page, classroom, doctor, execute, launch, provenance, runs
from stochrestore.book import pages as book_pages
from stochrestore.book import pdf as book_pdf
from stochrestore.data import downloads
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry
from stochrestore.training.jobs import select, train_jobs
from stochrestore.training.loop import TrainingDiverged

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
    typer.Option("-p", "--parameter", help="name=value, which replaces the preset's value"),
]


def main() -> None:
    """Run the command. Bad input ends in one line and status 2, a failed run in status 1."""
    try:
        app()
    except (InputError, execute.ExecutionError, TrainingDiverged) as error:
        print(f"stochrestore: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


data = typer.Typer(help="Data sets that are downloaded on demand.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="set5, set14 or bsd100")],
    source: Annotated[
        str, typer.Option(help="address of a mirror with the same paths")
    ] = downloads.SELFEXSR,
) -> None:
    """Fetch a benchmark, checked by sha256; an interrupted download continues where it stopped."""
    print(downloads.fetch(name, source=source))


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
    """Check the parameters of a notebook, then execute it."""
    given = _assignments(parameter)
    written = execute.execute(notebook, preset, given, output)
    print(f"{notebook} ({preset}): {written}")


@app.command()
def train(
    experiment: Annotated[
        str, typer.Argument(help="an experiment with networks, e.g. inpaint, or attributes")
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
    module = registry.trained(experiment)
    settings = module.Settings.load(preset, **_assignments(parameter))
    folder = output or provenance.checkout() / "_build" / "weights" / experiment / preset
    commit, dirty = provenance.revision(provenance.checkout())
    train_jobs(
        select(module.all_jobs(settings), only=only, stochastic=stochastic, robust=robust),
        folder,
        module.METHOD,
        workers=workers,
        about={"commit": commit, "changed": dirty},
        tensorboard=tensorboard,
    )
    print(f"{experiment} ({preset}): {folder}")


@app.command()
def reference(
    data: Annotated[str, typer.Argument(help="set5, set14, bsd100, or several joined by +")],
    preset: Preset = "laptop",
    parameter: Parameters = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder; default: book/reference")
    ] = None,
) -> None:
    """Run Figure 8 on a benchmark, and write its numbers, figure and page for the book."""
    from stochrestore.book import reference  # draws, which a machine that only trains need not

    given = _assignments(parameter)
    settings = registry.load("srflow_robustness", preset, **{**given, "data": data})
    record = reference.measure(settings, given)
    print(reference.write(record, _or_default(output, reference.FOLDER)))


@app.command()
def claims(
    as_json: Annotated[
        bool, typer.Option("--json", help="print a list of records as JSON")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="print a page of the book")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--check", help="print only verdicts that differ from the expected ones")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--pages", help="executed notebooks; default: book/executed")
    ] = None,
) -> None:
    """Print every claim with our value, the paper's value and the verdict.

    With --check, the status is 1 if a verdict differs from the expected one.
    """
    folder = _or_default(folder, "book/executed")
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
    """Write the pages of the book that are made from its executed notebooks."""
    for path in book_pages.write(_or_default(folder, "book/executed")):
        print(path)


@app.command()
def keep(
    executed: Annotated[list[Path], typer.Argument(help="notebooks written by `stochrestore run`")],
    folder: Annotated[
        Path | None, typer.Option(help="folder of the records; default: book/reference/runs")
    ] = None,
) -> None:
    """Keep records of what runs cost and measured, which the book's pages show."""
    for page in executed:
        print(runs.keep(page, _or_default(folder, runs.FOLDER)))


@app.command()
def pdf(
    html: Annotated[
        Path | None, typer.Option(help="folder of the built pages; default: _build/html")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="default: _build/book.pdf")
    ] = None,
) -> None:
    """Print the built book to one PDF with Chromium, which takes minutes."""
    built, written = _or_default(html, "_build/html"), _or_default(output, "_build/book.pdf")
    print(book_pdf.write(built, provenance.checkout() / "_toc.yml", written))


classes = typer.Typer(help="The exercises, for those who teach.", no_args_is_help=True)
app.add_typer(classes, name="class")
Exercises: TypeAlias = Annotated[
    Path | None, typer.Argument(help="folder of solved notebooks; default: notebooks/exercises")
]
Course: TypeAlias = Annotated[
    Path | None, typer.Argument(help="nbgrader's course folder; default: _build/class")
]


@classes.command("build")
def build_class(exercises: Exercises = None, course: Course = None) -> None:
    """Make the notebooks that students get, and a zip of them to hand out."""
    solved = _or_default(exercises, "notebooks/exercises")
    print(classroom.build(solved, _or_default(course, "_build/class")))


@classes.command("check")
def check_class(course: Course = None) -> None:
    """Name the work that was handed in and cannot be marked; status 1 if there is any."""
    if found := classroom.unmarkable(_or_default(course, "_build/class")):
        print("\n".join(found), file=sys.stderr)
        raise typer.Exit(1)
    print("All that was handed in can be marked.")


@classes.command("draw")
def draw_class(exercises: Exercises = None) -> None:
    """Draw the pictures of the expected results again, from the solved notebooks."""
    classroom.draw(_or_default(exercises, "notebooks/exercises"))


@app.command("install-cell")
def install_cell() -> None:
    """Write the cell that installs the library, from the address in _config.yml, into notebooks."""
    for path in launch.write(provenance.checkout()):
        print(path)


@app.command("doctor")
def check(
    preset: Annotated[str, typer.Option(help="preset of the book")] = "laptop",
    only_pages: Annotated[
        bool, typer.Option("--pages", help="check only that the executed pages are up to date")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="check only that the built pages of this folder need no network"),
    ] = None,
) -> None:
    """Check the installation, weights, data and executed pages, and say what to do.

    The status is 1 if something is wrong.
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


def _or_default(given: Path | None, default: str | Path) -> Path:
    """The path that was given, or the default one in the checkout."""
    return provenance.checkout() / default if given is None else given.expanduser()


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
