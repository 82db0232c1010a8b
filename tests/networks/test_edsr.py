import hashlib

import pytest
import torch

import sr_networks
from stochrestore.errors import InputError
from stochrestore.networks.edsr import EDSR
from stochrestore.networks.official import load_edsr, official_shapes


@pytest.mark.parametrize(
    ("network", "keys", "parameters"),
    [((64, 16), 78, 1_517_595), ((256, 32), 142, 43_089_947)],
)
def test_the_published_sizes(network, keys, parameters):
    shapes = official_shapes(EDSR(*network))
    assert len(shapes) == keys
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters


def test_colours_pass_through_when_the_network_adds_nothing():
    network = EDSR(4, 1)
    for parameter in network.tail.parameters():
        torch.nn.init.zeros_(parameter)
    mean = torch.tensor([0.4488, 0.4371, 0.4040])
    restored = network(torch.rand(1, 3, 8, 8))
    torch.testing.assert_close(restored, mean[:, None, None].expand(1, 3, 32, 32))


def test_values_of_the_mean_shift_are_loaded_not_assumed(tmp_path):
    network = sr_networks.edsr()
    network.sub_mean.bias.add_(3.0)
    torch.save(network.state_dict(), tmp_path / "edsr.pt")
    y = sr_networks.image()
    assert torch.equal(load_edsr(tmp_path / "edsr.pt")(y), network(y))


def test_the_full_network_scales_its_residuals(tmp_path):
    torch.save(EDSR(256, 1).state_dict(), tmp_path / "edsr.pt")
    assert load_edsr(tmp_path / "edsr.pt").body[0].scale == 0.1


def test_a_file_is_checked_against_the_digest_in_its_name(tmp_path):
    path = tmp_path / "edsr.pt"
    torch.save(sr_networks.edsr().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    named = path.rename(tmp_path / f"edsr_small-{digest}.pt")
    load_edsr(named)
    named.write_bytes(named.read_bytes() + b"x")
    with pytest.raises(InputError, match="truncated or altered"):
        load_edsr(named)


def basicsr(network):
    """The tensors of an EDSR as BasicSR names them; its mean colour is not among them."""
    names = {"head.0.": "conv_first.", "tail.0.": "upsample.", "tail.1.": "conv_last."}
    names |= {f"body.{i}.body.{2 * j}.": f"body.{i}.conv{j + 1}." for i in (0, 1) for j in (0, 1)}
    names["body.2."] = "conv_after_body."
    return {
        new + key.removeprefix(old): tensor
        for key, tensor in network.state_dict().items()
        for old, new in names.items()
        if key.startswith(old)
    }


def test_the_layout_of_basicsr_is_the_same_network(tmp_path):
    network, y = sr_networks.edsr(), sr_networks.image()
    state = basicsr(network)
    assert len(state) == len(network.state_dict()) - 4
    torch.save({"params": state}, tmp_path / "edsr.pth")
    assert torch.equal(load_edsr(tmp_path / "edsr.pth")(y), network(y))
    del state["body.1.conv2.bias"]
    torch.save(state, tmp_path / "edsr.pth")
    with pytest.raises(InputError, match=r"missing: body\.1\.body\.2\.bias$"):
        load_edsr(tmp_path / "edsr.pth")


def test_a_network_of_another_scale_is_refused(tmp_path):
    state = sr_networks.edsr().state_dict()
    twice = {name: t for name, t in state.items() if not name.startswith("tail.0.2")}
    torch.save(twice, tmp_path / "edsr_x2.pt")
    with pytest.raises(InputError, match=r"missing: tail\.0\.2\.weight, tail\.0\.2\.bias"):
        load_edsr(tmp_path / "edsr_x2.pt")


def test_deterministic():
    y = torch.rand(2, 3, 5, 5)
    assert not sr_networks.edsr().seed(y, 3, generator=torch.Generator()).any()
