"""Executes a notebook with checked parameters, and stamps the page that it gives."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stochrestore.book import notebook, provenance
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry


class ExecutionError(RuntimeError):
    """A cell of a notebook failed; the message is one line."""


def execute(name: str, preset: str, given: Mapping[str, Any], output: Path | None = None) -> Path:
    """Run a notebook at a preset and stamp the result.

    All names and values are checked before anything runs. ``output`` is replaced only by a run
    that ended well; a failed run is kept beside it as ``<name>.failed.ipynb``.

    Args:
        name: name of the notebook.
        preset: one of :data:`stochrestore.config.PRESETS`.
        given: parameters that replace the preset's.
        output: where to write; by default ``_build/runs/<name>.ipynb``, which is no page of the
            book.

    Returns:
        The path written.

    Raises:
        InputError: unknown notebook, preset or parameter, bad value, or unwritable output.
        ExecutionError: a cell failed.
    """
    root, names = provenance.checkout(), provenance.notebooks()
    require(name in names, "notebook", name, ", ".join(names))
    source = root / "notebooks" / f"{name}.ipynb"
    allowed = notebook.parameter_names(source)
    for parameter in given:
        require(parameter in allowed, f"{name}: parameter", parameter, ", ".join(allowed))
    settings = registry.load(name, preset, **given)
    output = output or root / "_build" / "runs" / f"{name}.ipynb"
    require(output.suffix == ".ipynb", "output", str(output), "a path that ends in .ipynb")
    before, start = provenance.sources(name, preset), time.monotonic()
    cpu_start, _ = _of_kernels()
    with _kept_if_failed(output) as partial:
        executed = _run(source, partial, {"preset": preset, **given})
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
        # Papermill's own record holds paths of the machine.
        executed["metadata"].pop("papermill", None)
        executed["metadata"][notebook.STAMP] = mark
        footer = {"cell_type": "markdown", "id": "provenance", "metadata": {}}
        executed["cells"].append({**footer, "source": provenance.footer(mark)})
        notebook.write(output, executed)
    return output


def _of_kernels() -> tuple[float, int]:
    """Processor time of the kernels that have ended, seconds, and the most one held, bytes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _run(source: Path, output: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
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
def _kept_if_failed(output: Path) -> Iterator[Path]:
    """A path beside ``output`` for a run on its way; kept where a cell failed, else removed."""
    partial = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    failed = output.with_suffix(".failed.ipynb")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        yield partial
        failed.unlink(missing_ok=True)
    except ExecutionError as error:
        partial.replace(failed)
        raise ExecutionError(f"{error} (the run is kept in {failed})") from None
    except OSError as error:
        raise InputError(f"output {output}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
