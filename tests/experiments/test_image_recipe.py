"""The options of the image trainings, their curves, and that faster steps compute the same."""

import json
import math

import pytest
import torch
from benchmarks.training_step import PlainTrainer, PlainUNet
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore import store
from stochrestore.attacks import Attack
from stochrestore.data import fashion
from stochrestore.degradations import Averaging, Inpainting
from stochrestore.estimators.base import restore
from stochrestore.experiments import evaluation, image_controls, inpaint, registry, sr_scaling
from stochrestore.experiments.image_controls import controls, two_sample_accuracy
from stochrestore.experiments.image_gans import images
from stochrestore.losses import r1_penalty, r1_penalty_and_logits, robustness_loss
from stochrestore.networks.resnet_critic import ResidualBlock, ResNetCritic
from stochrestore.networks.unet import StatisticsPerSeed, UNet
from stochrestore.training.adversarial import arithmetic
from stochrestore.training.jobs import MODELS, differing, finished, train_job

SMOKE = {"width": 2, "critic_width": 2, "batch_size": 4, "training_images": 64, "n_eval": 48}
RECIPE = {"critic_residual": 0.3, "critic_input": "symmetric", "seed_scale": 4.0}


def smoke(**changes):
    return registry.load("inpaint", "smoke", data="fashion", **changes)


def network(kind, *, stochastic=True, degradation=None, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = kind(
            degradation or Inpainting(16), 16, 2, channels=1, stochastic=stochastic, **options
        )
    return built.double()


@pytest.mark.parametrize("degradation", [Inpainting(16), Averaging(4)], ids=["inpaint", "sr"])
@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_u_net_is_that_of_concatenated_channels(degradation, stochastic, training, generator):
    """Restorations, robustness loss and gradients; the same names and shapes of weights."""
    x = torch.rand(5, 1, 16, 16, generator=generator).double()
    y = degradation.degrade(x)
    found = []
    for kind in (UNet, PlainUNet):
        net = network(kind, stochastic=stochastic, degradation=degradation).train(training)
        measured = StatisticsPerSeed(net, len(y))
        draws = torch.Generator().manual_seed(1)
        z = net.seed(y, 3 if stochastic else 1, generator=draws)
        attack = Attack(radius=0.3, steps=3, lr=1.0)
        loss = robustness_loss(measured, y, z, attack, generator=draws, scale="mean")
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        shapes = {name: tuple(t.shape) for name, t in net.state_dict().items()}
        found.append((restore(measured, y, z), net(y, z[0]), loss, gradients, shapes))
    ours, theirs = found
    torch.testing.assert_close(ours[:3], theirs[:3], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours[3], theirs[3], rtol=1e-6, atol=1e-12)
    assert ours[4] == theirs[4]


def test_a_deterministic_network_gives_the_same_for_every_seed(generator):
    net = network(UNet, stochastic=False).eval()
    y = torch.rand(3, 1, 4, 16, generator=generator).double()
    restored = restore(net, y, net.seed(y, 5, generator=generator))
    assert restored.shape == (5, 3, 1, 16, 16)
    assert torch.equal(restored, net(y, torch.zeros(3, 1)).expand(5, -1, -1, -1, -1))


def test_the_seed_s_scale_multiplies_the_seed(generator):
    y = torch.rand(3, 1, 4, 16, generator=generator).double()
    one, four = (network(UNet, seed_scale=scale).eval() for scale in (1.0, 4.0))
    z = one.seed(y, 1, generator=generator)[0]
    assert z.std() == pytest.approx(1, abs=0.1)
    assert torch.allclose(four(y, z), one(y, 4 * z))
    assert not torch.allclose(four(y, z), one(y, z))


def test_the_scale_of_the_residual_branches(generator):
    x = torch.rand(2, 3, 4, 4, generator=generator)
    block = ResidualBlock(3, 3, 0.3)
    paper = ResidualBlock(3, 3)
    paper.load_state_dict(block.state_dict())
    assert torch.allclose(block(x) - x, 3 * (paper(x) - x), atol=1e-6)


def test_a_centred_critic_sees_2x_minus_1(generator):
    plain, centred = ResNetCritic(16, 2, channels=1), ResNetCritic(16, 2, channels=1, centred=True)
    centred.load_state_dict(plain.state_dict())
    x = torch.rand(4, 1, 16, 16, generator=generator)
    assert torch.allclose(centred(x), plain(2 * x - 1))
    # R1 is with respect to x: that of the same function of 2x − 1, four times.
    ours, theirs = r1_penalty(centred, x, gamma=1.0), r1_penalty(plain, 2 * x - 1, gamma=1.0)
    assert ours.item() == pytest.approx(4 * theirs.item(), rel=1e-4)


def test_the_penalty_s_logits_are_the_critic_s(generator):
    critic = ResNetCritic(16, 2, channels=1)
    x = torch.rand(4, 1, 16, 16, generator=generator)
    penalty, logits = r1_penalty_and_logits(critic, x, gamma=3.0, convention="full")
    assert torch.equal(logits, critic(x))
    assert penalty == r1_penalty(critic, x, gamma=3.0, convention="full")


@pytest.mark.parametrize("name", ["robust_sto_gan", "robust_gan"])
def test_steps_are_those_of_the_plain_trainer(name):
    """Six steps, so that R1 and L_R come round; in float64, for attacks magnify rounding."""
    trained = []
    for plain in (False, True):
        jobs = inpaint.all_jobs(smoke(**RECIPE, r1_every=2))
        trainer = inpaint.METHOD.build(jobs[f"fashion/{name}-seed0"])
        if plain:
            trainer.__class__, trainer.estimator.__class__ = PlainTrainer, PlainUNet
        trainer.images = trainer.images[:].double()
        for net in (trainer.estimator, trainer.critic):
            net.double()
        trainer.average = [t.double() for t in trainer.average]
        for _ in range(6):
            trainer.advance()
        trained.append([*trainer.estimator.state_dict().values(), trainer.losses])
    torch.testing.assert_close(*trained, rtol=1e-6, atol=1e-8)


def test_networks_of_clothes_are_grey():
    job = inpaint.all_jobs(smoke(**RECIPE))["fashion/sto_gan-seed0"]
    trainer = inpaint.METHOD.build(job)
    assert trainer.critic.first.in_channels == 1
    assert trainer.critic.centred
    assert trainer.critic.stages[0][0].residual == 0.3
    assert trainer.estimator.seed_scale == 4.0
    trainer.advance()


def test_first_a_network_of_each_kind():
    """So that trainings that are stopped leave something to compare."""
    names = [job.name for job in inpaint.main_jobs(smoke(runs=2))]
    assert names == [f"fashion/{name}-seed{run}" for run in range(2) for name in MODELS]


@pytest.mark.parametrize("name", RECIPE)
def test_records_from_before_an_option_are_of_its_default(name):
    jobs = inpaint.all_jobs(smoke())
    job = jobs["fashion/sto_gan-seed0"]
    record = job.recorded()
    assert record.pop(name) == type(job.settings).model_fields[name].default
    assert not differing(job, {"settings": record})
    other = inpaint.all_jobs(smoke(**{name: RECIPE[name]}))[job.name]
    assert set(differing(other, {"settings": record})) == {name}


def test_every_shipped_record_is_of_the_preset_s_settings():
    for data in ("faces", "fashion", "digits"):
        settings = registry.load("inpaint", "laptop", data=data)
        for job in inpaint.main_jobs(settings):
            assert finished(job, store.shipped("inpaint")), job.name


@pytest.mark.parametrize("experiment", [inpaint, sr_scaling])
def test_a_training_with_weights_leaves_its_curve(tmp_path, experiment):
    name = experiment.EXPERIMENT
    given = {"scales": [4]} if experiment is sr_scaling else {}
    settings = registry.load(name, "smoke", data="fashion", steps=60, curve_images=16, **given)
    jobs = experiment.all_jobs(settings)
    job = next(job for job in jobs.values() if job.name.endswith("robust_sto_gan-seed0"))
    train_job(job, tmp_path, experiment.METHOD, progress=False)
    history = json.loads((tmp_path / f"{job.name}.json").read_text())["history"]
    assert len(history) >= 20
    assert [row["step"] for row in history] == list(range(2, 61, 2))
    expected = {"critic_loss", "estimator_loss", "fid", "precision", "recall", "std", "robustness"}
    assert all(set(row) == {"step", *expected} for row in history)
    assert history[0]["fid"] != history[-1]["fid"]


def test_the_curve_changes_nothing_in_the_training():
    jobs = inpaint.all_jobs(smoke(steps=4))
    job = jobs["fashion/robust_sto_gan-seed0"]
    weights = []
    for evaluate in (None, lambda estimator: inpaint.job_evaluation(estimator, job)):
        trainer = inpaint.METHOD.build(job)
        trainer.train(evaluate=evaluate, evaluate_every=1, progress=False)
        assert trainer.estimator.training
        weights.append(trainer.estimator.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_curves_are_of_images_that_no_reported_number_uses():
    settings = smoke(curve_images=40)
    compared = evaluation._selection(settings, inpaint.degradation, torch.device("cpu"))
    kept = fashion.shipped()["selection"].pixels[:40].float() / 255
    assert torch.equal(compared.inputs, kept[..., -4:, :])
    digits = registry.load("inpaint", "smoke", data="digits", curve_images=40)
    inputs = evaluation._selection(digits, inpaint.degradation, torch.device("cpu")).inputs
    assert torch.equal(inputs, images(digits).train[:40][..., -2:, :])  # there are none to spare


def test_faces_for_choices_are_others():
    faces = images(registry.load("inpaint", "smoke", data="faces"))
    rows = [set(map(tuple, part[:48].flatten(1).tolist())) for part in
            (faces.train, faces.validation, faces.selection)]  # fmt: skip
    assert len(set.union(*rows)) == sum(map(len, rows))


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_rows_of_several_seeds_belong_to_their_inputs(seeds, rows, seed):
    draws = torch.Generator().manual_seed(seed)
    net = network(UNet, seed_scale=4.0).eval()
    y = torch.rand(rows, 1, 4, 16, generator=draws).double()
    z = net.seed(y, seeds, generator=draws)
    together = restore(net, y, z)
    for s in range(seeds):
        for n in range(rows):
            alone = net(y[n : n + 1], z[s, n : n + 1])[0]
            assert torch.allclose(together[s, n], alone, atol=1e-9)


class Constant:
    """An estimator that answers everything with grey."""

    def seed(self, y, n, *, generator):
        return torch.zeros(n, len(y), 1)

    def __call__(self, y, z):
        return torch.full((len(y), 1, 16, 16), 0.5)


def test_a_fresh_critic_tells_grey_from_clothes_but_not_clothes_from_clothes():
    chosen = smoke(critic_width=4, batch_size=32, training_images=2000, validation_images=2000,
                   n_eval=1000, fresh_critic_steps=30, **RECIPE)  # fmt: skip
    degrade = inpaint.degradation(chosen)
    told = two_sample_accuracy(Constant(), chosen, degrade, seed=0)
    control = two_sample_accuracy(None, chosen, degrade, seed=0)
    assert told > 0.98
    assert control == pytest.approx(0.5, abs=0.06)


def test_controls_are_worse_the_more_is_wrong():
    rows = controls(smoke(training_images=1500, validation_images=1500, n_eval=1500))
    assert [row["features"] for row in rows] == ["fashion"] * 3 + ["pixels"] * 3
    clothes = {row["images"]: row for row in rows[:3]}
    real, blur = clothes["real"], clothes["blurred 3×3"]
    assert real["recall"] > 0.8
    assert real["precision"] > 0.8
    assert blur["fid"] > 5 * real["fid"]
    assert blur["recall"] < 0.5 * real["recall"]
    assert clothes["noise of 0.05"]["fid"] < 0.3 * blur["fid"]
    assert rows[5]["recall"] < 0.05  # what blur does to raw pixels
    assert rows[4]["precision"] < rows[3]["precision"] - 0.05


def test_the_record_tells_how_a_fresh_critic_fared(tmp_path, monkeypatch):
    monkeypatch.setattr(
        image_controls, "two_sample_accuracy", lambda *_, **options: options["seed"] / 8
    )
    job = inpaint.all_jobs(smoke(steps=1, seed=5, curve_images=16))["fashion/sto_gan-seed0"]
    train_job(job, tmp_path, inpaint.METHOD, progress=False)
    record = json.loads((tmp_path / f"{job.name}.json").read_text())
    assert record["two_sample_accuracy"] == 5 / 8


@pytest.mark.parametrize("preset", ["laptop", "gpu"])
@pytest.mark.parametrize("data", ["fashion", "fashion_mnist:PATH"])
def test_presets_of_clothes_attack_as_hard_as_the_paper(preset, data):
    chosen = registry.load("inpaint", preset, data=data)
    assert chosen.epsilon == pytest.approx(2.5 * math.sqrt(math.prod(chosen.shape) / 12288), 1e-3)
    assert chosen.shape[0] == 1
    assert chosen.robustness_start == 0  # one schedule for all four models
    assert [m / chosen.steps for m in chosen.lr_milestones] == [0.7, 0.85]
    assert {name: getattr(chosen, name) for name in RECIPE} == RECIPE


def test_preset_gpu_starts_on_the_processor_too():
    """The paper's networks at 64×64, few images: 20 steps of a model take 7 seconds, these less."""
    few = {"batch_size": 2, "robustness_seeds": 2, "training_images": 8, "validation_images": 8}
    jobs = inpaint.main_jobs(registry.load("inpaint", "gpu", **few))
    trainer = next(inpaint.METHOD.build(job) for job in jobs if job.key == "robust_sto_gan")
    assert trainer.precision == arithmetic("bf16", trainer.device)
    for _ in range(3):
        trainer.advance()
    assert trainer.seeds_that_fit == 2
    assert all(math.isfinite(value) for value in trainer.mean_losses().values())
