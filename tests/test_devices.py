"""Every chapter's computations and every trainer on a GPU, which is pretended: none is needed."""

from dataclasses import replace

import pytest
import torch

import chapters
import pretended_device
import sr_networks as small
from pretended_device import OnGpu, files_remember_devices, pretended_gpu
from stochrestore import config, store
from stochrestore.experiments import (
    attributes,
    families,
    fashion,
    inpaint,
    registry,
    sr_networks,
    sr_scaling,
    srflow_robustness,
    toy_gans,
    trained,
)
from stochrestore.networks import convolution
from stochrestore.training.jobs import Method, train_job


@pytest.fixture
def gpu():
    """A machine with a pretended GPU."""
    with pretended_gpu() as device:
        yield device


def load(experiment, **changes):
    return registry.settings(experiment).load("smoke", **changes)


def on_gpu(network):
    return all(isinstance(p, OnGpu) for p in network.parameters())


def test_the_pretended_gpu_keeps_pytorch_s_rules(gpu):
    x = torch.zeros(3, device="cuda")
    assert (x + torch.tensor(1.0)).device.type == "cuda"
    assert x[torch.tensor([0, 2])].device.type == "cuda"
    assert type(x.cpu()) is torch.Tensor
    wrong = [
        lambda: x + torch.ones(3),
        lambda: torch.ones(3)[torch.tensor([0], device="cuda")],
        lambda: torch.stack([x[0], torch.tensor(1.0)]),
        lambda: torch.rand(3, generator=torch.Generator(), device="cuda"),
        lambda: torch.nn.Linear(3, 1)(x),
    ]
    for use in wrong:
        with pytest.raises(RuntimeError, match=r"same device|device type for generator"):
            use()
    with pytest.raises(TypeError, match="convert cuda"):
        x.numpy()


FEW = {
    "toy_tradeoff": {"steps": 2, "sweep_steps": 1, "samples": 60},
    "inpaint": {"steps": 1, "runs": 1, "sweep_runs": 1},
    "sr_scaling": {"steps": 1, "runs": 1, "scales": [4]},
    "srflow_robustness": {},
    "families": {"problem": "fashion_x4", "runs": 1},
}
"""Sizes below those of preset smoke."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_a_chapter_at_preset_gpu(gpu, name, tmp_path, monkeypatch):
    """From its first cell to its last: the choices of preset gpu, at smoke's sizes or below."""

    def values(experiment, preset, given):
        small = config_values(experiment, "smoke", given)
        return config_values(experiment, "gpu", given) | small | FEW.get(experiment, {})

    config_values = config.preset_values
    monkeypatch.setattr(config, "preset_values", values)
    monkeypatch.setattr(trained, "build_folder", lambda: tmp_path)
    chapters.run(name, preset="gpu")
    records = [store.read_record(path) for path in tmp_path.rglob("*.json")]
    assert records
    assert {record["device"] for record in records} == {"cuda"}


def test_a_chapter_without_the_setting_computes_on_the_processor():
    alone = {"theorem_3_1", "appendix_c", "lipschitz"}
    models = {name: registry.settings(name).model_fields for name in registry.CHAPTERS}
    assert {name for name, fields in models.items() if "device" not in fields} == alone
    assert alone | FEW.keys() == set(registry.CHAPTERS)


def test_measurements_along_a_training(gpu, tmp_path):
    job = next(inpaint.sweep_jobs(load("inpaint", data="digits", steps=2)))
    train_job(job, tmp_path, inpaint.METHOD, progress=False)


def test_official_networks(gpu, tmp_path):
    torch.save(small.edsr().state_dict(), tmp_path / "edsr.pt")
    settings = load("srflow_robustness", edsr_weights=str(tmp_path / "edsr.pt"))
    assert on_gpu(srflow_robustness.official_networks(settings)["edsr"].to(gpu))


SHORT, FEW_FACES = {"steps": 3, "batch_size": 16}, {"training_images": 64, "held_out": 32}
X4 = {"data": "faces", "steps": 3}
DISK = {"problem": "disk", "steps": 3}
JOBS = {
    "toy": (toy_gans, "toy_tradeoff", "robust_sto_gan-seed0", {"ema_decay": 0.9, "steps": 3}),
    "unet": (inpaint, "inpaint", "faces/robust_sto_gan-seed0", {"ema_decay": 0.9, "steps": 3}),
    "edsr": (sr_networks, "srflow_robustness", "edsr", {"edsr_steps": 3}),
    "rrdb": (sr_networks, "srflow_robustness", "rrdb", {"rrdb_steps": 3}),
    "esrgan": (sr_networks, "srflow_robustness", "esrgan", {"esrgan_steps": 3}),
    "srflow": (sr_networks, "srflow_robustness", "srflow", {"srflow_steps": 3}),
    "mlp": (inpaint, "inpaint", "digits/robust_gan-seed0", {"data": "digits", "steps": 3}),
    "scaling": (sr_scaling, "sr_scaling", "faces/x4/robust_sto_gan-seed0", X4),
    "attributes": (attributes, "attributes", "attributes", {**SHORT, **FEW_FACES}),
    "classifier": (fashion, "fashion", "fashion", SHORT),
    "coupling": (families, "families", "disk/coupling-weight1-seed0", DISK),
}
"""A training of each kind."""


STEPS = {
    **{name: (*job, 1) for name, job in JOBS.items()},
    "fashion": (inpaint, "inpaint", "fashion/robust_sto_gan-seed0", {"data": "fashion"}, 1),
    "pinned": (inpaint, "inpaint", "fashion/robust_sto_gan-seed0", {"data": "fashion"}, 0),
    **{
        family: (families, "families", f"disk/{family}-weight1-seed0", DISK, 1)
        for family in families.FAMILIES
    },
}
"""0: the images do not fit on the GPU."""


def test_what_waits_for_the_gpu_is_seen(gpu):
    x, here = torch.ones(3, device="cuda"), torch.ones(3)
    wanted = {
        "item": lambda: x[0].item(),
        "tolist": lambda: x.tolist(),
        "cpu": lambda: x.cpu(),
        "to": lambda: here.to("cuda"),
        "tensor": lambda: torch.tensor([1.0], device="cuda"),
        "__bool__": lambda: bool(x[0]),
        "__float__": lambda: float(x[0]),
        "__repr__": lambda: print(x),
        "__format__": lambda: f"{x[0]:.2f}",
        "nonzero": lambda: x.nonzero(),
        "__getitem__": lambda: x[x > 0],
        "linalg_inv": lambda: torch.linalg.inv(torch.ones(1, 1, device="cuda")),
    }
    for name, use in wanted.items():
        with pretended_device.waits() as found:
            use()
        assert found[0].startswith(name), name
    with pretended_device.waits() as found:
        y = here.pin_memory().to("cuda", non_blocking=True)
        (x + y)[:2].sum()
        assert len(x) == 3
    assert found == []


@pytest.mark.parametrize("name", STEPS)
def test_the_host_never_waits_for_the_gpu_within_a_step(gpu, name, tmp_path, monkeypatch):
    """But where losses are read, every hundred steps."""
    module, experiment, key, changes, fits = STEPS[name]
    if not fits:
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device=None: (0, 0))
    job = module.all_jobs(load(experiment, **changes))[key]
    start = [module.METHOD.network(job.start)] if job.start else []
    trainer = module.METHOD.build(job, *start)
    with pretended_device.waits() as found:
        for _ in range(3):  # with R1 and L_R, and without
            trainer.advance()
    assert found == []
    assert trainer.losses.device.type == "cuda"
    trainer.load_state_dict(trainer.state_dict())
    with pretended_device.waits() as found:
        trainer.advance()
    assert found == []


@pytest.mark.usefixtures("gpu")
def test_the_cost_of_a_restoration_is_that_of_a_finished_one():
    settings = load("families", problem="disk", device="cuda")
    with pretended_device.waits() as found:
        families.cost(settings, inputs=3)
    waited = [wait for wait in found if wait.startswith("cpu, cost")]
    assert len(waited) == 2 * len(families.FAMILIES)


def start_of(job, folder, method):
    if job.start:
        train_job(job.start, folder, method, progress=False)


class Stopped(Exception):
    pass


def train_until(step, job, folder, method):
    """Train up to a step, whose checkpoint is written."""

    def evaluate(network, job):
        evaluate.calls += 1
        if evaluate.calls > step:
            raise Stopped
        return {}

    evaluate.calls = 0
    stopped = Method(method.build, method.network, method.data, evaluate)
    with pytest.raises(Stopped):
        train_job(job, folder, stopped, progress=False)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("first", ["cuda", "cpu"])
def test_a_checkpoint_continues_on_another_device(name, first, tmp_path, monkeypatch):
    """The weights are those of an uninterrupted training: here, both devices round alike.

    On 2×2 pixels a processor convolves in a way of its own, which is turned off for this.
    """
    monkeypatch.setitem(convolution.TINY, "cpu", 0)
    module, experiment, key, changes = JOBS[name]

    def job_on(device):
        job = module.all_jobs(load(experiment, device=device, **changes))[key]
        return replace(job, keep_weights=True)

    def on(device, use):
        if device == "cuda":
            with pretended_gpu():
                return use()
        with files_remember_devices():
            return use()

    method = module.METHOD
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        start_of(job_on("cpu"), folder, method)
    train_job(job_on("cpu"), whole, method, progress=False)
    second = {"cuda": "cpu", "cpu": "cuda"}[first]
    on(first, lambda: train_until(2, job_on(first), parts, method))
    on(second, lambda: train_job(job_on(second), parts, method, progress=False))
    files = [job_on("cpu").path(folder) for folder in (whole, parts)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert store.read_record(files[1].with_suffix(".json"))["device"] == second
