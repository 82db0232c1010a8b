"""A small checkout for tests that run the command or the pipeline."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]

EXPERIMENT = """
from typing import ClassVar

from pydantic import Field

from stochrestore.config import ExperimentSettings


class Settings(ExperimentSettings):
    experiment: ClassVar[str] = "{name}"
    robust: bool = False
    epsilon: float = Field(1e-3, gt=0)


def roll():
    from stochrestore.problems import {problem}

    return {problem}.roll()
"""

CLAIMS = """
- {id: coin.a, notebook: coin, statement: It is fair, where: Sec. 1, quantity: mean,
   relation: "> 0.4", paper: "0.5", expected: {smoke: reproduced}, note: Tossed.}
- {id: coin.b, notebook: coin, statement: It is <b>, where: Sec. 2, quantity: mean,
   relation: "< 0.4", paper: "0.5", expected: {smoke: not reproduced}}
- {id: dice.a, notebook: dice, statement: It is fair, where: Sec. 3, quantity: mean,
   relation: "== 3.5", paper: "3.5", expected: {}}
"""

CELLS = """
preset = "laptop"  # type: str
seed = 0  # type: int
robust = None  # type: bool
epsilon = None  # type: float
---
import sys
from tqdm import tqdm
from stochrestore.book import claims
from stochrestore.experiments import NAME
from stochrestore.metrics.interval import Interval
settings = NAME.Settings.load(preset, seed=seed, robust=robust, epsilon=epsilon)
assert settings.seed != 13, "unlucky"
---
found = {"NAME.a": Interval(0.495, 0.49, 0.5)}
claims.Evidence("NAME", settings.preset, found, dict.fromkeys(found, "trainings"))
---
for _ in tqdm(range(2)):
    pass
print(NAME.roll(), settings.seed, settings.robust, settings.epsilon)
---
print(sys.executable)
"""


@dataclass(frozen=True)
class Checkout:
    """A folder with the library, the notebooks ``coin`` and ``dice``, and the pipeline."""

    root: Path

    @classmethod
    def make(cls, folder):
        """Make one in a folder."""
        root = folder / 'it\'s a "#1" $é'
        library = root / "src" / "stochrestore"
        shutil.copytree(
            ROOT / "src" / "stochrestore",
            library,
            ignore=shutil.ignore_patterns("weights", "__pycache__", "toy_*.py"),
        )
        (root / "notebooks").mkdir()
        (library / "book" / "claims.yaml").write_text(CLAIMS, encoding="utf-8")
        registry = library / "experiments" / "registry.py"
        chapters = re.sub(
            r"CHAPTERS = \([^)]*\)", 'CHAPTERS = ("coin", "dice")', registry.read_text("utf-8")
        )
        registry.write_text(chapters, encoding="utf-8")
        for preset in ("smoke", "laptop", "gpu", "paper"):
            text = "coin: {epsilon: 0.5}\ndice: {epsilon: 0.5}\n"
            (library / "presets" / f"{preset}.yaml").write_text(text, encoding="utf-8")
        for name in ("coin", "dice"):
            roll = f"def roll():\n    return {name!r}\n"
            (library / "problems" / f"{name}_problem.py").write_text(roll, encoding="utf-8")
            experiment = EXPERIMENT.format(name=name, problem=f"{name}_problem")
            (library / "experiments" / f"{name}.py").write_text(experiment, encoding="utf-8")
            nbformat.write(_notebook(name), root / "notebooks" / f"{name}.ipynb")
        for file in ("Snakefile", "conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / file, root / file)
        shutil.copytree(ROOT / "profiles", root / "profiles")
        return cls(root)

    def command(self, *arguments, **options):
        """Run ``stochrestore`` there; the finished process, with its output as text."""
        return self.python("-m", "stochrestore", *arguments, **options)

    def python(self, *arguments, variables=(), **options):
        """Run Python on that library, with more variables of the environment."""
        own = {"PYTHONPATH": str(self.root / "src"), "CI": "true", "OMP_NUM_THREADS": "1"}
        environment = os.environ | own | dict(variables)
        return subprocess.run(
            [sys.executable, *arguments],
            **{"cwd": self.root, "env": environment, "capture_output": True, "text": True}
            | options,
        )

    def page(self, name):
        """The path of an executed page of the book."""
        return self.root / "book" / "executed" / f"{name}.ipynb"

    def make_page(self, name):
        """Execute a page as the pipeline does."""
        done = self.command("run", name, "--preset", "smoke", "-o", str(self.page(name)))
        assert done.returncode == 0, done.stderr

    def stamp(self, path):
        """The stamp in an executed notebook."""
        return json.loads(path.read_text("utf-8"))["metadata"]["stochrestore"]

    def append(self, path, text="\n"):
        """Change a file."""
        with (self.root / path).open("a", encoding="utf-8") as file:
            file.write(text)


def _notebook(name):
    sources = CELLS.replace("NAME", name).strip().split("\n---\n")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    for cell in (cells[2], cells[4]):  # floats, and a path
        cell.metadata["tags"] = ["nbval-ignore-output"]
    heading = nbformat.v4.new_markdown_cell(f"# The {name}")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[heading, *cells], metadata={"kernelspec": kernel})
