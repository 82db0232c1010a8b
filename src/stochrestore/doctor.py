"""What may be wrong with an installation or with the book's pages, looked at one by one."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from stochrestore import provenance
from stochrestore.errors import InputError
from stochrestore.offline import external_references


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is good, and what was seen."""

    what: str
    good: bool
    said: str


def everything(preset: str) -> list[Finding]:
    """The environment, then the pages of a book at ``preset``."""
    return [_python(), _torch(), _piq(), *weights(), *pages(preset)]


def weights() -> list[Finding]:
    """Whether the weights that come with the library are what their records say."""
    folder = Path(__file__).parent / "weights"
    return [_weights(path) for path in sorted(folder.rglob("*.safetensors"))]


def _weights(path: Path) -> Finding:
    from stochrestore.estimators.pretrained import read_record

    what, digest = f"weights {path.stem}", provenance.sha256(path.read_bytes())
    try:
        good = read_record(path.with_suffix(".json"))["sha256"] == digest
    except InputError as error:
        return Finding(what, False, str(error))
    return Finding(what, good, "as recorded" if good else f"sha256 {digest[:12]}… is not recorded")


def pages(preset: str) -> list[Finding]:
    """Whether each executed page was made from the sources as they are."""
    folder = provenance.checkout() / "book" / "executed"
    findings = []
    for name in provenance.notebooks():
        wrong = provenance.problems(folder / f"{name}.ipynb", preset)
        findings.append(Finding(f"page {name}", not wrong, "; ".join(wrong) or "up to date"))
    return findings


def offline(folder: Path) -> list[Finding]:
    """Whether built pages can be read without a network."""
    found = external_references(folder)
    said = f"fetched from elsewhere: {', '.join(found)}" if found else "no network needed"
    return [Finding(str(folder), not found, said)]


def _python() -> Finding:
    return Finding("Python", sys.version_info >= (3, 11), f"{platform.python_version()} (≥ 3.11)")


def _torch() -> Finding:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Finding("torch", True, f"{torch.__version__} on {device}")


def _piq() -> Finding:
    from stochrestore.torchvision_ops import compiled_operators_work, import_piq

    try:
        version = import_piq().__version__
        ops = "works" if compiled_operators_work() else "is built for another torch, worked around"
    except (ImportError, InputError, RuntimeError) as error:
        return Finding("piq", False, str(error))
    return Finding("piq", True, f"{version}; torchvision {ops}")
