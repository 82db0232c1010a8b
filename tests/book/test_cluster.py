"""Grids as jobs of a cluster: what is refused in one line, what each job asks for."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from stochrestore import config
from stochrestore.book import cluster, provenance
from stochrestore.errors import InputError
from stochrestore.experiments import inpaint, plan, registry
from stochrestore.training import checkpoints

ROOT = Path(__file__).parents[2]


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A path with stand-ins for SLURM's commands."""
    program(tmp_path / "bin", "sbatch", "exit 1")
    program(tmp_path / "bin", "sinfo", "echo main; echo gpu")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
    return tmp_path / "bin"


def refusal(capsys):
    with pytest.raises(SystemExit) as ended:
        cluster.executor()
    assert "\n" not in ended.value.code
    return ended.value.code


def test_without_slurm_nothing_is_sent(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(capsys).startswith("stochrestore: no SLURM here: sbatch and sinfo")


def test_without_the_plugin_nothing_is_sent(monkeypatch, slurm, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert "plugin for SLURM is not installed: install it by `pip" in refusal(capsys)


def test_a_controller_that_does_not_answer_is_quoted(monkeypatch, slurm, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    assert cluster.executor() == "slurm"
    program(slurm, "sinfo", "echo reasons >&2; echo unable to contact controller >&2; exit 1")
    assert refusal(capsys) == "stochrestore: SLURM does not answer: unable to contact controller"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "checkout", lambda: tmp_path)
    return tmp_path


FACES = {"data": "faces", "steps": 5}


def test_a_partition_that_is_not_there_is_named(slurm, root):
    assert len(cluster.records("sr_scaling", "smoke", FACES, "gpu")) == 8
    with pytest.raises(InputError, match="partition: got 'huge'; allowed: main, gpu"):
        cluster.records("sr_scaling", "smoke", FACES, "huge")


def test_a_grid_of_other_settings_is_not_begun_in_the_same_folder(root):
    first = cluster.records("inpaint", "smoke", FACES)[0]
    path = root / first
    path.parent.mkdir(parents=True)
    settings = {"steps": 7}
    path.write_text(json.dumps({"seed": 0, "settings": settings, "versions": {}}))
    with pytest.raises(
        InputError, match=r"inpaint/smoke holds faces/robust_gan-seed0 trained with"
    ):
        cluster.records("inpaint", "smoke", FACES)
    assert json.loads(path.read_text())["settings"] == settings


def test_nor_where_others_are_at_their_checkpoints(root):
    """Otherwise each job would be sent, refused, and sent again, twenty times."""
    settings = registry.load("inpaint", "smoke", **FACES)
    job = inpaint.all_jobs(settings)["faces/sto_gan-seed0"]
    path = root / "_build" / "weights" / "inpaint" / "smoke" / "checkpoints" / f"{job.name}.pt"
    path.parent.mkdir(parents=True)
    checkpoints.save({"step": 3}, {**job.recorded(), "data_sha256": "any"}, path)
    written = path.read_bytes()
    assert len(cluster.records("inpaint", "smoke", FACES)) == 4
    with pytest.raises(InputError, match=r"holds faces/sto_gan-seed0 trained with width 2, not 3"):
        cluster.records("inpaint", "smoke", {**FACES, "width": 3})
    assert path.read_bytes() == written
    path.write_bytes(written[:-9])
    with pytest.raises(InputError, match=r"sto_gan-seed0.pt cannot be read: remove it"):
        cluster.records("inpaint", "smoke", FACES)


@pytest.fixture
def begun(root):
    """A grid of which one training has ended and one is at its checkpoint; their files."""
    folder = root / "_build" / "weights" / "inpaint" / "smoke"
    (folder / "checkpoints").mkdir(parents=True)
    files = [folder / "faces.json", folder / "checkpoints" / "faces.pt"]
    for path in files:
        path.write_text("kept")
    return files


def all_kept(root, files):
    return [path for path in sorted(root.rglob("*")) if path.is_file()] == sorted(files) and all(
        path.read_text() == "kept" for path in files
    )


def test_a_folder_that_cannot_be_written_is_refused(root, begun, monkeypatch):
    def refuse(path, data):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match=r"inpaint/smoke/.* cannot be written: Read-only file"):
        cluster.records("inpaint", "smoke", FACES)
    assert all_kept(root, begun)


def test_a_folder_on_a_machine_with_another_time_is_refused(root, begun, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    with pytest.raises(InputError, match=r"^clocks differ: .*inpaint/smoke is -3600 s from"):
        cluster.records("inpaint", "smoke", FACES)
    assert all_kept(root, begun)


def test_wrong_settings_are_refused(root):
    with pytest.raises(InputError, match="steps: got 'many'"):
        cluster.records("inpaint", "smoke", {"steps": "many"})
    assert not list(root.iterdir())


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_training_of_a_grid_asks_for_what_is_planned(preset):
    for experiment, job in plan.jobs(preset):
        if experiment == "toy_tradeoff":
            continue
        needs = cluster.needs(experiment, preset, job.name)
        assert 10 < needs["runtime"] <= 24 * 60
        assert 1500 < needs["mem_mb"] < 20_000
        assert needs["gpu"] == (preset in ("gpu", "paper"))


def test_the_profile_repeats_what_it_replaces():
    default, slurm = (
        yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text("utf-8"))
        for name in ("default", "slurm")
    )
    assert default.items() <= slurm.items()


def snakemake(*arguments, **variables):
    """What a command that is refused says, line by line; a note on the profile is left out."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode
    return [line for line in done.stderr.splitlines() if "Using workflow specific" not in line]


GRID = ("sr_grid", "--workflow-profile")
SMALL = ("--config", "preset=smoke", "data=faces", "steps=5")


def test_a_second_grid_in_the_same_checkout_says_one_line():
    """The grid's folders, and so its lock, are the checkout's."""
    (ROOT / "_build").mkdir(exist_ok=True)
    with (ROOT / "_build" / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip("this checkout's book is being built")
        (said,) = snakemake(*GRID, "profiles/default", *SMALL)
    assert "is being built by process" in said


def test_snakemake_says_in_one_line_that_there_is_no_slurm(tmp_path):
    """The command of profiles/README.md, with all of the system's commands but for SLURM's."""
    for each in Path("/bin").iterdir():
        if each.name not in ("sbatch", "sinfo"):
            (tmp_path / each.name).symlink_to(each)
    said = snakemake(*GRID, "profiles/slurm", *SMALL, PATH=str(tmp_path))
    missing = "sbatch and sinfo are not on the path of this machine"
    assert said == [f"stochrestore: no SLURM here: {missing}"]


def test_snakemake_says_in_one_line_that_a_partition_is_not_there(slurm):
    program(slurm, "squeue", "echo squeue")  # where there is sinfo, the plugin needs it to start
    pytest.importorskip("snakemake_executor_plugin_slurm")
    huge = ("--default-resources", "slurm_partition=huge")
    said = snakemake(*GRID, "profiles/slurm", *huge, *SMALL)
    assert said == ["stochrestore: partition: got 'huge'; allowed: main, gpu"]


def in_another_folder(folder, mark):
    """What a job of the grid says in a folder that is not this checkout's."""
    elsewhere = ("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder))
    options = ("--profile", "none", "--quiet", "all", "--cores", "1", *SMALL)
    return snakemake(*elsewhere, *options, "--", mark)


MARK = "_build/weights/sr_scaling/smoke/done/faces/x4/sto_gan-seed0"


def test_a_machine_that_does_not_see_the_grid_s_folder_trains_nothing(tmp_path):
    said = in_another_folder(tmp_path, MARK)
    assert said[0].endswith("does not see _build/weights/sr_scaling/smoke: it must be shared")
    assert not list(tmp_path.rglob("*.pt"))


def test_a_job_that_fails_keeps_the_record_that_is_there(tmp_path):
    """As where a time limit ends it after its training; here, because the record is foreign."""
    folder = tmp_path / MARK.partition("/done/")[0]
    record = folder / "faces" / "x4" / "sto_gan-seed0.json"
    record.parent.mkdir(parents=True)
    (folder / "shared").touch()
    record.write_text("{}")
    in_another_folder(tmp_path, MARK)
    assert record.read_text() == "{}"
    assert "sto_gan-seed0.json" in (folder / "logs/faces/x4/sto_gan-seed0.log").read_text()
    assert not (tmp_path / MARK).exists()


def test_a_mark_counts_while_its_record_is_there(tmp_path):
    records = [tmp_path / "faces" / f"{name}-seed0.json" for name in ("kept", "removed")]
    found = cluster.marks(records, tmp_path)
    for path in (records[0], *found):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert cluster.marks(records, tmp_path) == found
    assert [mark.name for mark in found if mark.exists()] == ["kept-seed0"]
