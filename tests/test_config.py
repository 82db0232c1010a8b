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


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("experiment", registry.CHAPTERS)
def test_every_preset_of_every_experiment_is_valid(monkeypatch, experiment, preset):
    monkeypatch.undo()
    settings = registry.load(experiment, preset)
    assert settings.preset == preset
    settings.model_dump_json()
