"""Numbers as a reader writes them."""

from __future__ import annotations

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def typeset(number: str) -> str:
    """A number as it is printed: ``−2.93·10⁻⁵`` for ``-2.93e-05``."""
    mantissa, exponent, power = number.replace("-", "−").partition("e")
    if not exponent:
        return mantissa
    raised = str(int(power.replace("−", "-"))).translate(_RAISED)
    return f"{mantissa}·10{raised}" if mantissa.strip("−") != "1" else f"{mantissa[:-1]}10{raised}"
