"""The 3×3 convolution as a product of matrices against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from stochrestore.networks.convolution import TINY, Conv3x3, as_on, conv3x3

SIDES = st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (4, 4)])
CHANNELS = st.integers(1, 5)


def inputs(seed: int, batch: int, fan_in: int, fan_out: int, sides: tuple[int, int]) -> list:
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, fan_in, *sides), (fan_out, fan_in, 3, 3), (fan_out,)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]


@given(st.integers(0, 2**31), st.integers(1, 3), CHANNELS, CHANNELS, SIDES, st.booleans())
def test_values_and_gradients_are_the_convolution_s(seed, batch, fan_in, fan_out, sides, last):
    arguments = inputs(seed, batch, fan_in, fan_out, sides)
    x, weight, bias = arguments
    if last:
        x, weight = (t.to(memory_format=torch.channels_last) for t in (x, weight))
    ours, theirs = conv3x3(x, weight, bias), F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(ours, theirs)
    cotangent = torch.randn(ours.shape, dtype=ours.dtype)
    gradients = [torch.autograd.grad(y, arguments, cotangent) for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("side", range(1, TINY["cpu"] + 1))
def test_second_derivatives_are_right(side):
    """R1 needs them."""
    arguments = inputs(0, 2, 2, 3, (side, side))
    assert torch.autograd.gradgradcheck(lambda *a: conv3x3(*a).square(), arguments)


def test_tiny_images_do_not_pass_through_the_convolution(monkeypatch):
    monkeypatch.setattr(F, "conv2d", lambda *_, **__: pytest.fail("a convolution"))
    x, weight, _ = inputs(0, 2, 3, 4, (2, 2))
    assert conv3x3(x, weight).shape == (2, 4, 2, 2)
    with as_on(torch.device("cuda")), pytest.raises(pytest.fail.Exception):
        conv3x3(x, weight)
    assert conv3x3(x, weight).shape == (2, 4, 2, 2)


def test_parameters_are_those_of_a_convolution():
    plain = torch.nn.Conv2d(3, 4, 3, padding=1)
    ours = Conv3x3(3, 4)
    ours.load_state_dict(plain.state_dict())
    for side in (1, 2, 3):
        x = torch.randn(2, 3, side, side)
        torch.testing.assert_close(ours(x), plain(x))
    assert Conv3x3(3, 4, bias=False).bias is None
