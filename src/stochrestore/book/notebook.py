"""The one reader and writer of notebooks (.ipynb): JSON, with cells of text and of code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stochrestore.errors import InputError, require

STAMP = "stochrestore"  # key of the stamp in an executed notebook's metadata
STUB = 'raise NotImplementedError("your turn")'
"""What students find where an exercise's solution was, on the site and in what is handed out."""
_SOLUTION = re.compile(r"^([ ]*)### BEGIN SOLUTION.*?### END SOLUTION$", re.M | re.S)


def unsolved(code: str) -> str:
    """The source of a cell with :data:`STUB` in place of each solution."""
    return _SOLUTION.sub(lambda found: f"{found[1]}# your code here\n{found[1]}{STUB}", code)


def read(path: Path) -> dict[str, Any]:
    """A notebook as a dictionary, with the source of each cell in one piece.

    Raises:
        InputError: the file cannot be read, or is no notebook: it is empty, cut off, holds a merge
            conflict, or is written in another version than 4 of the format.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(f"notebook {path} cannot be read: {said}") from None
    try:
        found = json.loads(text)
        cells = [{**cell, "source": "".join(cell["source"])} for cell in found["cells"]]
        fits = found["nbformat"] == 4 and isinstance(found["metadata"], dict)
        fits = fits and all(isinstance(cell["metadata"], dict) for cell in cells)
        fits = fits and all(isinstance(cell["cell_type"], str) for cell in cells)
    except (ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise InputError(f"notebook {path} cannot be read: {_fault(text)}")
    return {**found, "cells": cells}


def _fault(text: str) -> str:
    """Why a text is no notebook."""
    if not text.strip():
        return "it is empty"
    if text.startswith("\ufeff"):
        return "it begins with a byte-order mark; save it as UTF-8 without one"
    if any(line.startswith("<<<<<<< ") for line in text.splitlines()):
        return "it holds a merge conflict; resolve it"
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"it is no JSON, perhaps cut off: {error}"
    if isinstance(found, dict) and found.get("nbformat", 4) != 4:
        return f"it is of format {found['nbformat']}; `jupyter nbconvert --to notebook` makes it 4"
    return "it lacks what a notebook of format 4 holds"


def write(path: Path, notebook: Mapping[str, Any]) -> None:
    """Write a notebook, whole or not at all, in the layout that the repository keeps.

    Raises:
        InputError: the file cannot be written.
    """
    from stochrestore.store import write_atomically  # loads torch, which readers do without

    cells = [{**cell, "source": cell["source"].splitlines(True)} for cell in notebook["cells"]]
    text = json.dumps({**notebook, "cells": cells}, indent=1, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def sources(folder: Path) -> list[Path]:
    """The notebooks of a folder, without those that JupyterLab names ``Untitled`` or ``-Copy1``."""
    left = re.compile(r"Untitled\d*|.*-Copy\d+")
    return [path for path in sorted(folder.glob("*.ipynb")) if not left.fullmatch(path.stem)]


def code_cells(path: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook, each source in one piece."""
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def text(path: Path) -> str:
    """The sources of all cells of a notebook, one after the other."""
    return "\n".join(cell["source"] for cell in read(path)["cells"])


def title(path: Path) -> str:
    """The first heading of a notebook; its name where it has none."""
    cells = read(path)["cells"]
    lines = (
        line for c in cells if c["cell_type"] == "markdown" for line in c["source"].split("\n")
    )
    return next((line[2:] for line in lines if line.startswith("# ")), path.stem)


def outputs(path: Path, mime_type: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each output of a type in an executed notebook: the cell, and what it showed."""
    for cell in code_cells(path):
        for output in cell.get("outputs", []):
            if mime_type in output.get("data", {}):
                yield cell, output["data"][mime_type]


def stamp(path: Path) -> dict[str, Any] | None:
    """What an executed notebook was made from; see :func:`stochrestore.book.provenance.stamp`."""
    return read(path)["metadata"].get(STAMP)


def parameter_names(path: Path) -> list[str]:
    """What the cell tagged ``parameters`` of a notebook assigns, but for the preset.

    Raises:
        InputError: there is no such cell.
    """
    tagged = [c for c in code_cells(path) if "parameters" in c["metadata"].get("tags", ())]
    require(len(tagged) == 1, f"{path.name}: cells tagged `parameters`", len(tagged), "one")
    body = ast.parse(tagged[0]["source"]).body
    names = [ast.unparse(line.targets[0]) for line in body if isinstance(line, ast.Assign)]
    return [name for name in names if name != "preset"]
