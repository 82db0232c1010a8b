"""Degradations y = D(x), and how an estimator is made consistent with them by construction.

Each degradation has ``degrade(x)``, the input y = D(x), and ``project(x, y)``, the change of x
that makes it consistent: D(project(x, y)) = y, and project(x, D(x)) = x.
"""

from __future__ import annotations

import torch
from torch import Tensor


class FirstCoordinate:
    """The toy problems' degradation (Sec. 4): Y = X⁽¹⁾, the first of two coordinates."""

    def degrade(self, x: Tensor) -> Tensor:
        """(…, 2) → (…, 1)."""
        return x[..., :1]

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x (…, 2) with its first coordinate replaced by y (…, 1)."""
        return torch.cat([y, x[..., 1:]], dim=-1)
