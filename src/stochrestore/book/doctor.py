"""Checks of an installation and of the book's pages: what is there, and what to do about it.

A check imports what it checks: that takes seconds, and the pages need none of it.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from stochrestore.book import provenance
from stochrestore.book.offline import external_references
from stochrestore.errors import InputError

_INSTALL = "install the versions of requirements.lock: `make book` does"
_RESTORE = "restore it from the repository: `git checkout -- src/stochrestore/weights`"
_FREE = 2  # GiB that notebooks, pages and a training's checkpoints may take


@dataclass(frozen=True)
class Finding:
    """The result of one check: whether it is good, what was seen, and what to do about it.

    A good finding has advice too where something is missing that only some commands need.
    """

    what: str
    good: bool
    said: str
    advice: str = ""


def everything(preset: str) -> list[Finding]:
    """The environment, data and weights, then the pages of a book at ``preset``."""
    found = [
        _python(),
        torch_version(),
        gpu(),
        piq_works(),
        free_disk(),
        _browser(),
        *data(),
        inception(),
    ]
    run = f"`make book PRESET={preset}` runs what is not up to date"
    stale = [page if page.good else replace(page, advice=run) for page in pages(preset)]
    return [*found, *weights(), *stale]


def data() -> list[Finding]:
    """Whether each benchmark of super-resolution was fetched; a file lost or damaged is bad."""
    from stochrestore.data import downloads

    return [_benchmark(name) for name in downloads.BENCHMARKS]


def _benchmark(name: str) -> Finding:
    from stochrestore.data import downloads

    n, wrong = len(downloads.registry(name)), list(downloads.wrong_files(name).values())
    fetch = f"`stochrestore data fetch {name}` gets it" if wrong else ""
    if wrong.count("missing") == n:
        return Finding(f"data {name}", True, "not fetched", fetch)
    said = f"{n - len(wrong)} of {n} files in {downloads.data_folder()}"
    said += f", {wrong.count('damaged')} damaged" if "damaged" in wrong else ""
    return Finding(f"data {name}", not wrong, said, fetch)


def inception() -> Finding:
    """Whether the weights of the paper's features are there."""
    from stochrestore.metrics.features import INCEPTION_ADDRESS, INCEPTION_FILE
    from stochrestore.metrics.torchvision_ops import hub_file

    path = hub_file(INCEPTION_FILE)
    if path.is_file():
        return Finding("Inception's weights", True, str(path))
    advice = f"only the features of the paper need them: fetch {INCEPTION_ADDRESS} to {path}"
    return Finding("Inception's weights", True, "not there", advice)


def weights() -> list[Finding]:
    """Whether the weights that come with the library are what their records say."""
    folder = Path(__file__).parents[1] / "weights"
    return [_weights(path) for path in sorted(folder.rglob("*.safetensors"))]


def _weights(path: Path) -> Finding:
    from stochrestore.store import read_record, sha256

    what, digest = f"weights {path.stem}", sha256([path.read_bytes()])
    try:
        good = read_record(path.with_suffix(".json")).get("sha256") == digest
    except InputError as error:
        return Finding(what, False, str(error), _RESTORE)
    if good:
        return Finding(what, True, "as recorded")
    return Finding(what, False, f"sha256 {digest[:12]}… is not recorded", _RESTORE)


def pages(preset: str) -> list[Finding]:
    """Whether each executed page was made from the sources as they are."""
    folder = provenance.checkout() / "book" / "executed"
    findings = []
    for name in provenance.notebooks():
        try:
            wrong = provenance.problems(folder / f"{name}.ipynb", preset)
        except InputError as error:  # of a source: it is to be mended before it can be run
            wrong = [str(error)]
        findings.append(Finding(f"page {name}", not wrong, "; ".join(wrong) or "up to date"))
    advice = "give it a place among the chapters, or move it elsewhere"
    left = [
        Finding(file.name, True, "no chapter: left out", advice) for file in provenance.foreign()
    ]
    return [*findings, *left]


def offline(folder: Path) -> list[Finding]:
    """Whether the built pages of a folder can be read without a network."""
    found = external_references(folder)
    said = f"fetched from elsewhere: {', '.join(found)}" if found else "no network needed"
    return [Finding(str(folder), not found, said)]


def _python() -> Finding:
    # The library cannot be imported by an earlier one.
    return Finding("Python", True, f"{platform.python_version()} (≥ 3.11)")


def torch_version() -> Finding:
    """Whether torch is of a version that the library works with."""
    import torch

    good = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
    return Finding("torch", good, f"{torch.__version__} (≥ 2.6)", "" if good else _INSTALL)


def gpu() -> Finding:
    """The graphics card that torch sees, if any."""
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", True, f"{torch.cuda.get_device_name()}, {memory:.0f} GiB")
    return Finding(
        "GPU", True, "none", "the presets gpu and paper need one; smoke and laptop do not"
    )


def piq_works() -> Finding:
    """Whether piq can be imported beside this torch."""
    from stochrestore.metrics.torchvision_ops import compiled_operators_work, import_piq

    try:
        version = import_piq().__version__
        ops = "works" if compiled_operators_work() else "is built for another torch, worked around"
    except (ImportError, InputError, RuntimeError) as error:
        return Finding("piq", False, str(error), _INSTALL)
    return Finding("piq", True, f"{version}; torchvision {ops}")


def free_disk() -> Finding:
    """Whether there is room for notebooks, pages and a training's checkpoints."""
    free = shutil.disk_usage(provenance.checkout()).free / 2**30
    good = free >= _FREE
    advice = "" if good else f"free {_FREE} GiB; `make clean` removes what can be made again"
    return Finding("disk", good, f"{free:.1f} GiB free", advice)


def _browser() -> Finding:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    advice = "" if found else "`make test` and `make pdf` need one: install chromium"
    return Finding("browser", True, found or "none", advice)
