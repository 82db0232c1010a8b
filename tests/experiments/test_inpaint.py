"""The inpainting experiment: trainings, evaluation, data of every kind, shipped weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from stochrestore import store
from stochrestore.errors import InputError
from stochrestore.experiments import evaluation, inpaint, registry
from stochrestore.figures import images as figures
from stochrestore.training.jobs import MODELS, finished, select, train_job, train_jobs

SHIPPED = store.shipped("inpaint")
CLOTHES = registry.load("inpaint", "laptop", data="fashion", device="cpu")


def noise_image(path, seed, size=(40, 50)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def celeba(tmp_path):
    """The official layout: 178×218 pixels, a list of partitions."""
    root = tmp_path / "celeba"
    lines = []
    for i in range(1, 61):
        name = f"{i:06d}.jpg"
        noise_image(root / "img_align_celeba" / name, i, (218, 178))
        lines.append(f"{name} {0 if i <= 40 else 1 if i <= 55 else 2}")
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def folder(tmp_path):
    for i in range(50):
        noise_image(tmp_path / "mine" / f"{i}.png", i)
    return tmp_path / "mine"


@pytest.mark.parametrize("kind", ["celeba", "folder"])
def test_images_of_the_reader_run_through_training_and_evaluation(kind, request):
    root = request.getfixturevalue(kind)
    settings = registry.load(
        "inpaint", "smoke", data=f"{kind}:{root}", features="pixels", n_eval=12, robust=True
    )
    trained = inpaint.load_or_train(settings)
    rows = inpaint.over_runs(inpaint.table_1(trained))
    assert [row["estimator"] for row in rows] == ["robust_gan", "robust_sto_gan"]
    assert all(row["features"] == "pixels" for row in rows)
    assert all(row["consistency"].value == float("inf") for row in rows)
    assert isinstance(figures.sample_sheet(inpaint.figure_1(trained, 3, 2)), Figure)


def test_bad_images_are_counted_before_anything_is_trained(folder):
    (folder / "7.png").write_bytes(b"no image")
    data = f"folder:{folder}"
    settings = registry.load("inpaint", "smoke", data=data, features="pixels")
    with pytest.raises(InputError, match=r"7\.png"):
        inpaint.load_or_train(settings)
    tolerant = settings.model_copy(update={"skip_bad": 1})
    assert len(inpaint.images(tolerant).skipped) == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"data": "faces:x"},
            "data: got 'faces:x'.*faces, fashion, digits, .*celeba:PATH",
        ),
        ({"data": "celeba"}, "data: got 'celeba'"),
        ({"robust": "false"}, r"robust: got 'false' \(str\); allowed: a valid boolean"),
        ({"device": "tpu"}, "device: got 'tpu' .*auto, cpu or cuda"),
        ({"features": "vgg"}, "features: got 'vgg'"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"n_eval": 2}, "n_eval"),
    ],
)
def test_bad_settings_end_in_one_line(change, line):
    with pytest.raises(InputError, match=line) as caught:
        registry.load("inpaint", "laptop", **change)
    assert "\n" not in str(caught.value)


def test_paper_preset_is_the_paper():
    """App. E.2."""
    paper = registry.load("inpaint", "paper", data="celeba:x")
    fixed = {
        "size": 64,
        "width": 24,
        "critic_width": 16,
        "steps": 1_200_000,
        "lr": 1e-4,
        "critic_lr": None,
        "betas": (0.5, 0.99),
        "lr_milestones": (400_000, 500_000, 600_000, 700_000, 750_000),
        "lr_decay": 0.6,
        "r1_gamma": 1.0,
        "r1_every": 1,
        "robustness_weight": 500.0,
        "robustness_every": 3,
        "robustness_seeds": 10,
        "epsilon": 2.5,
        "attack_steps": 5,
        "attack_lr": 1.0,
        "n_eval": 50_000,
        "k": 3,
        "std_samples": 32,
    }
    assert {name: getattr(paper, name) for name in fixed} == fixed


@pytest.mark.parametrize("preset", ["laptop", "gpu", "paper"])
@pytest.mark.parametrize("data", ["faces", "digits"])
def test_the_attack_is_as_large_at_every_size(preset, data):
    """The paper's AI-PSNR, 32.9 dB, over the whole image."""
    settings = registry.load("inpaint", preset, data=data)
    pixels = np.prod(settings.shape)
    assert -10 * np.log10(settings.epsilon**2 / pixels) == pytest.approx(32.94, abs=0.03)


@pytest.mark.parametrize("experiment", ["inpaint", "sr_scaling"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"features": "inception", "inception_weights": "/no/file"}, "inception weights /no/file"),
        ({"k": 30, "n_eval": 30}, "images to compare, n_eval: got 30; allowed: more than k = 30"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_trained(
    experiment, change, line, tmp_path
):
    given = {"data": "digits", "train": True, "weights": str(tmp_path / "new"), **change}
    with pytest.raises(InputError, match=line):
        registry.chapter(experiment).load_or_train(registry.load(experiment, "smoke", **given))
    assert not (tmp_path / "new").exists()


def test_an_attack_that_never_moves_has_a_row_too():
    settings = registry.load(
        "inpaint", "smoke", data="digits", attack_start="zero", steps=2, runs=1, robust=False
    )
    trained = inpaint.load_or_train(settings)
    for row in inpaint.over_runs(inpaint.table_1(trained)):
        assert row["ai_psnr"].value == row["robustness"].value == 99.0
        assert row["ball_used"].value == 0.0
    assert set(inpaint.attack_credibility(trained)) == {"erratic_gan", "sto_gan"}


def test_robust_restricts_to_a_pair():
    settings = registry.load("inpaint", "laptop", robust=True)
    assert list(inpaint.shown_models(settings)) == ["robust_gan", "robust_sto_gan"]
    settings = registry.load("inpaint", "laptop", robust=False)
    assert list(inpaint.shown_models(settings)) == ["erratic_gan", "sto_gan"]


def test_jobs_are_picked_by_kind():
    settings = registry.load("inpaint", "laptop")
    jobs = inpaint.all_jobs(settings)
    picked = select(jobs, stochastic=True, robust=True)
    assert [job.model for job in picked] == [MODELS["robust_sto_gan"]] * settings.runs
    with pytest.raises(InputError, match="only: got 'nothing'"):
        select(jobs, only="nothing")


def test_training_again_gives_the_same_bits_and_a_full_record(tmp_path):
    settings = registry.load("inpaint", "smoke")
    (job,) = select(inpaint.all_jobs(settings), stochastic=True, robust=True)
    for name in "ab":
        train_job(job, tmp_path / name, inpaint.METHOD, about={"commit": "c"}, progress=False)
    a, b = ((tmp_path / n / job.name).with_suffix(".safetensors").read_bytes() for n in "ab")
    assert a == b
    record = json.loads((tmp_path / "a" / job.name).with_suffix(".json").read_text())
    assert record["commit"] == "c"
    assert record["settings"]["robustness_weight"] == 500.0
    assert {"sha256", "history", "seconds", "versions", "device", "arithmetic"} <= record.keys()
    assert (record["seed"], record["arithmetic"]) == (job.seed, "float32")


def test_sweeps_leave_measurements_and_no_weights(tmp_path):
    settings = registry.load("inpaint", "smoke", data="digits", steps=2)
    jobs = [*inpaint.sweep_jobs(settings), *inpaint.seed_jobs(settings)]
    train_jobs(jobs[:1] + jobs[-1:], tmp_path, inpaint.METHOD)
    assert not list(tmp_path.rglob("*.safetensors"))
    trained = inpaint._final_rows(jobs, tmp_path)
    assert len(trained) == 2
    assert {"fid", "recall", "std", "weight", "layer", "length"} <= trained[0].keys()


@pytest.mark.parametrize(
    ("preset", "asked", "trained"),
    [("laptop", True, False), ("laptop", None, False), ("gpu", None, True), ("gpu", False, False)],
)
def test_training_is_of_the_data_asked_for(preset, asked, trained):
    settings = registry.load("inpaint", preset, data="fashion", train=asked, device="cpu")
    assert inpaint.with_data(settings, "digits").train == trained


def test_shipped_networks_are_those_of_the_preset():
    """Their records name the settings that the preset has now, and their data."""
    for data in ("faces", "digits"):
        settings = registry.load("inpaint", "laptop", data=data)
        for job in inpaint.main_jobs(settings):
            assert finished(job, SHIPPED), job.name
            record = store.read_record((SHIPPED / job.name).with_suffix(".json"))
            # A row is written every twentieth of the steps.
            assert settings.steps * 19 / 20 < record["history"][-1]["step"] <= settings.steps
            assert len(record["commit"]) == 40
            assert len(record["data_sha256"]) == 64


def test_shipped_weights_keep_the_repository_light():
    weights = Path(store.__file__).parent / "weights"
    files = [f for f in weights.rglob("*") if f.is_file()]
    assert max(f.stat().st_size for f in files) <= 4 * 2**20
    assert sum(f.stat().st_size for f in files) <= 60e6


def test_the_posterior_is_the_ceiling_of_variability():
    settings = registry.load("inpaint", "laptop", n_eval=48, std_inputs=16, attacked_inputs=8)
    trained = inpaint.load_or_train(settings)
    rows = {row["estimator"]: row for row in inpaint.table_1(trained)}
    ceiling = rows.pop("posterior_sampler")
    assert ceiling["robustness"] is None
    assert ceiling["consistency"].value == float("inf")
    assert all(ceiling["fid"].value < row["fid"].value for row in rows.values())


def test_sheet_keeps_every_pixel():
    images = torch.rand(2, 3, 1, 4, 4)
    sheet = figures.mosaic(images)
    assert sheet.shape == (14, 9, 4)
    assert np.allclose(sheet[5:9, 5:9, 0], images[1, 1, 0])
    assert (sheet[5:9, 5:9, 3] == 1).all()
    assert (sheet[4] == 0).all()  # clear


def changed_settings(job, recipe):
    one, other = job.recorded(), recipe.recorded()
    return {name: one[name] for name in one if one[name] != other[name]}


def test_trainings_over_the_options_change_one_setting_of_the_recipe_each():
    jobs = {job.name: job for job in inpaint.option_jobs(CLOTHES)}
    assert jobs.items() <= inpaint.all_jobs(CLOTHES).items()
    assert not any(job.keep_weights for job in jobs.values())
    for model, options in inpaint.OPTIONS.items():
        recipe = jobs[f"fashion/options/{model}-recipe-seed0"]
        own = [job for job in jobs.values() if job.key == model and job.seed == 0]
        changes = [changed_settings(job, recipe) for job in own if job is not recipe]
        assert all(len(change) == 1 for change in changes)
        found = {(name, value) for change in changes for name, value in change.items()}
        asked = {(name, value) for name, values in options.items() for value in values}
        same = {(name, getattr(recipe.settings, name)) for name in options}
        assert same <= asked  # the recipe's own values are among those compared
        assert found == asked - same
        assert recipe.settings.robustness_weight == (50.0 if MODELS[model].robust else 0.0)
    assert len(jobs) == 36


def test_the_recipe_of_the_options_is_that_of_clothes_but_shorter():
    main = inpaint.all_jobs(CLOTHES)
    for model in inpaint.OPTIONS:
        recipe = main[f"fashion/options/{model}-recipe-seed0"]
        change = changed_settings(recipe, main[f"fashion/{model}-seed0"])
        assert change.keys() == inpaint.SHORT.keys()


def test_a_training_of_clothes_in_front_of_a_reader_is_the_recipe_but_shorter():
    quick = registry.load("inpaint", "laptop", data="fashion", train=True)
    assert quick.steps < CLOTHES.steps == 10_000
    assert quick.batch_size < CLOTHES.batch_size == 32
    for settings in (quick, CLOTHES):
        assert [m / settings.steps for m in settings.lr_milestones] == [0.7, 0.85]


def test_options_are_trained_on_clothes_alone_and_only_where_asked_for():
    digits = registry.load("inpaint", "laptop", data="digits").model_copy(update={"option_runs": 3})
    none = registry.load("inpaint", "smoke", data="fashion")
    assert not list(inpaint.option_jobs(digits))
    assert not list(inpaint.option_jobs(none))


def write_end(job, folder, **measured):
    record = {"settings": job.recorded(), "versions": {}, "history": [{"step": 1}, measured]}
    store.write_record(job.path(folder).with_suffix(".json"), record)


def test_rows_of_the_options_are_means_of_the_last_measurements_with_students_intervals(tmp_path):
    names = evaluation.MEASURED_ALONG
    assert inpaint.option_rows(CLOTHES, tmp_path) == []
    jobs = inpaint.all_jobs(CLOTHES)
    for run in range(3):
        job = jobs[f"fashion/options/robust_sto_gan-seed_scale1-seed{run}"]
        write_end(job, tmp_path, **dict.fromkeys(names, (run + 1) / 4))
    alone = jobs["fashion/options/robust_sto_gan-seed_scale8-seed0"]
    write_end(alone, tmp_path, **dict.fromkeys(names, 0.5))
    (row,) = inpaint.option_rows(CLOTHES, tmp_path)
    place = {"estimator": "robust_sto_gan", "option": "seed_scale", "value": "1"}
    assert row.items() >= {**place, "recipe": False, "runs": 3}.items()
    half = 4.302653 * 0.25 / 3**0.5  # Student's, of two degrees of freedom
    assert row["robustness"].value == pytest.approx(0.5)
    assert row["robustness"].low == pytest.approx(0.5 - half)
    assert row["recall"].high == 1.0  # a share
    trained = inpaint.Trained(CLOTHES, {}, {}, [], [], [row])
    numbers = inpaint.option_numbers(trained)
    assert numbers["robust_sto_gan-seed_scale-1-std"] == 0.5
    assert np.isnan(numbers["sto_gan-seed_scale-4-std"])


def test_the_recipe_is_in_the_row_of_every_option(tmp_path):
    jobs = inpaint.all_jobs(CLOTHES)
    for run in range(2):
        job = jobs[f"fashion/options/robust_sto_gan-recipe-seed{run}"]
        write_end(job, tmp_path, **dict.fromkeys(evaluation.MEASURED_ALONG, 0.5))
    rows = inpaint.option_rows(CLOTHES, tmp_path)
    assert [row["option"] for row in rows] == list(inpaint.OPTIONS["robust_sto_gan"])
    assert [row["value"] for row in rows] == ["0.3", "symmetric", "4", "50", "0.0001"]
    assert all(row["recipe"] for row in rows)


def test_options_are_measured_on_images_that_no_reported_number_uses(monkeypatch):
    monkeypatch.setattr(evaluation, "curve_point", lambda *_, **__: {"fid": 1.0})
    job = next(inpaint.option_jobs(CLOTHES))
    assert inpaint.job_evaluation(None, job) == {"fid": 1.0}


def test_shipped_records_hold_every_value_of_the_options():
    rows = inpaint.load_or_train(CLOTHES).options
    asked = [(name, o, len(v)) for name, each in inpaint.OPTIONS.items() for o, v in each.items()]
    kept = [(row["estimator"], row["option"]) for row in rows]
    assert [(*place, kept.count(place)) for place in dict.fromkeys(kept)] == asked
    assert {row["runs"] for row in rows} == {CLOTHES.option_runs} == {3}
