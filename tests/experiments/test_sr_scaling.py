"""The super-resolution experiment: its grid, attack radii, weighted posterior, bits and claims."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from stochrestore.attacks import worst_perturbation
from stochrestore.degradations import Averaging
from stochrestore.errors import InputError
from stochrestore.estimators.base import restore
from stochrestore.estimators.weighted_posterior import WeightedPosterior
from stochrestore.experiments import face_posteriors, registry, sr_scaling
from stochrestore.figures import images as figures
from stochrestore.metrics.information import gaussian_bits
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.restoration import consistency_psnr


@pytest.fixture(scope="module")
def trained():
    settings = registry.load("sr_scaling", "smoke", data="digits", scales=[2, 8])
    return sr_scaling.load_or_train(settings)


def test_every_network_is_measured_at_its_scale(trained):
    rows = sr_scaling.figure_4(trained)
    assert len(rows) == 2 * 4 * trained.settings.runs
    assert all(row["consistency"].value >= 100 for row in rows)
    assert all(abs(row["ai_psnr"].value - 34) < 0.1 for row in rows)
    deterministic = [row["std"].value for row in rows if not row["estimator"].count("sto")]
    assert deterministic == [0.0] * len(deterministic)
    merged = sr_scaling.merged(rows)
    assert len(merged) == 2 * 4
    assert isinstance(figures.over_scale(merged), Figure)
    costs = sr_scaling.information_rows([trained], rows)
    assert isinstance(figures.cost_of_one_answer(costs), Figure)
    assert {row["lost pixels"] for row in costs} == {64 - 16, 64 - 1}
    fid = {(row["scale"], row["estimator"]): row["fid"].value for row in merged}
    by_place = {(row["scale"], row["estimator"]): row["cost"] for row in costs}
    expected = fid[8, "robust_gan"] - fid[8, "robust_sto_gan"]
    assert by_place[8, "robust_gan"] == pytest.approx(expected)


def test_every_network_agrees_with_an_attacked_input_too(trained):
    for scale, models in trained.estimators.items():
        settings, degrade = sr_scaling.at_scale(trained.settings, scale), Averaging(scale)
        y = degrade.degrade(sr_scaling.images(settings).validation[:8])
        for network in (network for runs in models.values() for network in runs):
            generator = torch.Generator().manual_seed(0)
            z = network.seed(y, 1, generator=generator)
            delta = worst_perturbation(network, y, z, settings.attack(), generator=generator)
            assert delta.flatten(1).norm(dim=1).max() > 0.5 * settings.epsilon
            restored = restore(network, y + delta, z)[0]
            assert consistency_psnr(degrade, restored, y + delta).min() >= 100


def test_a_sheet_agrees_with_its_inputs(trained):
    groups = dict(sr_scaling.sample_sheet(trained, 2, 3, 2))
    y = Averaging(2).degrade(groups["image"])
    for name, images in groups.items():
        torch.testing.assert_close(
            Averaging(2).degrade(images), y.expand(len(images), -1, -1, -1, -1)
        )
        assert len(images) == (2 if "sto" in name else 1)


@pytest.mark.parametrize(("scale", "printed"), [(4, 0.553), (8, 0.276), (16, 0.138)])
def test_the_radii_are_the_papers(scale, printed):
    settings = registry.load("sr_scaling", "paper", data="faces")
    assert sr_scaling.at_scale(settings, scale).epsilon == pytest.approx(printed, abs=1e-3)


def test_all_stands_for_every_built_in_set():
    settings = registry.load("sr_scaling", "laptop", data="all", seed=3)
    kinds = {each.kind: each for each in sr_scaling.image_sets(settings)}
    assert tuple(kinds) == sr_scaling.BUILT_IN
    assert kinds["digits"].scales == (2, 4, 8)
    assert {each.seed for each in kinds.values()} == {3}
    jobs = sr_scaling.all_jobs(kinds["digits"])
    assert "digits/x8/robust_sto_gan-seed1" in jobs
    assert len(jobs) == 3 * 4 * kinds["digits"].runs
    with pytest.raises(InputError, match="one of image_sets"):
        sr_scaling.load_or_train(settings)


@pytest.mark.parametrize(
    ("scales", "kept"),
    [
        ([4], {"digits": (4,), "fashion": (4,), "faces": (4,)}),
        ([16, 2], {"digits": (2,), "fashion": (2, 16), "faces": (16,)}),
        ([16], {"fashion": (16,), "faces": (16,)}),
    ],
)
def test_of_all_sets_scales_choose_among_their_own(scales, kept):
    settings = registry.load("sr_scaling", "laptop", data="all", scales=scales)
    assert {each.kind: each.scales for each in sr_scaling.image_sets(settings)} == kept


def test_scales_may_come_as_the_text_that_papermill_gives():
    settings = registry.load("sr_scaling", "smoke", data="digits", scales="[2, 8]")
    assert settings.scales == (2, 8)


def test_scales_that_no_set_has_are_refused():
    settings = registry.load("sr_scaling", "smoke", data="all", scales=[3, 5])
    with pytest.raises(InputError, match=r"scales: got \[3, 5\]; allowed: of \[2, 4, 8, 16\]"):
        sr_scaling.image_sets(settings)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"scales": [3]}, r"scales: got \[3\]; allowed for images of side 8: \[2, 4, 8\]"),
        ({"scales": [1, 2]}, r"scales: got \[1\]"),
        ({"scales": []}, "scales: got"),
        ({"scales": "[3]"}, r"scales: got \[3\]"),
        ({"scales": "[4"}, r"scales: got '\[4'"),
        ({"scales": 5}, r"scales: got \[5\]"),
        ({"data": "imagenet64"}, "data: got 'imagenet64'"),
        ({"data": "bogus"}, "data: got 'bogus'.*allowed: all, faces, fashion, digits, patches"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_work(change, line):
    with pytest.raises(InputError, match=line):
        registry.load("sr_scaling", "smoke", **{"data": "digits", **change})


def test_a_size_the_network_cannot_halve_is_refused():
    settings = registry.load("sr_scaling", "smoke", data="faces", size=24, scales=[4])
    with pytest.raises(InputError, match="UNet: size: got 24"):
        sr_scaling.load_or_train(settings)


def three_images():
    return torch.stack([torch.full((1, 2, 2), level) for level in (0.0, 0.5, 1.0)])


def test_the_weighted_posterior_chooses_what_explains_y():
    sampler = WeightedPosterior(three_images(), Averaging(2), width=0.05)
    y = torch.tensor([0.0, 0.5, 0.26]).reshape(3, 1, 1, 1)
    sizes = sampler.effective_sample_sizes(y)
    torch.testing.assert_close(sizes[:2], torch.ones(2, dtype=torch.float64))
    w = math.exp(-(0.26**2) / 0.005), math.exp(-(0.24**2) / 0.005)
    expected = (w[0] + w[1]) ** 2 / (w[0] ** 2 + w[1] ** 2)
    assert sizes[2].item() == pytest.approx(expected, rel=1e-4)
    z = torch.rand(3, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Averaging(2).degrade(sampler(y, z)), y)


def test_the_weighted_posterior_draws_in_proportion_to_the_weights():
    sampler = WeightedPosterior(three_images(), Averaging(2), width=0.3)
    y = torch.full((4000, 1, 1, 1), 0.4)
    z = sampler.seed(y, 1, generator=torch.Generator().manual_seed(1))[0]
    cumulative = sampler.weights(y[:1]).cumsum(1)[0]
    below = (z <= cumulative[0]).double().mean().item()
    assert below == pytest.approx(cumulative[0].item(), abs=0.03)
    flat = WeightedPosterior(three_images(), Averaging(2), width=1e3)
    assert flat.effective_sample_sizes(y[:1]).item() == pytest.approx(3, rel=1e-4)


def faces_without_networks(monkeypatch, draws, **changes):
    """The faces of preset smoke with no network, and kept draws as ``draws`` says, if any."""
    settings = registry.load("sr_scaling", "smoke", data="faces", **changes)
    kept = face_posteriors.Settings.load("smoke", inputs=48, followed=8, chains=1, draws=30)
    job = face_posteriors.all_jobs(kept)["x4"]
    network = face_posteriors.build_network(job)
    generator = torch.Generator().manual_seed(0)
    draws(network.followed, generator)
    sampler = face_posteriors.sampler(job.settings, network)
    monkeypatch.setattr(
        face_posteriors, "shipped", lambda size, scale, width: sampler if scale == 4 else None
    )
    return sr_scaling.Trained(settings, {scale: {} for scale in settings.scales}, {})


def independent(followed, generator):
    followed.copy_(torch.randint(2**16, followed.shape, generator=generator))


def stuck(followed, generator):
    followed.zero_()


def test_draws_of_chains_stand_where_weights_are_worth_too_little(monkeypatch):
    changes = {"least_sample_size": 5.0, "prior_draws": 500}
    trained = faces_without_networks(monkeypatch, independent, **changes)
    sizes = sr_scaling.sample_sizes(trained)
    assert [(row["scale"], row["method"], row["shown"]) for row in sizes] == [
        (4, "weights of the prior", False),
        (4, "Markov chain", True),
        (16, "weights of the prior", True),
    ]
    assert 20 < sizes[1]["median"] <= 30
    rows = sr_scaling.figure_4(trained)
    shown = [(row["scale"], row["estimator"], row["robustness"]) for row in rows]
    assert shown == [(4, "posterior_sampler", None), (16, "posterior_sampler", None)]
    assert all(row["consistency"].value >= 100 and row["std"].value > 0 for row in rows)


def test_what_is_worth_too_little_is_left_out_by_either_method(monkeypatch):
    trained = faces_without_networks(monkeypatch, stuck, least_sample_size=60.0)
    assert [row["shown"] for row in sr_scaling.sample_sizes(trained)] == [False] * 3
    assert sr_scaling.figure_4(trained) == []


def test_draws_must_be_there_for_every_input_that_is_restored(monkeypatch):
    changes = {"n_eval": 60, "validation_images": 60}
    trained = faces_without_networks(monkeypatch, independent, **changes)
    methods = {row["method"] for row in sr_scaling.sample_sizes(trained)}
    assert methods == {"weights of the prior"}


def test_bits_of_a_gaussian():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 2, generator=g, dtype=torch.float64) * torch.tensor([0.2, 0.1])
    known_first = gaussian_bits(x, x[:, :1], levels=256)
    expected = 0.5 * math.log2(2 * math.pi * math.e * (0.1 * 255) ** 2)
    assert known_first == pytest.approx(expected, abs=0.02)
    assert gaussian_bits(x, x) == 0
    nothing = gaussian_bits(x, torch.zeros(len(x), 1))
    assert nothing == pytest.approx(expected + 0.5 * math.log2(4) + expected, abs=0.04)


def test_coarser_averages_lose_more_bits():
    settings = registry.load("sr_scaling", "smoke", data="digits")
    x = sr_scaling.images(settings).train[:]
    bits = [
        gaussian_bits(x.flatten(1), Averaging(s).degrade(x).flatten(1), levels=17)
        for s in (1, 2, 4, 8)
    ]
    assert bits[0] == 0
    assert bits == sorted(bits)


def row(name, scale, fid, recall, precision=0.6, std=0.0):
    around = {q: Interval(v, v - 0.01, v + 0.01) for q, v in (("fid", fid), ("recall", recall))}
    exact = {"precision": precision, "std": std, "ai_psnr": 34.0}
    others = {q: Interval(v, v, v) for q, v in exact.items()}
    return {"data": "digits", "scale": scale, "estimator": name, **around, **others}


def test_evidence_takes_the_weakest_scale_and_the_signs_of_the_claims():
    rows = [
        *(row("robust_gan", s, f, 0.0) for s, f in ((2, 3.0), (8, 9.0))),
        *(row("erratic_gan", s, f, 0.1) for s, f in ((2, 2.0), (8, 5.0))),
        *(row("robust_sto_gan", s, f, 0.5, std=s / 10) for s, f in ((2, 1.0), (8, 1.5))),
        *(row("sto_gan", s, 1.0, 0.4, 0.7) for s in (2, 8)),
    ]
    found = sr_scaling.evidence(rows, "digits", [2, 8])
    assert found["worst-fid"].value == pytest.approx(1.0)  # ×2, against ErraticGAN
    assert found["worst-recall"].value == pytest.approx(0.1)
    assert found["gap-grows"].value == pytest.approx(7.5 - 2.0)
    assert found["robust-varies"].value == pytest.approx(0.2)
    assert found["std-grows"].value == pytest.approx(0.6)
    assert found["flat-precision"].value == pytest.approx(0.1)
    assert found["equal-attack"].value == 0
    assert "gap-grows" not in sr_scaling.evidence(rows, "digits", [2])


def test_a_scale_that_contradicts_decides_whatever_another_leaves_open():
    rows = [row(name, 2, 1.0, 0.5) for name in ("erratic_gan", "robust_sto_gan", "sto_gan")]
    rows += [row("robust_gan", 2, 0.9, 0.5), row("robust_gan", 8, 2.0, 0.5)]
    rows += [row(name, 8, 1.0, 0.5) for name in ("erratic_gan", "robust_sto_gan")]
    rows += [row("sto_gan", 8, 1.0, 0.5) | {"fid": Interval(1.0, 0.0, 5.0)}]  # hardly measured
    worst = sr_scaling.evidence(rows, "digits", [2, 8])["worst-fid"]
    assert worst.low < worst.value < worst.high < 0


def test_the_range_of_precisions_has_an_interval():
    rows = [row(name, 2, 1.0, 0.5) for name in ("erratic_gan", "robust_sto_gan", "sto_gan")]
    rows += [row("robust_gan", 2, 1.0, 0.5) | {"precision": Interval(0.5, 0.4, 0.6)}]
    found = sr_scaling.evidence(rows, "digits", [2])["flat-precision"]
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.0, 0.2))
