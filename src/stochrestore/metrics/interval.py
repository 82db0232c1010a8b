"""A measured value and its interval, which :mod:`~stochrestore.metrics.intervals` makes."""

from __future__ import annotations

from dataclasses import dataclass

from stochrestore.errors import require


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95 % interval; both ends equal the value where it is exact.

    Raises:
        InputError: unless low ≤ value ≤ high.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        ordered = self.low <= self.value <= self.high
        require(ordered, "Interval", (self.low, self.value, self.high), "low ≤ value ≤ high")

    @classmethod
    def exact(cls, value: float) -> Interval:
        """The interval of a quantity that is known without error."""
        return cls(float(value), float(value), float(value))
