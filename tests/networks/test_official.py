"""Files that are not what they should be: one line each, that names the first offending keys."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sr_networks import STATES
from stochrestore.errors import InputError
from stochrestore.networks.official import load_edsr, load_esrgan, load_srflow

LOADERS = {"edsr": load_edsr, "rrdb": load_esrgan, "srflow": load_srflow}


def refusal(name, path):
    """The one line a file ends in."""
    with pytest.raises(InputError) as caught:
        LOADERS[name](path)
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    assert len(line) < 600
    return line


def refusal_of(name, state, folder):
    path = folder / "weights.pth"
    torch.save(state, path)
    return refusal(name, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_good_file_loads(name, ending, folder):
    path = folder / f"good.{ending}"
    state = {key: tensor.contiguous() for key, tensor in STATES[name].items()}
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    loaded = LOADERS[name](path)
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[key])


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_renamed_or_reshaped_tensor_is_named(name, folder, data):
    state = dict(STATES[name])
    key = data.draw(st.sampled_from(sorted(state)))
    harm = data.draw(st.sampled_from(["missing", "renamed", "reshaped"]))
    tensor = state.pop(key)
    if harm == "renamed":
        state[f"{key}_old"] = tensor
    if harm == "reshaped":
        state[key] = torch.zeros(*tensor.shape, 2)
    line = refusal_of(name, state, folder)
    # Sizes are read off the tensors, so that what differs may be the rest of the network.
    assert key in line or re.search(r"(missing|unexpected|of another shape): \w+", line)
    if harm == "renamed":
        assert f"{key}_old" in line or " more" in line or "found:" in line


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("other", LOADERS)
def test_another_networks_file_is_refused(name, other, folder):
    if name == other:
        return
    line = refusal_of(name, STATES[other], folder)
    assert "missing: " in line
    assert "found: " in line


@pytest.mark.parametrize(
    ("name", "kept", "named"),
    [
        ("edsr", lambda key: not key.startswith("body.1"), "missing: body.1.weight"),
        ("rrdb", lambda key: "RDB3" not in key, "missing: RRDB_trunk.0.RDB3.conv1.weight"),
        (
            "srflow",
            lambda key: "trunk.1" not in key,
            "missing: RRDB.RRDB_trunk.1.RDB1.conv1.weight",
        ),
        ("srflow", lambda key: "layers.1" not in key, "missing: flowUpsamplerNet.layers.1"),
        ("srflow", lambda key: "layers" not in key, "flowUpsamplerNet.layers.3.affine"),
    ],
)
def test_a_smaller_network_is_told_by_its_first_missing_keys(name, kept, named, folder):
    state = {key: tensor for key, tensor in STATES[name].items() if kept(key)}
    assert named in refusal_of(name, state, folder)


@settings(max_examples=25)
@given(share=st.floats(0, 0.999))
@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_truncated_file_is_refused(name, ending, folder, share):
    path = folder / f"cut.{ending}"
    state = {key: tensor.contiguous() for key, tensor in STATES[name].items()}
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "truncated" in refusal(name, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (b"<html>404</html>", "the file is a web page"),
        (b"\n<!DOCTYPE html><p>Sign in</p>", "the file is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "`git lfs pull`"),
        (bytes(range(256)) * 9, "truncated"),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors"])
def test_bytes_of_something_else_are_refused(folder, content, said, ending):
    path = folder / f"bytes.{ending}"
    path.write_bytes(content)
    assert said in refusal("edsr", path)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([1, 2], "got list; allowed: named tensors"),
        ({}, "tensors only"),
        ({"a\nb": torch.zeros(1)}, r"got ['a\nb']; allowed: tensors only, under printable names"),
        ({"epoch": 3, "state_dict": {"a": 1}}, "got ['a']; allowed: tensors only"),
        (torch.zeros(3), "got Tensor; allowed: named tensors"),
    ],
)
def test_other_things_than_named_tensors_are_refused(folder, held, said):
    assert said in refusal_of("edsr", held, folder)


@settings(max_examples=100)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True])
def test_a_damaged_file_loads_or_is_refused_in_one_line(folder, old, data):
    path = folder / "damaged.pth"
    torch.save(STATES["edsr"], path, _use_new_zipfile_serialization=not old)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    said = "weights damaged.pth"
    try:
        load_edsr(path)
    except InputError as error:
        said = str(error)
    assert said.startswith("weights damaged.pth")
    assert "\n" not in said


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_is_no_file_is_refused(folder, ending):
    assert "No such file" in refusal("edsr", folder / f"nothing.{ending}")
    path = folder / f"folder.{ending}"
    path.mkdir()
    assert "cannot be read" in refusal("edsr", path)


WRAPPED = {
    "compiled": lambda state: {f"_orig_mod.{name}": t for name, t in state.items()},
    "compiled and parallel": lambda state: {f"_orig_mod.module.{n}": t for n, t in state.items()},
    "a block compiled": lambda state: {n.replace("body.", "body._orig_mod."): t
                                       for n, t in state.items()},
    "Lightning": lambda state: {"state_dict": {f"model.{n}": t for n, t in state.items()}},
    "a GAN's": lambda state: {f"generator.{name}": t for name, t in state.items()},
    "model": lambda state: {"epoch": 3, "model": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 1}},
    "twice": lambda state: {"model": {"state_dict": {f"module.{n}": t for n, t in state.items()}}},
}  # fmt: skip


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("wrap", WRAPPED)
def test_what_a_training_wraps_around_weights_is_taken_off(name, wrap, folder):
    path = folder / "wrapped.pth"
    torch.save(WRAPPED[wrap](STATES[name]), path)
    for key, tensor in LOADERS[name](path).state_dict().items():
        assert torch.equal(tensor, STATES[name][key])


def test_the_old_layout_of_esrgan_keeps_its_model(folder):
    old = {
        "conv_first.": "model.0.",
        "trunk_conv.": "model.1.sub.2.",
        "upconv1.": "model.3.",
        "upconv2.": "model.6.",
        "HRconv.": "model.8.",
        "conv_last.": "model.10.",
    }

    def named(key):
        key = re.sub(r"RRDB_trunk\.(\d)\.RDB(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0", key)
        return next((new + key.removeprefix(o) for o, new in old.items() if key.startswith(o)), key)

    path = folder / "old.pth"
    for prefix in ("", "model.", "module."):
        torch.save({prefix + named(key): t for key, t in STATES["rrdb"].items()}, path)
        for key, tensor in load_esrgan(path).state_dict().items():
            assert torch.equal(tensor, STATES["rrdb"][key])


def test_two_networks_in_one_file_are_refused(folder):
    both = {f"{part}{key}": t for part in ("", "model.") for key, t in STATES["edsr"].items()}
    assert "allowed: the tensors of one network" in refusal_of("edsr", both, folder)
    held = {}
    held["model"] = held
    assert "tensors only" in refusal_of("edsr", held, folder)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(name, value, folder):
    state = {key: tensor.clone() for key, tensor in STATES[name].items()}
    first, *_, last = state
    state[last].flatten()[-1] = value
    line = refusal_of(name, state, folder)
    assert f"NaN or infinity: {last}" in line
    assert first not in line


@pytest.mark.parametrize("stem", ["edsr-20240115", "edsr_x4-20191231"])
def test_a_date_in_a_name_is_no_digest(stem, folder):
    path = folder / f"{stem}.pth"
    torch.save(STATES["edsr"], path)
    load_edsr(path)


def test_older_files_of_torch_load_too(folder):
    path = folder / "legacy.pth"
    torch.save(STATES["rrdb"], path, _use_new_zipfile_serialization=False)
    load_esrgan(path)
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "truncated" in refusal("rrdb", path)
