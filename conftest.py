"""Makes `pytest --nbval` validate executed notebooks, never pass for want of them."""

import os

import pytest

from stochrestore.book import execute, provenance


def pytest_configure(config):
    if config.getoption("nbval", default=False):
        # As `stochrestore run` does: the user's configuration does not change what is compared.
        os.environ.update(execute.of_the_kernel(provenance.checkout() / "_build" / "cache"))


def pytest_collection_modifyitems(config, items):
    if not config.getoption("nbval", default=False):
        return
    notebooks = {item.parent.path: item.parent.nb for item in items if hasattr(item.parent, "nb")}
    if not notebooks:
        raise pytest.UsageError("--nbval: no executed notebook in book/executed; `make book` first")
    for path, notebook in notebooks.items():
        if not any(cell.get("outputs") for cell in notebook.cells):
            raise pytest.UsageError(f"--nbval: {path.name} holds no outputs to compare with")


# What a failed run left, and the exercises that the site offers to students: no pages of the book.
collect_ignore_glob = ["*.failed.ipynb", "book/executed/exercises/*"]
