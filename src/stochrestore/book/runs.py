"""What runs of the notebooks cost and measured.

The book is built at one preset. ``stochrestore keep`` writes records of other runs into the
repository, so that the book's pages can show other presets and other machines beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from stochrestore import config
from stochrestore.book import claims, claims_page, notebook, provenance
from stochrestore.errors import InputError
from stochrestore.metrics.interval import Interval
from stochrestore.store import read_record, write_record

FOLDER = Path("book") / "reference" / "runs"
"""Where records are kept, from the checkout's root."""


class Run(BaseModel):
    """The cost and the measurements of one run of a notebook."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notebook: str
    preset: config.Preset
    given: dict[str, Any] = {}  # parameters besides the preset
    commit: str
    dirty: bool
    device: str
    versions: dict[str, str]
    seconds: float  # by the clock
    cpu_seconds: float = 0.0  # processor time of all threads; 0: not known
    memory: int = 0  # the most that the kernel held, bytes; 0: not known
    weights: int = 0  # shipped weights that were loaded, bytes
    written: int = 0  # the executed notebook, bytes
    # value and interval by the claim's id; claims that are not tested are left out
    measured: dict[str, tuple[float, float, float]] = {}
    over: dict[str, claims.Over] = {}  # what the intervals are over, by the claim's id
    data: str = ""  # where not the chapter's own: those of a reference run of Figure 8

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computed."""
        return not self.device.lower().startswith("cpu")

    @property
    def at(self) -> str:
        """The first digits of the commit, and whether files differed from it."""
        return f"{self.commit[:7]}, changed" if self.dirty else self.commit[:7]

    @property
    def path(self) -> Path:
        """The file that holds the record, from the checkout's root."""
        reference = f"srflow_{self.data.replace('+', '_')}.json"
        return FOLDER.parent / reference if self.data else FOLDER / self.file

    @property
    def file(self) -> str:
        """Name of the file that holds the record, unless it is a reference run."""
        return f"{self.notebook}-{self.preset}{'-gpu' if self.on_gpu else ''}.json"


def of_page(page: Path) -> Run | None:
    """The run that made an executed notebook; None where the notebook has no stamp."""
    mark = notebook.stamp(page)
    if mark is None:
        return None
    sources = [Path(path) for path in mark["sources"]]
    rows = [row for row in claims_page.page_records(page) if row["value"] is not None]
    kept = Run.model_fields.keys() & mark.keys()
    return Run(
        **{name: mark[name] for name in kept},
        notebook=next(path.stem for path in sources if path.suffix == ".ipynb"),
        weights=_loaded(mark["parameters"], sources),
        written=page.stat().st_size,
        measured={row["id"]: (row["value"], *row["interval"]) for row in rows},
        over={row["id"]: row["over"] for row in rows},
    )


def _loaded(parameters: dict[str, Any], sources: Iterable[Path]) -> int:
    """Size of the shipped weights among the sources, unless the run trained its own, bytes."""
    if parameters.get("train") or parameters.get("weights"):
        return 0
    files = (provenance.checkout() / path for path in sources if path.suffix == ".safetensors")
    return sum(file.stat().st_size for file in files if file.exists())


def of_reference(path: Path) -> Run:
    """The run that made a record of :func:`stochrestore.book.reference.measure`."""
    from stochrestore.experiments import srflow_robustness  # with torch: seconds

    record = read_record(path)
    found = srflow_robustness.measured(record["rows"])
    kept = Run.model_fields.keys() & record.keys() - {"data", "weights"}
    return Run(
        **{name: record[name] for name in kept},
        notebook="srflow_robustness",
        measured={name: (each.value, each.low, each.high) for name, each in found.items()},
        over=dict.fromkeys(found, "images"),
        data=record["parameters"]["data"],
    )


def of_pages(folder: Path) -> list[Run]:
    """The runs that made the executed notebooks of a folder, in the notebooks' order."""
    pages = (folder / f"{name}.ipynb" for name in provenance.notebooks())
    found = (of_page(page) for page in pages if page.exists())
    return [run for run in found if run]


def to_keep(page: Path) -> Run:
    """The run that made an executed notebook, if its record may be kept.

    Raises:
        InputError: the page is no executed notebook, or parameters besides the preset were given.
    """
    run = of_page(page) if page.suffix == ".ipynb" and page.exists() else None
    if run is None or run.given:
        raise InputError(
            f"keep: got {str(page)!r}; "
            "allowed: a notebook that `stochrestore run` executed without -p"
        )
    return run


def keep(page: Path, folder: Path) -> Path:
    """Write the record of the run that made an executed notebook, and return its path.

    An earlier record of this notebook at this preset and kind of device is replaced.

    Raises:
        InputError: see :func:`to_keep`; or the folder cannot be written.
    """
    run = to_keep(page)
    write_record(folder / run.file, run.model_dump(mode="json"))
    return folder / run.file


def kept(folder: Path) -> list[Run]:
    """All records of a folder, ordered by notebook and preset, runs without a GPU first.

    Raises:
        InputError: one of the files is no record of a run.
    """
    files = sorted(folder.glob("*.json"))
    found = [config.validated(Run, read_record(file)) for file in files]
    return sorted(found, key=_order)


def _order(run: Run) -> tuple[str, int, bool]:
    return run.notebook, config.PRESETS.index(run.preset), run.on_gpu


def beyond(here: Iterable[Run], others: Iterable[Run]) -> list[Run]:
    """Those of the other runs whose notebook, preset and kind of device no run here has."""
    files = {run.file for run in here}
    return [run for run in others if run.file not in files]


def rows(runs: Iterable[Run], identity: str) -> Iterator[tuple[Run, Mapping[str, Any]]]:
    """The runs that tested a claim, each with a record of what it found.

    The record is made by :func:`stochrestore.book.claims.record` from what the run measured and
    from the claim as ``claims.yaml`` has it now, so that the verdict is today's.
    """
    claim = claims.registry()[identity]
    for run in runs:
        if identity in run.measured:
            measured = {identity: Interval(*run.measured[identity])}
            found = claims.Evidence(run.notebook, run.preset, measured, run.over)
            row = claims.record(claim, found)
            if row["value"] is not None:
                yield run, row
