"""What an executed notebook depends on, and the stamp that says what it was made from.

One list of sources serves three purposes: the pipeline runs a notebook again when the list
changes, the executed notebook keeps the list, and the two are compared before the book is built.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from stochrestore import config
from stochrestore.book import claims, notebook
from stochrestore.errors import InputError, require
from stochrestore.experiments.registry import CHAPTERS
from stochrestore.store import sha256

PACKAGE = "stochrestore"
# What computes, holds data or draws; all else that is installed decides no number.
_VERSIONS = (
    *("torch", "torchvision", "numpy", "scipy", "piq", "pot", "scikit-image", "scikit-learn"),
    *("pillow", "pandas", "matplotlib", "seaborn"),
)


def checkout() -> Path:
    """The folder that holds ``notebooks/`` and ``src/``.

    Raises:
        InputError: the library was not installed from a checkout and this folder is none, or this
            folder belongs to another checkout than the library.
    """
    own = Path(__file__).resolve().parents[3]
    here = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if _is_one(folder)), None)
    if not _is_one(own):
        if here is None:
            raise InputError(
                f"notebooks: none beside the library or in {Path.cwd()}; "
                "allowed: a checkout, installed with `pip install -e .`"
            )
        return here
    if here and here.resolve() != own:
        raise InputError(
            f"checkout: the environment is that of {own}, not of {here}; `make` renews it there"
        )
    return own


def _is_one(folder: Path) -> bool:
    return (folder / "notebooks").is_dir() and (folder / "src" / PACKAGE).is_dir()


def notebooks() -> tuple[str, ...]:
    """The names of the chapters whose notebooks the checkout holds."""
    folder = checkout() / "notebooks"
    return tuple(name for name in sorted(CHAPTERS) if (folder / f"{name}.ipynb").exists())


def foreign() -> list[Path]:
    """Notebooks beside the chapters' that belong to no chapter, as JupyterLab may leave them."""
    files = (checkout() / "notebooks").glob("*.ipynb")
    return sorted(file for file in files if file.stem not in CHAPTERS)


@dataclass(frozen=True)
class Repository:
    """The address where the project is published; empty where none is configured."""

    url: str = ""
    branch: str = ""

    @property
    def at(self) -> str:
        """``url@branch``; with ``git+`` before it, pip installs from this address."""
        return f"{self.url}@{self.branch}" if self.branch else self.url


def repository(root: Path) -> Repository:
    """The address under ``repository`` in the ``_config.yml`` of a checkout.

    Raises:
        InputError: the address is not of a form that a browser and pip can open.
    """
    file = root / "_config.yml"
    settings = yaml.safe_load(file.read_text("utf-8")) if file.exists() else {}
    given = settings.get("repository") or {}
    url, branch = (str(given.get(name) or "").rstrip("/") for name in ("url", "branch"))
    good = not url or re.fullmatch(r"https://[\w.~/-]+", url)
    require(bool(good), "_config.yml: repository: url", url, "https://github.com/OWNER/NAME")
    return Repository(url, branch)


def published(root: Path) -> str:
    """The address of a checkout's files at its commit, in the form that GitHub uses.

    It is empty where no repository is configured, or where files differ from the commit.
    """
    url = repository(root).url
    if not url:
        return ""
    commit, dirty = revision(root)
    return "" if dirty or commit == "unknown" else f"{url}/blob/{commit}"


WEIGHTS_OF = {
    "metrics/features.py": "features",
    "experiments/toy_gans.py": "toy_tradeoff",
    "experiments/inpaint.py": "inpaint",
    "experiments/sr_scaling.py": "sr_scaling",
    "experiments/face_posteriors.py": "face_posteriors",
}
"""The experiment whose weights and settings a module loads, whichever chapter imports it."""


def sources(name: str, preset: str) -> dict[str, str]:
    """The sha256 of each thing that decides what a notebook shows at a preset.

    These are the notebook, the library's modules that it imports and the files beside them, the
    shipped weights of its experiment and of what it borrows, the sections of both in the preset
    (those of single data sets included), its claims, the lock, and the installed versions.

    Args:
        name: the notebook's, which is also its experiment's.
        preset: one of :data:`stochrestore.config.PRESETS`.

    Returns:
        sha256 by path from the checkout's root; a section's path ends in ``#name``.
    """
    require(preset in config.PRESETS, "preset", preset, ", ".join(config.PRESETS))
    root = checkout()
    library, imported = root / "src" / PACKAGE, modules(name)
    files = [root / "notebooks" / f"{name}.ipynb", *imported, root / "requirements.lock"]
    files += library.glob("data/*.json") if library / "data" / "downloads.py" in imported else ()
    more = [folder for file, folder in WEIGHTS_OF.items() if library / file in imported]
    weights = dict.fromkeys([name, *more])
    files += (path for folder in weights for path in (library / "weights" / folder).rglob("*"))
    found = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    digests = {path: sha256([file.read_bytes()]) for path, file in sorted(found.items())}
    sections = yaml.safe_load((library / "presets" / f"{preset}.yaml").read_text("utf-8"))
    own = [claim.model_dump() for claim in claims.registry().values() if claim.notebook == name]
    told = {
        **{f"src/{PACKAGE}/presets/{preset}.yaml#{of}": sections.get(of) for of in weights},
        f"src/{PACKAGE}/book/claims.yaml#{name}": own,
        "installed versions": {k: v for k, v in versions().items() if k != PACKAGE},
    }
    texts = {path: json.dumps(content, sort_keys=True) for path, content in told.items()}
    return digests | {path: sha256([text.encode()]) for path, text in texts.items()}


def fingerprint(name: str, preset: str) -> str:
    """One digest of all :func:`sources`."""
    return sha256([json.dumps(sources(name, preset), sort_keys=True).encode()])


def modules(name: str) -> list[Path]:
    """The files of the library's modules that a notebook imports, directly or indirectly.

    The module of the notebook's experiment always counts, since the registry imports it by name.
    """
    import grimp.exceptions

    root = checkout()
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None, exclude_type_checking_imports=True)
    except grimp.exceptions.SourceSyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise InputError(f"{where}: invalid syntax: {(error.text or '').strip()}") from None
    pending = {f"{PACKAGE}.experiments.{name}", *_imports(root / "notebooks" / f"{name}.ipynb")}
    found: set[str] = set()
    while pending:
        module = pending.pop()
        if module in graph.modules and module not in found:
            found.add(module)
            pending |= graph.find_modules_directly_imported_by(module)
            pending.add(module.rpartition(".")[0])  # importing a.b runs a/__init__.py
    return sorted(_file(root, module) for module in found)


def _file(root: Path, module: str) -> Path:
    stem = root.joinpath("src", *module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _imports(path: Path) -> set[str]:
    """Dotted names that a notebook's cells import; not all are modules."""
    names: set[str] = set()
    for number, cell in enumerate(notebook.code_cells(path), 1):
        without_magics = re.sub(r"^(\s*)[%!].*$", r"\1pass", cell["source"], flags=re.MULTILINE)
        for node in ast.walk(_parsed(without_magics, f"{path}, code cell {number}")):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _parsed(code: str, where: str) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        text = (error.text or "").strip()
        raise InputError(f"{where}, line {error.lineno}: {error.msg}: {text}") from None


def stamp(
    settings: config.ExperimentSettings,
    *,
    given: Mapping[str, Any],
    sources: Mapping[str, str],
    seconds: float,
    cpu_seconds: float = 0.0,
    memory: int = 0,
) -> dict[str, Any]:
    """What an executed page was made from, ready for JSON, without paths or names of the machine.

    Args:
        settings: the settings in effect.
        given: the parameters that were given besides the preset.
        sources: what :func:`sources` returned before the notebook ran.
        seconds: wall time of the run.
        cpu_seconds: processor time of all threads, which other work on the machine does not
            change; 0 where it is not known.
        memory: the most memory that the run held, in bytes; 0 where it is not known.
    """
    commit, dirty = revision(checkout())
    parameters = settings.model_dump(mode="json")
    device = parameters.get("device", "cpu")  # a chapter without the setting computes there
    return {
        "commit": commit,
        "dirty": dirty,
        "preset": settings.preset,
        "given": dict(given),
        "parameters": parameters,
        "seed": settings.seed,
        "device": _device(device),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "memory": memory,
        "sources": dict(sources),
    }


def revision(root: Path) -> tuple[str, bool]:
    """The commit at ``root``, ``"unknown"`` without git, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown", False  # a folder inside someone else's repository
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def versions() -> dict[str, str]:
    """The versions of Python, of this library and of the packages that decide what a page shows."""
    found = {"python": platform.python_version()}
    for package in (PACKAGE, *_VERSIONS):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _device(wanted: str) -> str:
    """The name of what computes, for a setting ``auto``, ``cpu`` or ``cuda``."""
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {os.cpu_count()} cores"


def told(stamp: Mapping[str, Any]) -> dict[str, str]:
    """What a stamp says of a run, by the name of its row in a table; no row is empty."""
    changed = ", with local changes" if stamp["dirty"] else ""
    rows = {
        "commit": f"`{stamp['commit'][:12]}`{changed}",
        "preset": stamp["preset"],
        "parameters": _pairs(stamp["parameters"]),
        "seed": str(stamp.get("seed", "")),
        "device": stamp["device"],
        "wall time": f"{stamp['seconds']:.0f} s",
        "processor time": f"{stamp['cpu_seconds']:.0f} s" if stamp.get("cpu_seconds") else "",
        "memory": f"{stamp['memory'] / 2**20:.0f} MiB" if stamp.get("memory") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in stamp["versions"].items()),
    }
    return {name: text for name, text in rows.items() if text}


def footer(stamp: Mapping[str, Any]) -> str:
    """The stamp as the text of a page's last cell: a folded table in MyST Markdown."""
    rows, sources = told(stamp), stamp["sources"]
    weights = [(Path(p), d) for p, d in sources.items() if p.endswith(".safetensors")]
    if weights:
        rows["weights, sha256"] = "<br>".join(f"{_code(p.name)} {d[:16]}…" for p, d in weights)
    rows["sources"] = f"{len(sources)} files, with their sha256 in the notebook's metadata"
    return f"````{{dropdown}} Provenance\n{table(rows)}\n````"


def table(rows: Mapping[str, str]) -> str:
    """What :func:`told` gives, or more of its kind, as a table in Markdown."""
    lines = (f"| {name} | {text} |" for name, text in rows.items())
    return "\n".join(["| made from | this run |", "|:--|:--|", *lines])


def _pairs(parameters: Mapping[str, Any]) -> str:
    return ", ".join(_code(f"{name} = {value!r}") for name, value in parameters.items())


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def damage(page: Path) -> str:
    """Why an executed page cannot be used, and is to be made again; empty where it can.

    A page that is not there is not damaged.
    """
    if not page.exists():
        return ""
    try:
        cells, mark = notebook.code_cells(page), notebook.stamp(page)
    except InputError as error:
        return str(error)
    if mark is None:
        return "no stamp: not made by `stochrestore run`"
    for cell in cells:
        shown = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
        if "image" in cell["metadata"].get("mystnb", {}) and "image/png" not in shown:
            return f"cell [{cell['execution_count']}] has lost its picture"
    return ""


def problems(page: Path, preset: str) -> list[str]:
    """The reasons why an executed page may not stand in a book at ``preset``; empty if it may.

    Args:
        page: an executed notebook, named as its source.
        preset: the book's preset.
    """
    if not page.exists():
        return ["not executed"]
    if reason := damage(page):
        return [reason]
    mark = notebook.stamp(page) or {}
    if mark["preset"] != preset:
        return [f"executed at preset {mark['preset']}, the book's is {preset}"]
    if mark["given"]:
        return [f"executed with parameters of its own: {_pairs(mark['given'])}"]
    now = sources(page.stem, preset)
    changed = now.items() ^ mark["sources"].items()
    return [f"{path} changed since it was executed" for path in sorted({p for p, _ in changed})]
