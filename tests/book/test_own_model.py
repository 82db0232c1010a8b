"""The code of the page "Use it on your own model" runs as it stands there."""

import re
from pathlib import Path

import pytest

from stochrestore.metrics.torchvision_ops import declare_missing_operators

PAGE = Path(__file__).parents[2] / "book" / "own_model.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
NEEDS = re.compile(r"# needs (\w+)\n")


@pytest.fixture(scope="module")
def names():
    """What the page's code defines before a package that may be missing is needed."""
    found = {}
    for block in BLOCKS:
        if not NEEDS.match(block):
            exec(block, found)
    return found


def test_any_network_is_attacked_checked_and_trained(names):
    assert 30 < names["found"].ai_psnr.mean() < 36  # of 34 dB, where the attack uses its ball
    assert (names["found"].ball_used <= 1 + 1e-5).all()
    assert names["checks"].credible()
    assert all(p.grad is not None for p in names["stochastic"].parameters())


@pytest.mark.parametrize("package", ["diffusers", "deepinv"])
def test_models_of_other_packages_are_attacked(names, package):
    declare_missing_operators()  # a torch without CUDA
    pytest.importorskip(package)
    (block,) = [b for b in BLOCKS if (need := NEEDS.match(b)) and need[1] == package]
    exec(block, names)
    assert names["found"].psnr.isfinite().all()
