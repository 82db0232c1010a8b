"""Weights on disk: round trip, damage, read-only and full folders."""

import errno
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

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


ROWS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1e3, 1e3, width=32),
)


class Weights(torch.nn.Module):
    """A matrix or kernel, a vector and a count, as layers have them."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        self.register_buffer("seen", torch.tensor(3))


@given(ROWS)
@settings(deadline=None)
def test_weights_in_8_bits_move_by_half_a_factor_at_most(weight):
    weight = torch.from_numpy(weight)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        store.save(Weights(weight), path, {}, stored="int8")
        loaded = Weights(torch.full_like(weight, 7.0))
        store.load(loaded, path)
    factor = weight.flatten(1).abs().amax(1, keepdim=True) / 127
    moved = (loaded.weight - weight).abs().flatten(1)
    assert (moved <= factor * (0.5 + 1e-4) + 1e-30).all()
    assert torch.equal(loaded.bias, loaded.bias.half().float())
    assert torch.allclose(loaded.bias, torch.linspace(-1, 1, 7), atol=1e-3)
    assert loaded.seen == 3


@pytest.mark.parametrize(("stored", "share"), [("float16", 1 / 2), ("int8", 1 / 4)])
def test_weights_are_stored_in_the_numbers_that_are_asked_for(tmp_path, stored, share):
    network = torch.nn.Linear(200, 200)
    sizes = {}
    for kind in ("float32", stored):
        store.save(network, tmp_path / f"{kind}.safetensors", {}, stored=kind)
        sizes[kind] = (tmp_path / f"{kind}.safetensors").stat().st_size
    assert sizes[stored] / sizes["float32"] == pytest.approx(share, rel=0.05)
    other = torch.nn.Linear(200, 200)
    store.load(other, tmp_path / f"{stored}.safetensors")
    assert not torch.equal(other.weight, network.weight)
    assert torch.allclose(other.weight, network.weight, atol=0.07 / 127)


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
