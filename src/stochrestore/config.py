"""Typed settings: a preset's YAML, a caller's changes, one validated object.

Each experiment module of :mod:`stochrestore.experiments` declares a pydantic model named
``Settings``; each file of ``presets/`` gives, per experiment, the values that differ from the
model's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Literal, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from stochrestore.errors import InputError, require

Preset = Literal["smoke", "laptop", "gpu", "paper"]
#: Names of the presets, from the fastest to the paper's own.
PRESETS: tuple[Preset, ...] = ("smoke", "laptop", "gpu", "paper")


class ExperimentSettings(BaseModel):
    """What every experiment has; subclassed as ``Settings`` in each experiment's module."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    preset: Preset = Field(description="where the values not given come from")
    seed: int = Field(0, ge=0, description="seed of every random draw")


def experiments() -> tuple[str, ...]:
    """Names of all experiments; each is also the name of its notebook."""
    folder = resources.files("stochrestore.experiments")
    modules = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(m.stem for m in modules if m.suffix == ".py" and m.stem[0] != "_"))


def preset_values(experiment: str, preset: str, given: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The values that ``presets/<preset>.yaml`` gives for an experiment.

    A section named ``name=value`` holds for that value of another setting: ``data=digits`` where
    data is digits, ``data=folder`` where it is folder:PATH.

    Args:
        experiment: name of the experiment.
        preset: one of :data:`PRESETS`.
        given: the values that replace the preset's, which choose the sections.
    """
    require(preset in PRESETS, "preset", preset, ", ".join(PRESETS))
    text = resources.files("stochrestore.presets").joinpath(f"{preset}.yaml").read_text("utf-8")
    section = dict(yaml.safe_load(text).get(experiment) or {})
    values = {name: value for name, value in section.items() if "=" not in name}
    for condition, more in section.items():
        name, equals, value = condition.partition("=")
        chosen = str(given.get(name, values.get(name))).partition(":")[0].lower()
        if equals and chosen == value:
            values |= more
    return values


def settings_class(experiment: str) -> type[ExperimentSettings]:
    """The ``Settings`` model of an experiment."""
    require(experiment in experiments(), "experiment", experiment, ", ".join(experiments()))
    module = import_module(f"stochrestore.experiments.{experiment}")
    model: type[ExperimentSettings] = module.Settings
    return model


def load(experiment: str, preset: str, **changes: Any) -> Any:
    """The settings of an experiment: the preset's values, then ``changes``.

    Args:
        experiment: name of the experiment, e.g. ``"toy_tradeoff"``.
        preset: one of :data:`PRESETS`.
        changes: values that replace the preset's; ``None`` keeps the preset's.

    Returns:
        An instance of the experiment's ``Settings``.

    Raises:
        InputError: unknown experiment, preset or name, wrong type, value out of range; one line
            that names the parameter, what was given and what is allowed.
    """
    model = settings_class(experiment)
    given = {
        name: _read(value, model.model_fields.get(name))
        for name, value in changes.items()
        if value is not None
    }
    values = preset_values(experiment, preset, given)
    return validated(model, {"preset": preset, **values, **given})


def _read(value: Any, field: FieldInfo | None) -> Any:
    """The list that a text holds, for a parameter that is one: papermill's ``-p`` gives texts."""
    if not isinstance(value, str) or field is None or get_origin(field.annotation) is not tuple:
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def validated(model: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """An instance of a settings model.

    Raises:
        InputError: what does not fit, in one line, as :func:`load` says it.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("; ".join(_lines(error, model))) from None


def describe(settings: ExperimentSettings) -> list[dict[str, Any]]:
    """One row a setting: parameter, value, meaning; for a table at the head of a chapter."""
    fields = type(settings).model_fields
    return [
        {"parameter": name, "value": getattr(settings, name), "meaning": field.description}
        for name, field in fields.items()
    ]


def _lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One clause for each thing wrong: parameter, what was given, what is allowed."""
    lines = []
    for e in error.errors():
        if not e["loc"]:  # several parameters do not fit together; the validator says which
            lines.append(e["msg"].removeprefix("Value error, "))
            continue
        name = str(e["loc"][0])
        if e["type"] == "extra_forbidden":
            lines.append(f"{name}: unknown parameter; allowed: {', '.join(model.model_fields)}")
        else:
            allowed = e["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            lines.append(
                f"{name}: got {e['input']!r} ({type(e['input']).__name__}); allowed: {allowed}"
            )
    return lines
