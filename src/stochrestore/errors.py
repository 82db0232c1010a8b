"""One clear error for bad input: what was wrong, where, and what is allowed."""

from __future__ import annotations

import os
from typing import Any


class InputError(ValueError):
    """Bad input, said in one line; a notebook shows the line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def require(condition: bool, where: str, got: Any, allowed: str) -> None:
    """Raise :class:`InputError` ``where: got …; allowed: …`` unless the condition holds."""
    if not condition:
        raise InputError(f"{where}: got {got!r}; allowed: {allowed}")


def silent(progress: bool) -> bool:
    """Whether a progress bar stays away: not asked for, or TQDM_DISABLE is set.

    An explicit ``disable=False`` would overrule the variable.
    """
    return not progress or bool(os.environ.get("TQDM_DISABLE"))
