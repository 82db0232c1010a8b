"""Runs a chapter's notebook in this process, cell by cell, as papermill would; for the tests."""

import contextlib
import io
import json
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(name, **parameters):
    """What a chapter leaves behind; an error names the cell."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))
    found = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = compile("".join(cell["source"]), f"{name}, cell {cell['id']}", "exec")
            exec(source, found)
            if "parameters" in cell["metadata"].get("tags", []):
                unknown = parameters.keys() - found.keys()
                assert not unknown, f"{name} has no parameters {unknown}"
                found.update(parameters)
            if "plt" in found:
                found["plt"].close("all")
    return found


def failures(name, preset, seeds):
    """The seeds at which a chapter stops, each with what it says."""
    stopped = {}
    for seed in seeds:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run(name, preset=preset, seed=seed)
        except Exception as error:
            stopped[seed] = f"{type(error).__name__}: {error}"
    return stopped


if __name__ == "__main__":  # NAME PRESET FIRST LAST: in a process of its own, with its own BLAS
    chapter, preset, first, last = sys.argv[1:]
    stopped = failures(chapter, preset, range(int(first), int(last) + 1))
    print(json.dumps(stopped, ensure_ascii=False))
    sys.exit(bool(stopped))
