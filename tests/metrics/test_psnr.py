import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stochrestore.errors import InputError
from stochrestore.metrics.images import check_images
from stochrestore.metrics.psnr import psnr


def images(seed=0):
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (lambda x: (255 * x).byte(), "psnr: a: dtype of images: got torch.uint8; allowed: floats"),
        (lambda x: 255 * x, "psnr: a: range of images: got '.* to 25[45]'; allowed: 0 to 1"),
        (lambda x: 2 * x - 1, "psnr: a: range of images: got '-.* to .*'; allowed: 0 to 1"),
    ],
)
def test_images_of_other_ranges_are_refused(scale, message):
    """PSNR of them was -42 dB, or 6 dB too low, without a word."""
    a, b = images(), images(1)
    with pytest.raises(InputError, match=message):
        psnr(scale(a), scale(b))
    with pytest.raises(InputError, match=message.replace("psnr: a", "psnr: b")):
        psnr(a, scale(b))


@given(st.floats(-3, 0.2), st.floats(0.8, 4))
def test_what_a_restoration_may_be_is_not_refused(low, high):
    """Outputs of an untrained network leave [0, 1] on both sides, or by few pixels."""
    x = images()
    check_images("x", low + (high - low) * x if low < -1 else x + (low - 0.2) * (x > 0.99))


def test_one_pixel_off_is_the_mean_squared_error():
    a = torch.full((1, 3, 10, 10), 0.5)
    b = a.clone()
    b[0, 0, 0, 0] += 0.3
    assert psnr(a, b).item() == pytest.approx(-10 * torch.tensor(0.09 / 300).log10().item())
    assert psnr(a, b, border=1).item() == float("inf")
