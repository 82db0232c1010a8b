"""The check of images where they enter the metrics."""

from __future__ import annotations

from torch import Tensor

from stochrestore.errors import require

MANY = 0.05
"""A larger share of values far outside [0, 1] is not a restoration's, but of another range."""


def check_images(where: str, images: Tensor) -> None:
    """Refuse images that are not floats in [0, 1], such as bytes or images in [−1, 1].

    Restorations may leave [0, 1]: they are refused only if their values look like those of
    another range, [−1, 1] or [0, 255].

    Args:
        where: the beginning of the error's line.
        images: of any shape, not empty.

    Raises:
        InputError: another dtype or range.
    """
    require(images.is_floating_point(), f"{where}: dtype of images", images.dtype, "floats")
    low, high = (value.item() for value in images.aminmax())
    signed = low >= -1 and high <= 1 and (images < -0.5).double().mean() > MANY
    in_bytes = low >= 0 and (images > 2).double().mean() > MANY
    found = f"{low:.3g} to {high:.3g}"
    require(not signed and not in_bytes, f"{where}: range of images", found, "0 to 1")
