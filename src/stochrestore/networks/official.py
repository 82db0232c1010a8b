"""Loads the published weights of EDSR, ESRGAN and SRFlow from files that the user provides.

Files are loaded strictly: each tensor of the file is used, and each tensor of the network comes
from the file. The sizes of the network follow from the shapes of the tensors.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor, nn

from stochrestore.errors import InputError, require
from stochrestore.networks.edsr import EDSR, MeanShift
from stochrestore.networks.rrdb import RRDBNet
from stochrestore.networks.srflow import SRFlow
from stochrestore.store import sha256

ADDRESSES = {
    "edsr": "https://cv.snu.ac.kr/research/EDSR/models/edsr_x4-4f62e9ef.pt",
    "esrgan": "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.1/"
    "ESRGAN_SRx4_DF2KOST_official-ff704c30.pth",
    "srflow": "http://data.vision.ee.ethz.ch/alugmayr/SRFlow/pretrained_models.zip",
}
"""Where the weights of each network are published; SRFlow's are ``SRFlow_DF2K_4X.pth`` in a zip."""

Network = TypeVar("Network", bound=nn.Module)
Shapes = dict[str, tuple[int, ...]]

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
# What a training puts before the names; "model." and a number is the old layout of ESRGAN.
_PREFIXES = re.compile(r"^((module|generator|model(?!\.\d))\.)+")
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth?$")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_OTHER_FILES = {
    b"version https://git-lfs.github.com/": "a pointer of Git LFS; `git lfs pull` fetches the file",
    b"<": "a web page; open the address in a browser and save the file itself",
}
_SHOWN = 3

# Layouts of RRDBNet and EDSR: the pattern of a published name, and the name here.
_OLD_ESRGAN = (
    (r"model\.0\.", "conv_first."),
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"RRDB_trunk.\1.RDB\2.conv\3."),
    (r"model\.1\.sub\.\d+\.", "trunk_conv."),
    (r"model\.3\.", "upconv1."),
    (r"model\.6\.", "upconv2."),
    (r"model\.8\.", "HRconv."),
    (r"model\.10\.", "conv_last."),
)
_BASICSR = (
    (r"body\.(\d+)\.rdb(\d)\.", r"RRDB_trunk.\1.RDB\2."),
    (r"conv_body\.", "trunk_conv."),
    (r"conv_up(\d)\.", r"upconv\1."),
    (r"conv_hr\.", "HRconv."),
)
_BASICSR_EDSR = (
    (r"conv_first\.", "head.0."),
    (r"body\.(\d+)\.conv1\.", r"body.\1.body.0."),
    (r"body\.(\d+)\.conv2\.", r"body.\1.body.2."),
    (r"upsample\.", "tail.0."),
    (r"conv_last\.", "tail.1."),
)


def load_edsr(path: Path) -> EDSR:
    """EDSR with the weights of a file, baseline (64 channels, scale 1) or full (256, scale 0.1).

    The file may have the layout of the authors or that of BasicSR, which keeps the mean colour in
    its code; :data:`edsr.MEAN` is the same.

    Raises:
        InputError: the file cannot be read, or it holds another network.
    """
    state = read_state(path)
    if "conv_after_body.weight" in state:
        last = str(_count(state, r"body\.(\d+)\."))
        layout = (*_BASICSR_EDSR, (r"conv_after_body\.", f"body.{last}."))
        state = {_renamed(name, layout): tensor for name, tensor in state.items()}
        for name, sign in (("sub_mean", -1), ("add_mean", +1)):
            state |= {f"{name}.{key}": t for key, t in MeanShift(sign).state_dict().items()}
    features = _side(state, "head.0.weight", 0, path)
    blocks = _count(state, r"body\.(\d+)\.body\.")
    network = EDSR(features, blocks, residual_scale=0.1 if features == 256 else 1.0)
    return _filled(network, state, path)


def load_esrgan(path: Path) -> RRDBNet:
    """RRDBNet with the weights of a file, in ESRGAN's old or new layout or in BasicSR's.

    Raises:
        InputError: the file cannot be read, or it holds another network.
    """
    state = renamed(read_state(path))
    return _filled(RRDBNet(*_rrdb_sizes(state, "", path)), state, path)


def load_srflow(path: Path, *, heat: float = 0.9) -> SRFlow:
    """SRFlow ×4 with the weights of a file.

    Raises:
        InputError: the file cannot be read, or it holds another network.
    """
    state = read_state(path)
    features, blocks, growth = _rrdb_sizes(state, "RRDB.", path)
    first = "flowUpsamplerNet.layers.3.affine.fFeatures.0.weight"
    hidden, condition = (_side(state, first, axis, path) for axis in (0, 1))
    stacked = (1, 8, 15, 22)[: condition // features - 1]
    blocks = max(blocks, *(block + 1 for block in stacked), 1)  # where too few, some are missing
    # Three levels of a squeeze, two steps without coupling and K with; one split.
    steps = max(1, (_count(state, r"flowUpsamplerNet\.layers\.(\d+)\.") - 10) // 3)
    network = SRFlow(
        features, blocks, growth, steps=steps, hidden=hidden, stacked=stacked, heat=heat
    )
    return _filled(network, state, path)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without what a training wraps around them.

    Raises:
        InputError: the file is missing or truncated, its sha256 is not the one in its name, it
            holds other things than tensors, or a tensor holds NaN or infinity.
    """
    state = _read(path)
    for wrapper in 2 * _WRAPPERS:  # one may hold another
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = {_bare(str(name)): tensor for name, tensor in state.items()}
    fits = {k: isinstance(x, Tensor) and k.isprintable() for k, x in tensors.items()}
    others = [name for name, good in fits.items() if not good]
    allowed = "tensors only, under printable names"
    require(bool(tensors) and not others, f"weights {path.name}", others[:_SHOWN], allowed)
    twice = len(tensors) < len(state)
    require(not twice, f"weights {path.name}", list(state)[:_SHOWN], "the tensors of one network")
    wrong = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if wrong:
        raise InputError(
            f"weights {path.name} are not finite; {_some('NaN or infinity', wrong)[0]}"
        )
    return tensors


def _bare(name: str) -> str:
    """A tensor's name without what DataParallel, torch.compile or a trainer put into it."""
    return _PREFIXES.sub("", name.replace("_orig_mod.", ""))


def _read(path: Path) -> Mapping[str, Any]:
    """The content of the file, in which only plain data are allowed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror}") from None
    for start, what in _OTHER_FILES.items():
        if content[:99].lstrip().startswith(start):
            raise InputError(f"weights {path.name}: the file is {what}")
    match = _DIGEST_IN_NAME.search(path.name)
    digest = sha256([content])
    if match and not _DATE.fullmatch(match[1]) and not digest.startswith(match[1]):
        raise InputError(
            f"weights {path.name}: sha256 begins with {digest[:8]}, the name says {match[1]}; "
            "truncated or altered, fetch the file again"
        )
    try:
        if path.suffix == ".safetensors":
            return tensors_from_bytes(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle ends in errors of any kind
        raise InputError(
            f"weights {path.name} cannot be read: truncated, or not a file of tensors only"
        ) from None
    if not isinstance(state, Mapping):
        raise InputError(f"weights {path.name}: got {type(state).__name__}; allowed: named tensors")
    return state


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an RRDBNet in any of three layouts, under the names used here."""
    layout: tuple[tuple[str, str], ...] = ()
    if "model.0.weight" in state:
        layout = _OLD_ESRGAN
    elif "conv_body.weight" in state:
        layout = _BASICSR
    return {_renamed(name, layout): tensor for name, tensor in state.items()}


def _renamed(name: str, layout: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in layout:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return name


def official_shapes(network: nn.Module) -> Shapes:
    """The names and shapes of the tensors in the published file of a network."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return shapes | _unused(network)


def _unused(network: nn.Module) -> Shapes:
    """Tensors that the published files hold and that the computation does not use."""
    if not isinstance(network, SRFlow):
        return {}
    condition = network.RRDB.conv_first.out_channels * (1 + len(network.stacked))
    name = "flowUpsamplerNet.f.0"
    return {f"{name}.weight": (96, condition, 3, 3), f"{name}.bias": (96,)}


def _filled(network: Network, state: dict[str, Tensor], path: Path) -> Network:
    """The network with the tensors of ``state``, all of them, in evaluation mode.

    Raises:
        InputError: names or shapes differ; the line lists the first of them.
    """
    expected = official_shapes(network)
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    both = ((name, found[name], here) for name, here in expected.items() if name in found)
    wrong = [
        *_some("missing", [name for name in expected if name not in found]),
        *_some("unexpected", [name for name in found if name not in expected]),
        *_some("of another shape", [f"{n} {a}, here {b}" for n, a, b in both if a != b]),
    ]
    if wrong:
        kind = type(network).__name__
        raise InputError(f"weights {path.name} are not those of {kind} ×4: {'; '.join(wrong)}")
    used = {name: tensor for name, tensor in state.items() if name not in _unused(network)}
    network.load_state_dict(used)
    return network.eval().requires_grad_(False)


def _some(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{more}"]


def _rrdb_sizes(state: Mapping[str, Tensor], prefix: str, path: Path) -> tuple[int, int, int]:
    """Features, blocks and growth of an RRDBNet."""
    features = _side(state, f"{prefix}conv_first.weight", 0, path)
    growth = _side(state, f"{prefix}RRDB_trunk.0.RDB1.conv1.weight", 0, path)
    return features, _count(state, rf"{re.escape(prefix)}RRDB_trunk\.(\d+)\."), growth


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number in the names that match the pattern."""
    matches = [re.match(pattern, name) for name in state]
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _side(state: Mapping[str, Tensor], name: str, axis: int, path: Path) -> int:
    """The length of one axis of a tensor, from which the size of the network follows."""
    tensor = state.get(name)
    if tensor is None or tensor.ndim <= axis:
        first = ", ".join(list(state)[:_SHOWN])
        raise InputError(f"weights {path.name}: missing: {name}; found: {first}, …")
    return tensor.shape[axis]
