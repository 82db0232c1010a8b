import io
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stochrestore.attacks import Attack
from stochrestore.errors import InputError
from stochrestore.estimators.closed_form import PosteriorSampler, Sine
from stochrestore.experiments.attack_grid import attack_grid
from stochrestore.figures import interactive, style
from stochrestore.figures.interactive import Frame, PictureBrowser
from stochrestore.problems.toy import Disk


def browser(sizes, first=None, panels=1):
    choices = {f"choice <{c}>": [f"<{v}>" for v in range(n)] for c, n in enumerate(sizes)}
    every = [()]
    for n in sizes:
        every = [(*index, v) for index in every for v in range(n)]
    frames = {
        i: Frame({f'alt "{i}" {panel}': b"x" for panel in range(panels)}, f"text <{i}>")
        for i in every
    }
    return PictureBrowser("name", choices, frames, first or (0,) * len(sizes))


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), panels=st.integers(1, 3))
def test_each_combination_has_a_rule_pictures_and_buttons(sizes, panels):
    page = browser(sizes, panels=panels)._repr_html_()
    count = torch.tensor(sizes).prod().item()
    assert page.count('class="frame ') == count
    assert page.count("<img ") == panels * count
    assert len(set(re.findall(r' alt="(alt [^"]*)"', page))) == panels * count  # none is mute
    rules = re.findall(
        r"#name((?::has\(#name-\d-\d:checked\))+) \.(frame[-\d]+)\{display:block\}", page
    )
    assert len({condition for condition, _ in rules}) == len({frame for _, frame in rules}) == count
    buttons = set(re.findall(r'<input type="radio"[^>]* id="([^"]+)"', page))
    assert len(buttons) == sum(sizes)
    assert buttons == set(re.findall(r"#(name-\d-\d):checked", page))
    assert page.count(" checked>") == len(sizes)
    assert "<script" not in page
    assert not re.search(r"<\d>", page)  # labels and texts are escaped


@pytest.mark.parametrize(
    ("frames", "first", "said"),
    [
        ({(0,): Frame({}, "")}, (0,), "one for each combination"),
        ({(v,): Frame({"": b""}, "") for v in range(2)}, (2,), "first"),
    ],
)
def test_a_missing_picture_is_named(frames, first, said):
    with pytest.raises(InputError, match=said):
        PictureBrowser("name", {"choice": ["a", "b"]}, frames, first)


def test_pictures_are_small_and_differ():
    style.use()  # as in the chapters
    zigzags = interactive.zigzag_browser((1, 2, 4), first=3)
    assert zigzags.choices == {"f": ["1", "2", "3", "4"]}
    assert zigzags.first == (2,)
    pictures = [picture for frame in zigzags.frames.values() for picture in frame.pictures.values()]
    assert len(set(pictures)) == 2 * 4
    assert max(map(len, pictures)) < 20_000
    sizes = {Image.open(io.BytesIO(picture)).size for picture in pictures}
    assert len(sizes) == 1  # the picture does not jump
    assert "multiplied by 6" in zigzags.frames[2,].text  # slope 2f


def test_sine_and_weight_say_the_means_of_their_rows():
    quality = {"precision": 1.0, "sensitivity": 2e-3}
    rows = [{"alpha": a, "recall": r, **quality} for a in (1.0, 9.0) for r in (0.25, 0.75)]
    sines = interactive.sine_browser(rows, 1e-3, pictures=5)
    assert sines.choices == {"α": ["1", "9"]}
    assert sines.frames[0,].text.endswith("recall 0.50, root-mean-square slope 2")
    sweep = [
        {"estimator": name, "weight": w, "recall": w, "sensitivity": 1e-3}
        for name in ("robust_gan", "robust_sto_gan")
        for w in (0.1, 0.2)
    ]
    weights = interactive.weight_browser(sweep, 1e-3)
    assert weights.choices == {"λ_R": ["0.1", "0.2"]}
    assert "RobustGAN: recall 0.20 at slope 1" in weights.frames[1,].text


def test_attacks_of_growing_radius_move_restorations_more(generator):
    y = torch.linspace(-0.6, 0.6, 5)[:, None]
    estimators = {"erratic_sine": Sine(20.0), "posterior_sampler": PosteriorSampler(Disk())}
    attack = Attack(radius=1e-3, steps=4, lr=5e-4)
    grid = attack_grid(estimators, y, attack, (0, 1, 4), seeds=3, generator=generator)
    assert {key: tuple(images.shape) for key, images in grid.outputs.items()} == dict.fromkeys(
        estimators, (3, 3, 5, 2)
    )
    for attacked in grid.inputs.values():
        assert attacked.shape == (3, 5, 1)
        assert torch.equal(attacked[0], y)
        reached = (attacked - y).abs().amax((1, 2))
        assert (reached <= torch.tensor([0, 1e-3, 4e-3]) + 1e-6).all()
        assert 0 < reached[1] < reached[2]
    sine, sampler = grid.outputs.values()
    torch.testing.assert_close(sine[:, 0], sine[:, 1])  # it has no seed
    assert (sampler[0, 0] != sampler[0, 1]).any()
    moved = (sine - sine[0]).norm(dim=-1).mean((1, 2))
    assert moved[0] == 0
    assert 2 < moved[2] / moved[1] < 6


def test_restorations_are_chosen_by_seed_and_attack():
    restored = {name: torch.rand(2, 3, 4, 3, 8, 8) for name in ("erratic_gan", "sto_gan")}
    shown = interactive.restoration_browser(restored, (0, 1))
    assert [len(labels) for labels in shown.choices.values()] == [3, 2]
    assert "as they are" in shown.frames[2, 0].text
    (alt,) = shown.frames[2, 1].pictures
    assert "attack of 1 ε, seed 3" in alt


def test_attacked_inputs_stand_below_the_restorations_and_are_measured():
    restored = {"erratic_gan": torch.rand(2, 1, 4, 3, 8, 8)}
    inputs = {"erratic_gan": torch.full((2, 4, 3, 2, 8), 0.5)}
    inputs["erratic_gan"][1] += 0.1  # 20 dB of the known quarter, a quarter of that of the image
    alone = interactive.restoration_browser(restored, (0, 1))
    shown = interactive.restoration_browser(restored, (0, 1), attacked=inputs)
    assert "(26.0)" in shown.frames[0, 1].text
    assert "inputs under the attack" in shown.caption
    height = {
        Image.open(io.BytesIO(*frame.pictures.values())).size[1]
        for browser in (alone, shown)
        for frame in browser.frames.values()
    }
    assert len(height) == 2  # higher by the inputs, and the picture does not jump
