"""The records of trainings' speed, and what the page on running says of them."""

import json
from pathlib import Path

import pytest

from stochrestore.book import speed
from stochrestore.errors import InputError

ROOT = Path(__file__).parents[2]
ABOUT = {"preset": "gpu", "commit": "0123456789", "dirty": False, "torch": "2.13.0"}
MEASURED = {
    **{"kind": "measured", "device": "NVIDIA H100 80GB HBM3", **ABOUT},
    "rows": [{"training": "faces/sto_gan", "images_s": 1500.0, "most_images_s": 6000.0}],
}
ROW = {"training": "faces/sto_gan", "steps": 4000, "batch_size": 64, "operations": 4e11}
ESTIMATE = {
    **{"kind": "estimate", "device": "H100", "launch": 1e-5, **ABOUT},
    "rows": [{**ROW, "bytes": 1.6e10, "calls": 5000.0, "seconds": 240.0, "least_seconds": 30.0}],
}


def page(root, *records):
    folder = root / speed.FOLDER
    folder.mkdir(parents=True)
    for record in records:
        (folder / speed.file_name(record)).write_text(json.dumps(record))
    return speed.page(root)


def test_without_a_record_the_page_says_that_nothing_was_measured(tmp_path):
    said = page(tmp_path)
    assert "No training on a GPU was measured." in said
    assert "|" not in said
    assert "make gpu" in said


def test_an_estimate_is_called_one(tmp_path):
    said = page(tmp_path, ESTIMATE)
    assert "No training on a GPU was measured." in said
    assert "**An estimate**, not a measurement" in said
    assert "one H100 take 4 minutes together, counted at 0123456" in said
    assert "with 10 µs for each operation" in said
    assert "| faces/sto_gan | 4000 | 64 | 400 | 16.0 | 5000 | 4.0 |" in said


def test_a_measurement_takes_the_place_of_the_estimate(tmp_path):
    said = page(tmp_path, ESTIMATE, MEASURED)
    assert "estimate" not in said
    assert "not measured" not in said
    assert "on NVIDIA H100 80GB HBM3, at 0123456" in said
    assert "| faces/sto_gan | 1500 | 6000 | 25% |" in said


@pytest.mark.parametrize("content", ["{}", '{"kind": "measured"}', "[]", "no JSON"])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    folder = tmp_path / speed.FOLDER
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        speed.page(tmp_path)


def test_committed_records_are_of_the_preset_as_it_is():
    from stochrestore.experiments import registry

    for record in speed.kept(ROOT / speed.FOLDER):
        for row in record["rows"]:
            if "steps" in row:
                data = row["training"].split("/")[0]
                settings = registry.load("inpaint", record["preset"], data=data)
                assert (settings.steps, settings.batch_size) == (row["steps"], row["batch_size"])
