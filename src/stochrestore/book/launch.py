"""The first code cell of each notebook, which installs the library where it is missing.

Colab opens a single file, without the rest of the repository. The cell installs the library from
the address under ``repository`` in ``_config.yml``. Once that address is set, the command

    stochrestore install-cell

writes the cell into all notebooks. Where the library can be imported, the cell does nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stochrestore.book import notebook, provenance

ID = "install"
SOURCE = """# Installs the library where it is missing, as on Colab; elsewhere this does nothing.
import subprocess
import sys
from importlib.util import find_spec

repository = ADDRESS  # as in _config.yml; written by `stochrestore install-cell`
if find_spec("stochrestore") is None:
    if not repository:
        raise ModuleNotFoundError(
            "stochrestore is not installed, and this notebook knows no address to install it from: "
            "run `pip install -e '.[notebooks]'` in the folder that holds notebooks/"
        )
    wanted = f"stochrestore[notebooks] @ git+{repository}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)"""


def cell(address: str) -> dict[str, Any]:
    """The cell as a notebook keeps it, hidden from readers of the book.

    Args:
        address: see :func:`stochrestore.book.provenance.repository`.
    """
    source = SOURCE.replace("ADDRESS", json.dumps(address))
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": ID,
        "metadata": {"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]},
        "outputs": [],
        "source": source,
    }


def notebooks(root: Path) -> list[Path]:
    """The sources of all chapters and exercises."""
    return sorted((root / "notebooks").glob("**/*.ipynb"))


def write(root: Path) -> list[Path]:
    """Make the cell the first code cell of every notebook of a checkout.

    Returns:
        The notebooks that changed.
    """
    changed = []
    wanted = cell(provenance.repository(root).at)
    for path in notebooks(root):
        found = notebook.read(path)
        cells = [c for c in found["cells"] if c["id"] != ID]
        first = next(i for i, c in enumerate(cells) if c["cell_type"] == "code")
        cells.insert(first, wanted)
        if cells != found["cells"]:
            notebook.write(path, found | {"cells": cells})
            changed.append(path)
    return changed
