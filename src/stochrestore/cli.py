"""The command ``stochrestore``: run notebooks, train networks, list claims, check the machine."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from stochrestore import config
from stochrestore.book import (
    build,
    claims_page,
    classroom,
    doctor,
    execute,
    launch,
    provenance,
    runs,
    submissions,
)
from stochrestore.book import pdf as book_pdf
from stochrestore.errors import InputError, TrainingDiverged, require
from stochrestore.experiments import registry
from stochrestore.store import check_folder

# What imports torch, which takes seconds, is imported by the commands that need it.
app = typer.Typer(
    help=__doc__,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Options of several commands.
Preset: TypeAlias = Annotated[str, typer.Option(help="smoke, laptop, gpu or paper")]


def _output(default: str) -> Any:
    """The option that says where to write."""
    return typer.Option("-o", "--output", help=f"default: {default}")


Parameters: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", help="name=value, which replaces the preset's value"),
]


def main() -> None:
    """Run the command. Bad input ends in one line and status 2, a failed run in status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack some letters
    try:
        app()
    except (InputError, execute.ExecutionError, build.BuildError, TrainingDiverged) as error:
        print(f"stochrestore: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


data = typer.Typer(help="Data sets that are downloaded on demand.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="set5, set14, bsd100 or fashion_mnist")],
    source: Annotated[
        str | None, typer.Option(help="address of a mirror with the same paths")
    ] = None,
) -> None:
    """Fetch a data set, checked by sha256; an interrupted download continues where it stopped."""
    from stochrestore.data import downloads

    print(downloads.fetch(name, source=source))


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="name of the notebook, e.g. toy_tradeoff")],
    preset: Preset = "laptop",
    parameter: Parameters = None,
    output: Annotated[Path | None, _output("_build/runs/<notebook>.ipynb")] = None,
) -> None:
    """Check the parameters of a notebook, then execute it."""
    require(notebook in registry.CHAPTERS, "notebook", notebook, ", ".join(registry.CHAPTERS))
    given = _assignments(parameter, notebook)
    place = _or_default(output, f"_build/runs/{notebook}.ipynb")
    written = execute.execute(notebook, preset, given, place)
    print(f"{notebook} ({preset}): {written}")


@app.command("book")
def build_book(preset: Preset = "laptop") -> None:
    """Execute the notebooks that changed, and build the book to _build/html."""
    build.build(["book"], preset)


@app.command()
def train(
    experiment: Annotated[
        str,
        typer.Argument(
            help="an experiment that trains, e.g. inpaint; or attributes, fashion, face_posteriors"
        ),
    ],
    output: Annotated[Path | None, _output("_build/weights/<experiment>/<preset>")] = None,
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
    from stochrestore.training.jobs import select, train_jobs

    module = registry.trained(experiment)
    settings = module.Settings.load(preset, **_assignments(parameter, experiment))
    folder = _or_default(output, Path("_build") / "weights" / experiment / preset)
    check_folder(folder)
    commit, dirty = provenance.revision(provenance.checkout())
    with _continued_by_the_same_command():
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
def plan(
    preset: Annotated[str, typer.Argument(help="smoke, laptop, gpu or paper")],
    rate: Annotated[
        float | None, typer.Option(min=1e-6, help="operations a second that are reached, TFLOP/s")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="where data and weights are, e.g. celeba:PATH; may be repeated"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a record as JSON")] = False,
) -> None:
    """Say what a preset's trainings cost before anyone starts them, and what they still need.

    The status is 1 if something is missing.
    """
    from stochrestore.book import needs
    from stochrestore.experiments import plan as plans

    require(preset in config.PRESETS, "preset", preset, ", ".join(config.PRESETS))
    if as_json:
        print(json.dumps(plans.record(preset), indent=1))
        return
    missing = needs.missing(preset, data or [])
    rates = dict.fromkeys(plans.experiments(preset), rate) if rate else plans.rates(preset)
    table = plans.table(plans.rows(preset), rates)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    where = "a GPU" if preset in plans.ON_GPU else "a processor"
    reached = " to ".join(f"{each:.3g}" for each in sorted(set(rates.values())))
    print(f"hours: of {where} at {reached} TFLOP/s, {'given' if rate else 'assumed'}; see --rate")
    for finding in missing:
        print(f"missing: {finding.what}: {finding.said}\n    → {finding.advice}")
    raise typer.Exit(bool(missing))


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="a folder of weights or of executed notebooks")],
    replace: Annotated[
        bool, typer.Option("--replace", help="replace what is there and differs")
    ] = False,
) -> None:
    """Take finished trainings and executed notebooks of another machine, after checking them."""
    from stochrestore.book.collect import collect as take

    for path in take(folder, replace=replace):
        print(path)


@app.command()
def reference(
    experiment: Annotated[
        str, typer.Argument(help="a chapter, e.g. inpaint; or srflow_robustness -p data=set5")
    ],
    preset: Preset = "laptop",
    parameter: Parameters = None,
    output: Annotated[
        Path | None,
        _output(
            "folder; default: book/reference for Figure 8, which needs no training, "
            "else _build/reference/<experiment>-<preset>"
        ),
    ] = None,
) -> None:
    """Make one large run, and keep it: networks, curves, executed notebook, numbers and a page.

    When interrupted, call it again to continue.
    """
    # They draw, which a machine that only trains need not.
    from stochrestore.book import reference, reference_run

    require(experiment in registry.CHAPTERS, "experiment", experiment, ", ".join(registry.CHAPTERS))
    given = _assignments(parameter, experiment)
    if experiment == "srflow_robustness":
        settings = registry.load(experiment, preset, **given)
        folder = _or_default(output, reference.FOLDER)
        execute.writable(folder / "srflow.json")  # before the hour, not after it
        given.pop("data", None)
        print(reference.write(reference.measure(settings, given), folder))
        return
    folder = _or_default(output, f"_build/reference/{experiment}-{preset}")
    with _continued_by_the_same_command():
        print(reference_run.make(experiment, preset, given, folder))


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
    pages = _or_default(folder, "book/executed")
    there = any(pages.glob("*.ipynb"))
    require(there or not (folder or verify), "claims: pages", str(pages), "executed notebooks")
    rows = claims_page.records(pages)
    if verify:
        surprises = claims_page.surprises(rows)
        print("\n".join([claims_page.summary(rows), *surprises]))
        raise typer.Exit(bool(surprises))
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif as_markdown:
        titles = claims_page.titles(pages, provenance.notebooks())
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
    from stochrestore.book import pages

    executed = _or_default(folder, "book/executed")
    require(executed.is_dir(), "pages", str(executed), "a folder of executed notebooks")
    for path in pages.write(executed):
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
    output: Annotated[Path | None, _output("_build/book.pdf")] = None,
) -> None:
    """Print the built book to one PDF with Chromium, which takes minutes."""
    built = _or_default(html, "_build/html")
    written = execute.writable(_or_default(output, "_build/book.pdf"))
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
def check_class(
    course: Course = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="unpack archives, move notebooks to where they belong")
    ] = False,
) -> None:
    """Name the work that was handed in and cannot be marked; status 1 if there is any."""
    folder = _or_default(course, "_build/class")
    for mended in submissions.mend(folder) if fix else ():
        print(f"mended: {mended}")
    if found := submissions.faults(folder):
        print("\n".join(map(str, found)), file=sys.stderr)
        if any(fault.mend for fault in found):
            print("`stochrestore class check --fix` mends some of these", file=sys.stderr)
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
    require(preset in config.PRESETS, "preset", preset, ", ".join(config.PRESETS))
    if html is not None:
        require(any(html.glob("*.html")), "--html", str(html), "a folder of built pages")
        findings = doctor.offline(html)
    else:
        findings = doctor.pages(preset) if only_pages else doctor.everything(preset)
    for finding in findings:
        print(f"{'ok ' if finding.good else 'BAD'} {finding.what}: {finding.said}")
        if finding.advice:
            print(f"    → {finding.advice}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _continued_by_the_same_command() -> Iterator[None]:
    """Ctrl-C and a request to end stop what is within, in one line and with status 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for the background
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("stochrestore: interrupted; the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None


def _or_default(given: Path | None, default: str | Path) -> Path:
    """The path that was given, with ``~`` expanded, or the default one in the checkout."""
    if given is None:
        return provenance.checkout() / default
    try:
        return given.expanduser()
    except RuntimeError as error:  # no such user
        raise InputError(f"{given}: {error}") from None


def _assignments(texts: list[str] | None, experiment: str) -> dict[str, Any]:
    """``name=value`` taken apart, each value read by the type of the experiment's parameter."""
    pairs = [text.partition("=") for text in texts or []]
    for text, (name, equals, _) in zip(texts or [], pairs, strict=True):
        require(bool(name and equals), "-p", text, "name=value")
    values = {name: value for name, _, value in pairs}
    return config.read(registry.settings(experiment), values)
