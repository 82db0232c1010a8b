"""The book's build: what is wrong is said in one line, and an end leaves nothing behind."""

import errno
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pretended_device
from stochrestore.book import build, notebook
from stochrestore.errors import InputError

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds, for machines that have other work
SLEEP = "import pathlib, time\npathlib.Path(SIGN).touch()\ntime.sleep(3600)"

# All in one process: to start one takes longer than the check.
REFUSALS = """
import sys
from pathlib import Path
from stochrestore.book import build
from stochrestore.errors import InputError

coin = Path("notebooks/coin.ipynb")
module = Path("src/stochrestore/problems/coin_problem.py")
cell = '"import sys'
for name, path, change in (
    ("conflict", coin, lambda text: "<<<<<<< HEAD\\n" + text),
    ("cell", coin, lambda text: text.replace(cell, cell + " import", 1)),
    ("module", module, lambda text: text + "def broken(:\\n"),
):
    before = path.read_text("utf-8")
    path.write_text(change(before), "utf-8")
    try:
        build.build(["book"], "smoke")
    except InputError as error:
        print(name, error)
    path.write_text(before, "utf-8")
for preset in ("Smoke", ""):
    try:
        build.build(["book"], preset)
    except InputError as error:
        print("preset", error)
"""


def test_what_is_wrong_is_found_before_anything_starts(checkout):
    (checkout.root / "notebooks" / "Untitled.ipynb").write_text("")
    done = checkout.python("-c", REFUSALS)
    assert done.stderr == ""
    conflict, cell, module, *presets = done.stdout.splitlines()
    assert "coin.ipynb cannot be read: it holds a merge conflict" in conflict
    assert re.search(r"coin\.ipynb, code cell 2, line 1: invalid syntax", cell)
    assert re.search(r"coin_problem\.py, line 3: invalid syntax: def broken", module)
    assert [line.split(";")[0] for line in presets] == [
        "preset PRESET: got 'Smoke'",
        "preset PRESET: got ''",
    ]


def start(checkout, *arguments, **variables):
    """A command in the checkout, still running."""
    source = {"PYTHONPATH": str(checkout.root / "src"), "CI": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=checkout.root,
        env=os.environ | source | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition):
    """Wait for what other processes do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def processes(checkout):
    """Commands of the processes that run in the checkout, or with its library."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            if b"PYTHONPATH=" + os.fsencode(checkout.root / "src") in variables:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [command for command in found if command]


def sleeping(checkout):
    """A checkout whose coin sleeps in a cell; the file that says that it does."""
    path, sign = checkout.root / "notebooks" / "coin.ipynb", checkout.root / "it sleeps"
    found = notebook.read(path)
    found["cells"][3]["source"] = SLEEP.replace("SIGN", repr(str(sign)))
    notebook.write(path, found)
    return sign


COMMAND = ("-m", "stochrestore", "run", "coin", "--preset", "smoke")
BUILD = "from stochrestore.book import build; build.build(['book/executed/claims.md'], 'smoke')"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_interrupted_says_so_and_leaves_nothing(checkout, number):
    sign = sleeping(checkout)
    for ready in (_handles, lambda _: sign.exists()):  # while it starts, and in a cell
        process = start(checkout, *COMMAND)
        until(functools.partial(ready, process.pid))
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (128 + number, "stochrestore: interrupted\n")
        until(lambda: processes(checkout) == [])
        assert not list((checkout.root / "_build").glob("runs/*"))


def _handles(pid):
    """Whether a process has begun to handle signals itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1
    return False


def test_a_killed_run_leaves_no_kernel(checkout):
    sign = sleeping(checkout)
    process = start(checkout, *COMMAND)
    until(sign.exists)
    process.kill()
    process.communicate()
    until(lambda: processes(checkout) == [])
    assert not list((checkout.root / "_build").glob("runs/*"))


def test_a_killed_build_leaves_nothing_and_the_next_one_works(checkout):
    sign, source = sleeping(checkout), checkout.root / "notebooks" / "coin.ipynb"
    process = start(checkout, "-c", BUILD)
    until(sign.exists)
    second = checkout.python("-c", BUILD)
    assert re.search(r"is being built by process \d+; wait for it", second.stderr)
    process.kill()
    process.communicate()
    until(lambda: processes(checkout) == [])

    found = notebook.read(source)
    found["cells"][3]["source"] = "raise ValueError('no luck')"
    notebook.write(source, found)
    done = checkout.python("-c", BUILD)
    assert "BuildError: the book was not built" in done.stderr
    said = done.stdout + done.stderr
    assert "stochrestore: coin, cell [4]: ValueError: no luck" in said

    found["cells"][3]["source"] = "print('better')"
    notebook.write(source, found)
    done = checkout.python("-c", BUILD)
    assert done.returncode == 0, done.stderr


PRETEND = """
import atexit

from pretended_device import pretended_gpu

PRETENDED = pretended_gpu()
PRETENDED.__enter__()
atexit.register(PRETENDED.__exit__, None, None, None)
"""


@pytest.mark.slow
def test_a_build_at_preset_gpu_computes_on_the_gpu(checkout):
    """Through Snakemake, the command and a kernel; the GPU is pretended in each of them."""
    library = checkout.root / "src" / "stochrestore"
    checkout.append("src/stochrestore/experiments/__init__.py", PRETEND)
    (library / "presets" / "gpu.yaml").write_text("coin: {epsilon: 0.25}\n")
    coin = library / "experiments" / "coin.py"
    plain, ours = "config import ExperimentSettings", "experiments.devices import DeviceSettings"
    text = coin.read_text("utf-8").replace(plain, f"{ours} as ExperimentSettings")
    coin.write_text(f"import torch\n{text}", "utf-8")
    path = checkout.root / "notebooks" / "coin.ipynb"
    found = notebook.read(path)
    computed = "coin.torch.ones(2, device=settings.torch_device()).sum()"
    found["cells"][4]["source"] = f"print(type({computed}).__name__, settings.epsilon)"
    notebook.write(path, found)
    command = (
        "from stochrestore.book import build; build.build(['book/executed/coin.ipynb'], 'gpu')"
    )
    libraries = f"{library.parent}{os.pathsep}{ROOT / 'tests'}"
    done = checkout.python("-c", command, variables={"PYTHONPATH": libraries})
    assert done.returncode == 0, done.stdout + done.stderr
    page = checkout.page("coin")
    assert "OnGpu 0.25" in page.read_text("utf-8")
    stamp = checkout.stamp(page)
    assert (stamp["preset"], stamp["device"]) == ("gpu", pretended_device.NAME)


def test_one_build_at_a_time(tmp_path):
    held = build.alone(tmp_path)
    with pytest.raises(InputError, match=f"is being built by process {os.getpid()}"):
        build.alone(tmp_path)
    held.close()
    build.alone(tmp_path).close()


def test_a_checkout_that_cannot_be_written_or_locked_is_named(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=r"_build/lock cannot be locked: No locks available$"):
        build.alone(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"_build/lock cannot be written: Not a directory$"):
        build.alone(tmp_path / "file")


def make(folder, *arguments):
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def made(tmp_path):
    """A folder with the Makefile, and stand-ins for Python and its environment."""
    folder = tmp_path / 'it\'s a "#1" é'
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    stand_in = '#!/bin/sh\necho "$@" >> python-was-asked\n'
    _script(folder / ".venv" / "bin" / "python", stand_in)
    _script(folder / ".venv" / "bin" / "stochrestore", "#!/bin/sh\n")
    _script(folder / "new-python", "#!/bin/sh\nmkdir -p .venv/bin\ncp stand-ins/* .venv/bin/\n")
    (folder / "stand-ins").mkdir()
    for path in (folder / ".venv" / "bin").iterdir():
        _script(folder / "stand-ins" / path.name, path.read_text())
    return folder


def test_make_builds_the_book_at_the_preset_that_it_is_given(made):
    script = '#!/bin/sh\necho "$@" >> stochrestore-was-asked\n'
    _script(made / ".venv" / "bin" / "stochrestore", script)
    done = make(made, "book", "PRESET=gpu")
    assert done.returncode == 0, done.stderr
    assert (made / "stochrestore-was-asked").read_text() == "book --preset gpu\n"


def _script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def test_an_environment_is_kept_where_it_belongs_and_renewed_elsewhere(made):
    done = make(made, "book", "PYTHON=./new-python")
    assert done.returncode == 0, done.stderr
    assert (made / ".venv" / ".ready").read_text().strip() == str(made)
    (made / ".venv" / "mine").touch()
    assert "Installing" not in make(made, "book", "PYTHON=./new-python").stdout
    moved = made.rename(made.with_name("moved"))
    done = make(moved, "book", "PYTHON=./new-python")
    assert "belongs to another folder" in done.stdout
    assert not (moved / ".venv" / "mine").exists()
    assert (moved / ".venv" / ".ready").read_text().strip() == str(moved)


def test_half_an_environment_is_begun_again(made):
    _script(made / ".venv" / "bin" / "python", "#!/bin/sh\nexit 1\n")  # without pip
    assert make(made, "book", "PYTHON=./new-python").returncode == 0
    _script(made / ".venv" / "bin" / "python", "#!/bin/sh\nexit 1\n")
    (made / ".venv" / ".ready").unlink()
    done = make(made, "book", "PYTHON=./missing-python")
    assert done.returncode != 0
    assert "install ./missing-python with its module venv" in done.stderr
    assert not (made / ".venv").exists()
