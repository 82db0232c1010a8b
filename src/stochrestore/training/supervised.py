"""The training of a network whose answers are known, and the learning rates it may follow."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stochrestore.training.loop import Trainer


class SupervisedTrainer(Trainer):
    """Adam on one loss; subclasses say which, and how the learning rate changes.

    Args:
        network: what is trained and kept.
        parameters: those to train; default: all that require gradients.
        betas: Adam's betas.
        weight_decay: AdamW's; 0 makes it Adam.
        largest_gradient: norm that gradients are shortened to where they are longer.
        others: ``steps``, ``batch_size``, ``settings`` and ``generator`` of
            :class:`~stochrestore.training.loop.Trainer`.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("loss",)
    parts: ClassVar[tuple[str, ...]] = ("network", "optimizer")
    advice: ClassVar[str] = "the last checkpoint is kept; lower lr"

    def __init__(
        self,
        network: nn.Module,
        *,
        parameters: Iterable[nn.Parameter] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        largest_gradient: float = math.inf,
        **others: Any,
    ) -> None:
        super().__init__(network, **others)
        chosen = (p for p in network.parameters() if p.requires_grad)
        self.optimizer = torch.optim.AdamW(
            parameters or chosen, betas=betas, weight_decay=weight_decay
        )
        self.largest_gradient = largest_gradient

    @abstractmethod
    def loss(self) -> Tensor:
        """The loss on a fresh batch, a scalar."""

    @abstractmethod
    def learning_rate(self) -> float:
        """Adam's learning rate at the present step."""

    def update(self) -> tuple[Tensor, ...]:
        """One update of the network."""
        loss = self.loss()
        self.descend(self.optimizer, loss)
        return (loss,)

    def descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """One step of an optimiser along the gradient of a loss."""
        group = optimizer.param_groups[0]
        group["lr"] = self.learning_rate()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(group["params"], self.largest_gradient)
        optimizer.step()


def cosine(step: int, steps: int) -> float:
    """Falls from 1 at step 0 to 0 at ``steps`` as half a cosine."""
    return 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * step / steps)))


def one_cycle(step: int, steps: int, largest: float) -> float:
    """Rises from a 25th to ``largest`` in the first tenth of the steps, then falls to almost 0.

    Both as half a cosine; the values are those of torch's ``OneCycleLR``.
    """
    first, last, top = largest / 25, largest / 25 / 1e4, 0.1 * steps - 1
    if top > 0 and step <= top:
        start, end, share = first, largest, step / top
    else:
        start, end, share = largest, last, (step - top) / (steps - 1 - top)
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
