"""One clear error for bad input: what was wrong, where, and what is allowed."""

from __future__ import annotations

from typing import Any


class InputError(ValueError):
    """Bad input, said in one line; a notebook shows the line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def require(condition: bool, where: str, got: Any, allowed: str) -> None:
    """Raise :class:`InputError` ``where: got …; allowed: …`` unless the condition holds."""
    if not condition:
        raise InputError(f"{where}: got {got!r}; allowed: {allowed}")
