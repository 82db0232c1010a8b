import hashlib
import shutil
from collections import namedtuple

import pytest

from stochrestore.book import doctor, needs, provenance
from stochrestore.data import downloads
from stochrestore.errors import InputError
from stochrestore.networks.official import ADDRESSES

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def data_folder(monkeypatch, tmp_path):
    """A folder for data sets whose published files are empty."""
    published = {name: downloads.registry(name) for name in downloads.BENCHMARKS}
    empty = hashlib.sha256(b"").hexdigest()
    files = {name: dict.fromkeys(paths, empty) for name, paths in published.items()}
    monkeypatch.setattr(downloads, "registry", files.__getitem__)
    monkeypatch.setenv(downloads.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_everything_bad_comes_with_what_to_do(monkeypatch, data_folder):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**20))
    monkeypatch.setattr(doctor, "weights", lambda: [])
    (data_folder / next(iter(downloads.registry("set5")))).parent.mkdir(parents=True)
    (data_folder / next(iter(downloads.registry("set5")))).touch()
    found = {finding.what: finding for finding in doctor.everything("gpu")}
    bad = {what for what, finding in found.items() if not finding.good}
    assert {"disk", "data set5"} <= bad
    assert all(finding.advice for finding in found.values() if not finding.good)
    assert found["data set5"].said.startswith("1 of 10 files")
    assert found["page toy_tradeoff"].advice.startswith("`make book PRESET=gpu`")


def test_what_is_only_sometimes_needed_is_good_and_says_for_what(monkeypatch, data_folder):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(data_folder))
    found = {finding.what: finding for finding in doctor.everything("laptop")}
    for what, words in {
        "browser": "make pdf",
        "GPU": "paper need one",
        "data bsd100": "data fetch bsd100",
        "Inception's weights": "only the features of the paper",
    }.items():
        assert found[what].good
        assert words in found[what].advice


def test_a_benchmark_that_is_whole_needs_no_advice(data_folder):
    for path in downloads.registry("set14"):
        (data_folder / path).parent.mkdir(parents=True, exist_ok=True)
        (data_folder / path).touch()
    found = {finding.what: finding for finding in doctor.data()}
    assert found["data set14"].good
    assert found["data set14"].advice == ""
    assert found["data set5"].said == "not fetched"


def test_the_doctor_survives_a_broken_source_and_names_foreign_notebooks(monkeypatch, tmp_path):
    def broken(page, preset):
        raise InputError("notebook a.ipynb cannot be read: it holds a merge conflict; resolve it")

    monkeypatch.setattr(provenance, "problems", broken)
    monkeypatch.setattr(provenance, "foreign", lambda: [tmp_path / "Untitled.ipynb"])
    *pages, foreign = doctor.pages("smoke")
    assert [page.what for page in pages] == [f"page {name}" for name in provenance.notebooks()]
    assert not any(page.good for page in pages)
    assert all("merge conflict" in page.said for page in pages)
    assert (foreign.what, foreign.good) == ("Untitled.ipynb", True)
    assert "left out" in foreign.said


def test_a_record_without_a_digest_is_bad(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weigh")
    path.with_suffix(".json").write_text("{}")
    assert not doctor._weights(path).good


def test_an_old_torch_is_bad(monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.5.1+cpu")
    assert not doctor.torch_version().good
    monkeypatch.setattr("torch.__version__", "2.13.0+cu130")
    assert doctor.torch_version().good


def test_cut_weights_are_to_be_restored(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weigh")
    path.with_suffix(".json").write_text('{"sha256": "0"}')
    finding = doctor._weights(path)
    assert not finding.good
    assert "git checkout" in finding.advice


def test_what_a_preset_still_needs_comes_with_the_command(monkeypatch, data_folder, tmp_path):
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    missing = {finding.what: finding for finding in needs.missing("paper")}
    assert {"data celeba", "data imagenet64", "data set5", "GPU"} <= missing.keys()
    assert "pip install" in missing["Snakemake's plugin for SLURM"].advice
    assert "`stochrestore data fetch set5`" in missing["data set5"].advice
    assert "mmlab.ie.cuhk.edu.hk" in missing["data celeba"].advice
    flow = missing["published weights of srflow"]
    assert "`curl -LO http" in flow.advice
    assert "-p srflow_weights=FILE" in flow.advice
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba" / "000001.jpg").touch()
    (tmp_path / "edsr.pt").touch()
    given = [f"celeba:{tmp_path}", f"edsr_weights:{tmp_path / 'edsr.pt'}", "esrgan_weights:/none"]
    there = {finding.what: finding.said for finding in needs.missing("paper", given)}
    assert "data celeba" not in there
    assert "published weights of edsr" not in there
    assert there["published weights of esrgan"] == "/none is no file"
    assert "data imagenet64" in there
    with pytest.raises(InputError, match="--data: got 'cats'; allowed: celeba, imagenet64"):
        needs.missing("paper", ["cats:/x"])
    named = {finding.what for preset in ("smoke", "gpu") for finding in needs.missing(preset)}
    assert not {what for what in named if "data" in what or "weights" in what}


def test_the_chapter_names_the_addresses_of_published_weights():
    chapter = (provenance.checkout() / "notebooks" / "srflow_robustness.ipynb").read_text("utf-8")
    assert all(address in chapter for address in ADDRESSES.values())
