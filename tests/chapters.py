"""Runs a chapter's notebook in this process, cell by cell, as papermill would; for the tests."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(name, *, last="", **parameters):
    """What a chapter, or its cells up to ``last``, leaves behind; an error names the cell."""
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
            if cell["id"] == last:
                return found
    assert not last, f"{name} has no cell {last}"
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


def failures_elsewhere(name, preset, seeds, *, threads=1, **environment):
    """The same in a process of its own, with its own environment; and OpenBLAS's kernels there."""
    numbers = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    quiet = {"MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, name, preset, str(seeds[0]), str(seeds[-1])]
    done = subprocess.run(
        command, env=os.environ | numbers | quiet | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":  # NAME PRESET FIRST LAST
    from threadpoolctl import threadpool_info

    chapter, preset, first, last = sys.argv[1:]
    stopped = failures(chapter, preset, range(int(first), int(last) + 1))
    kernels = {pool["architecture"] for pool in threadpool_info() if "architecture" in pool}
    print(json.dumps([stopped, sorted(kernels)], ensure_ascii=False))
