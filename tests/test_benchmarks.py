"""The benchmarks compare like with like."""

from dataclasses import replace

import pytest
import torch
from benchmarks import roofline, srflow
from benchmarks.measure import Row, isolated, peak_bytes
from benchmarks.training_step import (
    STEPS,
    build_image_trainer,
    build_trainer,
    relative_difference,
)

import sr_networks
from stochrestore.experiments import plan

MEBI = 2**20


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_the_transcription_computes_the_library_s_loss(dtype, bound):
    assert relative_difference(build_trainer, dtype) <= bound


def test_the_transcription_computes_the_library_s_loss_of_images():
    def build(dtype):
        return build_image_trainer(dtype, size=16, width=2)

    assert relative_difference(build, torch.float64) <= 1e-9


def test_the_robustness_term_is_part_of_that_loss():
    trainer = build_trainer(torch.float64)
    without = trainer.settings.model_copy(update={"robustness_weight": 0.0})
    losses = []
    for settings in (trainer.settings, without):
        trainer = build_trainer(torch.float64)
        trainer.settings = settings
        losses.append(STEPS["library"](trainer).item())
    assert losses[0] - losses[1] > 0.1 * losses[1]


def test_the_loop_of_appendix_g_gives_the_library_s_attack():
    network = sr_networks.srflow().double()
    y, z = srflow.problem(network, 2, 8)
    y, z = y.double(), z.double()
    attacked = srflow.by_library(network, y, z), srflow.by_loop(network, y, z)
    torch.testing.assert_close(*attacked, atol=1e-9, rtol=0)


def test_the_work_of_a_preset_is_counted():
    assert srflow.preset_work("smoke") == 3 * 8**2 * 1 * 3 * 2 / 10
    assert srflow.preset_work("gpu") == 9 * 32**2 * 6 * 50


def test_a_row_knows_whether_it_keeps_its_bound():
    assert Row("a", 0.5, "≤ 0.5").ok
    assert not Row("a", 0.51, "≤ 0.5").ok
    assert Row("a", 2.0, "≥ 2").ok
    assert not Row("a", 1.9, "≥ 2").ok


def allocate(mebibytes):
    before = peak_bytes()
    block = b"x" * (mebibytes * MEBI)
    return (peak_bytes() - before) / len(block)


def test_peak_memory_sees_what_a_process_takes():
    assert isolated(allocate, 200) == pytest.approx(1, abs=0.1)


def test_operations_and_bytes_are_counted_without_computing():
    """Of a product: 2·n·m·k operations; both factors are read, and the result is written."""
    with roofline.Work() as work:
        torch.ones(2, 3) @ torch.ones(3, 5)
    assert work.calls[-1] == (2 * 2 * 3 * 5, 4 * (6 + 15 + 10))
    peak = roofline.Peak({"float32": 60.0}, 124.0)
    work.calls = [(60, 124), (0, 248), (120, 0)]
    assert work.seconds(peak, "float32") == 1 + 2 + 2
    assert work.seconds(peak, "float32", launch=1.5) == 1.5 + 2 + 2


def small_trainings():
    wanted = {"digits/robust_sto_gan", "edsr"}
    found = roofline.trainings("smoke", "cpu", data="digits")
    return [training for training in found if training[0] in wanted]


def test_trainings_are_measured_beside_what_their_work_allows():
    peak = roofline.Peak(dict.fromkeys(("float32", "tf32", "bf16"), 1e13), 1e12)
    rows = list(roofline.speeds(small_trainings(), peak, repeats=1))
    assert [row["training"] for row in rows] == ["digits/robust_sto_gan", "edsr"]
    assert all(0 < row["images_s"] < row["most_images_s"] for row in rows)


def test_operations_are_those_of_the_plan():
    experiments = ("inpaint", "srflow_robustness")
    for (_, job, method), experiment in zip(small_trainings(), experiments, strict=True):
        cycle = roofline.cycle_of(plan.trainer_of(job, method))
        if cycle > 1:  # a plan counts steps, here as many as make whole cycles
            job = replace(job, settings=job.settings.model_copy(update={"steps": 6 * cycle}))
        trainer = plan.trainer_of(job, method)
        counted = sum(n for n, _ in roofline.work_of(trainer).calls)
        assert plan.cost(experiment, job).operations == trainer.steps // cycle * counted > 0


def test_counting_moves_no_weight():
    _, job, method = small_trainings()[0]
    trainer = plan.trainer_of(job, method)
    before = [p.clone() for p in trainer.network.parameters()]
    work = roofline.work_of(trainer)
    assert all(map(torch.equal, before, trainer.network.parameters()))
    counted = sum(n for n, _ in work.calls)
    with roofline.Work() as real:
        fresh = plan.trainer_of(job, method)
        real.calls.clear()
        for _ in range(roofline.cycle_of(fresh)):
            fresh.update()
            fresh.step += 1
    assert counted == sum(n for n, _ in real.calls)
