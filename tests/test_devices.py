"""Every chapter's computations and every trainer on a GPU, which is pretended: none is needed."""

import pytest
import torch

import pretended_device
import sr_networks as small
from pretended_device import OnGpu, files_remember_devices, pretended_gpu
from stochrestore import store
from stochrestore.experiments import (
    attributes,
    fashion,
    image_controls,
    inpaint,
    registry,
    sr_networks,
    sr_scaling,
    srflow_robustness,
    toy_gans,
    toy_tradeoff,
)
from stochrestore.problems.toy import Ring
from stochrestore.training.jobs import Method, train_job


@pytest.fixture
def gpu():
    """A machine with a pretended GPU."""
    with pretended_gpu() as device:
        yield device


def load(experiment, **changes):
    return registry.load(experiment, "smoke", **changes)


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


def test_the_toy(gpu, tmp_path):
    settings = load(
        "toy_tradeoff",
        steps=3,
        sweep_steps=1,
        samples=60,
        training_samples=200,
        weights=str(tmp_path),
    )
    trained = toy_tradeoff.load_or_train(settings)
    assert all(on_gpu(network) for networks in trained.estimators.values() for network in networks)
    toy_tradeoff.figure_3_rows(trained, settings)
    toy_tradeoff.attack_rows(trained, settings)
    generator = torch.Generator().manual_seed(0)
    for network in (trained.estimators["sto_gan"][0], toy_tradeoff.CLOSED_FORM["erratic_sine"]):
        points = toy_tradeoff.support_curve(network, 50, generator=generator)
        points.numpy()
        for x in toy_tradeoff.draw(toy_tradeoff.Disk(), network, 30, generator=generator):
            x.numpy()
    toy_tradeoff.ring_rows(settings)
    toy_tradeoff.ring_estimators(Ring())


@pytest.mark.parametrize("data", ["faces", "digits"])
def test_inpainting(gpu, tmp_path, data):
    settings = load("inpaint", data=data, steps=2, runs=1, weights=str(tmp_path))
    trained = inpaint.load_or_train(settings)
    assert all(on_gpu(network) for networks in trained.estimators.values() for network in networks)
    inpaint.over_runs(inpaint.table_1(trained))
    groups = [
        *inpaint.figure_1(trained, 2, 2),
        *inpaint.under_attacks(trained, 2, 2, (0.0, 1.0)).items(),
    ]
    groups += [(name, torch.stack(rows)) for name, rows in inpaint.attack_pictures(trained, 1)]
    for _, images in groups:
        images.numpy()
    inpaint.attack_credibility(trained)
    inpaint.initial_spread(settings, "he")
    image_controls.controls(settings)


def test_measurements_along_a_training(gpu, tmp_path):
    job = next(inpaint.sweep_jobs(load("inpaint", data="digits", steps=2)))
    train_job(job, tmp_path, inpaint.METHOD, progress=False)


@pytest.mark.parametrize("data", ["faces", "digits"])
def test_scaling(gpu, tmp_path, data):
    settings = load("sr_scaling", data=data, steps=2, runs=1, scales=[4], weights=str(tmp_path))
    trained = sr_scaling.load_or_train(settings)
    rows = sr_scaling.figure_4(trained)
    sr_scaling.evidence(sr_scaling.merged(rows), data, [4])
    sr_scaling.information_rows([trained], rows)
    sr_scaling.sample_sizes(trained)
    for _, images in sr_scaling.sample_sheet(trained, 4, 2, 2):
        images.numpy()


def test_super_resolution(gpu, tmp_path):
    settings = load("srflow_robustness", weights=str(tmp_path))
    networks = srflow_robustness.load_or_train(settings)
    assert all(on_gpu(network) for network in networks.values())
    srflow_robustness.figure_8_rows(networks, settings)
    images = srflow_robustness.groups(settings, "photographs")
    srflow_robustness.heat_rows(networks["srflow"], images, settings)
    srflow_robustness.quality_rows(networks, images, settings)

    torch.save(small.edsr().state_dict(), tmp_path / "edsr.pt")
    official = settings.model_copy(update={"edsr_weights": str(tmp_path / "edsr.pt")})
    assert on_gpu(srflow_robustness.load_or_train(official)["edsr"])


FEATURES = (attributes, fashion)
JOBS = {
    "toy": (toy_gans, "toy_tradeoff", "robust_sto_gan-seed0", {"ema_decay": 0.9, "steps": 3}),
    "unet": (inpaint, "inpaint", "faces/robust_sto_gan-seed0", {"ema_decay": 0.9, "steps": 3}),
    "edsr": (sr_networks, "srflow_robustness", "edsr", {"edsr_steps": 3}),
    "rrdb": (sr_networks, "srflow_robustness", "rrdb", {"rrdb_steps": 3}),
    "esrgan": (sr_networks, "srflow_robustness", "esrgan", {"esrgan_steps": 3}),
    "srflow": (sr_networks, "srflow_robustness", "srflow", {"srflow_steps": 3}),
}


STEPS = {
    **{name: (*job, 1) for name, job in JOBS.items()},
    "fashion": (inpaint, "inpaint", "fashion/robust_sto_gan-seed0", {"data": "fashion"}, 1),
    "digits": (inpaint, "inpaint", "digits/robust_gan-seed0", {"data": "digits"}, 1),
    "pinned": (inpaint, "inpaint", "fashion/robust_sto_gan-seed0", {"data": "fashion"}, 0),
    "features": (attributes, "attributes", "attributes", {"training_images": 64}, 1),
    "classifier": (fashion, "fashion", "fashion", {}, 1),
}
"""A training of each kind; 0: its images do not fit on the GPU."""


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
    changes = {"batch_size": 16, "steps": 9, **changes} if module in FEATURES else changes
    settings = registry.settings(experiment).load("smoke", **changes)
    job = module.all_jobs(settings)[key]
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
def test_a_checkpoint_continues_on_another_device(name, first, tmp_path):
    """The weights are those of an uninterrupted training: here, both devices round alike."""
    module, experiment, key, changes = JOBS[name]

    def job_on(device):
        return module.all_jobs(load(experiment, device=device, **changes))[key]

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


@pytest.mark.parametrize("module", [attributes, fashion], ids=["attributes", "fashion"])
def test_the_networks_of_features(gpu, module, tmp_path):
    few = {"training_images": 64, "held_out": 32} if module is attributes else {}
    settings = module.Settings(steps=3, batch_size=16, **few)
    (job,) = module.all_jobs(settings).values()
    train_job(job, tmp_path, module.METHOD, progress=False)
    assert store.read_record(tmp_path / f"{job.name}.json")["device"] == "cuda"
