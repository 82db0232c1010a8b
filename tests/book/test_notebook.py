import json

import pytest

from stochrestore.book import notebook, provenance
from stochrestore.errors import InputError

ROOT = provenance.checkout()
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
CELL = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": ["x = 1\n", "x"]}
WHOLE = {"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
TEXT = json.dumps(WHOLE)
DAMAGED = {
    "empty": ("", "it is empty"),
    "cut": (TEXT[:40], "perhaps cut off"),
    "conflict": (f"<<<<<<< HEAD\n{TEXT}\n=======\n{TEXT}\n>>>>>>> main\n", "merge conflict"),
    "list": ("[]", "it lacks"),
    "nothing": ("{}", "it lacks"),
    "cells": (json.dumps(WHOLE | {"cells": [1]}), "it lacks"),
    "mark": (f"\ufeff{TEXT}", "byte-order mark"),
    "old": (json.dumps({"worksheets": [], "nbformat": 3, "metadata": {}}), "format 3"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_notebook_ends_in_one_line_that_names_the_file(tmp_path, name):
    text, said = DAMAGED[name]
    path = tmp_path / f"{name}.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        notebook.read(path)
    (line,) = str(caught.value).splitlines()
    assert str(path) in line
    assert said in line


def test_a_folder_a_missing_file_and_other_bytes_are_named_too(tmp_path):
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "bytes.ipynb").write_bytes(b"\xff\xfe\x00")
    for name, said in {
        "folder": "Is a directory",
        "missing": "No such file",
        "bytes": "not UTF-8",
    }.items():
        with pytest.raises(InputError, match=f"{name}.ipynb cannot be read: .*{said}"):
            notebook.read(tmp_path / f"{name}.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_was_read_is_written_as_it_was(tmp_path, path):
    notebook.write(tmp_path / path.name, notebook.read(path))
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_sources_are_in_one_piece(tmp_path):
    path = tmp_path / "a.ipynb"
    notebook.write(path, WHOLE | {"cells": [CELL | {"source": "x = 1\nx"}]})
    assert json.loads(path.read_text())["cells"][0]["source"] == ["x = 1\n", "x"]
    assert [cell["source"] for cell in notebook.code_cells(path)] == ["x = 1\nx"]


def test_parameters_are_what_their_cell_assigns(tmp_path):
    path = tmp_path / "a.ipynb"
    source = 'preset = "laptop"  # type: str\n# of all\nseed = 0  # type: int\nscales = None\n'
    cell = CELL | {"source": source, "metadata": {"tags": ["parameters"]}}
    notebook.write(path, WHOLE | {"cells": [cell, CELL | {"source": "other = 1"}]})
    assert notebook.parameter_names(path) == ["seed", "scales"]
    notebook.write(path, WHOLE | {"cells": [CELL | {"source": "other = 1"}]})
    with pytest.raises(InputError, match=r"a\.ipynb: cells tagged `parameters`: got 0"):
        notebook.parameter_names(path)
