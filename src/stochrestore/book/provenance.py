"""What an executed notebook depends on, and the stamp that says what it was made from.

One list of sources serves three purposes: the pipeline runs a notebook again when the list
changes, the executed notebook keeps the list, and the two are compared before the book is built.
"""

from __future__ import annotations

import ast
import hashlib
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

PACKAGE = "stochrestore"
_VERSIONS = ("torch", "torchvision", "numpy", "scipy", "piq", "scikit-image", "matplotlib")


def checkout() -> Path:
    """The folder that holds ``notebooks/`` and ``src/``.

    Raises:
        InputError: the library was not installed from a checkout, and this is not one.
    """
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (root / "notebooks").is_dir() and (root / "src" / PACKAGE).is_dir():
            return root
    raise InputError(
        f"notebooks: none beside the library or in {Path.cwd()}; "
        "allowed: a checkout, installed with `pip install -e .`"
    )


def notebooks() -> tuple[str, ...]:
    """Names of the checkout's notebooks."""
    return tuple(sorted(path.stem for path in (checkout() / "notebooks").glob("*.ipynb")))


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


def sources(name: str, preset: str) -> dict[str, str]:
    """The sha256 of all that decides what a notebook shows at a preset.

    These are the notebook, the library's modules it depends on, its shipped weights, and its own
    sections of the preset and of ``claims.yaml``.

    Args:
        name: the notebook's, which is also its experiment's.
        preset: one of :data:`stochrestore.config.PRESETS`.

    Returns:
        Path from the checkout's root → sha256; a section's path ends in ``#name``.
    """
    root = checkout()
    weights = root / "src" / PACKAGE / "weights" / name
    files = [root / "notebooks" / f"{name}.ipynb", *modules(name)]
    files += sorted(path for path in weights.rglob("*") if path.is_file())
    digests = {path.relative_to(root).as_posix(): sha256(path.read_bytes()) for path in files}
    own = [claim.model_dump() for claim in claims.registry().values() if claim.notebook == name]
    sections = {f"presets/{preset}": config.preset_values(name, preset), "book/claims": own}
    for file, section in sections.items():
        text = json.dumps(section, sort_keys=True)
        digests[f"src/{PACKAGE}/{file}.yaml#{name}"] = sha256(text.encode())
    return digests


def fingerprint(name: str, preset: str) -> str:
    """One digest of all :func:`sources`."""
    return sha256(json.dumps(sources(name, preset), sort_keys=True).encode())


def modules(name: str) -> list[Path]:
    """The files of the library's modules that a notebook imports, directly or indirectly.

    The module of the notebook's experiment always counts, since the registry imports it by name.
    """
    import grimp

    root = checkout()
    graph = grimp.build_graph(PACKAGE, cache_dir=None, exclude_type_checking_imports=True)
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
    code = "\n".join(cell["source"] for cell in notebook.code_cells(path))
    without_magics = re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)
    names: set[str] = set()
    for node in ast.walk(ast.parse(without_magics)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def sha256(content: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(content).hexdigest()


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
    device = parameters.get("device", "auto")
    return {
        "commit": commit,
        "dirty": dirty,
        "preset": settings.preset,
        "given": dict(given),
        "parameters": parameters,
        "seed": settings.seed,
        "device": _device() if device == "auto" else device,
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


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {os.cpu_count()} cores"


def footer(stamp: Mapping[str, Any]) -> str:
    """The stamp as the text of a page's last cell: a folded table in MyST Markdown."""
    changed = ", with local changes" if stamp["dirty"] else ""
    sources = stamp["sources"].items()
    weights = [(Path(p), d) for p, d in sources if p.endswith(".safetensors")]
    rows = {
        "commit": f"`{stamp['commit'][:12]}`{changed}",
        "preset": stamp["preset"],
        "parameters": _pairs(stamp["parameters"]),
        "seed": str(stamp["seed"]),
        "device": stamp["device"],
        "wall time": f"{stamp['seconds']:.0f} s",
        "processor time": f"{stamp['cpu_seconds']:.0f} s" if stamp.get("cpu_seconds") else "",
        "memory": f"{stamp['memory'] / 2**20:.0f} MiB" if stamp.get("memory") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in stamp["versions"].items()),
        "weights, sha256": "<br>".join(f"{_code(p.name)} {d[:16]}…" for p, d in weights),
        "sources": f"{len(stamp['sources'])} files, with their sha256 in the notebook's metadata",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items() if text)
    return f"````{{dropdown}} Provenance\n| made from | |\n|:--|:--|\n{table}\n````"


def _pairs(parameters: Mapping[str, Any]) -> str:
    return ", ".join(_code(f"{name} = {value!r}") for name, value in parameters.items())


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def problems(page: Path, preset: str) -> list[str]:
    """The reasons why an executed page may not stand in a book at ``preset``; empty if it may.

    Args:
        page: an executed notebook, named as its source.
        preset: the book's preset.
    """
    if not page.exists():
        return ["not executed"]
    mark = notebook.stamp(page)
    if mark is None:
        return ["no stamp: not made by `stochrestore run`"]
    if mark["preset"] != preset:
        return [f"executed at preset {mark['preset']}, the book's is {preset}"]
    if mark["given"]:
        return [f"executed with parameters of its own: {_pairs(mark['given'])}"]
    now = sources(page.stem, preset)
    changed = now.items() ^ mark["sources"].items()
    return [f"{path} changed since it was executed" for path in sorted({p for p, _ in changed})]
