"""That what is trained, kept, loaded and measured is what is meant, on tiny networks."""

import math

import pytest
import torch
from safetensors.torch import load_file

from stochrestore import store
from stochrestore.estimators.base import SecondCoordinate
from stochrestore.experiments import inpaint, registry, toy_gans, toy_tradeoff
from stochrestore.experiments.evaluation import features_for, reference
from stochrestore.problems.toy import Disk
from stochrestore.training.jobs import load, train_job

DIGITS = registry.load("inpaint", "smoke", data="digits", steps=3, device="cpu")
TOY = registry.load("toy_tradeoff", "smoke", steps=4, training_samples=200, device="cpu")


def job_of(settings=DIGITS, name="digits/robust_sto_gan-seed0"):
    return inpaint.all_jobs(settings)[name]


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_what_is_kept_is_the_average_of_the_weights(tmp_path, ema_decay):
    settings = TOY.model_copy(update={"ema_decay": ema_decay, "lr": 0.1})
    job = toy_gans.all_jobs(settings)["sto_gan-seed0"]
    train_job(job, tmp_path, toy_gans.METHOD, progress=False)
    run = toy_gans.METHOD.build(job)
    run.train(progress=False)
    kept, _ = load(job, tmp_path, toy_gans.METHOD)
    for mean, weight, last in zip(
        run.average, kept.state_dict().values(), run.estimator.state_dict().values(), strict=True
    ):
        assert torch.equal(weight, mean.half().float())  # stored in half precision
        assert torch.equal(weight, last.half().float()) == (ema_decay == 0)


@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
def test_weights_are_kept_in_the_numbers_that_the_settings_name(tmp_path, stored):
    job = job_of(DIGITS.model_copy(update={"stored": stored}))
    train_job(job, tmp_path, inpaint.METHOD, progress=False)
    kept = load_file(job.path(tmp_path))
    matrices = {t.dtype for t in kept.values() if t.ndim > 1}
    assert matrices == {getattr(torch, stored)}


def test_batches_come_from_the_training_images():
    data = inpaint.images(DIGITS)
    known = {tuple(image.flatten().tolist()) for image in data.train[:]}
    others = {tuple(image.flatten().tolist()) for image in data.validation[:]} - known
    run = inpaint.METHOD.build(job_of())
    batch = {tuple(image.flatten().tolist()) for image in run.batch()}
    assert batch <= known
    assert others  # that the test could fail


@pytest.mark.parametrize("data", ["faces", "digits"])
def test_the_critic_starts_as_the_settings_say(data):
    """He's initialisation: no biases, and weights of variance 2/(1 + 0.2²)/fan-in."""
    runs = {}
    for init in ("default", "he"):
        settings = registry.load("inpaint", "smoke", data=data, critic_init=init, device="cpu")
        job = inpaint.all_jobs(settings)[f"{data}/sto_gan-seed0"]
        runs[init] = dict(inpaint.METHOD.build(job).critic.named_parameters())
    assert all(not p.any() for name, p in runs["he"].items() if name.endswith("bias"))
    assert any(p.any() for name, p in runs["default"].items() if name.endswith("bias"))
    wide = max((p for p in runs["he"].values() if p.ndim > 1), key=lambda p: p.numel())
    expected = math.sqrt(2 / (1 + 0.2**2) / wide[0].numel())
    assert wide.std().item() == pytest.approx(expected, rel=0.25)


def test_the_toy_s_robustness_is_that_of_the_second_coordinate():
    """√R̃ of a network whose X̂⁽²⁾ is constant is 0, though X̂⁽¹⁾ = Y moves with Y."""
    run = toy_gans.METHOD.build(toy_gans.all_jobs(TOY)["robust_gan-seed0"])
    assert isinstance(run.measured, SecondCoordinate)
    with torch.no_grad():
        for parameter in run.estimator.parameters():
            parameter.zero_()
    state = run.generator.get_state()
    losses = []
    for weight in (0.0, 1e6):
        run.settings = run.settings.model_copy(update={"robustness_weight": weight})
        run.generator.set_state(state)
        losses.append(run.estimator_loss().item())
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    settings = DIGITS.model_copy(update={"weights": str(folder), "runs": 1})
    return inpaint.load_or_train(settings)


def test_loaded_networks_are_in_evaluation_mode(trained, tmp_path):
    toy = toy_tradeoff.load_or_train(TOY.model_copy(update={"weights": str(tmp_path)}))
    for found in (trained.estimators, toy.estimators):
        for network in (network for runs in found.values() for network in runs):
            assert not any(module.training for module in network.modules())
            assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_sweep_is_measured_in_evaluation_mode_and_trained_on():
    job = next(inpaint.sweep_jobs(DIGITS))
    run = inpaint.METHOD.build(job)
    seen = []
    run.estimator.register_forward_hook(lambda module, *_: seen.append(module.training))
    measured = inpaint.METHOD.evaluate(run.estimator.train(), job)
    assert measured["fid"] > 0
    assert seen
    assert not any(seen)
    assert run.estimator.training


def test_the_real_features_are_those_of_training_images():
    data, compared = inpaint.images(DIGITS), reference(DIGITS, inpaint.degradation(DIGITS))
    n = DIGITS.n_eval
    assert torch.equal(compared.real, features_for(DIGITS)(data.train[:n]))
    degraded = inpaint.degradation(DIGITS).degrade(data.validation[:n])
    assert torch.equal(compared.inputs, degraded)


def test_toy_restorations_are_of_other_inputs_than_the_data():
    """A restoration keeps its y, so that none of them is a data point's."""
    sampler = toy_tradeoff.CLOSED_FORM["posterior_sampler"]
    real, fake = toy_tradeoff.draw(Disk(), sampler, 200, generator=torch.Generator().manual_seed(0))
    assert not set(real[:, 0].tolist()) & set(fake[:, 0].tolist())


def test_inpainting_s_ai_psnr_is_over_the_whole_image(trained):
    """Eq. 9's d is 64, although only 16 pixels are known and change."""
    settings = trained.settings
    for row in inpaint.table_1(trained):
        norm = row["ball_used"].value * settings.epsilon
        whole = -10 * math.log10(norm**2 / settings.pixels)
        assert row["ai_psnr"].value == pytest.approx(whole, abs=1.0)  # 6 dB less over y alone


def test_half_precision_is_for_keeping_only(trained):
    """A network computes in float32, whatever its file holds."""
    for runs in trained.estimators.values():
        assert {p.dtype for network in runs for p in network.parameters()} == {torch.float32}
    paths = store.shipped("inpaint").rglob("*.safetensors")
    assert all(path.stat().st_size < 2**22 for path in paths)
