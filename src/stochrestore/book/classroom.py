"""Exercises for a class: checks that explain what is wrong, and a course for nbgrader.

A source notebook holds its solutions between ``### BEGIN SOLUTION`` and ``### END SOLUTION``;
``stochrestore class build``, or ``make class``, makes the students' versions from it;
``stochrestore class check`` says what of the work handed in cannot be marked; ``stochrestore class
draw`` draws the pictures of the expected results again, from the solved notebooks.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

from stochrestore.book import notebook
from stochrestore.errors import InputError, require

ASSIGNMENT = "exercises"
PICTURES = "expected"
STAY = "import stochrestore.book.classroom as stay; stay.refuse_to_exit(); del stay"
CONFIG = f'''"""Settings of the course; nbgrader's commands are run in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "stochrestore"
c.ClearSolutions.code_stub = {{"python": {f"# your code here{chr(10)}{notebook.STUB}"!r}}}
c.ExecutePreprocessor.timeout = 120  # seconds a cell, also where it would loop for ever
c.Execute.extra_arguments = ["--InteractiveShellApp.exec_lines={STAY}"]
c.IncludeHeaderFooter.header = ""
'''


class NotYet(AssertionError):
    """A check has failed; a notebook shows its sentence instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def check(condition: Any, sentence: str) -> None:
    """Raise :class:`NotYet` with a sentence that says what is wrong, unless the condition holds."""
    if not condition:
        raise NotYet(sentence)


def build(exercises: Path, course: Path) -> Path:
    """Make the students' notebooks and a zip of them.

    Args:
        exercises: folder of the solved notebooks and of the files that they need.
        course: nbgrader's course folder. Its ``source`` and ``release`` are written anew; what was
            handed in and the grades stay.

    Returns:
        The path of the zip, whose bytes depend on the exercises alone.

    Raises:
        InputError: no notebooks, nbgrader failed, or a line of a solution is in the release.
    """
    notebooks = notebook.sources(exercises)
    require(len(notebooks) > 0, "exercises", str(exercises), "a folder with notebooks")
    secret = [line for path in notebooks for line in solution_lines(path)]
    for name in ("source", "release"):
        shutil.rmtree(course / name, ignore_errors=True)
    left = {path.name for path in exercises.glob("*.ipynb")} - {path.name for path in notebooks}
    for name in sorted(left):
        print(f"{name} is no exercise and is left out", file=sys.stderr)
    ignored = shutil.ignore_patterns(".*", "__pycache__", *left)
    shutil.copytree(exercises, course / "source" / ASSIGNMENT, ignore=ignored)
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    nbgrader(course, "generate_assignment", ASSIGNMENT, "--force")
    release = course / "release" / ASSIGNMENT
    for path in sorted(release.glob("*.ipynb")):
        leaked = [line for line in secret if line in notebook.text(path)]
        require(not leaked, f"{path.name}: lines of solutions", leaked[:3], "none")
    return _zip(release, course / f"{ASSIGNMENT}.zip")


def nbgrader(course: Path, *arguments: str) -> None:
    """Run one of nbgrader's commands in a course folder.

    Raises:
        InputError: nbgrader is not installed, or the command failed; with its last words.
    """
    command = [sys.executable, "-m", "nbgrader", *arguments]
    # nbgrader looks for a program of its own, alembic, on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        said = next((line for line in reversed(lines) if "Error:" in line), lines[-1])
        raise InputError(f"nbgrader {' '.join(arguments)}: {said.strip()}")


def refuse_to_exit() -> None:
    """Make ``exit()`` an error in the kernel that calls this, as those do that nbgrader starts.

    Else the kernel answers, and ends a little later: how many of the next cells it still runs,
    and so whether nbgrader gives marks or gives up, would be chance.
    """
    from IPython.core.getipython import get_ipython

    def refuse() -> None:
        raise RuntimeError("exit() and quit() end no notebook that is marked; remove them")

    shell: Any = get_ipython()
    shell.ask_exit = refuse


def solution_lines(path: Path) -> list[str]:
    """The lines of a notebook's solutions that are long enough, 12 characters, to be told again."""
    lines: list[str] = []
    for cell in notebook.code_cells(path):
        inside = False
        for line in cell["source"].splitlines():
            marked = "### BEGIN SOLUTION" in line or "### END SOLUTION" in line
            inside = "BEGIN" in line if marked else inside
            if inside and not marked and len(line.strip()) >= 12:
                lines.append(line.strip())
    return lines


def run(path: Path, pictures: Path | None = None) -> dict[str, Exception]:
    """Run the cells of a notebook in this process, and go on after an error.

    Args:
        path: the notebook.
        pictures: where to save the figures of cells tagged ``picture``, as <id of the cell>.png.

    Returns:
        The errors by the id of their cell; empty if no cell failed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    errors: dict[str, Exception] = {}
    with mpl.rc_context():
        mpl.rcdefaults()  # each notebook sets its own style
        for cell in notebook.code_cells(path):
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
                try:
                    exec(compile(cell["source"], f"{path.stem}, {cell['id']}", "exec"), names)
                except Exception as error:
                    errors[cell["id"]] = error
            if pictures and "picture" in cell["metadata"].get("tags", ()):
                _save(plt.gcf(), pictures / f"{cell['id']}.png")
            plt.close("all")
    return errors


def _save(figure: Any, path: Path) -> None:
    """A small picture, without a record of what wrote it."""
    figure.savefig(path, dpi=80, bbox_inches="tight", metadata={"Software": None})


def draw(exercises: Path) -> None:
    """Draw the pictures of the expected results again.

    Raises:
        InputError: a cell of a solved notebook fails.
    """
    for path in notebook.sources(exercises):
        errors = run(path, exercises / PICTURES)
        require(not errors, path.name, errors, "solved notebooks that run")


def _zip(folder: Path, target: Path) -> Path:
    """All files of a folder, in an archive that knows no dates and no owners."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder.parent).as_posix()
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target
