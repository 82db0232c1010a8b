"""Finds what in the work handed in would be marked with 0 points, or stop the marking."""

from __future__ import annotations

import ast
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stochrestore.book import notebook
from stochrestore.book.classroom import ASSIGNMENT
from stochrestore.errors import InputError, require

_MARK = "\ufeff".encode()  # a byte-order mark
Mend = Callable[[], object]
_ENDS = {"exit", "quit", "_exit", "abort", "kill"}  # what runs the cells


@dataclass(frozen=True)
class Fault:
    """Why work of a student cannot be marked, and what mends it where that is safe."""

    student: str
    said: str
    mend: Mend | None = None

    def __str__(self) -> str:
        return f"{self.student}: {self.said}"


def faults(course: Path) -> list[Fault]:
    """What nbgrader would mark with 0 points without a helpful message, or fail at.

    Args:
        course: nbgrader's course folder; the work is in ``submitted/<student>/exercises``.

    Raises:
        InputError: the course was not built, or nothing was handed in.
    """
    released = sorted((course / "release" / ASSIGNMENT).glob("*.ipynb"))
    require(len(released) > 0, "course", str(course), "a folder that `make class` made")
    submitted = course / "submitted"
    handed_in = sorted(path for path in submitted.glob("[!.]*"))
    require(len(handed_in) > 0, str(submitted), "no folders", "one folder a student")
    expected = {path.name: set(_marked_cells(path)) for path in released}
    return [fault for path in handed_in for fault in _of_student(path, expected)]


def mend(course: Path) -> list[str]:
    """Mend what can be mended safely: unpack, move to its place, remove a byte-order mark.

    Returns:
        What was mended, a sentence each.
    """
    mended = []
    while found := [fault for fault in faults(course) if fault.mend and str(fault) not in mended]:
        for fault in found:
            if fault.mend:
                fault.mend()
            mended.append(str(fault))
    return mended


def _of_student(folder: Path, expected: dict[str, set[str]]) -> Iterator[Fault]:
    student, place = folder.stem, folder / ASSIGNMENT
    if not folder.is_dir():
        unpack = partial(_unpack, folder, folder.with_suffix("") / ASSIGNMENT)
        told = "is not in a folder of the student's name"
        packed = zipfile.is_zipfile(folder)
        yield Fault(student, f"{folder.name} {told}; unpack it", unpack if packed else None)
        return
    files = [path for path in sorted(folder.rglob("*")) if _counts(path.relative_to(folder))]
    for path in (path for path in files if zipfile.is_zipfile(path)):
        yield Fault(student, f"{path.name} is not unpacked", partial(_unpack, path, place))
    found = [path for path in files if path.suffix == ".ipynb"]
    if not found and not any(zipfile.is_zipfile(path) for path in files):
        yield Fault(student, "handed in no notebook; ask for the work")
    for path in found:
        if path.parent == place:
            yield from (Fault(student, *fault) for fault in _of_notebook(path, expected))
            continue
        where, right = path.relative_to(folder), place / path.name
        said = f"{where} is not in the folder {ASSIGNMENT!r}, so it is not marked"
        if right.exists():
            yield Fault(student, f"{said}; another of its name is there, remove one of them")
        else:
            yield Fault(student, f"{said}; move it there", partial(_move, path, right))


def _counts(path: Path) -> bool:
    """Whether a path is one of the student's, not left by a system or by Jupyter."""
    names = [part for part in path.parts if part != ".."]
    return not any(name.startswith((".", "__MACOSX")) for name in names)


def _of_notebook(path: Path, expected: dict[str, set[str]]) -> Iterator[tuple[str, Mend | None]]:
    """What is wrong with one notebook, each with what mends it or None."""
    if path.is_dir():
        yield f"{path.name} is a folder; rename it", None
    elif path.name not in expected:
        yield f"{path.name} has none of the names {sorted(expected)}; give it back its name", None
    elif path.read_bytes().startswith(_MARK):
        yield f"{path.name} begins with a byte-order mark; remove it", partial(_unmark, path)
    else:
        try:
            cells, marked = notebook.code_cells(path), _marked_cells(path)
        except InputError as error:
            yield f"{error}; ask for it again", None
            return
        if missing := expected[path.name] - set(marked):
            advice = "copy the answer into a fresh notebook"
            yield f"{path.name} lacks the cells {sorted(missing)}; {advice}", None
        if twice := sorted(name for name, count in Counter(marked).items() if count > 1):
            yield f"{path.name} has more than one of the cells {twice}; delete the copies", None
        if calls := sorted({call for cell in cells for call in _calls(cell["source"])} & _ENDS):
            yield f"{path.name} calls {calls[0]}(), which ends what runs the cells; remove it", None


def _marked_cells(path: Path) -> list[str]:
    """The names of the cells that hold answers or checks."""
    marks = [cell["metadata"].get("nbgrader", {}) for cell in notebook.code_cells(path)]
    return [str(m.get("grade_id")) for m in marks if m.get("grade") or m.get("solution")]


def _calls(code: str) -> Iterator[str]:
    """The last names of the functions that code calls; nothing where it cannot be read."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]


def _unpack(archive: Path, place: Path) -> None:
    """The notebooks of an archive, without its folders; none that is there is replaced."""
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            path = Path(entry.filename)
            if not entry.is_dir() and _counts(path) and not (place / path.name).exists():
                (place / path.name).write_bytes(packed.read(entry))
    archive.rename(archive.with_name(f".{archive.name}"))  # kept, but looked at no more


def _move(path: Path, right: Path) -> None:
    right.parent.mkdir(exist_ok=True)
    path.rename(right)


def _unmark(path: Path) -> None:
    path.write_bytes(path.read_bytes().removeprefix(_MARK))
