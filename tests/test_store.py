"""Weights on disk: round trip, damage, read-only and full folders."""

import errno
import json
from pathlib import Path

import pytest
import torch

from stochrestore import store
from stochrestore.errors import InputError
from stochrestore.experiments.toy_gans import EXPERIMENT
from stochrestore.networks.mlp import MLPEstimator


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = MLPEstimator(8, stochastic=True)
    path = tmp_path / "folder" / "net.safetensors"
    store.save(network, path, {"seed": 3})
    return network, path


def test_round_trip(saved):
    network, path = saved
    other = MLPEstimator(8, stochastic=True)
    record = store.load(other, path)
    assert record["seed"] == 3
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True)
    )
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_truncated_weights(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"net\.safetensors: sha256"):
        store.load(MLPEstimator(8, stochastic=True), path)


def test_altered_weights(saved):
    _, path = saved
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="sha256"):
        store.load(MLPEstimator(8, stochastic=True), path)


def test_missing_weights_or_record(saved):
    _, path = saved
    path.unlink()
    with pytest.raises(InputError, match=r"net\.safetensors cannot be read"):
        store.load(MLPEstimator(8, stochastic=True), path)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"net\.json cannot be read"):
        store.load(MLPEstimator(8, stochastic=True), path)


def test_truncated_record(saved):
    _, path = saved
    record = path.with_suffix(".json")
    record.write_text(record.read_text()[:20])
    with pytest.raises(InputError, match="not valid JSON"):
        store.load(MLPEstimator(8, stochastic=True), path)


def test_weights_of_another_network(saved):
    _, path = saved
    with pytest.raises(InputError, match="another network"):
        store.load(MLPEstimator(9, stochastic=True), path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_full_or_read_only_folder_keeps_the_old_file(saved, monkeypatch, code):
    _, path = saved
    before = path.read_bytes()

    def fail(self, data):
        with self.open("wb") as partial:
            partial.write(data[:5])
        raise OSError(code, "No space" if code == errno.ENOSPC else "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match=r"net\.safetensors cannot be written"):
        store.save(MLPEstimator(8, stochastic=True), path, {})
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_the_target_itself_is_never_open_for_writing(saved, monkeypatch):
    network, path = saved
    written, write = [], Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda p, d: (written.append(p.name), write(p, d))[1])
    store.save(network, path, {})
    assert len(written) == 2
    assert not {"net.safetensors", "net.json"} & set(written)


def test_shipped_weights_are_what_their_records_say():
    """Every shipped file loads, and the folder stays small."""
    folder = store.shipped(EXPERIMENT)
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 20
    for path in files:
        record = json.loads(path.with_suffix(".json").read_text())
        network = MLPEstimator(record["settings"]["width"], stochastic=True)
        assert store.load(network, path)["history"][-1]["step"] == record["settings"]["steps"]
    assert sum(p.stat().st_size for p in folder.rglob("*")) < 10e6
