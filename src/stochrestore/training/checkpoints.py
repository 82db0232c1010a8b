"""Checkpoints: a training's whole state on disk, to be continued by the same training only."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from stochrestore.errors import InputError
from stochrestore.store import write_atomically


def save(state: Mapping[str, Any], belongs_to: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        state: all that the next step depends on.
        belongs_to: all that decides the trained weights, as plain numbers, texts and lists.

    Raises:
        InputError: the file cannot be written; an older checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save({**state, "belongs_to": json.loads(json.dumps(belongs_to))}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, belongs_to: Mapping[str, Any]) -> dict[str, Any]:
    """Read the state that :func:`save` wrote for the same training; its tensors are on the CPU.

    Raises:
        InputError: an unreadable or truncated file, or the checkpoint of another training; the
            line names the settings that differ.
    """
    state = _read(path)
    written = state["belongs_to"]
    now = json.loads(json.dumps(belongs_to))
    changed = [name for name in {**now, **written} if written.get(name) != now.get(name)]
    if changed:
        raise InputError(
            f"checkpoint {path} was written with other settings ({', '.join(changed)}): "
            "remove it to start afresh"
        )
    return state


def owner(path: Path) -> dict[str, Any]:
    """What decides the weights of the training that wrote a checkpoint; no tensor is read.

    Raises:
        InputError: an unreadable or truncated file.
    """
    return dict(_read(path, mmap=True)["belongs_to"])


def _read(path: Path, **options: Any) -> dict[str, Any]:
    state: Any = None
    with suppress(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        state = torch.load(path, map_location="cpu", weights_only=True, **options)
    if not (isinstance(state, dict) and isinstance(state.get("belongs_to"), dict)):
        raise InputError(f"checkpoint {path} cannot be read: remove it to start afresh")
    return state
