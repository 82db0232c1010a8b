"""Errors that end a command in one line: bad input, and a training that makes no sense."""

from __future__ import annotations

import os
from typing import Any


class InputError(ValueError):
    """An error in the input, in one line, which a notebook shows instead of a traceback.

    The line says what is wrong, where, and what is allowed.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class TrainingDiverged(RuntimeError):
    """Going on makes no sense: a loss is not finite, or the critic has won for good."""


def require(condition: bool, where: str, got: Any, allowed: str) -> None:
    """Raise :class:`InputError` ``where: got …; allowed: …`` unless the condition holds."""
    if not condition:
        raise InputError(f"{where}: got {got!r}; allowed: {allowed}")


def silent(progress: bool) -> bool:
    """Whether to show no progress bar: it is not wanted, or TQDM_DISABLE is set.

    To be passed to tqdm as ``disable``, because ``disable=False`` would overrule the variable.
    """
    return not progress or bool(os.environ.get("TQDM_DISABLE"))
