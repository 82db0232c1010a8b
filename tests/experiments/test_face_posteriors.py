"""The kept draws of faces: what is kept when, that they are repeatable, and what records say."""

import pytest
import torch
from typer.testing import CliRunner

from stochrestore import store
from stochrestore.cli import app
from stochrestore.data.images import faces
from stochrestore.degradations import Averaging
from stochrestore.errors import InputError
from stochrestore.estimators.base import sample
from stochrestore.estimators.metropolis import Chains, places, uniforms
from stochrestore.experiments import face_posteriors, registry
from stochrestore.experiments.face_posteriors import KeptDraws, Settings
from stochrestore.training.jobs import load, train_job
from stochrestore.training.loop import Trainer

SMALL = Settings(
    preset="smoke",
    device="cpu",
    size=8,
    scales=(4,),
    inputs=5,
    followed=2,
    chains=2,
    burn_in=6,
    spacing=3,
    draws=4,
)


def only_job(settings=SMALL):
    (job,) = face_posteriors.all_jobs(settings).values()
    return job


def test_draws_are_kept_after_the_burn_in_and_then_at_even_distances(tmp_path, monkeypatch):
    places_at = []
    real = Chains.step

    def step(chains, *args, **options):
        real(chains, *args, **options)
        places_at.append(chains.place.clone())

    monkeypatch.setattr(Chains, "step", step)
    job = only_job()
    train_job(job, tmp_path, face_posteriors.METHOD, progress=False)
    kept, record = load(job, tmp_path, face_posteriors.METHOD)
    assert len(places_at) == SMALL.steps == 6 + 4 * 3
    assert torch.equal(kept.others.int(), places_at[5][4:])
    for draw, step_number in enumerate((9, 12, 15, 18)):
        assert torch.equal(
            kept.followed[:, :, draw].flatten(0, 1).int(), places_at[step_number - 1][:4]
        )
    assert torch.equal(places_at[-1][4:], places_at[5][4:])
    assert not torch.equal(places_at[-1][0], places_at[-1][1])  # two chains of one input
    assert 0 < record["acceptance"] < 1
    assert kept.uniforms().shape == (2 * 2 * 4 + 3, 51)
    assert torch.equal(places(kept.uniforms()[8:12]), kept.followed[1, 0].int())


def test_an_interrupted_chain_ends_with_the_same_bits(tmp_path, monkeypatch):
    job, real = only_job(), Trainer.advance
    train_job(job, tmp_path / "whole", face_posteriors.METHOD, progress=False)

    def advance(trainer):
        if trainer.step == 10:
            raise KeyboardInterrupt
        real(trainer)

    monkeypatch.setattr(Trainer, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        train_job(job, tmp_path / "pieces", face_posteriors.METHOD, progress=False)
    monkeypatch.setattr(Trainer, "advance", real)
    assert job.checkpoint(tmp_path / "pieces").exists()
    train_job(job, tmp_path / "pieces", face_posteriors.METHOD, progress=False)
    whole, pieces = (job.path(tmp_path / name) for name in ("whole", "pieces"))
    assert whole.read_bytes() == pieces.read_bytes()
    records = [store.read_record(path.with_suffix(".json")) for path in (whole, pieces)]
    for measured in ("acceptance", "effective_sample_sizes", "from_start", "history"):
        assert records[0][measured] == records[1][measured]


def test_the_sampler_restores_the_validation_faces():
    settings = only_job().settings
    estimator = face_posteriors.sampler(settings, KeptDraws(settings))
    y = Averaging(4).degrade(faces(8, 0, 1, 5).validation)
    assert estimator.knows(y).all()
    restored = sample(estimator, y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Averaging(4).degrade(restored), y)


def test_how_far_draws_are_from_their_start():
    """0 where nothing moved, 1 where draws are as far from the truth as from one another."""
    settings = Settings(preset="smoke", scale=8, inputs=80, followed=40, chains=2, draws=8)
    kept = KeptDraws(settings)
    g = torch.Generator().manual_seed(0)
    kept.followed.copy_(places(torch.rand(kept.followed.shape, generator=g)))
    kept.others.copy_(places(torch.rand(kept.others.shape, generator=g)))
    free = face_posteriors.examined(settings, face_posteriors.sampler(settings, kept))
    assert free["from_start"] == pytest.approx(1, abs=0.1)
    assert free["effective_sample_sizes"]["median"] > 10
    kept.others.copy_(places(face_posteriors.true_latents(settings)[40:]))
    kept.followed.copy_(kept.followed[:, :, :1].expand_as(kept.followed).clone())
    kept.followed[:, :, 0] = 0
    stuck = face_posteriors.examined(settings, face_posteriors.sampler(settings, kept))
    assert stuck["from_start"] < 1e-4
    all_followed = settings.model_copy(update={"inputs": 40})
    same = face_posteriors.sampler(all_followed, KeptDraws(all_followed))
    assert face_posteriors.examined(all_followed, same)["from_start"] is None


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inputs": 10, "followed": 11}, "followed: got 11; allowed: at most 10"),
        ({"scales": [4, 3]}, r"scales: got \[3\]; allowed: divisors of 16"),
        ({"scale": 4}, "scale: got 4; allowed: no value"),
        ({"size": 10}, "size: got 10"),
        ({"burn_in": 0}, "burn_in: got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, line):
    with pytest.raises(InputError, match=line):
        Settings.load("laptop", **change)


def test_there_are_no_draws_of_other_faces():
    assert face_posteriors.shipped(16, 16, 0.02) is None
    assert face_posteriors.shipped(64, 4, 0.02) is None
    assert face_posteriors.shipped(16, 4, 0.05) is None


def test_missing_draws_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "shipped", lambda experiment: tmp_path / experiment)
    with pytest.raises(InputError, match=r"record x4\.json cannot be read"):
        face_posteriors.shipped(16, 4, 0.02)


def test_the_command_makes_them(tmp_path):
    given = ["--preset", "smoke", "--only", "x8", "-p", "device=cpu", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, ["train", "face_posteriors", *given])
    assert done.exit_code == 0, done.output
    assert store.read_record(tmp_path / "x8.json")["settings"]["scale"] == 8
    assert not (tmp_path / "x4.json").exists()


@pytest.mark.parametrize("scale", Settings.load("laptop").scales)
def test_the_shipped_draws_are_worth_what_the_chapter_asks_for(scale):
    folder = store.shipped("face_posteriors")
    job = face_posteriors.all_jobs(Settings.load("laptop"))[f"x{scale}"]
    asked = registry.load("sr_scaling", "laptop").least_sample_size
    record = store.read_record(folder / f"x{scale}.json")
    assert record["settings"] == job.recorded()
    assert record["effective_sample_sizes"]["median"] >= 50 >= asked
    assert 0.7 < record["from_start"] < 1.05
    assert record["changed"] is False
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3.2e6
    later = [row["misfit"] for row in record["history"] if row["step"] > job.settings.burn_in]
    assert max(later) < 1.1 * min(later)
    estimator = face_posteriors.shipped(16, scale, 0.02)
    y = estimator.inputs[:3].reshape(3, 3, 16 // scale, 16 // scale)
    assert estimator.effective_sample_sizes(y).median() > asked
    assert uniforms(places(estimator.uniforms)).equal(estimator.uniforms)
