"""Results of another machine: what is taken, and what is refused by its name."""

import json
import shutil

import pytest

from small_checkout import Checkout
from stochrestore import store
from stochrestore.book import provenance, runs
from stochrestore.book.collect import collect
from stochrestore.errors import InputError
from stochrestore.experiments import inpaint, registry
from stochrestore.training.jobs import train_jobs

NAMES = ["faces/erratic_gan-seed0.json", "faces/erratic_gan-seed0.safetensors"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    settings = registry.load("inpaint", "smoke", device="cpu")
    jobs = [job for name, job in inpaint.all_jobs(settings).items() if "/erratic" in name]
    train_jobs(jobs, folder, inpaint.METHOD)
    return folder


@pytest.fixture
def brought(trained, tmp_path):
    """What another machine trained."""
    return shutil.copytree(trained, tmp_path / "brought")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of weights that results are taken into."""
    monkeypatch.setattr(store, "shipped", lambda experiment: tmp_path / "weights" / experiment)
    monkeypatch.setattr(provenance, "checkout", lambda: tmp_path)
    return tmp_path / "weights" / "inpaint"


def files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_finished_training_is_taken_once(brought, here):
    assert len(collect(brought)) == 2
    assert sorted(files(here)) == NAMES
    assert files(here) == {name: files(brought)[name] for name in NAMES}
    assert collect(brought) == []


def test_nothing_here_is_replaced_unless_told(brought, here):
    (here / "faces").mkdir(parents=True)
    (here / NAMES[0]).write_text("mine")
    with pytest.raises(InputError, match=r"weights/inpaint/faces/erratic_gan-seed0\.json is here"):
        collect(brought)
    assert files(here) == {NAMES[0]: b"mine"}
    collect(brought, replace=True)
    assert files(here) == {name: files(brought)[name] for name in NAMES}


def change(path, **changes):
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | changes), "utf-8")


WRONG = {
    "cut off": lambda f: (f / NAMES[1]).write_bytes(b"half"),
    "weights lost": lambda f: (f / NAMES[1]).unlink(),
    "record lost": lambda f: (f / NAMES[0]).unlink(),
    "record cut off": lambda f: (f / NAMES[0]).write_text('{"job": '),
    "of another project": lambda f: (f / NAMES[0]).write_text('{"loss": 1}'),
    "renamed": lambda f: (f / NAMES[0]).rename(f / "faces" / "sto_gan-seed0.json"),
    "another seed": lambda f: change(f / NAMES[0], seed=7),
    "other images": lambda f: change(f / NAMES[0], data_sha256="0" * 64),
    "unfinished": lambda f: (f / "faces" / "sto_gan-seed0.pt").touch(),
    "half written": lambda f: (f / "faces" / "sto_gan-seed0.json.partial").touch(),
    "no notebook": lambda f: (f / "inpaint.ipynb").write_text("{}"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_foreign_or_half_there_is_refused_by_name(brought, here, wrong):
    WRONG[wrong](brought)
    with pytest.raises(InputError, match=r"erratic_gan-seed0|sto_gan-seed0|inpaint\.ipynb"):
        collect(brought)
    assert not here.exists()


def test_other_settings_are_refused(brought, here):
    record = json.loads((brought / NAMES[0]).read_text("utf-8"))
    change(brought / NAMES[0], settings=record["settings"] | {"lr": 1.0})
    with pytest.raises(InputError, match=r"seed0\.json has the settings of no preset's training"):
        collect(brought)


def test_an_empty_folder_and_none_are_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="collect: got"):
            collect(folder)


def test_an_executed_notebook_becomes_a_record(tmp_path, monkeypatch):
    checkout = Checkout.make(tmp_path)
    page = checkout.root / "elsewhere" / "coin.ipynb"
    done = checkout.command("run", "coin", "--preset", "smoke", "-o", str(page))
    assert done.returncode == 0, done.stderr
    done = checkout.command("collect", str(page.parent))
    assert done.returncode == 0, done.stderr
    kept = checkout.root / runs.FOLDER / "coin-smoke.json"
    assert json.loads(kept.read_text("utf-8"))["preset"] == "smoke"
    source = checkout.root / "notebooks" / "coin.ipynb"
    source.write_text(source.read_text("utf-8").replace("print(sys", "print(2, sys"), "utf-8")
    done = checkout.command("collect", str(page.parent))
    assert done.returncode == 2
    assert "made from other sources: got ['notebooks/coin.ipynb']" in done.stderr
