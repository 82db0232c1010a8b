import pytest
import torch

import sr_networks
from stochrestore.errors import InputError
from stochrestore.networks.official import load_esrgan, official_shapes, renamed
from stochrestore.networks.rrdb import RRDBNet

OFFICIAL_KEYS = "dbc678fa9396bc1015ce16fb5e96b1f7bd84501be2009de9fc4c4f203472d0f4"


def old_layout(state):
    """The names of the weights published first, from those of the later release."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("RRDB_trunk"))
    numbers = {"conv_first": "0", "upconv1": "3", "upconv2": "6", "HRconv": "8", "conv_last": "10"}
    renamed = {}
    for name, tensor in state.items():
        first, *rest = name.split(".")
        if first == "RRDB_trunk":
            block, dense, conv, kind = rest
            renamed[f"model.1.sub.{block}.{dense}.{conv}.0.{kind}"] = tensor
        elif first == "trunk_conv":
            renamed[f"model.1.sub.{blocks}.{rest[0]}"] = tensor
        else:
            renamed[f"model.{numbers[first]}.{rest[0]}"] = tensor
    return renamed


def basicsr_layout(state):
    names = {
        "RRDB_trunk": "body",
        "trunk_conv": "conv_body",
        "upconv1": "conv_up1",
        "upconv2": "conv_up2",
        "HRconv": "conv_hr",
    }
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        renamed[f"{names.get(first, first)}.{rest.replace('RDB', 'rdb')}"] = tensor
    return renamed


def test_official_names_and_shapes():
    shapes = official_shapes(RRDBNet())
    assert len(shapes) == 702
    assert sr_networks.key_digest(shapes) == OFFICIAL_KEYS


def test_agrees_with_the_reference():
    tensors, config = sr_networks.read(sr_networks.ESRGAN_REFERENCE)
    network = RRDBNet(int(config["nf"]), int(config["nb"]), int(config["gc"]))
    network.load_state_dict(sr_networks.part(tensors, "state_dict/"))
    restored = network(tensors["input/lr"])
    assert sr_networks.relative_error(restored, tensors["output/sr"]) < 1e-4


def test_the_published_list_has_our_keys():
    listed = sr_networks.listed_keys(sr_networks.ESRGAN_KEYS)
    assert sr_networks.key_digest(listed) == OFFICIAL_KEYS


@pytest.mark.parametrize("name", ["edsr", "rrdb", "srflow"])
def test_agrees_with_the_values_of_an_earlier_version(name):
    golden, _ = sr_networks.read(sr_networks.GOLDEN)
    network = sr_networks.NETWORKS[name]()
    y = golden["y"].clone().requires_grad_(True)
    x = network(y, golden["z"] if name == "srflow" else y.new_zeros(len(y), 1))
    assert sr_networks.relative_error(x, golden[f"{name}/x"]) < 1e-4
    (gradient,) = torch.autograd.grad((x * golden["weight"]).mean(), y)
    assert sr_networks.relative_error(gradient, golden[f"{name}/gradient"]) < 1e-4


@pytest.mark.parametrize("layout", [dict, old_layout, basicsr_layout])
@pytest.mark.parametrize("wrapper", [None, "params", "params_ema"])
def test_every_published_layout_loads(tmp_path, layout, wrapper):
    network = sr_networks.rrdb()
    state = layout(network.state_dict())
    torch.save({wrapper: state} if wrapper else state, tmp_path / "esrgan.pth")
    loaded = load_esrgan(tmp_path / "esrgan.pth")
    y = sr_networks.image()
    assert torch.equal(loaded(y), network(y))
    assert not loaded.training


def test_layouts_cover_the_official_file():
    shapes = {name: torch.empty(0) for name in official_shapes(RRDBNet(4, 23, 4))}
    for layout in (old_layout, basicsr_layout):
        assert set(renamed(layout(shapes))) == set(shapes)


def test_other_files_end_in_one_line_that_names_the_keys(tmp_path):
    network = sr_networks.rrdb()
    path = tmp_path / "esrgan.pth"

    def refusal(state):
        torch.save(state, path)
        with pytest.raises(InputError) as error:
            load_esrgan(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    state = network.state_dict()
    without = {name: t for name, t in state.items() if name != "HRconv.bias"}
    assert "missing: HRconv.bias" in refusal(without)
    assert "unexpected: extra.weight" in refusal({**state, "extra.weight": torch.zeros(1)})
    assert "conv_last.weight (5, 8, 3, 3), here (3, 8, 3, 3)" in refusal(
        {**state, "conv_last.weight": torch.zeros(5, 8, 3, 3)}
    )
    assert "missing: conv_first.weight; found: head.0.weight" in refusal(
        sr_networks.edsr().state_dict() | {}
    ).replace("sub_mean.weight, sub_mean.bias, ", "")
    assert "tensors only" in refusal({"epoch": 3})


def test_unreadable_files_end_in_one_line(tmp_path):
    path = tmp_path / "esrgan.pth"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_esrgan(path)
    torch.save(sr_networks.rrdb().state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        load_esrgan(path)
    torch.save(sr_networks.rrdb(), path)  # a whole pickled module may run code
    with pytest.raises(InputError, match="tensors only"):
        load_esrgan(path)
    named = tmp_path / "RRDB-0123abcd.pth"
    torch.save(sr_networks.rrdb().state_dict(), named)
    with pytest.raises(InputError, match="the name says 0123abcd"):
        load_esrgan(named)
