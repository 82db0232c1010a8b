import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

from stochrestore.book import launch, notebook, provenance
from stochrestore.book.notebook import code_cells
from stochrestore.errors import InputError

ROOT = provenance.checkout()
NOTEBOOKS = launch.notebooks(ROOT)
ADDRESS = "https://github.com/owner/name"


def run_cell(monkeypatch, address, *, installed):
    """The commands that the cell runs, where the library is installed and where not."""
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    spec = SimpleNamespace() if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    exec(launch.cell(address)["source"], {})
    return commands


def test_there_are_chapters_and_exercises():
    assert len(NOTEBOOKS) >= 14
    assert {path.parent.name for path in NOTEBOOKS} == {"notebooks", "exercises"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_cell_and_has_it_once(path):
    code = code_cells(path)
    wanted = launch.cell(provenance.repository(ROOT).at)
    assert code[0] == wanted, "write it with `stochrestore install-cell`"
    assert not any(cell["id"] == launch.ID for cell in code[1:])


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_where_the_library_is_nothing_happens_and_nothing_is_said(monkeypatch, capsys, address):
    assert run_cell(monkeypatch, address, installed=True) == []
    assert capsys.readouterr() == ("", "")


def test_where_it_is_not_pip_installs_it_from_the_address(monkeypatch):
    (command,) = run_cell(monkeypatch, f"{ADDRESS}@main", installed=False)
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    wanted = Requirement(command[-1])
    assert (wanted.name, wanted.url) == ("stochrestore", f"git+{ADDRESS}@main")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert wanted.extras <= project["optional-dependencies"].keys()


def test_what_notebooks_import_is_what_their_extra_installs():
    """Notebooks opened alone have nothing else."""
    code = "\n".join(cell["source"] for path in NOTEBOOKS for cell in code_cells(path))
    found = re.findall(r"^ *(?:import|from) (\w+)", code, re.MULTILINE)
    imported = {name.replace("_", "-") for name in {*found} - sys.stdlib_module_names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    names = {Requirement(text).name for text in declared}
    assert {"numpy", "pandas", "matplotlib", "torch"} <= imported
    assert imported - {"stochrestore"} <= names


def test_without_an_address_one_sentence_says_what_to_do(monkeypatch):
    with pytest.raises(ModuleNotFoundError, match=r"no address .*: run `pip install -e [^`]*`"):
        run_cell(monkeypatch, "", installed=False)


def test_alone_without_the_library_the_cell_finds_that_itself(tmp_path):
    """In a Python without site-packages, which is what finding nothing looks like."""
    source = "".join(launch.cell("")["source"])
    command = [sys.executable, "-I", "-S", "-c", source]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "ModuleNotFoundError: stochrestore is not installed" in done.stderr


def small(folder, address=None):
    """A checkout with one notebook."""
    (folder / "notebooks" / "exercises").mkdir(parents=True)
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# Ω"]}
    code = {"cell_type": "code", "id": "code", "metadata": {}, "source": ["x = 1"], "outputs": []}
    path = folder / "notebooks" / "exercises" / "one.ipynb"
    path.write_text(json.dumps({"cells": [title, code], "metadata": {}, "nbformat": 4}), "utf-8")
    if address:
        text = yaml.safe_dump({"repository": {"url": address, "branch": "main"}})
        (folder / "_config.yml").write_text(text)
    return path


def ids(path):
    return [cell["id"] for cell in notebook.read(path)["cells"]]


def test_the_cell_is_written_once_and_follows_the_address(tmp_path):
    path = small(tmp_path)
    assert launch.write(tmp_path) == [path]
    assert ids(path) == ["title", "install", "code"]
    assert "Ω" in path.read_text("utf-8")
    before = path.read_bytes()
    assert launch.write(tmp_path) == []
    assert path.read_bytes() == before
    (tmp_path / "_config.yml").write_text(f'repository: {{url: "{ADDRESS}/", branch: dev}}')
    assert launch.write(tmp_path) == [path]
    assert ids(path) == ["title", "install", "code"]
    assert f'repository = \\"{ADDRESS}@dev\\"' in path.read_text("utf-8")


@pytest.mark.parametrize("address", ["github.com/o/n", 'https://x"; import os; "', "git@x:o/n"])
def test_an_address_that_cannot_be_opened_is_refused(tmp_path, address):
    small(tmp_path, address)
    with pytest.raises(InputError, match=r"_config.yml: repository: url.*https://github.com"):
        launch.write(tmp_path)


def test_binder_installs_the_library_with_the_rest():
    """The environment of the repository's root is the one that Binder makes."""
    assert not any((ROOT / name).exists() for name in ("binder", ".binder", "Dockerfile"))
    *_, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    assert by_pip["pip"] == ["-r requirements.lock", "-e ."]
    assert Path(ROOT / "requirements.lock").exists()
