"""The toy chapter's measurements: what the numbers must satisfy, whatever the weights."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure

from stochrestore.errors import InputError
from stochrestore.experiments import registry
from stochrestore.experiments import toy_gans as gans
from stochrestore.experiments import toy_tradeoff as toy
from stochrestore.figures import toy as figures
from stochrestore.problems.toy import Ring
from stochrestore.training.jobs import MODELS, select, train_job, train_jobs

mpl.use("agg")


@pytest.fixture(scope="module")
def settings():
    return registry.load("toy_tradeoff", "smoke", steps=4, runs=2, sweep_steps=2, samples=60)


@pytest.fixture(scope="module")
def trained(settings):
    return toy.load_or_train(settings)


@pytest.fixture(scope="module")
def rows(trained, settings):
    return toy.figure_3_rows(trained, settings)


def values(rows, name, quantity):
    return [row[quantity] for row in rows if row["estimator"] == name]


def test_every_estimator_is_measured_in_every_run(rows, settings):
    for name in (*toy.FIGURE_3, "posterior_mean"):
        assert len(values(rows, name, "recall")) == settings.runs


def test_eq_7_bounds_eq_5_for_every_row(rows):
    assert all(row["w2_sensitivity"] <= row["sensitivity"] * (1 + 1e-9) for row in rows)


def test_deterministic_rows_have_one_sensitivity(rows):
    for name in ("robust_sine", "erratic_sine", "robust_gan", "erratic_gan", "posterior_mean"):
        assert values(rows, name, "sensitivity") == pytest.approx(
            values(rows, name, "w2_sensitivity")
        )


def test_posterior_sampler_has_perfect_quality_up_to_sampling():
    laptop = registry.load("toy_tradeoff", "laptop")
    measured = toy.evaluate(toy.CLOSED_FORM["posterior_sampler"], laptop, seed=1)
    assert measured["precision"] > 0.98
    assert measured["recall"] > 0.98


@pytest.mark.parametrize(
    ("name", "precision", "recall"), [("avoiding_hole", 0.95, 0.71), ("crossing_hole", 0.77, 0.94)]
)
def test_ring_estimators_come_out_like_the_paper(trained, name, precision, recall):
    rows = toy.ring_rows(trained, registry.load("toy_tradeoff", "laptop"))
    mean = [sum(values(rows, name, q)) / 5 for q in ("precision", "recall")]
    assert mean == pytest.approx([precision, recall], abs=0.03)


def test_gans_of_the_ring_learn_the_ring_and_stand_in_its_rows(trained, settings):
    assert len(list(gans.ring_jobs(settings))) == 4 * settings.ring_runs
    jobs = gans.all_jobs(settings)
    for name, inside in (("ring/sto_gan-seed0", True), ("sto_gan-seed0", False)):
        assert Ring().contains(gans.build_trainer(jobs[name]).images.double()).all() == inside
    rows = toy.ring_rows(trained, settings)
    assert all(len(values(rows, name, "recall")) == settings.ring_runs for name in MODELS)


def test_sine_curve_is_a_trade_off():
    rows = toy.sine_rows(registry.load("toy_tradeoff", "laptop"), [1.0, 10.0, 50.0])
    first, middle, last = rows[::5]
    assert first["sensitivity"] < middle["sensitivity"] < last["sensitivity"]
    assert first["recall"] < middle["recall"] < last["recall"]


def test_attack_table_shows_the_dead_start(trained, settings):
    rows = toy.attack_rows(trained, settings)
    by_label = {row["attack"]: row for row in rows}
    assert by_label["as printed, from 0"]["ball_used"] == 0
    assert by_label["as printed, from 0"]["share_of_exact"] == 0
    assert 0.4 < by_label["as printed, random start"]["ball_used"] < 1
    assert all(row["share_of_exact"] <= 1 + 1e-4 for row in rows)


def test_training_again_gives_the_same_bits(settings, tmp_path):
    job = next(iter(gans.main_jobs(settings)))
    for folder in ("a", "b"):
        train_job(job, tmp_path / folder, gans.METHOD, progress=False)
    files = [tmp_path / folder / f"{job.name}.safetensors" for folder in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_training_skips_what_is_there_and_nothing_else(settings, tmp_path):
    chosen = select(gans.all_jobs(settings), only="erratic_gan-seed")
    train_jobs(chosen, tmp_path, gans.METHOD)
    names = ["erratic_gan-seed0", "erratic_gan-seed1"]
    stamps = {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in names}
    record = tmp_path / "erratic_gan-seed1.json"
    record.write_text(record.read_text().replace('"lr": 0.0001', '"lr": 0.5'))
    train_jobs(chosen, tmp_path, gans.METHOD)
    again = {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in names}
    assert again["erratic_gan-seed0"] == stamps["erratic_gan-seed0"]
    assert again["erratic_gan-seed1"] > stamps["erratic_gan-seed1"]
    assert json.loads(record.read_text())["settings"]["lr"] == 1e-4


@pytest.mark.parametrize(("epsilon", "printed"), [(1e-3, 1e-7), (0.02, 4e-5)])
def test_the_printed_weight_is_in_every_sweep(epsilon, printed):
    """λ_R = 0.1 for R̃ is 0.1·ε² for R̃/ε²."""
    settings = registry.load("toy_tradeoff", "smoke", epsilon=epsilon, sweep_weights=[1e-3])
    assert gans.printed_weight(settings) == printed
    weights = {job.settings.robustness_weight for job in gans.sweep_jobs(settings)}
    assert weights == {printed, 1e-3}


def test_near_weights_are_trainings_of_their_own():
    settings = registry.load("toy_tradeoff", "smoke", sweep_weights=[1e-3, 1.4e-3])
    names = [job.name for job in gans.sweep_jobs(settings)]
    assert len(set(names)) == len(names) == 3 * 2 * settings.runs
    assert "sweep/robust_gan-weight1e-03-seed0" in names


def test_paper_preset_is_the_paper():
    """Table 2 and App. E.1."""
    paper = registry.load("toy_tradeoff", "paper")
    fixed = {
        "steps": 20_000,
        "width": 512,
        "lr": 1e-4,
        "betas": (0.0, 0.9),
        "r1_gamma": 10.0,
        "epsilon": 1e-3,
        "robustness_seeds": 50,
        "attack_steps": 4,
        "attack_lr": 1e-4,
        "training_samples": 100_000,
        "samples": 1000,
        "k": 5,
        "seed_distribution": "uniform",
        "train": True,
    }
    assert {name: getattr(paper, name) for name in fixed} == fixed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"k": 1000}, r"k: got 1000 \(int\); allowed: an integer smaller than samples, 1000"),
        ({"epsilon": 0.0}, r"epsilon: got 0\.0 \(float\); allowed: greater than 0"),
        ({"epsilon": float("nan")}, "epsilon: got nan"),
        ({"train": "false"}, r"train: got 'false' \(str\); allowed: a valid boolean"),
        ({"sweep_weights": [0.1, -1.0]}, "sweep_weights"),
        ({"robust": True}, "robust: unknown parameter; allowed: .*robustness_weight"),
    ],
)
def test_bad_settings_end_in_one_line(change, line):
    with pytest.raises(InputError, match=line) as caught:
        registry.load("toy_tradeoff", "laptop", **change)
    assert "\n" not in str(caught.value)


def test_unknown_training_is_refused(settings, tmp_path):
    with pytest.raises(InputError, match="only: got 'nothing'"):
        select(gans.all_jobs(settings), only="nothing")


def test_missing_weights_are_named(tmp_path):
    settings = registry.load("toy_tradeoff", "laptop", weights=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"robust_gan-seed0\.json cannot be read"):
        toy.load_or_train(settings)


def test_figures_draw_what_they_are_given(trained, rows, settings):
    generator = torch.Generator().manual_seed(0)
    shown = {**toy.CLOSED_FORM, **{name: nets[0] for name, nets in trained.estimators.items()}}
    curves = {n: toy.support_curve(shown[n], 50, generator=generator) for n in toy.FIGURE_3}
    samples = {n: toy.draw(toy.Disk(), shown[n], 20, generator=generator) for n in toy.FIGURE_3}
    figure = figures.supports_and_samples(
        toy.FIGURE_3, curves, samples, figures.captions(rows), figures.draw_disk
    )
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2 * len(toy.FIGURE_3)
    stars = figure.axes[4].collections[1].get_offsets()  # below the first of four
    assert stars.shape == (20, 2)
    table = figures.summary_table(rows, {"robust_gan": {"recall": 0.017}})
    recall = [title.split()[0] for title in table.columns].index("recall")
    (lines,) = table.blocks.values()
    assert lines["RobustGAN"][recall].paper == "0.017"
    assert lines["StoGAN"][recall].paper == ""
    mean = sum(values(rows, "robust_gan", "recall")) / settings.runs
    assert lines["RobustGAN"][recall].value == f"{mean:.3f}"


NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_contract(path):
    """A parameters cell of literals, no outputs, claims checked in the last code cell."""
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
    assert "parameters" in code[1]["metadata"]["tags"]
    assert all(" # type: " in line for line in code[1]["source"])
    assert "".join(code[-1]["source"]) == "claims.check(evidence)"
    drawn = [c for c in code if "plt.show" in "".join(c["source"])]
    for cell in drawn:
        about = cell["metadata"]["mystnb"]
        assert len(about["image"]["alt"]) > 40
        assert about["figure"]["caption"]
        assert about["figure"]["name"]
