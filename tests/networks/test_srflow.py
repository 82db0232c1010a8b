import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sr_networks
from stochrestore.errors import InputError
from stochrestore.estimators.base import restore
from stochrestore.networks.official import load_srflow, official_shapes
from stochrestore.networks.srflow import (
    FlowStep,
    Seeds,
    Squeeze,
    SRFlow,
    fit_actnorms,
    flatten,
    unflatten,
)

OFFICIAL_KEYS = "66000cad736ef9f2a27ae03bce3b56a461dfb0ebfc41bed4a6c16066a1d26ac7"


def seeded(y, n=1, flow=None):
    flow = flow or sr_networks.srflow()
    return flow, flow.seed(y, n, generator=torch.Generator().manual_seed(0))


def test_official_names_and_shapes():
    shapes = official_shapes(SRFlow())
    assert len(shapes) == 1733
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 39_541_811
    assert sr_networks.key_digest(shapes) == OFFICIAL_KEYS


@pytest.fixture(scope="module")
def reference():
    """The reference's small network and its values."""
    path = sr_networks.REFERENCE / "srflow_small.safetensors"
    if not path.exists():
        pytest.skip("no reference values here")
    return sr_networks.read(path)


def test_agrees_with_the_reference(reference, tmp_path):
    tensors, config = reference
    stacked = tuple(int(block) for block in config["stack_blocks"].split(","))
    network = SRFlow(64, int(config["nb"]), 32, steps=int(config["K"]), stacked=stacked)
    state = sr_networks.part(tensors, "state_dict/")
    used = {name: t for name, t in state.items() if not name.startswith("flowUpsamplerNet.f.")}
    network.load_state_dict(used)
    y = tensors["input/lr"].clone().requires_grad_(True)
    z = flatten(Seeds(tensors["input/z"], tensors["input/eps_split"]))
    x = network(y, z)
    assert sr_networks.relative_error(x, tensors["output/sr"]) < 1e-4
    (gradient,) = torch.autograd.grad((x * tensors["input/grad_weight"]).mean(), y)
    expected = tensors["output/d_mean(sr*grad_weight)/d_lr"]
    assert sr_networks.relative_error(gradient, expected) < 1e-4
    with torch.no_grad():
        nll = network.nll(tensors["output/sr"], y)
    assert sr_networks.relative_error(nll, tensors["output/nll_of_sr"]) < 1e-4
    listed = sr_networks.listed_keys(sr_networks.REFERENCE / "keys_srflow_df2k_4x.txt")
    assert sr_networks.key_digest(listed) == OFFICIAL_KEYS


@settings(max_examples=10, deadline=None)
@given(h=st.integers(1, 6), w=st.integers(1, 6), seed=st.integers(0, 1000))
def test_encoding_inverts_decoding(h, w, seed):
    flow = sr_networks.srflow()
    y = torch.rand(2, 3, 2 * h, 2 * w, generator=torch.Generator().manual_seed(seed))
    z = flow.seed(y, 1, generator=torch.Generator().manual_seed(seed))[0]
    x = flow(y, z)
    found, _ = flow.encode(x, y)
    assert sr_networks.relative_error(flatten(found), z) < 1e-4
    again = flow.decode(flow.conditions(y), found)
    assert sr_networks.relative_error(again, x) < 1e-4


def test_log_likelihood_is_that_of_the_change_of_variables():
    flow = sr_networks.srflow().double()
    y = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    z = flow.seed(y, 1, generator=torch.Generator().manual_seed(1))[0]
    conditions = flow.conditions(y)

    def image(z):
        return flow.decode(conditions, unflatten(z[None], y)).flatten()

    jacobian = torch.autograd.functional.jacobian(image, z[0])
    normal = -0.5 * (z.square().sum() + z.numel() * math.log(2 * math.pi))
    expected = normal - torch.linalg.slogdet(jacobian)[1]
    _, log_likelihood = flow.encode(image(z[0]).reshape(1, 3, 8, 8), y)
    torch.testing.assert_close(log_likelihood[0], expected, rtol=1e-9, atol=0)


def test_squeeze_has_the_published_order_of_channels():
    x = torch.arange(2 * 16.0).reshape(1, 2, 4, 4)
    squeezed, _ = Squeeze().encode(x, x)
    for channel in range(2):
        for dy in (0, 1):
            for dx in (0, 1):
                part = x[:, channel, dy::2, dx::2]
                assert torch.equal(squeezed[:, channel * 4 + dy * 2 + dx], part)


def test_seeds_that_share_an_input_give_what_they_give_alone():
    y = sr_networks.image(n=2)
    flow, z = seeded(y, n=3)
    together = restore(flow, y, z)
    alone = torch.stack([torch.cat([flow(y[i : i + 1], s[i : i + 1]) for i in (0, 1)]) for s in z])
    assert sr_networks.relative_error(together, alone) < 1e-5
    in_parts = restore(flow, y, z, seeds_at_once=2)
    assert sr_networks.relative_error(in_parts, alone) < 1e-5


def test_gradients_of_shared_inputs_are_sums():
    y = sr_networks.image().requires_grad_(True)
    flow, z = seeded(y, n=3)
    (together,) = torch.autograd.grad(restore(flow, y, z).square().sum(), y)
    alone = sum(torch.autograd.grad(flow(y, s).square().sum(), y)[0] for s in z)
    assert sr_networks.relative_error(together, alone) < 1e-4


def test_heat_zero_is_deterministic_and_heat_scales_the_seed():
    y = sr_networks.image()
    _, none = seeded(y, flow=sr_networks.srflow(heat=0.0))
    _, half = seeded(y, flow=sr_networks.srflow(heat=0.5))
    _, full = seeded(y, flow=sr_networks.srflow(heat=1.0))
    assert not none.any()
    torch.testing.assert_close(2 * half, full)
    assert abs(full.std().item() - 1) < 0.02


@pytest.mark.parametrize(("h", "w"), [(8, 8), (7, 8), (8, 7), (7, 9), (2, 3)])
def test_odd_sides(h, w):
    y = sr_networks.image(h, w)
    flow, z = seeded(y)
    x = flow(y, z[0])
    assert x.shape == (1, 3, 4 * h, 4 * w)
    mirrored = torch.nn.functional.pad(y, (0, w % 2, 0, h % 2), mode="reflect")
    assert torch.equal(x, flow(mirrored, z[0])[..., : 4 * h, : 4 * w])


def test_a_seed_of_another_length_is_refused():
    y = sr_networks.image()
    flow, z = seeded(y)
    with pytest.raises(InputError, match="length of the seed: got 5759; allowed: 5760"):
        flow(y, z[0, :, 1:])


def test_actnorms_start_from_the_data():
    torch.manual_seed(0)
    flow = SRFlow(8, 1, 4, steps=1, hidden=8, stacked=(0,))
    x, y = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 8, 8)
    fit_actnorms(flow, x, y)
    step = next(module for module in flow.modules() if isinstance(module, FlowStep))
    normalised = step.actnorm(torch.nn.functional.pixel_unshuffle(x, 2))
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(12), atol=1e-5, rtol=0)
    assert torch.isfinite(flow.nll(x, y)).all()


def test_a_published_file_loads_strictly(tmp_path):
    network = SRFlow(8, 23, 4, steps=2, hidden=6)
    unused = {
        "flowUpsamplerNet.f.0.weight": torch.zeros(96, 40, 3, 3),
        "flowUpsamplerNet.f.0.bias": torch.zeros(96),
    }
    state = {f"module.{name}": t for name, t in (network.state_dict() | unused).items()}
    path = tmp_path / "srflow.pth"
    torch.save(state, path)
    loaded = load_srflow(path, heat=0.5)
    y = sr_networks.image(4, 4)
    _, z = seeded(y, flow=loaded)
    assert torch.equal(loaded(y, z[0]), network(y, z[0]))
    assert loaded.heat == 0.5

    del state["module.flowUpsamplerNet.f.0.bias"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"missing: flowUpsamplerNet\.f\.0\.bias$"):
        load_srflow(path)
    torch.save(sr_networks.rrdb().state_dict(), path)
    with pytest.raises(InputError, match=r"missing: RRDB\.conv_first\.weight"):
        load_srflow(path)


def test_stacked_blocks_must_exist():
    with pytest.raises(InputError, match="stacked: got"):
        SRFlow(8, 2, 4, stacked=(2,))
