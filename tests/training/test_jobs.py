"""A grid of trainings: what is skipped, refused, continued, interrupted, and what diverges."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from stochrestore import store
from stochrestore.errors import InputError, TrainingDiverged
from stochrestore.experiments import (
    inpaint,
    registry,
    sr_networks,
    sr_scaling,
    toy_gans,
    toy_tradeoff,
    trained,
)
from stochrestore.training.adversarial import AlternatingTrainer
from stochrestore.training.jobs import Method, finished, load, select, train_job, train_jobs

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


def test_numbers_that_slow_a_processor_down_count_as_zero_while_training(tmp_path, monkeypatch):
    products, real = [], AlternatingTrainer.update

    def update(trainer):
        products.append(tiny())
        return real(trainer)

    monkeypatch.setattr(AlternatingTrainer, "update", update)
    train_job(job_of(), tmp_path, toy_gans.METHOD, progress=False)
    assert set(products) == {0.0}
    assert tiny() > 0


def tiny():
    """A product that only a denormal number can hold."""
    return (torch.full((64,), 1e-30) * torch.full((64,), 1e-10)).max().item()


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
    assert len(kept) == 16
    again = toy_tradeoff.load_or_train(settings)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert first.records == again.records
    toy_tradeoff.load_or_train(settings.model_copy(update={"lr": 1e-3}))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def command(folder, *options):
    fixed = ["train", "toy_tradeoff", "--preset", "smoke"]
    return [sys.executable, "-m", "stochrestore", *fixed, "-o", str(folder), *options]


@pytest.mark.parametrize("where", ["critic_loss", "estimator_loss", "state_dict"])
def test_a_request_to_end_within_a_step_leaves_a_checkpoint_after_it(
    tmp_path, once, monkeypatch, where
):
    rarely = replace(toy_gans.METHOD, points=1)  # no checkpoint of its own before the last step
    calls, original = [], getattr(AlternatingTrainer, where)

    def called(trainer):
        calls.append(trainer.step)
        if len(calls) == (3 if where != "state_dict" else 1):
            signal.raise_signal(signal.SIGTERM)
        return original(trainer)

    monkeypatch.setattr(AlternatingTrainer, where, called)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_job(job_of(), tmp_path, rarely, progress=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    state = torch.load(next(tmp_path.rglob("*.pt")), weights_only=True)
    assert state["step"] == (3 if where != "state_dict" else SMOKE.steps)
    train_job(job_of(), tmp_path, rarely, progress=False)
    assert weights(tmp_path).read_bytes() == once[weights(tmp_path).name]


def test_a_measurement_that_is_interrupted_is_made_again(tmp_path, once):
    def ends(network, job):
        ends.calls += 1
        if ends.calls == 4:
            raise KeyboardInterrupt
        return toy_gans.METHOD.evaluate(network, job)

    ends.calls = 0
    with pytest.raises(KeyboardInterrupt):
        train_job(job_of(), tmp_path, replace(toy_gans.METHOD, evaluate=ends), progress=False)
    train_job(job_of(), tmp_path, toy_gans.METHOD, progress=False)
    record = "robust_sto_gan-seed0.json"
    assert (
        json.loads((tmp_path / record).read_text())["history"]
        == json.loads(once[record])["history"]
    )


def test_one_process_at_a_time_trains_a_network(tmp_path):
    lock = tmp_path / "checkpoints" / f"{job_of().name}.lock"
    with store.held(lock, "robust_sto_gan-seed0 is being trained"):
        with pytest.raises(InputError, match=rf"trained into .* by process {os.getpid()} on "):
            train_job(job_of(), tmp_path, toy_gans.METHOD, progress=False)
        assert not list(tmp_path.rglob("*.json"))
    train_job(job_of(), tmp_path, toy_gans.METHOD, progress=False)
    assert not lock.exists()


def test_a_name_in_full_means_this_training_alone():
    jobs = toy_gans.all_jobs(SMOKE.model_copy(update={"runs": 12}))
    assert [job.name for job in select(jobs, only="sto_gan-seed1")] == ["sto_gan-seed1"]
    assert len(select(jobs, only="sto_gan-seed")) == 12


def test_two_workers_train_side_by_side(tmp_path):
    settings = registry.load("sr_scaling", "smoke", data="faces", steps=5)
    train_jobs(sr_scaling.all_jobs(settings).values(), tmp_path, sr_scaling.METHOD, workers=2)
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    spans = [[datetime.fromisoformat(time) for time in record["ran"]] for record in records]
    assert len(spans) == 8
    last = max(begin for begin, _ in spans)  # from then on there is nothing for the other worker
    alone = [
        begin
        for begin, end in spans
        if begin < last
        and not any(b <= end and begin <= e for b, e in spans if (b, e) != (begin, end))
    ]
    assert not alone


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
    [(signal.SIGINT, "1"), (signal.SIGTERM, "2"), (signal.SIGKILL, "2")],
)
def test_an_interrupted_command_leaves_nothing_half_done_and_continues(tmp_path, sign, workers):
    options = ("--only", "erratic_gan-seed", "--workers", workers)
    process = subprocess.Popen(
        command(tmp_path, "-p", "steps=4000", *options), stderr=subprocess.PIPE, text=True
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
