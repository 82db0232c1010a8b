"""The information that a degradation removes, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stochrestore.errors import require


def gaussian_bits(x: Tensor, y: Tensor, *, levels: int = 256) -> float:
    r"""An upper bound on the entropy of images X given Y, from second moments alone.

    .. math:: H(X | Y) ≤ \sum_i \max(0, \tfrac12 \log_2(2πe\, λ_i (levels − 1)^2))

    where the λ_i are the eigenvalues of Σ_xx − Σ_xy Σ_yy⁺ Σ_yx, the error covariance of the best
    linear estimator of X. Among all distributions with this covariance the Gaussian has the
    largest entropy, and conditioning lowers the entropy further. A direction that varies by less
    than a grey level counts as 0.

    Args:
        x: images in [0, 1], (N, D), with N > D so that the covariance has full rank.
        y: their degraded versions, (N, d).
        levels: the number of grey levels, ≥ 2.

    Returns:
        Bits per image.

    Raises:
        InputError: other shapes, or fewer than two levels.
    """
    require(levels >= 2, "gaussian_bits: levels", levels, "an integer ≥ 2")
    shapes = tuple(x.shape), tuple(y.shape)
    fits = x.ndim == y.ndim == 2 and len(x) == len(y) > 1
    require(fits, "gaussian_bits: shapes of x and y", shapes, "(N, D) and (N, d), N ≥ 2")
    x, y = (t.double() - t.double().mean(0) for t in (x, y))
    n = len(x) - 1
    explained = torch.linalg.pinv(y.T @ y / n, hermitian=True)
    cross = x.T @ y / n
    conditional = x.T @ x / n - cross @ explained @ cross.T
    spread = torch.linalg.eigvalsh(conditional).clamp_min(0) * (levels - 1) ** 2
    return (0.5 * (2 * math.pi * math.e * spread).log2()).clamp_min(0).sum().item()
