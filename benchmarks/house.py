"""Importing the library, and building the book."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row

ROOT = Path(__file__).parents[1]
IMPORTS = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import stochrestore
print((time.perf_counter() - middle) / (middle - start))
"""


def import_time() -> Iterator[Row]:
    added = [
        float(subprocess.check_output([sys.executable, "-c", IMPORTS], text=True)) for _ in range(7)
    ]
    name = "import stochrestore: time over import torch's"
    yield Row(name, statistics.median(added), "≤ 0.3")


def toy_notebook() -> Iterator[Row]:
    """From the stamp of the executed page, where there is one."""
    page = ROOT / "book" / "executed" / "toy_tradeoff.ipynb"
    stamp = json.loads(page.read_text("utf-8"))["metadata"]["stochrestore"] if page.exists() else {}
    if stamp.get("preset") == "laptop":
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
