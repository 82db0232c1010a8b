"""A grid of trainings: what is skipped, refused, continued, interrupted, and what diverges."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stochrestore.errors import InputError
from stochrestore.experiments import inpaint, registry, sr_networks, toy_gans, toy_tradeoff, trained
from stochrestore.training.jobs import Method, finished, load, select, train_job, train_jobs
from stochrestore.training.loop import TrainingDiverged

SMOKE = registry.load("toy_tradeoff", "smoke", steps=6, training_samples=200, device="cpu")


def job_of(settings=SMOKE, name="robust_sto_gan-seed0"):
    return toy_gans.all_jobs(settings)[name]


def weights(folder, name="robust_sto_gan-seed0"):
    return folder / f"{name}.safetensors"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The files of one trained job."""
    folder = tmp_path_factory.mktemp("once")
    train_job(job_of(), folder, toy_gans.METHOD, progress=False)
    return {path.name: path.read_bytes() for path in folder.glob("robust*")}


@pytest.fixture
def finished_one(tmp_path, once):
    for name, content in once.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


class Stopped(Exception):
    """Stands for a kill."""


def stop_at(step):
    def evaluate(network, job):
        evaluate.steps += 1
        if evaluate.steps == step:
            raise Stopped
        return {}

    evaluate.steps = 0
    return evaluate


def interrupted(folder, settings=SMOKE, method=toy_gans.METHOD, job=None, **options):
    """A checkpoint of the third step."""
    stopped = Method(method.build, method.network, method.data, stop_at(4))
    with pytest.raises(Stopped):
        train_job(job or job_of(settings), folder, stopped, progress=False, **options)
    return next(folder.rglob("*.pt"))


@pytest.mark.parametrize(
    "change", [{"seed_distribution": "normal"}, {"training_samples": 201}, {"width": 33}]
)
def test_a_checkpoint_is_not_continued_under_other_settings(tmp_path, change):
    interrupted(tmp_path)
    with pytest.raises(InputError, match=rf"other settings \({next(iter(change))}\)"):
        train_job(job_of(SMOKE.model_copy(update=change)), tmp_path, toy_gans.METHOD)


def test_nor_under_another_seed(tmp_path):
    interrupted(tmp_path)
    other = job_of(SMOKE.model_copy(update={"seed": 7}))
    with pytest.raises(InputError, match=r"other settings \(seed\)"):
        train_job(other, tmp_path, toy_gans.METHOD)


def test_nor_with_other_data(tmp_path):
    settings = registry.load("inpaint", "smoke", steps=6, device="cpu")
    job = inpaint.all_jobs(settings)["faces/sto_gan-seed0"]
    method = inpaint.METHOD
    interrupted(tmp_path, method=method, job=job)
    others = Method(method.build, method.network, lambda settings: "another digest")
    with pytest.raises(InputError, match=r"other settings \(data_sha256\)"):
        train_job(job, tmp_path, others)


def test_other_images_to_restore_may_come_along_the_way(tmp_path):
    method = inpaint.METHOD
    for images in (48, 40):
        changes = {"validation_images": images, "steps": 6, "device": "cpu"}
        settings = registry.load("inpaint", "smoke", **changes)
        job = inpaint.all_jobs(settings)["faces/sto_gan-seed0"]
        if images == 48:
            interrupted(tmp_path, method=method, job=job)
        else:
            train_job(job, tmp_path, method, progress=False)
    assert finished(job, tmp_path)


def test_a_checkpoint_beyond_the_last_step_is_refused(tmp_path):
    interrupted(tmp_path)
    fewer = job_of(SMOKE.model_copy(update={"steps": 2}))
    with pytest.raises(InputError, match="step: got 3; allowed: at most 2"):
        train_job(fewer, tmp_path, toy_gans.METHOD)


def test_settings_of_the_evaluation_may_change_along_the_way(tmp_path, once):
    interrupted(tmp_path)
    train_job(job_of(SMOKE.model_copy(update={"samples": 90})), tmp_path, toy_gans.METHOD)
    assert weights(tmp_path).read_bytes() == once["robust_sto_gan-seed0.safetensors"]


def test_other_code_goes_on_and_says_so(tmp_path, once, capsys):
    path = interrupted(tmp_path, about={"commit": "a" * 40})
    train_job(job_of(), tmp_path, toy_gans.METHOD, about={"commit": "b" * 40}, progress=False)
    said = capsys.readouterr().err.splitlines()
    words = "was written by the code of " + "a" * 40 + ", and is continued by " + "b" * 40
    assert said == [f"checkpoint {path} {words}"]
    assert weights(tmp_path).read_bytes() == once["robust_sto_gan-seed0.safetensors"]


@pytest.mark.parametrize("content", ["weights", {}, {"belongs_to": 3}, {"step": 3}])
def test_a_foreign_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "checkpoints" / "robust_sto_gan-seed0.pt"
    path.parent.mkdir()
    torch.save(torch.zeros(3) if content == "weights" else content, path)
    with pytest.raises(InputError, match=r"checkpoint .* cannot be read: remove it"):
        train_job(job_of(), tmp_path, toy_gans.METHOD)


@pytest.mark.parametrize("what", ["gone", "cut"])
def test_weights_that_are_not_whole_are_trained_again(finished_one, once, what):
    path = weights(finished_one)
    assert finished(job_of(), finished_one)
    path.unlink() if what == "gone" else path.write_bytes(path.read_bytes()[:-9])
    assert not finished(job_of(), finished_one)
    train_jobs([job_of()], finished_one, toy_gans.METHOD)
    assert path.read_bytes() == once[path.name]


@pytest.mark.parametrize("record", ["{}", "[]", '{"settings": 3, "versions": 1}', '{"a": 1}'])
def test_a_record_of_something_else_is_named_in_one_line(finished_one, record):
    weights(finished_one).with_suffix(".json").write_text(record)
    for use in (finished, lambda job, folder: train_jobs([job], folder, toy_gans.METHOD)):
        with pytest.raises(InputError, match=r"record .*robust_sto_gan-seed0\.json") as caught:
            use(job_of(), finished_one)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"record robust_sto_gan-seed0\.json"):
        load(job_of(), finished_one, toy_gans.METHOD)


@pytest.mark.parametrize(
    ("experiment", "changes", "words"),
    [
        ("toy_tradeoff", {"seed_distribution": "normal"}, "seed_distribution 'uniform', not 'nor"),
        ("toy_tradeoff", {"samples": 200}, "samples 1000, not 200"),
        ("inpaint", {"data": "digits", "steps": 100, "epsilon": 0.9}, "epsilon 0.18, not 0.9"),
        ("sr_scaling", {"data": "digits", "width": 64}, "width 128, not 64"),
        ("srflow_robustness", {"lr": 0.1}, "lr 0.0005, not 0.1"),
    ],
)
def test_networks_are_not_shown_under_settings_that_they_were_not_trained_with(
    experiment, changes, words
):
    settings = registry.load(experiment, "laptop", **changes)
    with pytest.raises(InputError) as caught:
        sys.modules[f"stochrestore.experiments.{experiment}"].load_or_train(settings)
    assert words in str(caught.value)
    options = " ".join(f"-p {name}={value}" for name, value in changes.items())
    assert f"stochrestore train {experiment} --preset laptop {options} -o" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("experiment", "changes"),
    [
        ("toy_tradeoff", {"seed": 3, "runs": 2}),
        ("inpaint", {"data": "digits", "n_eval": 60, "k": 5, "std_samples": 4, "runs": 2}),
        ("srflow_robustness", {"heat": 0.9, "attack_steps": 3, "alphas": [1.0]}),
    ],
)
def test_settings_of_the_evaluation_may_differ(experiment, changes):
    settings = registry.load(experiment, "laptop", **changes)
    sys.modules[f"stochrestore.experiments.{experiment}"].load_or_train(settings)


def test_one_that_diverges_is_named_at_once_and_the_others_are_trained(tmp_path, capsys):
    good, bad = job_of(), job_of(SMOKE, "sto_gan-seed0")
    bad = type(bad)(bad.name, bad.model, bad.seed, SMOKE.model_copy(update={"lr": 1e30}))
    with pytest.raises(TrainingDiverged, match=r"sto_gan-seed0, step \d: a loss is not finite"):
        train_jobs([bad, good], tmp_path, toy_gans.METHOD)
    assert "training diverged: sto_gan-seed0" in capsys.readouterr().err
    assert weights(tmp_path).exists()


def test_gan_options_choose_nothing_among_other_networks():
    jobs = sr_networks.all_jobs(registry.load("srflow_robustness", "smoke"))
    with pytest.raises(InputError, match=r"stochastic, robust: got \(True, None\)"):
        select(jobs, stochastic=True)


def test_what_a_network_starts_from_is_trained_before_it(tmp_path):
    settings = registry.load("srflow_robustness", "smoke", device="cpu")
    train_jobs(select(sr_networks.all_jobs(settings), only="esr"), tmp_path, sr_networks.METHOD)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.safetensors")}
    assert names == {"esrgan.safetensors", "checkpoints/rrdb.safetensors"}


def test_what_a_chapter_trains_is_kept_and_found_again(tmp_path, monkeypatch):
    """The networks outlive an error after their training."""
    monkeypatch.setattr(trained, "build_folder", lambda: tmp_path / "_build")
    settings = registry.load("toy_tradeoff", "smoke", train=True, runs=2, steps=2, sweep_steps=1)
    first = toy_tradeoff.load_or_train(settings)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("_build/**/*.safetensors")}
    assert len(kept) == 8
    again = toy_tradeoff.load_or_train(settings)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert first.records == again.records
    toy_tradeoff.load_or_train(settings.model_copy(update={"lr": 1e-3}))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def command(folder, *options):
    script = "from stochrestore.cli import main; main()"
    fixed = ["train", "toy_tradeoff", "--preset", "smoke"]
    return [sys.executable, "-c", script, *fixed, "-o", str(folder), *options]


def children_of(process):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True)
    return [int(pid) for pid in listed.stdout.split()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("sign", "workers"),
    [(signal.SIGINT, "1"), (signal.SIGTERM, "1"), (signal.SIGTERM, "2"), (signal.SIGKILL, "2")],
)
def test_an_interrupted_command_leaves_nothing_half_done_and_continues(tmp_path, sign, workers):
    options = ("--only", "erratic_gan-seed", "--workers", workers)
    process = subprocess.Popen(
        command(tmp_path, "-p", "steps=100000", *options), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(tmp_path.rglob("*.pt")))
    children = children_of(process)
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    wait_for(lambda: not any(alive(pid) for pid in children))
    if sign != signal.SIGKILL:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "stochrestore: interrupted; the same command continues"
        assert not list(tmp_path.rglob("*.partial*"))
    assert "Traceback" not in said
    reached = max(torch.load(p, weights_only=True)["step"] for p in tmp_path.rglob("*.pt"))
    done = subprocess.run(
        command(tmp_path, "-p", f"steps={reached + 5}", "--only", "erratic_gan-seed"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "erratic_gan-seed0.json").read_text())["settings"]["steps"] > 5
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("*.partial*"))
