"""The training of the attribute network: repeatable, measured right, and by the command."""

import hashlib
import json

import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from stochrestore import store
from stochrestore.cli import app
from stochrestore.errors import InputError
from stochrestore.experiments import attributes
from stochrestore.experiments.attributes import AttributeReader, labelled_faces, loss, measure
from stochrestore.networks.features import attribute_network
from stochrestore.problems.faces.distribution import HIDDEN, VISIBLE
from stochrestore.training.jobs import train_job

DECISIVE = {"seed", "training_images", "held_out", "steps", "batch_size", "lr"}


def test_the_record_says_how_the_network_was_trained_and_what_it_can():
    record = store.read_record(store.shipped("features") / "attributes.json")
    assert record["settings"] == attributes.all_jobs(attributes.Settings())["attributes"].recorded()
    accuracy, largest = record["held_out"]["accuracy"], record["held_out"]["largest_class"]
    assert set(accuracy) == {latent.name for latent in VISIBLE + HIDDEN if latent.classes}
    assert set(record["held_out"]["r2"]) == {x.name for x in VISIBLE + HIDDEN if not x.classes}
    assert accuracy["hair"] > largest["hair"] + 0.4


SMALL = attributes.Settings(training_images=64, held_out=32, steps=3, batch_size=16, device="cpu")


def test_training_is_repeatable_and_written_with_its_record(tmp_path):
    (job,) = attributes.all_jobs(SMALL).values()
    for name in "ab":
        train_job(job, tmp_path / name, attributes.METHOD, progress=False)
    records = [store.read_record(tmp_path / name / "attributes.json") for name in "ab"]
    assert records[0]["held_out"] == records[1]["held_out"]
    assert records[0]["settings"]["steps"] == 3
    files = [(tmp_path / name / "attributes.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert len(files[0]) < 1e6
    network = attribute_network()
    written = store.load(network, tmp_path / "a" / "attributes.safetensors")
    assert written["sha256"] == hashlib.sha256(files[0]).hexdigest()


def test_training_lowers_the_loss():
    faces = labelled_faces(SMALL.seed, 64, 96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = AttributeReader()
    before = loss(reader, faces).item()
    optimizer = torch.optim.Adam(reader.parameters(), 1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        loss(reader, faces).backward()
        optimizer.step()
    assert loss(reader, faces).item() < 0.8 * before


def test_measurements_of_a_reader_that_is_right():
    """Outputs equal to the targets: accuracy 1 and R² 1; their mean: R² 0."""
    faces = labelled_faces(0, 0, 200)

    class Oracle(AttributeReader):
        def forward(self, x):
            logits = [F.one_hot(c).float() for c in faces.classes.T]
            return self.scale * (faces.continuous - centre) + centre, logits

    oracle, centre = Oracle(), faces.continuous.mean(0)
    oracle.scale = 1.0
    found = measure(oracle, faces)
    assert set(found["accuracy"].values()) == {1.0}
    assert set(found["r2"].values()) == {1.0}
    oracle.scale = 0.0
    assert all(abs(value) < 1e-3 for value in measure(oracle, faces)["r2"].values())
    assert 0.4 < found["largest_class"]["pattern"] < 0.6


def test_the_command_trains_it_and_names_what_is_wrong(tmp_path):
    small = {**SMALL.model_dump(include=DECISIVE), "steps": 2}
    given = [text for item in small.items() for text in ("-p", "{}={}".format(*item))]
    run = CliRunner().invoke(app, ["train", "attributes", *given, "-o", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "attributes.json").read_text())["settings"] == small
    wrong = CliRunner().invoke(app, ["train", "attributes", "-p", "steps=0", "-o", str(tmp_path)])
    assert isinstance(wrong.exception, InputError)
    assert str(wrong.exception).startswith("steps: got 0")
