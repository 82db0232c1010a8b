"""What only a real GPU can show; left out where there is none."""

import pytest
import torch

import test_devices
from stochrestore.experiments import inpaint, registry
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.training.jobs import train_job

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


def job(**changes):
    settings = registry.load("inpaint", "smoke", data="fashion", steps=6, **changes)
    return inpaint.all_jobs(settings)["fashion/robust_sto_gan-seed0"]


def weights(folder, **changes):
    train_job(job(**changes), folder, inpaint.METHOD, progress=False)
    return job().path(folder).read_bytes()


def test_a_deterministic_training_is_repeated_to_the_bit(tmp_path):
    first, second = (weights(tmp_path / name, deterministic=True) for name in "ab")
    assert first == second


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_every_precision_trains_and_is_set_back(tmp_path, precision):
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    weights(tmp_path, precision=precision)
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


def test_a_step_does_not_wait(monkeypatch):
    trainer = inpaint.METHOD.build(job(device="cuda"))
    trainer.advance()  # makes what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(6):
            trainer.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_seeds_are_halved_where_memory_ends(monkeypatch):
    """A share of the memory that holds few of the seeds."""
    changed = {"seeds_at_once": "auto", "batch_size": 64, "width": 32, "robustness_seeds": 16}
    trainer = inpaint.METHOD.build(job(**changed))
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5e9 / total))
    try:
        for _ in range(3):
            trainer.advance()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= trainer.seeds_that_fit <= 16


@pytest.mark.parametrize("name", test_devices.JOBS)
def test_a_checkpoint_continues_on_the_other_device(name, tmp_path):
    """Up to rounding: the training goes on from the step that the other device reached."""
    module, experiment, key, changes = test_devices.JOBS[name]
    for first, second in (("cuda", "cpu"), ("cpu", "cuda")):
        folder = tmp_path / first
        jobs = {
            device: module.all_jobs(test_devices.load(experiment, device=device, **changes))
            for device in ("cpu", "cuda")
        }
        test_devices.start_of(jobs["cpu"][key], folder, module.METHOD)
        test_devices.train_until(2, jobs[first][key], folder, module.METHOD)
        train_job(jobs[second][key], folder, module.METHOD, progress=False)
        assert jobs[second][key].path(folder).exists()


def test_a_frechet_distance_is_that_of_the_processor():
    draws = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 6, generator=draws).double() for n in (40, 30))
    assert frechet_distance(real.cuda(), fake.cuda()) == frechet_distance(real, fake)
