import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stochrestore
from stochrestore.book import notebook, provenance
from stochrestore.book.offline import external_references
from stochrestore.metrics import torchvision_ops

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in provenance.notebooks()]
WEIGHTS = "src/stochrestore/weights/srflow_robustness/edsr.safetensors"
PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)")


def pins():
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return {canonicalize_name(name): version for name, version in map(split_pin, lines)}


def test_a_checkout_has_the_same_bytes_whatever_git_is_told(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "first")
    names = ("Makefile", "notebooks/appendix_c.ipynb", ".gitattributes", WEIGHTS)
    for name in names:
        (tmp_path / "first" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "first" / name)
    git("-C", "first", "add", ".")
    git("-C", "first", "commit", "-q", "-m", "all")
    git("clone", "-q", "-c", "core.autocrlf=true", "first", "second")
    for name in names:
        assert (tmp_path / "second" / name).read_bytes() == (ROOT / name).read_bytes()


def split_pin(line):
    match = PIN.fullmatch(line)
    assert match, f"requirements.lock: {line!r} is no plain name==version"
    return match.groups()


def test_direct_dependencies_are_pinned_within_their_bounds():
    pinned = pins()
    extras = PROJECT["optional-dependencies"].values()
    declared = [Requirement(r) for group in (PROJECT["dependencies"], *extras) for r in group]
    for requirement in declared:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
    assert (pinned["torch"], pinned["torchvision"]) == ("2.13.0", "0.28.0")


def test_every_direct_dependency_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for requirement in group:
            assert re.search(rf'"{re.escape(requirement)}", +# \w', text), requirement


def test_the_lock_is_closed_and_what_is_installed():
    pinned = pins()
    elsewhere = re.compile("nvidia-|cuda-|triton|pip$")  # by torch for the machine, by Python
    for name, version in pinned.items():
        assert metadata.version(name).split("+")[0] == version
        for needed in map(Requirement, metadata.requires(name) or []):
            wanted = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if wanted and not elsewhere.match(needed.name):
                assert canonicalize_name(needed.name) in pinned, f"{name} needs {needed}"


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, by_pip = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert by_pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert PROJECT["requires-python"] == ">=3.11"


def test_what_is_installed_comes_from_no_address_of_ours():
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile"):
        assert "://" not in (ROOT / name).read_text("utf-8")


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == stochrestore.__version__ == metadata.version("stochrestore")


def test_the_reference_lists_every_module():
    library = ROOT / "src"
    listed = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text("utf-8"))
    files = [f for f in library.rglob("*.py") if not f.name.startswith("_")]
    modules = {".".join(f.relative_to(library).with_suffix("").parts) for f in files}
    assert len(listed) == len(set(listed))
    assert modules == set(listed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_contract(path):
    cells = notebook.read(path)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert cells[0]["cell_type"] == "markdown"
    assert cells[0]["source"].startswith("# ")
    assert "parameters" in code[1]["metadata"]["tags"]  # code[0]: see test_launch
    for statement in ast.parse(code[1]["source"]).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assert code[-1]["source"].strip() == "claims.check(evidence)"
    # What only hands the parameters on is folded on the page.
    assert "Settings.load(" in code[2]["source"]
    assert {"hide-input", "hide-output"} <= set(code[2]["metadata"]["tags"])
    # What nbval compares is said by tags: a comment would be read in the book.
    assert "NBVAL" not in notebook.text(path)
    tagged = [cell["metadata"].get("tags", []) for cell in code]
    assert any("nbval-ignore-output" in tags for tags in tagged)
    assert "nbval-ignore-output" not in tagged[-1]


def rerun(checkout):
    """Notebooks that the pipeline would execute."""
    done = checkout.python("-m", "snakemake", "--dry-run", "--quiet", "host", "--config", *SMOKE)
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    return set(re.findall(r"rule execute:.*?output: book/executed/(\w+)", plan, re.DOTALL))


SMOKE = ["preset=smoke", "--", "book/executed/claims.md"]


def test_a_change_runs_exactly_the_notebooks_that_depend_on_it(checkout):
    done = checkout.python("-m", "snakemake", "--config", *SMOKE)
    assert done.returncode == 0, done.stderr
    assert {"Executing coin (smoke)", "Executing dice (smoke)"} <= set(done.stdout.splitlines())
    assert "1 reproduced" in (checkout.page("claims").with_suffix(".md")).read_text("utf-8")
    assert rerun(checkout) == set()

    page = checkout.page("dice")
    whole = page.read_bytes()
    page.write_bytes(whole[:100])
    assert rerun(checkout) == {"dice"}  # a page that is cut off is made again
    page.write_bytes(whole)

    library = checkout.root / "src" / "stochrestore"
    for file in checkout.root.rglob("*.py"):
        file.touch()  # as a clone or a checkout may do
    checkout.append("src/stochrestore/training/jobs.py")
    checkout.append("src/stochrestore/cli.py")
    assert rerun(checkout) == set()

    module = library / "problems" / "coin_problem.py"
    before = module.read_text("utf-8")
    checkout.append("src/stochrestore/problems/coin_problem.py")
    assert rerun(checkout) == {"coin"}
    module.write_text(before, encoding="utf-8")

    presets = library / "presets" / "smoke.yaml"
    presets.write_text("coin: {epsilon: 0.5}\ndice: {epsilon: 0.25}\n", encoding="utf-8")
    assert rerun(checkout) == {"dice"}
    checkout.append("src/stochrestore/errors.py")
    assert rerun(checkout) == {"coin", "dice"}


def nbval(checkout, *arguments):
    return checkout.python("-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", *arguments)


def test_nbval_validates_executed_notebooks_and_passes_for_no_want_of_them(checkout):
    (checkout.root / "tests").mkdir()
    missing = nbval(checkout)
    assert missing.returncode != 0
    assert "no executed notebook in book/executed" in missing.stderr
    vacuous = nbval(checkout, "notebooks/coin.ipynb")
    assert vacuous.returncode != 0
    assert "coin.ipynb holds no outputs" in vacuous.stderr

    checkout.make_page("coin")
    shutil.copy(checkout.page("coin"), checkout.page("coin").with_suffix(".failed.ipynb"))
    exercises = checkout.root / "book" / "executed" / "exercises"  # unsolved, and never executed
    exercises.mkdir()
    shutil.copy(checkout.root / "notebooks" / "dice.ipynb", exercises)
    passed = nbval(checkout)
    assert (passed.returncode, "6 passed" in passed.stdout) == (0, True), passed.stdout
    page = checkout.page("coin")
    page.write_text(page.read_text("utf-8").replace("coin 0 False 0.5", "coin 1 False 0.5"))
    assert "1 failed" in nbval(checkout).stdout


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", '<script src="https://x.org/a.js"></script>', "https://x.org/a.js"),
        ("a.html", "<link rel='stylesheet' href='//x.org/a.css'>", "//x.org/a.css"),
        ("a.html", '<IMG SRC="http://x.org/a.png">', "http://x.org/a.png"),
        ("a.html", "<p style=\"background: url('https://x.org/b')\">", "https://x.org/b"),
        ("a.css", "@font-face { src: url(https://x.org/f.woff2) }", "https://x.org/f.woff2"),
        ("a.css", '@import "https://x.org/c.css";', "https://x.org/c.css"),
        ("a.html", '<a href="https://x.org">a link is followed by choice</a>', None),
        ("a.html", '<script src="_static/a.js"></script><img src="a.png">', None),
        ("a.html", '<link rel="canonical" href="https://x.org/">', None),
        ("a.css", "a { background: url(data:image/png;base64,AAAA) }", None),
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_found(tmp_path, name, text, found):
    (tmp_path / name).write_text(text)
    assert external_references(tmp_path) == ([f"{name}: {found}"] if found else [])


def test_piq_can_be_imported_beside_this_torch():
    script = """
import torch
from stochrestore.metrics.torchvision_ops import import_piq
piq = import_piq()
print(piq.FID.__name__, piq.psnr(torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)).item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    name, value = done.stdout.split()
    assert name == "FID"
    assert float(value) == pytest.approx(6.0206, abs=1e-3)


def test_operators_that_work_are_left_alone(monkeypatch):
    monkeypatch.setattr(torchvision_ops, "compiled_operators_work", lambda: True)
    assert torchvision_ops.declare_missing_operators.__wrapped__() is None


def test_without_torchvision_the_error_says_so(monkeypatch):
    monkeypatch.setattr(torchvision_ops, "find_spec", lambda name: None)
    with pytest.raises(torchvision_ops.InputError, match="torchvision: not installed"):
        torchvision_ops.compiled_operators_work()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_every_exercise_of_a_chapter_has_its_solution_folded(path):
    text = notebook.text(path)
    asked = re.findall(r"^```\{exercise\}.*\n:label: (\S+)$", text, re.MULTILINE)
    solved = re.findall(r"^```\{solution\} (\S+)\n:class: dropdown$", text, re.MULTILINE)
    assert 1 <= len(asked) <= 4
    assert solved == asked
