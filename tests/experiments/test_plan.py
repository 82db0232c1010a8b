"""What a plan counts is what trainings cost: operations, memory, time and disk of small ones."""

import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from stochrestore import store
from stochrestore.config import PRESETS
from stochrestore.experiments import inpaint, plan, registry, sr_networks, toy_gans
from stochrestore.training.jobs import train_job

PLANS = Path(__file__).parents[2] / "book" / "reference" / "plans"


def small(experiment, name, **changes):
    settings = registry.load(experiment, "smoke", device="cpu", **changes)
    return registry.trained(experiment).all_jobs(settings)[name]


SMALL = {
    "U-Net": ("inpaint", "faces/robust_sto_gan-seed0", {"steps": 3, "r1_every": 2}),
    "late L_R": ("inpaint", "faces/robust_gan-seed0", {"steps": 4, "robustness_start": 2}),
    "bf16": ("sr_scaling", "faces/x4/sto_gan-seed0", {"data": "faces", "precision": "bf16"}),
    "MLP": ("inpaint", "digits/robust_sto_gan-seed0", {"data": "digits", "steps": 7}),
    "toy": ("toy_tradeoff", "robust_gan-seed0", {"steps": 7}),
    **{name: ("srflow_robustness", name, {}) for name in sr_networks.STAGES},
}


@pytest.mark.parametrize("case", SMALL)
def test_the_operations_are_those_of_the_training(case):
    experiment, name, changes = SMALL[case]
    job = small(experiment, name, **changes)
    trainer = plan.trainer_of(job, registry.trained(experiment).METHOD)
    with plan.Meter() as meter:
        for _ in range(trainer.steps):
            trainer.advance()
    assert plan.cost(experiment, job).operations == meter.operations > 0


def most_held(events):
    """The most bytes that the allocator gave out at once."""
    held, most = 0, 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize("case", ["U-Net", "MLP"])
def test_the_memory_is_what_the_allocator_gives_out(case):
    experiment, name, changes = SMALL[case]
    job = small(experiment, name, **changes)
    registry.trained(experiment).METHOD.build(job)  # makes the images, which are kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        trainer = registry.trained(experiment).METHOD.build(job)
        for _ in range(trainer.steps):
            trainer.update()
            trainer.step += 1
    measured = most_held(profiled.profiler.kineto_results.events())
    found = plan.cost(experiment, job)
    assert found.memory + found.images == pytest.approx(measured, rel=0.25)


def test_the_memory_of_appendix_g_is_what_the_allocator_gives_out():
    """Of a step; to cut photographs takes more, before there is any."""
    job = small("srflow_robustness", "esrgan", patch=24, batch_size=8)
    trainer = plan.trainer_of(job, sr_networks.METHOD)
    trainer.advance()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        trainer.advance()
    state = tree_leaves(trainer.state_dict())
    own = sum(each.nbytes for each in state if isinstance(each, torch.Tensor))
    measured = own + most_held(profiled.profiler.kineto_results.events())
    assert plan.cost("srflow_robustness", job).memory == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(
    ("experiment", "name"),
    [
        ("inpaint", "faces/sto_gan-seed0"),
        ("srflow_robustness", "rrdb"),
        ("srflow_robustness", "edsr"),
    ],
)
def test_the_disk_is_what_a_training_leaves(tmp_path, monkeypatch, experiment, name):
    job = small(experiment, name)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # of the checkpoint
    train_job(job, tmp_path, registry.trained(experiment).METHOD, progress=False)
    found = plan.cost(experiment, job)
    assert found.weights == job.path(tmp_path).stat().st_size
    checkpoint = next(tmp_path.rglob("*.pt")).stat().st_size
    assert found.checkpoint == pytest.approx(checkpoint, rel=0.25)


def test_a_training_of_which_the_record_alone_is_kept_leaves_no_weights():
    jobs = toy_gans.all_jobs(registry.load("toy_tradeoff", "smoke"))
    kept = [plan.cost("toy_tradeoff", job).weights for job in jobs.values() if job.keep_weights]
    records = [plan.cost("toy_tradeoff", j).weights for j in jobs.values() if not j.keep_weights]
    assert all(kept)
    assert not any(records)


def test_a_plan_for_a_gpu_is_the_same_on_every_processor(monkeypatch):
    """A GPU computes in bf16, whatever the processor does that the plan is made on."""

    def memory(preset, **processor):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: processor)
        monkeypatch.setattr(plan, "_COUNTED", {})
        small = {"data": "faces", "size": 16, "width": 2, "critic_width": 8, "batch_size": 2}
        settings = registry.load("inpaint", preset, device="cpu", precision="bf16", **small)
        return plan.cost("inpaint", inpaint.all_jobs(settings)["faces/erratic_gan-seed0"]).memory

    assert memory("gpu") == memory("gpu", amx_bf16=True)
    assert memory("smoke") != memory("smoke", amx_bf16=True)


def test_the_networks_of_appendix_g_are_trained_small_and_loaded_for_a_gpu():
    planned = {
        preset: [job.name for experiment, job in plan.jobs(preset) if experiment == plan.SMALL]
        for preset in PRESETS
    }
    trained = list(sr_networks.STAGES)
    assert planned == {"smoke": trained, "laptop": trained, "gpu": [], "paper": []}


def test_the_time_is_what_the_shipped_networks_took():
    """Those of App. G together; the RRDBNet that two of them start from has no record."""
    kept, folder = json.loads((PLANS / "laptop.json").read_text("utf-8")), store.shipped(plan.SMALL)
    rows = [r for r in kept["rows"] if r["model"] in sr_networks.NETWORKS]
    planned = sum(3600 * plan.cost_of(row).hours(kept["rates"][plan.SMALL]) for row in rows)
    took = [store.read_record(folder / f"{row['model']}.json")["seconds"] for row in rows]
    assert planned == pytest.approx(sum(took), rel=0.25)


def test_the_papers_trainings_of_images_are_28():
    images = [job for experiment, job in plan.jobs("paper") if experiment != "toy_tradeoff"]
    assert len(images) == 28
    assert {job.settings.steps for job in images} == {1_200_000}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_kept_plan_is_that_of_the_presets(preset):
    """All steps and numbers of trainings; operations of the smallest, to count them in seconds."""
    kept = json.loads((PLANS / f"{preset}.json").read_text("utf-8"))["rows"]
    trainings = {}
    for experiment, job in plan.jobs(preset):
        steps = getattr(job.settings, "steps", None) or getattr(job.settings, f"{job.name}_steps")
        place = (experiment, plan.data_of(job), job.key, steps)
        trainings.setdefault(place, []).append(job)
    counted = {}
    for row in kept:
        place = tuple(row[name] for name in ("experiment", "data", "model", "steps"))
        counted[place] = counted.get(place, 0) + row["trainings"]
    assert counted == {place: len(jobs) for place, jobs in trainings.items()}
    for place, jobs in trainings.items():
        if place[:3] in (("toy_tradeoff", "disk", "sto_gan"), ("inpaint", "celeba", "erratic_gan")):
            costs = {plan.cost(place[0], job).operations for job in jobs}
            rows = [r for r in kept if (r["experiment"], r["data"], r["model"]) == place[:3]]
            assert costs <= {row["operations"] for row in rows}


def test_the_sum_is_of_all_trainings():
    rows = [
        {"experiment": "a", "data": "b", "model": "c", "trainings": n, "steps": 10, "images": 0}
        | {"operations": 36 * 10**14, "memory": 2**30, "weights": 2**20, "checkpoint": 2**21}
        for n in (1, 2)
    ]
    head, *body, whole = plan.table(rows, {"a": 1.0})
    assert len({len(line) for line in (head, *body, whole)}) == 1
    assert body[1] == ["a", "b", "c", "2", "10", "3.6", "1", "1.0 GiB", "2 MiB + 2 MiB"]
    assert whole == ["all", "", "", "3", "", "11", "3", "1.0 GiB", "9 MiB"]
    assert torch.is_grad_enabled()
