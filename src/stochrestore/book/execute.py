"""Executes a notebook with checked parameters, and stamps the page that it gives."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, TemporaryFile
from threading import Event
from typing import IO, Any

from stochrestore.book import notebook, provenance
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry

logging.getLogger("papermill").addHandler(logging.NullHandler())  # its errors are raised, too

STARTS = 3
"""How often a kernel is started that ends before it answers."""


class ExecutionError(RuntimeError):
    """A cell of a notebook failed; the message is one line."""


class _NotStartedError(RuntimeError):
    """The kernel ended before it answered, and before any cell ran."""


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
        InputError: unknown notebook, preset or parameter, bad value, or an output that is a source
            of the book or cannot be written.
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
    writable(output)
    cache = writable(root / "_build" / "cache" / "kernel").parent
    os.environ.update(of_the_kernel(cache))
    before, start = provenance.sources(name, preset), time.monotonic()
    cpu_start, _ = _of_kernels()
    with _kept_if_failed(output) as partial:
        executed = _run(source, partial, {"preset": preset, **given})
        seconds, (cpu, memory) = time.monotonic() - start, _of_kernels()
        cost: dict[str, Any] = {
            "seconds": seconds,
            "cpu_seconds": cpu - cpu_start,
            "memory": memory,
        }
        mark = provenance.stamp(settings, given=given, sources=before, **cost)
        # Papermill's own record holds paths of the machine.
        executed["metadata"].pop("papermill", None)
        executed["metadata"][notebook.STAMP] = mark
        footer = {"cell_type": "markdown", "id": "provenance", "metadata": {}}
        executed["cells"].append({**footer, "source": provenance.footer(mark)})
        notebook.write(output, executed)
    return output


def _of_kernels() -> tuple[float, int]:
    """Processor time of the kernels that have ended, seconds, and the most one held, bytes."""
    try:
        import resource
    except ImportError:  # on Windows; 0 says that it is not known
        return 0.0, 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _run(source: Path, output: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    # Two kernels that start at once may be given the same port; one of them ends before any cell.
    said: list[str] = []
    for _ in range(STARTS):
        with TemporaryFile() as last_words:
            try:
                return _run_once(source, output, parameters, last_words)
            except _NotStartedError:
                last_words.seek(0)
                said = last_words.read().decode(errors="replace").splitlines()
    ended = f"{source.stem}: its kernel ended {STARTS} times before it answered"
    raise ExecutionError(f"{ended}: {said[-1]}" if said else ended)


def _run_once(
    source: Path, output: Path, parameters: Mapping[str, Any], last_words: IO[bytes]
) -> dict[str, Any]:
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    kernels: list[int] = []
    interrupted = Event()

    class Manager(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
            # What its libraries write as it ends is not for the reader of the terminal.
            await super()._async_launch_kernel(kernel_cmd, stderr=last_words, **kw)

        async def _async_post_start_kernel(self, **options: Any) -> None:
            await super()._async_post_start_kernel(**options)
            provisioner: Any = self.provisioner
            kernels.append(provisioner.pid)
            if interrupted.is_set():
                _kill(kernels)

    watched = sys.stderr.isatty() and "CI" not in os.environ
    # In a thread of its own: in the main one, nbclient would take signals for the kernel's death.
    thread = ThreadPoolExecutor(1)
    running = thread.submit(
        execute_notebook,
        source,
        output,
        dict(parameters),
        kernel_name="python3",
        kernel_manager_class=Manager,
        progress_bar=watched,
        extra_arguments=["--log-level=50"],  # the kernel's own remarks are not the reader's
    )
    try:
        return running.result()
    except PapermillExecutionError as error:
        said = f"{error.ename}: {error.evalue}".splitlines()[0]
        where = f"{source.stem}, cell [{error.exec_count}]"
    except DeadKernelError:
        said, where = "its process died; out of memory?", source.stem
    except RuntimeError as error:
        if "Kernel died before replying" in str(error):
            raise _NotStartedError from None
        raise
    finally:
        interrupted.set()
        if not running.done():
            logging.disable()  # nbclient would mourn the kernel
            _kill(kernels)
        thread.shutdown()
    raise ExecutionError(f"{where}: {said}")


def _kill(processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def of_the_kernel(cache: Path) -> dict[str, str]:
    """The variables of a kernel that does not depend on the user's configuration.

    It is this Python, with no startup files, matplotlib's own defaults and UTF-8.

    Args:
        cache: folder for what Jupyter, IPython and matplotlib write.
    """
    kernel = cache / "jupyter" / "kernels" / "python3" / "kernel.json"
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    told = {"argv": start, "display_name": "Python 3", "language": "python"}
    kernel.parent.mkdir(parents=True, exist_ok=True)
    own = kernel.with_name(f"{os.getpid()}.json")  # notebooks run side by side
    own.write_text(json.dumps(told), "utf-8")
    own.replace(kernel)
    return {
        "IPYTHONDIR": str(cache / "ipython"),
        "JUPYTER_CONFIG_DIR": str(cache / "jupyter"),
        "JUPYTER_PATH": str(cache / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(cache / "jupyter" / "runtime"),
        "MATPLOTLIBRC": str(cache / "matplotlib"),  # an empty folder: the defaults
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "PYTHONUTF8": "1",
        "TQDM_DISABLE": "1",  # a bar in the page would differ at each run
    }


@contextmanager
def _kept_if_failed(output: Path) -> Iterator[Path]:
    """A path for a run on its way, which is kept beside ``output`` where a cell failed."""
    failed = output.with_suffix(".failed.ipynb")
    with TemporaryDirectory() as folder:
        partial = Path(folder) / output.name
        try:
            yield partial
            failed.unlink(missing_ok=True)
        except ExecutionError as error:
            shutil.move(partial, failed)
            raise ExecutionError(f"{error} (the run is kept in {failed})") from None
        except OSError as error:
            raise InputError(f"output {output}: cannot be written: {error.strerror}") from None


def writable(output: Path) -> Path:
    """A path that a file can be written to; its folder is made.

    Raises:
        InputError: it is a folder, a source of the book, or cannot be written.
    """
    sources = provenance.checkout() / "notebooks"
    is_source = output.resolve().is_relative_to(sources.resolve())
    require(not is_source, "output", str(output), f"a path outside {sources}, the sources' folder")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=output.parent):
            pass
        if output.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    except OSError as error:
        raise InputError(f"output {output}: cannot be written: {error.strerror}") from None
    return output
