import json
import resource
import sys

import nbformat
import pytest

from small_checkout import Checkout
from stochrestore import store
from stochrestore.book import doctor, notebook

REFUSED = [
    (["cards"], ["notebook", "'cards'", "coin, dice"]),
    (["coin", "--preset", "huge"], ["preset", "'huge'", "smoke, laptop, gpu, paper"]),
    (["coin", "-p", "sed=1"], ["parameter", "'sed'", "seed, robust, epsilon"]),
    (["coin", "-p", "robust='false'"], ["robust", "'false' (str)", "boolean"]),
    (["coin", "-p", "robust=1"], ["robust", "1 (int)", "boolean"]),
    (["coin", "-p", "seed=1.5"], ["seed", "1.5 (float)", "integer"]),
    (["coin", "-p", "seed=true"], ["seed", "True (bool)", "integer"]),
    (["coin", "-p", "epsilon=-1"], ["epsilon", "-1", "greater than 0"]),
    (["coin", "-p", "epsilon=.inf"], ["epsilon", "inf", "finite"]),
    (["coin", "-p", "epsilon=[1"], ["epsilon", "'[1' (str)", "number"]),
    (["coin", "-p", "seed=1.5", "-p", "robust=0"], ["seed: got 1.5", "robust: got 0"]),
    (["coin", "-p", "seed"], ["-p", "'seed'", "name=value"]),
    (["coin", "-o", "coin.html"], ["output", "coin.html", ".ipynb"]),
    (["coin", "-o", "notebooks/coin.ipynb"], ["output", "notebooks/coin.ipynb", "outside"]),
    (["coin", "-o", "notebooks/exercises/a.ipynb"], ["output", "exercises/a.ipynb", "outside"]),
    (["coin", "-o", "src/coin.py/deep/coin.ipynb"], ["cannot be written", "Not a directory"]),
    (["coin", "-o", "folder.ipynb"], ["folder.ipynb: cannot be written: Is a directory"]),
    (["coin", "-o", "~no-one/coin.ipynb"], ["~no-one/coin.ipynb", "home"]),
]

REFUSED = [(["run", *arguments], words) for arguments, words in REFUSED] + [
    (["claims", "--check", "--pages", "missing"], ["claims: pages: got 'missing'"]),
    (["claims", "--check"], ["claims: pages: got ", "allowed: executed notebooks"]),
    (["doctor", "--html", "missing"], ["--html: got 'missing'", "built pages"]),
    (["doctor", "--preset", "huge"], ["preset: got 'huge'"]),
    (["plan", "huge"], ["preset: got 'huge'", "smoke, laptop, gpu, paper"]),
    (["plan", "gpu", "--data", "cats:/x"], ["--data: got 'cats'; allowed: none at this preset"]),
    (["collect", "missing"], ["collect: got 'missing'"]),
    (["pages", "missing"], ["pages: got 'missing'", "executed notebooks"]),
    (["book", "--preset", "Smoke"], ["PRESET: got 'Smoke'"]),
]

# All in one process: to start one takes longer than the check.
SCRIPT = """
import contextlib, io, json, sys
from stochrestore.cli import main

for arguments in json.load(sys.stdin):
    sys.argv, said, status = ["stochrestore", *arguments], io.StringIO(), 0
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, said.getvalue().splitlines()]))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    checkout = Checkout.make(tmp_path_factory.mktemp("refusals"))
    (checkout.root / "src" / "coin.py").touch()
    (checkout.root / "folder.ipynb").mkdir()
    cases = json.dumps([arguments for arguments, _ in REFUSED])
    lines = checkout.python("-c", SCRIPT, input=cases).stdout.splitlines()
    assert not (checkout.root / "_build").exists()  # nothing was begun
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("case", range(len(REFUSED)), ids=[" ".join(a) for a, _ in REFUSED])
def test_bad_input_ends_in_one_line_before_any_work(refusals, case):
    status, lines = refusals[case]
    assert status == 2
    assert len(lines) == 1
    assert all(words in lines[0] for words in REFUSED[case][1])


def test_a_run_gives_a_stamped_page_and_leaves_the_books_own_alone(checkout):
    done = checkout.command(
        "run", "coin", "--preset", "smoke", "-p", "seed=3", "-p", "epsilon=1e-3"
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = checkout.root / "_build" / "runs" / "coin.ipynb"
    assert [path.name for path in page.parent.iterdir()] == ["coin.ipynb"]
    assert not checkout.page("coin").exists()
    cells = nbformat.read(page, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = [output.text for output in outputs if "text" in output]
    assert printed == ["coin 3 False 0.001\n", f"{sys.executable}\n"]
    stamp = checkout.stamp(page)
    assert stamp["given"] == {"seed": 3, "epsilon": 0.001}
    assert stamp["parameters"] == {"preset": "smoke", "seed": 3, "robust": False, "epsilon": 0.001}
    assert (stamp["commit"], stamp["dirty"], stamp["seed"]) == ("unknown", False, 3)
    assert {"python", "torch", "numpy"} <= stamp["versions"].keys()
    assert "seed = 3" in cells[-1].source
    assert str(checkout.root) not in page.read_text("utf-8")


def test_a_failed_run_keeps_the_old_page_and_itself_beside_it(checkout, tmp_path):
    page = tmp_path / "out" / "coin.ipynb"
    checkout.command("run", "coin", "-o", str(page))
    before = page.read_bytes()
    done = checkout.command("run", "coin", "-o", str(page), "-p", "seed=13")
    failed = page.with_suffix(".failed.ipynb")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"stochrestore: coin, cell [3]: AssertionError: unlucky (the run is kept in {failed})"
    ]
    assert page.read_bytes() == before
    assert sorted(page.parent.iterdir()) == [failed, page]
    assert "unlucky" in failed.read_text("utf-8")


def with_cell(checkout, code):
    """The notebook of the coin, with one cell more."""
    source = checkout.root / "notebooks" / "coin.ipynb"
    found = notebook.read(source)
    found["cells"].append(nbformat.v4.new_code_cell(code))
    notebook.write(source, found)


def test_what_a_kernel_says_at_its_end_does_not_reach_the_terminal(checkout):
    """libzmq ends a kernel now and then with words of its own, after all cells have run."""
    with_cell(checkout, "import atexit, os; atexit.register(os.write, 2, b'Assertion failed')")
    done = checkout.command("run", "coin")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_kernel_that_dies_is_told_in_one_line(checkout):
    with_cell(checkout, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = checkout.command("run", "coin")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("stochrestore: coin: its process died; out of memory? (the run is kept")


def test_a_kernel_that_cannot_start_says_why(checkout):
    launcher = checkout.root / "src" / "ipykernel_launcher.py"  # found before the true one
    launcher.write_text("raise ImportError('no kernel here')")
    done = checkout.command("run", "coin")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "coin: its kernel ended 3 times before it answered: ImportError: no kernel here" in line


def test_a_full_disk_leaves_the_old_page_and_nothing_else(checkout, tmp_path):
    page = tmp_path / "out" / "coin.ipynb"
    page.parent.mkdir()
    page.write_text("old")

    def small_files():  # a page is larger, the kernel's own files are not
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    done = checkout.command("run", "coin", "-o", str(page), preexec_fn=small_files)
    assert done.returncode == 2
    assert f"stochrestore: output {page}: cannot be written: File too large" in done.stderr
    assert [path.name for path in page.parent.iterdir()] == ["coin.ipynb"]
    assert page.read_text() == "old"


STARTUP = "raise RuntimeError('a startup file of the user')"
SPEC = {"argv": ["/bin/false", "{connection_file}"], "display_name": "Mine", "language": "python"}
DRAWS = """import matplotlib.pyplot as plt
from IPython import get_ipython
plt.plot([1, 2])
plt.title("Ω")
plt.show()
print("Ω", plt.rcParams["text.usetex"], get_ipython().history_length)"""


@pytest.mark.skipif(
    not sys.executable.isascii(), reason="in the locale C, Python does not start from such a path"
)
def test_a_run_does_not_depend_on_the_users_configuration(checkout, tmp_path):
    source, home = checkout.root / "notebooks" / "coin.ipynb", tmp_path / "home"
    found = notebook.read(source)
    found["cells"][4]["source"] = DRAWS
    notebook.write(source, found)
    for path, text in {
        ".ipython/profile_default/startup/a.py": STARTUP,
        ".ipython/profile_default/ipython_config.py": "c.InteractiveShell.history_length = 7",
        ".config/matplotlib/matplotlibrc": "text.usetex: True",
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(SPEC),
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    user = {"HOME": str(home), "MPLBACKEND": "agg", "IPYTHONDIR": str(home / ".ipython")}
    user |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = ("run", "coin", "--preset", "smoke")
    done = checkout.command(*run, variables=user)
    assert (done.returncode, done.stderr) == (0, "")
    page = checkout.root / "_build" / "runs" / "coin.ipynb"
    assert len(list(notebook.outputs(page, "image/png"))) == 1
    assert "Ω False 1000" in page.read_text("utf-8")
    missing = {"HOME": str(tmp_path / "missing" / "home"), "MPLCONFIGDIR": "/proc/none"}
    done = checkout.command(*run, variables=missing)
    assert (done.returncode, done.stderr) == (0, "")
    done = checkout.command("claims", variables=user)  # with letters that the terminal lacks
    assert (done.returncode, done.stderr) == (0, "")
    assert "? coin.a: not tested" in done.stdout


def test_the_command_starts_without_the_modules_of_unix_and_in_a_second(checkout):
    slow = ("matplotlib", "torch", "scipy", "pandas")  # seconds, which `--help` need not wait for
    absent = ", ".join(f"{name}=None" for name in ("resource", "fcntl", *slow))
    script = f"import sys; sys.modules.update({absent}); import stochrestore.cli"
    done = checkout.python("-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_build_starts_without_torch(checkout):
    """Snakemake reads its file at each call; the book's rules need no network at all."""
    source = (checkout.root / "Snakefile").read_text("utf-8")
    line = next(line for line in source.splitlines() if line.startswith("from stochrestore.book"))
    script = f"import sys; sys.modules['torch'] = None; {line}"
    done = checkout.python("-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_training_starts_without_what_takes_a_second(checkout):
    absent = ", ".join(f"{name!r}: None" for name in ("scipy.stats", "matplotlib", "pandas"))
    stop = f"import sys; sys.modules.update({{{absent}}})"
    script = f"{stop}; import stochrestore.experiments.inpaint"
    done = checkout.python("-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_plain_papermill_works_from_any_folder(checkout, tmp_path):
    source = checkout.root / "notebooks" / "coin.ipynb"
    done = checkout.python(
        "-m", "papermill", str(source), "out.ipynb", "-p", "robust", "True", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "coin 0 True 0.5" in (tmp_path / "out.ipynb").read_text("utf-8")
    done = checkout.python(
        "-m", "papermill", str(source), "bad.ipynb", "-p", "robust", "false", cwd=tmp_path
    )
    assert "InputError: robust: got 'false' (str); allowed: a valid boolean" in done.stderr


def test_claims_come_from_the_pages_and_are_not_tested_without(checkout):
    checkout.make_page("coin")
    rows = json.loads(checkout.command("claims", "--json").stdout)
    assert [(row["id"], row["preset"], row["verdict"]) for row in rows] == [
        ("coin.a", "smoke", "reproduced"),
        ("coin.b", "smoke", "not tested"),
        ("dice.a", None, "not tested"),
    ]
    assert rows[0]["value"] == pytest.approx(0.495)
    assert rows[0]["interval"][0] < 0.495 < rows[0]["interval"][1]
    assert rows[2]["value"] is None
    needed = {"statement", "where", "relation", "paper", "notebook"}
    assert all(needed <= row.keys() for row in rows)

    checked = checkout.command("claims", "--check")
    assert checked.returncode == 1
    assert "coin.b is not tested, expected at smoke: not reproduced" in checked.stdout

    text = checkout.command("claims").stdout
    assert "✓ coin.a: reproduced" in text
    assert text.endswith("1 reproduced, 0 not reproduced, 0 inconclusive, 2 not tested\n")

    page = checkout.command("claims", "--markdown").stdout
    assert "## [The coin](coin.ipynb)" in page
    assert "## dice" in page
    assert "It is &lt;b&gt;" in page
    assert "- *coin.a*: Tossed." in page


def test_doctor_names_the_stale_page_and_what_changed(checkout):
    checkout.make_page("coin")
    checkout.make_page("dice")

    def pages(preset="smoke"):
        return checkout.command("doctor", "--pages", "--preset", preset)

    assert pages().returncode == 0
    checkout.append("src/stochrestore/training/jobs.py")
    assert pages().returncode == 0
    checkout.append("src/stochrestore/problems/coin_problem.py")
    found = pages()
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        "BAD page coin: src/stochrestore/problems/coin_problem.py changed since it was executed",
        "ok  page dice: up to date",
    ]
    assert "executed at preset smoke, the book's is laptop" in pages("laptop").stdout
    checkout.page("dice").unlink()
    assert "BAD page dice: not executed" in pages().stdout


def test_doctor_looks_at_python_torch_and_piq():
    found = {finding.what: finding for finding in doctor.everything("laptop")}
    assert all(found[what].good for what in ("Python", "torch", "piq"))


def test_doctor_finds_weights_that_are_not_what_their_record_says(checkout):
    folder = checkout.root / "src" / "stochrestore" / "weights" / "coin"
    folder.mkdir(parents=True)
    for name in ("whole", "cut"):
        record = {"sha256": store.sha256([b"weights"])}
        (folder / f"{name}.json").write_text(json.dumps(record))
    (folder / "whole.safetensors").write_bytes(b"weights")
    (folder / "cut.safetensors").write_bytes(b"weigh")
    done = checkout.command("doctor")
    assert done.returncode == 1
    assert "ok  weights whole" in done.stdout
    assert "BAD weights cut" in done.stdout
