"""The chapters of the book: which experiments there are, and what each of them offers."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from stochrestore.config import ExperimentSettings
from stochrestore.errors import require

CHAPTERS = (
    "toy_tradeoff",
    "theorem_3_1",
    "appendix_c",
    "inpaint",
    "sr_scaling",
    "srflow_robustness",
)
"""The names of the experiments in the book's order; each has a notebook of the same name."""


class Chapter(Protocol):
    """What the module of an experiment offers: its settings; results are functions of these."""

    Settings: type[ExperimentSettings]


def chapter(name: str) -> Chapter:
    """The module of an experiment.

    Raises:
        InputError: there is no experiment of this name.
    """
    require(name in CHAPTERS, "experiment", name, ", ".join(CHAPTERS))
    module: Any = import_module(f"stochrestore.experiments.{name}")
    return module


def load(name: str, preset: str, **changes: Any) -> Any:
    """The settings of an experiment; see :meth:`ExperimentSettings.load`."""
    return chapter(name).Settings.load(preset, **changes)
