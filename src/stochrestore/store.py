"""Weights on disk: safetensors, each with a record beside it of how they came to be.

``NAME.safetensors`` holds the tensors; ``NAME.json`` holds their sha256, the settings of the
training and what was measured along it. Neither can run code when loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stochrestore.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

Stored = Literal["float32", "float16", "int8"]
"""The numbers that weights are stored as; see :func:`to_bytes`."""
FACTOR = ".factor"
"""What the name of an int8 tensor is followed by in that of its factors."""

#: Seconds that the clocks of machines which share a folder may differ by: what is older than what
#: it was made from is made again.
CLOCKS_MAY_DIFFER = 60


def shipped(experiment: str) -> Path:
    """The folder of the weights that come with the library for an experiment."""
    return Path(__file__).parent / "weights" / experiment


def save(
    module: nn.Module, path: Path, record: dict[str, Any], *, stored: Stored = "float32"
) -> None:
    """Write a module's weights to ``path`` (.safetensors) and its record beside it.

    Each file is written whole or not at all; the record, written last, vouches for the weights.

    Args:
        stored: the numbers to store; loading brings them back to the module's own.
    """
    data = to_bytes(module, stored)
    digest = sha256([data])
    write_atomically(path, data)
    write_record(path.with_suffix(".json"), {"sha256": digest, **record})


def to_bytes(module: nn.Module, stored: Stored = "float32") -> bytes:
    """What :func:`save` writes of a module's weights.

    ``int8``: matrices and kernels are whole numbers times a factor for each row (an output of the
    layer), max|w|/127, so that no weight moves by more than half its row's factor; the rest, which
    is small, is stored in half precision.
    """
    from safetensors.torch import save as tensors_to_bytes  # with torch: seconds

    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if stored == "int8" and tensor.is_floating_point() and tensor.ndim > 1:
            kept |= _in_8_bits(name, tensor)
        else:
            smaller = stored != "float32" and tensor.is_floating_point()
            kept[name] = tensor.half() if smaller else tensor
    return tensors_to_bytes({name: tensor.contiguous() for name, tensor in kept.items()})


def _in_8_bits(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor as whole numbers from −127 to 127, and the factors of its rows."""
    rows = tensor.float().flatten(1)
    factor = (rows.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)  # a row may be all 0
    whole = (rows / factor).round().char().view(tensor.shape)
    return {name: whole, name + FACTOR: factor.squeeze(1)}


def _from_8_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, those in 8 bits times the factors of their rows."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(FACTOR)}
    for name in found:
        if name + FACTOR in tensors:
            rows = found[name].float().flatten(1) * tensors[name + FACTOR][:, None]
            found[name] = rows.view(found[name].shape)
    return found


def load(module: nn.Module, path: Path) -> dict[str, Any]:
    """Fill a module with the weights of ``path``; returns their record.

    Raises:
        InputError: a missing file, a truncated or altered one (sha256), or weights of another
            network.
    """
    from safetensors.torch import load as tensors_from_bytes  # with torch: seconds

    record, data = _verified(path)
    try:
        module.load_state_dict(_from_8_bits(tensors_from_bytes(data)))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"weights {path.name} are of another network: {reason}") from None
    return record


def is_whole(path: Path) -> bool:
    """Whether the weights of ``path`` are there, as their record says."""
    try:
        _verified(path)
    except InputError:
        return False
    return True


def _verified(path: Path) -> tuple[dict[str, Any], bytes]:
    """The record of the weights of ``path``, and their bytes, which have the record's sha256."""
    record = read_record(path.with_suffix(".json"))
    if "sha256" not in record:
        raise InputError(f"record {path.stem}.json names no sha256 of weights: of something else?")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"weights {path.name} cannot be read: {error.strerror}") from None
    digest = sha256([data])
    if digest != record["sha256"]:
        raise InputError(
            f"weights {path.name}: sha256 is {digest[:12]}…, its record says "
            f"{record['sha256'][:12]}… ({len(data)} bytes read); fetch the file again or train it"
        )
    return record, data


def sha256(parts: Iterable[Any]) -> str:
    """The sha256, in hexadecimal digits, of bytes or arrays of bytes, one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def sha256_of(path: Path, what: str) -> str:
    """The sha256 of a file, in hexadecimal digits.

    Raises:
        InputError: the file cannot be read; the line begins with ``what``.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{what}: {error.strerror}") from None


def read_record(path: Path) -> dict[str, Any]:
    """The JSON record of a training.

    Raises:
        InputError: it cannot be read, or is no JSON object.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"record {path.name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"record {path.name} is not valid JSON: truncated?") from None
    if not isinstance(record, dict):
        raise InputError(f"record {path.name} is no JSON object: of something else?")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all."""
    write_atomically(path, record_bytes(record))


def record_bytes(record: dict[str, Any]) -> bytes:
    """What :func:`write_record` writes."""
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, then move into place.

    Raises:
        InputError: the folder cannot be written, or is full; nothing half-written stays.
    """
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write each file beside its target; once all are there, move them into place, in order.

    Raises:
        InputError: a folder cannot be written, or is full; nothing half-written stays.
    """
    # one name each: what a kill left is replaced
    partial = {path: path.with_name(f"{path.name}.partial") for path in files}
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial[path].write_bytes(data)
        for path, written in partial.items():
            written.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        for written in partial.values():
            with suppress(OSError):
                written.unlink()


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock during the ``with`` block, or until the process ends; the file is removed then.

    Args:
        path: the file of the lock, which may lie in a folder that several machines share.
        what: what is done under the lock, for the line that says that it is done already.

    Raises:
        InputError: another process holds it, the file cannot be written, or its file system has no
            locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        yield
        return
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read() or "another process"
                raise InputError(f"{what} by {holder}; wait for it, or end it") from None
            except OSError as error:
                raise InputError(f"{path} cannot be locked: {error.strerror}") from None
            try:
                if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # removed by the one who held it
            except FileNotFoundError:
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, or whose machine has another time than this one.

    Raises:
        InputError: in one line.
    """
    probe = folder / f".probe-{platform.node()}-{os.getpid()}"
    before = time.time()
    write_atomically(probe, b"")
    ahead = probe.stat().st_mtime - before
    probe.unlink()
    if abs(ahead) > CLOCKS_MAY_DIFFER:
        raise InputError(
            f"clocks differ: {folder} is {ahead:+.0f} s from the clock of {platform.node()}; "
            f"allowed: {CLOCKS_MAY_DIFFER} s. Set them by NTP"
        )
