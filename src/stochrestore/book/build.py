"""Builds the book with Snakemake: everything is checked first, and an end leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from stochrestore import config
from stochrestore.book import provenance
from stochrestore.errors import InputError, require

_PARENT = "STOCHRESTORE_BUILD"  # the process that Snakemake ends with


class BuildError(RuntimeError):
    """The book could not be built; what failed has been printed."""


def build(targets: Iterable[str], preset: str) -> None:
    """Run the rules of the ``Snakefile`` that targets need.

    Args:
        targets: rules or files, such as ``book`` and ``book/executed/claims.md``.
        preset: one of :data:`stochrestore.config.PRESETS`.

    Raises:
        InputError: an unknown preset, another build of this checkout, or a source that cannot be
            read.
        BuildError: a rule failed.
    """
    require(preset in config.PRESETS, "PRESET", preset, ", ".join(config.PRESETS))
    root = provenance.checkout()
    alone(root).close()
    for name in provenance.notebooks():
        provenance.sources(name, preset)
    for file in provenance.foreign():
        print(f"{file.relative_to(root)} is no notebook of the book and is left out")
    # A profile of the user's, in SNAKEMAKE_PROFILE, is left aside.
    command = [sys.executable, "-m", "snakemake", *targets, "--profile", "none"]
    own = {
        _PARENT: str(os.getpid()),
        "PYTHONUTF8": "1",  # the Snakefile is
        "XDG_CACHE_HOME": str(root / "_build" / "cache"),  # the user's may be read-only
    }
    started = subprocess.Popen(
        [*command, "--config", f"preset={preset}"],
        cwd=root,
        env=os.environ | own,
        start_new_session=True,  # a group of its own, to end with all that it starts
    )
    try:
        status = started.wait()
    finally:
        _end(started)
    if status != 0:
        raise BuildError("the book was not built; the lines above say why")


def _end(started: subprocess.Popen[bytes]) -> None:
    """End what is left of Snakemake's group: after an interruption, or where it was killed."""
    for number, patience in ((signal.SIGINT, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(started.pid, number)
            started.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def alone(root: Path) -> IO[str]:
    """Hold the lock of a checkout's builds until the file is closed or the process ends.

    Raises:
        InputError: another process holds it, the file cannot be written, or its file system has no
            locks.
    """
    import fcntl

    file = root / "_build" / "lock"
    try:
        file.parent.mkdir(exist_ok=True)
        lock = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = file.read_text("utf-8") or "unknown"
        lock.close()
        raise InputError(
            f"the book in {root} is being built by process {process}; wait for it, or end it"
        ) from None
    except OSError as error:
        lock.close()
        raise InputError(f"{file} cannot be locked: {error.strerror}") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def end_with_the_command() -> None:
    """End this process and its group when the command that started it is gone, killed perhaps."""
    parent = int(os.environ.get(_PARENT, "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if parent == os.getppid():
        threading.Thread(target=watch, daemon=True).start()
