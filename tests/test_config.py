from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from stochrestore import config
from stochrestore.errors import InputError
from stochrestore.experiments import registry


class Settings(config.ExperimentSettings):
    experiment: ClassVar[str] = "coin"
    steps: int = Field(10, ge=1)
    radius: float = Field(0.5, gt=0)
    robust: bool = False
    start: str = "random"


PRESETS = {"smoke": {"steps": 2}, "laptop": {}, "gpu": {"radius": 2}, "paper": {"oops": 1}}
GOOD = {
    "steps": st.integers(1, 10**6),
    "radius": st.floats(1e-6, 1e6) | st.integers(1, 100),
    "robust": st.booleans(),
    "start": st.text(max_size=5),
}
values = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.lists(st.integers())
)


@pytest.fixture(autouse=True)
def _experiment(monkeypatch):
    monkeypatch.setattr(config, "preset_values", lambda experiment, preset, given: PRESETS[preset])


def test_what_is_given_replaces_the_preset_which_replaces_the_default():
    assert Settings.load("laptop").steps == 10
    assert Settings.load("smoke").steps == 2
    assert Settings.load("smoke", steps=3).steps == 3
    assert Settings.load("smoke", steps=None).steps == 2
    assert Settings.load("gpu").radius == 2.0


@given(st.fixed_dictionaries({}, optional=GOOD))
def test_good_values_are_taken_as_given(changes):
    settings = Settings.load("laptop", **changes)
    assert {name: getattr(settings, name) for name in changes} == changes


def load_one(name, value):
    try:
        return getattr(Settings.load("laptop", **{name: value}), name)
    except InputError as error:
        return error


@given(st.sampled_from(sorted(GOOD)), values)
def test_a_value_is_taken_with_its_type_or_refused_in_one_line(name, value):
    types = {"steps": int, "radius": (int, float), "robust": bool, "start": str}
    right_type = isinstance(value, types[name]) and (type(value) is bool) == (name == "robust")
    found = load_one(name, value)
    if isinstance(found, InputError):
        said = f"{name}: got {value!r} ({type(value).__name__}); allowed: "
        assert str(found).startswith(said)
        assert len(str(found).splitlines()) == 1
    else:
        assert right_type
        assert found == value


def test_everything_wrong_is_said_at_once():
    with pytest.raises(InputError) as raised:
        Settings.load("laptop", robust="false", step=5)
    assert "robust: got 'false' (str); allowed: a valid boolean" in str(raised.value)
    assert "step: unknown parameter; allowed: preset, seed, steps, radius, robust" in str(
        raised.value
    )


def test_a_misspelt_preset_file_is_no_silent_default():
    with pytest.raises(InputError, match="oops: unknown parameter"):
        Settings.load("paper")


def test_settings_do_not_change_after_the_check():
    with pytest.raises(ValueError, match="frozen"):
        Settings.load("laptop").steps = 5


def test_unknown_experiment_and_preset_are_named(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"experiment: got 'cards'; allowed: .*toy_tradeoff"):
        registry.load("cards", "laptop")
    with pytest.raises(InputError, match="preset: got 'huge'; allowed: smoke, laptop, gpu, paper"):
        registry.load("toy_tradeoff", "huge")


OF_EACH = [
    (name, setting)
    for name in registry.CHAPTERS
    for setting in sorted(registry.settings(name).of_each_training)
]


@pytest.mark.parametrize(("experiment", "setting"), OF_EACH)
def test_what_a_grid_decides_is_refused_and_not_lost(experiment, setting):
    own = registry.load(experiment, "smoke").model_dump()[setting]
    with pytest.raises(InputError, match=f"^{setting}: got .*; allowed: no value: each training"):
        registry.load(experiment, "smoke", **{setting: own})


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("experiment", registry.CHAPTERS)
def test_every_preset_of_every_experiment_is_valid(monkeypatch, experiment, preset):
    monkeypatch.undo()
    settings = registry.load(experiment, preset)
    assert settings.preset == preset
    settings.model_dump_json()


TEXTS = [
    ("inpaint", "seed", "010", 10),
    ("inpaint", "seed", "7", 7),
    ("inpaint", "epsilon", "1e-3", 0.001),
    ("inpaint", "epsilon", "2", 2.0),
    ("inpaint", "robust", "true", True),
    ("inpaint", "robust", "none", None),
    ("inpaint", "critic_lr", "1e-4", 1e-4),
    ("inpaint", "data", "folder:/a/my #1 set", "folder:/a/my #1 set"),
    ("inpaint", "data", "folder: /path", "folder: /path"),
    ("inpaint", "weights", "2024", "2024"),
    ("inpaint", "weights", "'2024'", "2024"),
    ("inpaint", "lr_milestones", "", []),
    ("inpaint", "betas", "0, 0.9", [0.0, 0.9]),
    ("sr_scaling", "scales", "4,8", [4, 8]),
    ("sr_scaling", "scales", "4", [4]),
    ("sr_scaling", "scales", "[4, 8]", [4, 8]),
    ("srflow_robustness", "data", "set5+set14", "set5+set14"),
    ("inpaint", "no_such", "1", "1"),
]


@pytest.mark.parametrize(("experiment", "name", "text", "value"), TEXTS)
def test_a_text_is_read_by_the_type_of_its_parameter(experiment, name, text, value):
    model = registry.settings(experiment)
    found = config.read(model, {name: text})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ({"seed": "1:30"}, "seed: got '1:30'"),
        ({"seed": "0x10"}, "seed: got '0x10'"),
        ({"seed": str(2**64)}, f"seed: got {2**64}"),
        ({"seed": "1.0"}, r"seed: got 1\.0 \(float\)"),
        ({"robust": "1"}, r"robust: got 1 \(int\)"),
        ({"epsilon": "1:30"}, "epsilon: got '1:30'"),
        ({"betas": "[0.5, x]"}, "betas: got 'x'"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_in_one_line(monkeypatch, texts, line):
    monkeypatch.undo()
    given = config.read(registry.settings("inpaint"), texts)
    with pytest.raises(InputError, match=line) as caught:
        registry.load("inpaint", "smoke", **given)
    assert "\n" not in str(caught.value)


def test_a_single_value_or_a_text_stands_for_a_list(monkeypatch):
    """As papermill's ``-p scales 4`` and ``-p scales 4,8`` give them."""
    monkeypatch.undo()
    for value, scales in ((4, (4,)), ("4,8", (4, 8)), ("[4, 8]", (4, 8)), ([4, 4, 8], (4, 8))):
        settings = registry.load("sr_scaling", "smoke", data="digits", scales=value)
        assert settings.scales == scales


def test_a_space_before_a_path_is_no_part_of_it(monkeypatch):
    monkeypatch.undo()
    for experiment in ("inpaint", "srflow_robustness"):
        assert registry.load(experiment, "smoke", data="folder: /a b").data == "folder:/a b"


def test_the_table_of_settings_shows_small_numbers():
    """It printed 0.0 for 1e-7."""
    settings = registry.load("toy_tradeoff", "smoke", epsilon=1e-7)
    (value,) = [row["value"] for row in config.describe(settings) if row["parameter"] == "epsilon"]
    assert value == "1e-07"
