"""Executes notebooks: checked parameters in, a stamped page out, whole or not at all."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stochrestore.book import provenance
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry

if TYPE_CHECKING:
    from nbformat import NotebookNode


class ExecutionError(RuntimeError):
    """A cell of a notebook failed; said in one line."""


def execute(name: str, preset: str, given: Mapping[str, Any], output: Path | None = None) -> Path:
    """Run a notebook at a preset and stamp the result.

    Nothing runs before all names and values are found good. The result replaces ``output`` only
    when whole; a failed run is kept beside it as ``<name>.failed.ipynb``.

    Args:
        name: the notebook's.
        preset: one of :data:`stochrestore.config.PRESETS`.
        given: parameters that replace the preset's.
        output: where to write; default ``_build/runs/<name>.ipynb``, which leaves the book's own
            pages alone.

    Returns:
        The path written.

    Raises:
        InputError: unknown notebook, preset or parameter, bad value, or unwritable output.
        ExecutionError: a cell failed.
    """
    root, names = provenance.checkout(), provenance.notebooks()
    require(name in names, "notebook", name, ", ".join(names))
    source = root / "notebooks" / f"{name}.ipynb"
    allowed = parameter_names(source)
    for parameter in given:
        require(parameter in allowed, f"{name}: parameter", parameter, ", ".join(allowed))
    settings = registry.load(name, preset, **given)
    output = output or root / "_build" / "runs" / f"{name}.ipynb"
    require(output.suffix == ".ipynb", "output", str(output), "a path that ends in .ipynb")
    before, start = provenance.sources(name, preset), time.monotonic()
    cpu_start, _ = _of_kernels()
    with _written_whole(output) as partial:
        notebook = _run(source, partial, {"preset": preset, **given})
        seconds = time.monotonic() - start
        cpu, memory = _of_kernels()
        mark = provenance.stamp(
            settings,
            given=given,
            sources=before,
            seconds=seconds,
            cpu_seconds=cpu - cpu_start,
            memory=memory,
        )
        _finish(notebook, mark, partial)
    return output


def parameter_names(source: Path) -> tuple[str, ...]:
    """What the cell tagged ``parameters`` of a notebook assigns, but for the preset."""
    from papermill import inspect_notebook

    return tuple(name for name in inspect_notebook(source) if name != "preset")


def _of_kernels() -> tuple[float, int]:
    """Processor time of the kernels that have ended, seconds, and the most one held, bytes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _run(source: Path, output: Path, parameters: Mapping[str, Any]) -> NotebookNode:
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    os.environ["TQDM_DISABLE"] = "1"  # in the kernel: a bar in the page would differ at each run
    watched = sys.stderr.isatty() and "CI" not in os.environ
    try:
        return execute_notebook(
            source,
            output,
            dict(parameters),
            kernel_name="python3",
            progress_bar=watched,
            extra_arguments=["--log-level=50"],  # the kernel's own remarks are not the reader's
        )
    except PapermillExecutionError as error:
        said = f"{error.ename}: {error.evalue}".splitlines()[0]
        where = f"{source.stem}, cell [{error.exec_count}]"
    except DeadKernelError:
        said, where = "its process died; out of memory?", source.stem
    raise ExecutionError(f"{where}: {said}")


@contextmanager
def _written_whole(output: Path) -> Iterator[Path]:
    """A path to write to, moved to ``output`` at the end; an existing ``output`` is never lost."""
    partial = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    failed = output.with_suffix(".failed.ipynb")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        yield partial
        partial.replace(output)
        failed.unlink(missing_ok=True)
    except ExecutionError as error:
        partial.replace(failed)
        raise ExecutionError(f"{error} (the run is kept in {failed})") from None
    except OSError as error:
        raise InputError(f"output {output}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _finish(notebook: NotebookNode, mark: Mapping[str, Any], path: Path) -> None:
    """Stamp a page and write it, without papermill's record, which holds paths of the machine."""
    import nbformat

    notebook.metadata.pop("papermill", None)
    notebook.metadata[provenance.KEY] = mark
    notebook.cells.append(nbformat.v4.new_markdown_cell(provenance.footer(mark)))
    nbformat.write(notebook, path)
