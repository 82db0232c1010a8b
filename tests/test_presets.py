"""Sections of a preset that hold for one value of a setting."""

import pytest
import yaml

from stochrestore import config
from stochrestore.experiments import registry

real_load = yaml.safe_load
SECTIONS = """
toy_tradeoff:
  width: 8
  seed: 1
  seed=1:
    width: 16
  train=true:
    steps: 3
  seed=2 train=true:
    width: 32
"""


@pytest.mark.parametrize(
    ("given", "width", "steps"),
    [
        ({}, 16, None),
        ({"seed": 2}, 8, None),
        ({"train": True}, 16, 3),
        ({"seed": 2, "train": True}, 32, 3),
    ],
)
def test_sections_of_a_preset_hold_for_one_value_of_a_setting(monkeypatch, given, width, steps):
    monkeypatch.setattr(config.yaml, "safe_load", lambda text: real_load(SECTIONS))
    values = config.preset_values("toy_tradeoff", "laptop", given)
    assert values["width"] == width
    assert values.get("steps") == steps


def test_a_section_for_data_holds_whatever_its_path():
    ours = registry.load("inpaint", "laptop", data="digits")
    assert ours.width == registry.load("inpaint", "laptop").width * 16
    here = config.preset_values("inpaint", "laptop", {"data": "folder:/x"})
    assert here["width"] == registry.load("inpaint", "laptop").width


@pytest.mark.parametrize("experiment", ["inpaint", "sr_scaling"])
def test_the_paper_s_widths_are_those_of_its_data(experiment):
    """Fig. 7 and Table 4: s = 24, f = 16 for CelebA, 32 and 32 for ImageNet."""
    for data, widths in {"celeba:/x": (24, 16), "imagenet64:/x": (32, 32)}.items():
        settings = registry.load(experiment, "paper", data=data)
        assert (settings.width, settings.critic_width) == widths
