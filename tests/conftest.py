"""Fixtures and settings that several tests share."""

import signal

import pytest
import torch
from hypothesis import settings

from small_checkout import Checkout
from stochrestore.experiments import trained

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _trained_anew(tmp_path_factory):
    """What chapters train in tests is not kept for the next session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "build_folder", lambda: tmp_path_factory.getbasetemp() / "build")
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell has what it runs in the background ignore Ctrl-C; what tests start must not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def generator():
    """A freshly seeded generator for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def checkout(tmp_path):
    return Checkout.make(tmp_path)
