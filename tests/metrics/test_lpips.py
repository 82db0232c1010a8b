import hashlib

import pytest
import torch
from torch import nn

from stochrestore.errors import InputError
from stochrestore.metrics import lpips as module
from stochrestore.metrics import torchvision_ops
from stochrestore.metrics.lpips import LINEAR_FILE, lpips, missing_weights

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256))
CONVOLUTIONS += ((256, 512), *[(512, 512)] * 5)
POOLED_BEFORE, SEEN_AFTER = (2, 4, 7, 10), (1, 3, 6, 9, 12)


@pytest.fixture(scope="module")
def weights():
    """Random ones of VGG16's shapes, under torchvision's names, and those of the layers."""
    generator = torch.Generator().manual_seed(0)
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    vgg = {"classifier.0.weight": torch.zeros(1)}
    for number, (fan_in, fan_out) in zip(numbers, CONVOLUTIONS, strict=True):
        weight = torch.randn(fan_out, fan_in, 3, 3, generator=generator)
        vgg[f"features.{number}.weight"] = weight * (2 / (9 * fan_in)) ** 0.5
        vgg[f"features.{number}.bias"] = 0.1 * torch.randn(fan_out, generator=generator)
    linear = [torch.rand(1, channels, 1, 1, generator=generator) for channels in CHANNELS]
    return vgg, linear


@pytest.fixture
def cache(weights, tmp_path, monkeypatch):
    """A cache of torch.hub that holds them."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    vgg, linear = weights
    torch.save(vgg, folder / "vgg.pth")
    digest = hashlib.sha256((folder / "vgg.pth").read_bytes()).hexdigest()[:8]
    (folder / "vgg.pth").rename(folder / f"vgg16-{digest}.pth")
    torch.save(linear, folder / LINEAR_FILE)
    monkeypatch.setattr(module, "VGG_FILE", f"vgg16-{digest}.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return folder


def seen(x, vgg):
    """Features of unit length at each pixel, written out."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    x, kept = (x - mean) / std, []
    tensors = [tensor for name, tensor in vgg.items() if name.startswith("features")]
    for i, (weight, bias) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
        if i in POOLED_BEFORE:
            x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.conv2d(x, weight, bias, padding=1).relu()
        if i in SEEN_AFTER:
            kept.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
    return kept


def images(side=24):
    return torch.rand(2, 2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_it_is_the_definition(cache, weights):
    a, b = images()
    vgg, linear = weights
    expected = sum(
        (w * (u - v).square()).sum(1).mean((1, 2))
        for w, u, v in zip(linear, seen(a, vgg), seen(b, vgg), strict=True)
    )
    torchvision_ops.import_piq()
    found = lpips(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    assert lpips(a, a).tolist() == [0, 0]


def test_without_weights_the_line_names_them_and_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    assert missing_weights() == ("vgg16-397923af.pth", "lpips_weights.pt")
    with pytest.raises(InputError, match=r"^LPIPS weights vgg16-397923af.pth: No such file"):
        lpips(*images())


def test_other_files_end_in_one_line(cache):
    assert missing_weights() == ()
    torch.save({"a": torch.zeros(1)}, cache / LINEAR_FILE)
    with pytest.raises(InputError, match=r"lpips_weights.pt: allowed: a list of 5 tensors$"):
        lpips(*images())
    whole = (cache / LINEAR_FILE).read_bytes()
    (cache / LINEAR_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"lpips_weights.pt: cannot be read; truncated\?$"):
        lpips(*images())
    with (cache / module.VGG_FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="sha256 does not begin with"):
        lpips(*images())


def test_small_images_are_refused():
    with pytest.raises(InputError, match="lpips: side: got 15; allowed: at least 16"):
        lpips(*images(15))
