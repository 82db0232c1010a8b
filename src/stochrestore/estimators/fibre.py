"""The images that are consistent with an input, in orthonormal coordinates."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn


class LinearProjection(Protocol):
    """A linear degradation, as the toy problems and the images have one."""

    def degrade(self, x: Tensor) -> Tensor:
        """y = D(x)."""
        ...

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The point nearest to x with D(project(x, y)) = y."""
        ...


class Fibre(nn.Module):
    r"""Splits x into what y = D(x) tells, a, and what it leaves open, u.

    The images with D(x) = y form an affine space, the fibre of y. With orthonormal rows A that
    span what D sees and U that span what D deletes,

    .. math:: a &= s A (x − c), \qquad u = s U (x − c), \\
              x &= c + (Aᵀa + Uᵀu)/s.

    So a is a function of y alone, and an estimator that chooses u is consistent by construction.
    Both bases come from the columns of D's projection by Gram–Schmidt in their order. Therefore
    they are the same on every machine, and belong to no file of weights.

    Args:
        degradation: D, linear.
        shape: of x without the batch.
        centre: c, near the mean of the data.
        scale: s, which gives u numbers of size 1.
    """

    known_basis: Tensor
    open_basis: Tensor

    def __init__(
        self,
        degradation: LinearProjection,
        shape: tuple[int, ...],
        *,
        centre: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.degradation, self.shape = degradation, shape
        self.centre, self.scale = centre, scale
        unit = torch.eye(math.prod(shape), dtype=torch.float64).unflatten(1, shape)
        deleted = degradation.project(unit, torch.zeros_like(degradation.degrade(unit)))
        for name, rows in (("known_basis", unit - deleted), ("open_basis", deleted)):
            basis = gram_schmidt(rows.flatten(1)).float()
            self.register_buffer(name, basis, persistent=False)

    @property
    def known(self) -> int:
        """How many numbers a has."""
        return len(self.known_basis)

    @property
    def open(self) -> int:
        """How many numbers u has."""
        return len(self.open_basis)

    def told(self, y: Tensor) -> Tensor:
        """y (N, …) → a, (N, known)."""
        nearest = self.degradation.project(y.new_zeros(len(y), *self.shape), y)
        return self._coordinates(nearest, self.known_basis)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, …) → a (N, known) and u (N, open)."""
        return self._coordinates(x, self.known_basis), self._coordinates(x, self.open_basis)

    def assemble(self, y: Tensor, u: Tensor) -> Tensor:
        """The x of the fibre of y (N, …) whose open part is u (N, open)."""
        flat = (self.told(y) @ self.known_basis + u @ self.open_basis) / self.scale + self.centre
        return self.degradation.project(flat.unflatten(1, self.shape), y)

    def _coordinates(self, x: Tensor, basis: Tensor) -> Tensor:
        return self.scale * (x.flatten(1) - self.centre) @ basis.T


def gram_schmidt(vectors: Tensor, *, smallest: float = 1e-6) -> Tensor:
    """An orthonormal basis of what the rows span, in their order: (N, d) → (rank, d).

    Args:
        smallest: what remains of a row and is no longer than this depends on those before it.
    """
    basis = vectors[:0]
    for row in vectors:
        rest = row
        for _ in range(2):  # the second time takes away the rounding of the first
            rest = rest - (basis @ rest) @ basis
        if rest.norm() > smallest:
            basis = torch.cat([basis, (rest / rest.norm())[None]])
    return basis
