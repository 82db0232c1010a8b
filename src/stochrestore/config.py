"""Typed settings: a preset's YAML, a caller's changes, one validated object.

Each experiment module of ``stochrestore.experiments`` declares a pydantic model named
``Settings``; each file of ``presets/`` gives, per experiment, the values that differ from the
model's defaults.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from stochrestore.errors import InputError, require

Preset = Literal["smoke", "laptop", "gpu", "paper"]
#: Names of the presets, from the fastest to the paper's own.
PRESETS: tuple[Preset, ...] = ("smoke", "laptop", "gpu", "paper")


class ExperimentSettings(BaseModel):
    """What every experiment has; each experiment's module subclasses it as ``Settings``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    preset: Preset = Field(description="where the values not given come from")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random draw")

    # The experiment's name, which is also its notebook's and its section's in each preset. A
    # docstring here would make Sphinx edit pydantic's annotations, which breaks later models.
    experiment: ClassVar[str] = ""
    # Settings that a grid gives to each of its trainings; a value from outside would be lost.
    of_each_training: ClassVar[frozenset[str]] = frozenset()

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, preset: str, **changes: Any) -> Self:
        """The settings at a preset: the preset's values, then ``changes``.

        Args:
            preset: one of :data:`PRESETS`.
            changes: values that replace the preset's; ``None`` keeps the preset's.

        Raises:
            InputError: an unknown preset or name, a wrong type, or a value out of range, in one
                line that names the parameter, what was given and what is allowed.
        """
        given = {
            name: _as_tuple(value, cls.model_fields.get(name))
            for name, value in changes.items()
            if value is not None
        }
        for name in sorted(given.keys() & cls.of_each_training):
            require(False, name, given[name], "no value: each training of the grid has its own")
        values = preset_values(cls.experiment, preset, given)
        settings: Self = validated(cls, {"preset": preset, **values, **given})
        settings._given.update({name: getattr(settings, name) for name in given})
        return settings

    def options(self, *, leave_out: Collection[str]) -> str:
        """The options with which the command gets these settings, as a shell takes them."""
        given = {name: value for name, value in self._given.items() if name not in leave_out}
        texts = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
        }
        options = [f"-p {shlex.quote(f'{name}={text}')}" for name, text in texts.items()]
        return " ".join([f"--preset {self.preset}", *options])


def preset_values(experiment: str, preset: str, given: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The values that ``presets/<preset>.yaml`` gives for an experiment.

    A section named ``name=value`` holds for that value of another setting: ``data=digits`` where
    data is digits, ``data=folder`` where it is folder:PATH. One of several, ``data=digits
    train=true``, holds where all are so. A later section's values replace an earlier one's.

    Args:
        experiment: name of the experiment.
        preset: one of :data:`PRESETS`.
        given: the values that replace the preset's, which choose the sections.
    """
    require(preset in PRESETS, "preset", preset, ", ".join(PRESETS))
    text = resources.files("stochrestore.presets").joinpath(f"{preset}.yaml").read_text("utf-8")
    section = dict(yaml.safe_load(text).get(experiment) or {})
    values = {name: value for name, value in section.items() if "=" not in name}
    for conditions, more in section.items():
        chosen = {**values, **given}
        if "=" in conditions and all(_holds(each, chosen) for each in conditions.split()):
            values |= more
    return values


def _holds(condition: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a setting has the value of ``name=value``, or a path after it."""
    name, _, value = condition.partition("=")
    return str(chosen.get(name)).partition(":")[0].lower() == value


def read(model: type[BaseModel], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that a command's texts stand for, each read by the type of its parameter.

    ``010`` is the integer 10, ``4,8`` and ``[4, 8]`` are the same tuple, and a path is taken as it
    is. What cannot be read stays a value of another type, which the model then refuses.
    """
    fields = model.model_fields
    return {
        name: _by_type(text.strip(), fields[name].annotation) if name in fields else text
        for name, text in texts.items()
    }


def _by_type(text: str, kind: Any) -> Any:
    """A text as a value of a field's type."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) is Annotated or type(None) in get_args(kind):
        none = get_origin(kind) is not Annotated and text.lower() in ("none", "null")
        return None if none else _by_type(text, kinds[0])
    if get_origin(kind) is tuple:
        return _items(text, kinds[0])
    if text[:1] == text[-1:] and text[:1] in ("'", '"'):
        return text[1:-1]
    if kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    elif kind is not bool:
        return text
    other = _yaml(text)  # names the type of what was given instead
    return text if type(other) is int and kind in (int, float) else other


def _items(text: str, kind: Any) -> Any:
    """``[4, 8]``, ``4,8`` or ``4`` as a list."""
    inner = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
    if not {*inner}.isdisjoint("[]()"):
        return text
    return [_by_type(item.strip(), kind) for item in inner.split(",") if item.strip()]


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _as_tuple(value: Any, field: FieldInfo | None) -> Any:
    """A list for a parameter that is one: papermill's ``-p`` gives single values and texts."""
    if field is None or get_origin(field.annotation) is not tuple:
        return value
    if isinstance(value, str):
        return _items(value, get_args(field.annotation)[0])
    return [value] if isinstance(value, int | float) else value


def validated(model: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """An instance of a settings model.

    Raises:
        InputError: what does not fit, in one line, as :meth:`ExperimentSettings.load` says it.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("; ".join(_lines(error, model))) from None


def describe(settings: ExperimentSettings) -> list[dict[str, Any]]:
    """One row a setting: parameter, value, meaning; for a table at the head of a chapter.

    Floats are texts, since a table would print 0.0 for 1e-7.
    """
    rows = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = f"{value:g}" if isinstance(value, float) else value
        rows.append({"parameter": name, "value": shown, "meaning": field.description})
    return rows


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
