"""The first code cell of each notebook: it installs the library where a notebook comes alone.

Colab opens one file, without the rest of the repository. What it installs from is ``repository``
of ``_config.yml``, the address behind the launch buttons; once that is set,

    python -m stochrestore.book.launch

writes it into all notebooks. Where the library can be imported the cell does nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stochrestore.book import provenance
from stochrestore.errors import InputError

ID = "install"
SOURCE = """# Installs the library where it is missing, as on Colab; elsewhere this does nothing.
import subprocess
import sys
from importlib.util import find_spec

repository = ADDRESS  # as in _config.yml; written by `python -m stochrestore.book.launch`
if find_spec("stochrestore") is None:
    if not repository:
        raise ModuleNotFoundError(
            "stochrestore is not installed, and this notebook knows no address to install it from: "
            "run `pip install -e '.[notebooks]'` in the folder that holds notebooks/"
        )
    wanted = f"stochrestore[notebooks] @ git+{repository}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)"""


def cell(address: str) -> dict[str, Any]:
    """The cell, as a notebook keeps it; hidden from who reads the book.

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
        "source": source.splitlines(keepends=True),
    }


def notebooks(root: Path) -> list[Path]:
    """The sources of all chapters and exercises."""
    return sorted((root / "notebooks").glob("**/*.ipynb"))


def write(root: Path) -> list[Path]:
    """Make the cell the first code cell of every notebook of a checkout; those that changed."""
    changed = []
    wanted = cell(provenance.repository(root).at)
    for path in notebooks(root):
        notebook = json.loads(path.read_text("utf-8"))
        cells = [c for c in notebook["cells"] if c["id"] != ID]
        first = next(i for i, c in enumerate(cells) if c["cell_type"] == "code")
        cells.insert(first, wanted)
        if cells != notebook["cells"]:
            text = json.dumps(notebook | {"cells": cells}, indent=1, ensure_ascii=False)
            path.write_text(text + "\n", "utf-8")
            changed.append(path)
    return changed


def main() -> None:
    """Write the cell into the notebooks of this checkout."""
    try:
        print(*write(provenance.checkout()), sep="\n")
    except InputError as error:
        sys.exit(f"stochrestore: {error}")


if __name__ == "__main__":
    main()
