"""Fixtures and settings that several tests share."""

import pytest
import torch
from hypothesis import settings

from small_checkout import Checkout

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def generator():
    """A freshly seeded generator for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def checkout(tmp_path):
    return Checkout.make(tmp_path)
