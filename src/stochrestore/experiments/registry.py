"""The chapters of the book: which experiments there are, and what each of them offers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from stochrestore.config import ExperimentSettings
from stochrestore.errors import require

if TYPE_CHECKING:
    from stochrestore.training.jobs import Job, Method

CHAPTERS = (
    "toy_tradeoff",
    "theorem_3_1",
    "appendix_c",
    "inpaint",
    "sr_scaling",
    "srflow_robustness",
    "lipschitz",
    "families",
)
"""The names of the experiments in the book's order; each has a notebook of the same name."""


TRAINED = (
    *("toy_tradeoff", "inpaint", "sr_scaling", "srflow_robustness", "families"),
    *("attributes", "fashion", "face_posteriors"),
)
"""The names of the experiments that train networks; ``attributes`` and ``fashion``
are features of images, ``face_posteriors`` are draws that a chapter shows, and have no notebook."""


class Experiment(Protocol):
    """What the module of an experiment offers: its settings; results are functions of these."""

    Settings: type[ExperimentSettings]


class Trainable(Experiment, Protocol):
    """What the module of an experiment with trained networks offers too."""

    METHOD: Method
    """How a network is built, trained, measured and loaded."""

    def all_jobs(self, settings: Any) -> dict[str, Job]:
        """Every training by name."""


def chapter(name: str) -> Experiment:
    """The module of an experiment that has a notebook.

    Raises:
        InputError: there is no experiment of this name.
    """
    return _module(name, CHAPTERS)


def trained(name: str) -> Trainable:
    """The module of an experiment that trains networks.

    Raises:
        InputError: there is no experiment of this name, or it trains none.
    """
    return _module(name, TRAINED)


def settings(name: str) -> type[ExperimentSettings]:
    """The settings' model of an experiment, whether it has a notebook or not."""
    model: type[ExperimentSettings] = _module(name, (*CHAPTERS, *TRAINED)).Settings
    return model


def _module(name: str, known: tuple[str, ...]) -> Any:
    require(name in known, "experiment", name, ", ".join(known))
    return import_module(f"stochrestore.experiments.{name}")


def load(name: str, preset: str, **changes: Any) -> Any:
    """The settings of a chapter; see :meth:`ExperimentSettings.load`."""
    return chapter(name).Settings.load(preset, **changes)
