"""Building the book."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row
from stochrestore.book import notebook

ROOT = Path(__file__).parents[1]


def toy_notebook() -> Iterator[Row]:
    """From the stamp of the executed page, where there is one."""
    page = ROOT / "book" / "executed" / "toy_tradeoff.ipynb"
    stamp = notebook.stamp(page) if page.exists() else None
    if stamp and stamp["preset"] == "laptop":
        yield Row("toy notebook at laptop: seconds", stamp["seconds"], "≤ 120")


def book() -> Iterator[Row]:
    """``make book`` in a fresh clone of the last commit, installation included, then again."""
    with TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
        yield Row("make book from nothing: seconds", _seconds_of_make_book(folder), "≤ 480")
        yield Row("make book again: seconds", _seconds_of_make_book(folder), "≤ 20")


def _seconds_of_make_book(folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(["make", "book"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
