"""The alternating loop: what one step does, resuming to the bit, and its failure paths."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stochrestore.degradations import Inpainting
from stochrestore.errors import InputError, TrainingDiverged
from stochrestore.experiments import evaluation
from stochrestore.losses import critic_gan_loss, r1_penalty
from stochrestore.networks.mlp import MLPCritic, MLPEstimator
from stochrestore.networks.resnet_critic import ResNetCritic
from stochrestore.networks.unet import UNet
from stochrestore.training import adversarial as training
from stochrestore.training import loop
from stochrestore.training.adversarial import AlternatingTrainer, TrainingSettings

SETTINGS = TrainingSettings(
    steps=12, batch_size=16, lr=1e-3, robustness_weight=0.1, robustness_seeds=2
)


def trainer(settings=SETTINGS, seed=3):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(200, 2, generator=generator)
    estimator, critic = MLPEstimator(8, stochastic=True), MLPCritic(8)
    return AlternatingTrainer(
        estimator, critic, images, lambda x: x[:, :1], settings, generator=generator
    )


def evaluate(estimator):
    return {"first": next(estimator.parameters()).flatten()[0].item()}


def equal(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resumed_training_is_bit_identical(tmp_path, ema_decay):
    settings = SETTINGS.model_copy(update={"ema_decay": ema_decay})
    whole = trainer(settings)
    whole.train(evaluate=evaluate, evaluate_every=4, progress=False)

    path = tmp_path / "run.pt"
    first = trainer(settings.model_copy(update={"steps": 7}))
    first.train(
        evaluate=evaluate, evaluate_every=4, checkpoint=path, checkpoint_every=7, progress=False
    )
    resumed = trainer(settings, seed=99)  # everything must come from the checkpoint
    resumed.images = first.images
    resumed.train(evaluate=evaluate, evaluate_every=4, checkpoint=path, progress=False)

    assert resumed.step == 12
    assert equal(whole.estimator, resumed.estimator)
    assert equal(whole.critic, resumed.critic)
    assert whole.history == resumed.history
    assert all(torch.equal(a, b) for a, b in zip(whole.average, resumed.average, strict=True))


def test_same_seed_same_weights_and_another_seed_others():
    a, b, c = trainer(), trainer(), trainer(seed=4)
    for run in (a, b, c):
        run.train(progress=False)
    assert equal(a.estimator, b.estimator)
    assert not equal(a.estimator, c.estimator)


def test_each_loss_moves_only_its_own_network():
    run = trainer()
    before = [p.clone() for p in run.estimator.parameters()]
    run._update(run.critic_optimizer, run.critic_loss())
    assert all(torch.equal(p, q) for p, q in zip(before, run.estimator.parameters(), strict=True))
    critic = [p.clone() for p in run.critic.parameters()]
    run._update(run.estimator_optimizer, run.estimator_loss())
    assert all(torch.equal(p, q) for p, q in zip(critic, run.critic.parameters(), strict=True))
    assert not all(
        torch.equal(p, q) for p, q in zip(before, run.estimator.parameters(), strict=True)
    )


def test_robustness_enters_every_nth_step():
    """With λ_R huge, the steps with L_R have another loss than those without."""
    settings = SETTINGS.model_copy(update={"robustness_every": 3, "robustness_weight": 1e6})
    run = trainer(settings)
    large = []
    for _ in range(9):
        large.append(run.estimator_loss().item() > 10)
        run.advance()
    assert large == [False, False, True] * 3


def test_learns_the_data():
    """A GAN on a line x₂ = 0.7: the estimator finds it."""
    settings = TrainingSettings(steps=400, batch_size=64, lr=2e-3, r1_gamma=0.1)
    run = trainer(settings)
    run.images = torch.stack([run.images[:, 0], torch.full((200,), 0.7)], dim=1)
    run.train(progress=False)
    y = torch.linspace(0.1, 0.9, 50)[:, None]
    with torch.no_grad():
        out = run.estimator(y, torch.full_like(y, 0.5))[:, 1]
    assert (out.mean() - 0.7).abs() < 0.1


def test_weight_averaging_is_an_exponential_mean():
    run = trainer(SETTINGS.model_copy(update={"ema_decay": 0.8}))
    mean = next(run.estimator.parameters()).detach().clone()
    for _ in range(3):
        run.advance()
        mean = 0.8 * mean + 0.2 * next(run.estimator.parameters()).detach()
    assert torch.allclose(run.average[0], mean)
    trained = next(run.estimator.parameters()).detach().clone()
    with run.averaged_weights():
        assert torch.allclose(next(run.estimator.parameters()), mean)
    assert torch.equal(next(run.estimator.parameters()), trained)


def test_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    trainer().train(checkpoint=path, checkpoint_every=4, progress=False)
    other = trainer(SETTINGS.model_copy(update={"lr": 5e-4}))
    with pytest.raises(InputError, match=r"other settings \(lr\)"):
        other.train(checkpoint=path, progress=False)
    assert other.step == 0


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "run.pt"
    trainer().train(checkpoint=path, checkpoint_every=4, progress=False)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(InputError, match="cannot be read"):
        trainer().train(checkpoint=path, progress=False)


def test_checkpoint_that_would_run_code_is_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code ran')",))

    path = tmp_path / "run.pt"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="cannot be read"):
        trainer().train(checkpoint=path, progress=False)


def test_learning_rates_follow_the_schedule():
    """App. E.2.2: multiplied by the decay at each milestone, both networks."""
    settings = SETTINGS.model_copy(
        update={"lr_milestones": (2, 4), "lr_decay": 0.5, "critic_lr": 4e-3}
    )
    run = trainer(settings)
    used = []
    for _ in range(5):
        run.advance()
        used.append(run.critic_optimizer.param_groups[0]["lr"])
        assert run.estimator_optimizer.param_groups[0]["lr"] == used[-1] / 4
    assert used == [4e-3, 4e-3, 2e-3, 2e-3, 1e-3]


def test_r1_every_nth_step_counts_n_fold(monkeypatch):
    calls = []

    def counted(critic, real, **options):
        calls.append(options["gamma"])
        return torch.zeros((), requires_grad=True) + 7.0, critic(real)

    monkeypatch.setattr(training, "r1_penalty_and_logits", counted)
    run = trainer(SETTINGS.model_copy(update={"r1_every": 3}))
    losses = []
    for _ in range(6):
        losses.append(run.critic_loss().item())
        run.step += 1
    assert len(calls) == 2
    assert [loss > 20 for loss in losses] == [True, False, False] * 2


@pytest.mark.parametrize("what", ["nan", "collapse"])
def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, what):
    path = tmp_path / "run.pt"
    run = trainer()
    broken = {"nan": float("nan"), "collapse": 0.0}[what]
    whole = run.critic_loss

    def critic_loss():
        loss = whole()
        return loss if run.step < 6 else loss * broken

    monkeypatch.setattr(run, "critic_loss", critic_loss)
    monkeypatch.setattr(loop, "REPORT_EVERY", 3)
    with pytest.raises(TrainingDiverged, match=r"step \d+: .*last checkpoint is kept"):
        run.train(checkpoint=path, checkpoint_every=3, progress=False)
    assert torch.load(path, weights_only=True)["step"] == 6


def test_full_disk_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    trainer(SETTINGS.model_copy(update={"steps": 4})).train(
        checkpoint=path, checkpoint_every=4, progress=False
    )
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        trainer().train(checkpoint=path, checkpoint_every=4, progress=False)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys, torch
sys.path.insert(0, {tests!r})
import test_adversarial as t
run = t.trainer(t.SETTINGS.model_copy(update={{"steps": 10**6}}))
from pathlib import Path
run.train(checkpoint=Path({path!r}), checkpoint_every=3, progress=False)
"""


def test_killed_at_any_moment_continues_to_the_same_bits(tmp_path):
    """SIGKILL while it writes a checkpoint every third step."""
    path = tmp_path / "run.pt"
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    reached = torch.load(path, weights_only=True)["step"]
    settings = SETTINGS.model_copy(update={"steps": reached + 4})
    resumed, whole = trainer(settings), trainer(settings)
    resumed.train(checkpoint=path, progress=False)
    whole.train(progress=False)
    assert reached > 0
    assert equal(resumed.estimator, whole.estimator)
    assert equal(resumed.critic, whole.critic)


@pytest.mark.parametrize(
    ("asked", "device", "has", "used"),
    [
        ("bf16", "cpu", {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ("bf16", "cpu", {"avx512_bf16": True, "amx_bf16": False}, "float32"),
        ("bf16", "cpu", {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16"),
        ("bf16", "cpu", {"avx512_bf16": False, "cpu_name": "AMD EPYC"}, "float32"),
        ("bf16", "cpu", {"amx_bf16": True}, "bf16"),
        ("bf16", "cuda", {}, "bf16"),
        ("tf32", "cpu", {}, "tf32"),
        ("float32", "cpu", {"amx_bf16": True}, "float32"),
    ],
)
def test_bf16_is_used_where_it_is_faster(asked, device, has, used, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert training.arithmetic(asked, torch.device(device)) == used


def test_passes_in_bf16_train_too(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    run = trainer(SETTINGS.model_copy(update={"precision": "bf16"}))
    assert run.precision == "bf16"
    run.train(progress=False)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in run.estimator.parameters())


def test_losses_are_logged(monkeypatch):
    monkeypatch.setattr(loop, "REPORT_EVERY", 5)
    seen = []
    run = trainer()
    run.train(progress=False, log=seen.append)
    assert [row["step"] for row in seen] == [5, 10, 12]
    assert all(row["critic_loss"] > 0 for row in seen)


def arithmetic():
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", (False, "highest")), ("tf32", (True, "high"))]
)
def test_the_precision_is_set_for_the_training_and_set_back(precision, expected, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # cuDNN's default
    before, seen = arithmetic(), []
    run = trainer(SETTINGS.model_copy(update={"precision": precision}))
    losses = run.critic_loss
    monkeypatch.setattr(run, "critic_loss", lambda: (seen.append(arithmetic()), losses())[1])
    run.train(progress=False)
    assert set(seen) == {expected}
    assert arithmetic() == before
    with pytest.raises(ZeroDivisionError), loop.float32_as(precision):
        raise ZeroDivisionError
    assert arithmetic() == before


def order():
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark


@pytest.mark.parametrize("wanted", [True, False])
def test_a_training_can_be_repeated_to_the_bit_and_the_flags_are_set_back(wanted, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before, seen = order(), []
    run = trainer()
    run.deterministic = wanted
    losses = run.critic_loss
    monkeypatch.setattr(run, "critic_loss", lambda: (seen.append(order()), losses())[1])
    run.train(progress=False)
    assert set(seen) == {(True, False) if wanted else before}
    with pytest.raises(ZeroDivisionError), loop.repeated_to_the_bit(wanted):
        raise ZeroDivisionError
    assert order() == before
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == wanted


def test_networks_are_measured_in_float32():
    seen = []

    def estimator(y, z):
        seen.append(arithmetic())
        return y

    estimator.seed = lambda y, n, *, generator: torch.zeros(n, len(y), 1)
    evaluation.restorations(estimator, torch.zeros(2, 1), generator=torch.Generator())
    assert seen == [(False, "highest")]


def critic_s_loss(critic, real, fake):
    loss = critic_gan_loss(critic(real), critic(fake))
    return loss + r1_penalty(critic, real, gamma=1.0)  # the order in which gradients are added up


def estimator_s_loss(estimator, real, fake):
    z = fake.flatten(1)[:, :340]
    return (estimator(real[..., -4:, :], z) - real).square().mean()


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        (lambda: ResNetCritic(16, 8), critic_s_loss),
        (lambda: UNet(Inpainting(16), 16, 2, stochastic=True), estimator_s_loss),
    ],
    ids=["critic with R1", "U-Net"],
)
def test_an_update_is_that_of_plain_adam(make, loss):
    """Gradients may lie in memory in another order than weights; fused Adam is blind to it."""
    generator = torch.Generator().manual_seed(0)
    data = [torch.rand(4, 3, 16, 16, generator=generator) for _ in range(2)]
    networks = [make() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    fused, plain = (
        torch.optim.Adam(network.parameters(), lr=0.1, eps=1e-3, fused=fused)
        for network, fused in zip(networks, (True, False), strict=True)
    )
    losses = [loss(network, *data) for network in networks]
    AlternatingTrainer._update(fused, losses[0])
    losses[1].backward()
    plain.step()
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
