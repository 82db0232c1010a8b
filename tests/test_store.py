"""Weights on disk: round trip, damage, read-only and full folders."""

import errno
import json
import time
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


def test_what_is_held_is_held_once_and_free_afterwards(tmp_path):
    with store.held(tmp_path / "a" / "lock", "it is done"):
        with pytest.raises(InputError, match=r"^it is done by process \d+ on .*; wait for it"):
            store.held(tmp_path / "a" / "lock", "it is done").__enter__()
        with store.held(tmp_path / "a" / "other", "another"):
            pass
    with store.held(tmp_path / "a" / "lock", "it is done"):
        pass
    assert not list((tmp_path / "a").iterdir())


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=r"lock cannot be locked: No locks available$"):
        store.held(tmp_path / "lock", "it is done").__enter__()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/deep.* cannot be written: Not a directory"):
        store.check_folder(tmp_path / "file" / "deep")


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_machine_whose_clock_is_another_is_named(tmp_path, monkeypatch, ahead):
    store.check_folder(tmp_path)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    with pytest.raises(InputError, match=rf"clocks differ: .* is \{-ahead:+d} s from the clock of"):
        store.check_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_are_written_together_or_none_is(tmp_path):
    (tmp_path / "kept").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder cannot be written"):
        store.write_all({tmp_path / "kept": b"new", tmp_path / "folder": b"no file"})
    assert not list(tmp_path.glob("*.partial"))
