"""Fixtures that several tests share."""

import pytest

from small_checkout import Checkout


@pytest.fixture
def checkout(tmp_path):
    return Checkout.make(tmp_path)
