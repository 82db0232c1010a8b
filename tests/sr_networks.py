"""Small super-resolution networks whose weights are given by a formula, for several test files."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from stochrestore.networks.edsr import EDSR
from stochrestore.networks.rrdb import RRDBNet
from stochrestore.networks.srflow import FlowStep, SRFlow

REFERENCE = Path(__file__).parents[2] / "shared" / "golden"
GOLDEN = Path(__file__).parent / "golden" / "sr_golden.safetensors"
ESRGAN_KEYS = GOLDEN.with_name("keys_esrgan_x4.txt")
"""Names and shapes of the published weights."""
ESRGAN_REFERENCE = GOLDEN.with_name("esrgan_small.safetensors")
"""Random weights, and what the network's authors' code makes of them in float32."""


def fill(network: nn.Module) -> nn.Module:
    """Weights without a random draw: waves, of a size that keeps activations moderate."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if not tensor.requires_grad:
                continue
            wave = torch.sin(1.7 * torch.arange(tensor.numel(), dtype=torch.float64) + len(name))
            size = 0.5 / tensor[0].numel() ** 0.5
            tensor.copy_((size * wave).reshape(tensor.shape))
            if "norm" in name or "logs" in name or ".4." in name:
                tensor.mul_(0.2)
        for step in network.modules():
            if isinstance(step, FlowStep):
                step.invconv.weight += torch.eye(len(step.invconv.weight))
    return network.eval().requires_grad_(False)


def edsr() -> EDSR:
    return fill(EDSR(8, 2))


def rrdb() -> RRDBNet:
    return fill(RRDBNet(8, 2, 4))


def srflow(heat: float = 0.9) -> SRFlow:
    return fill(SRFlow(8, 2, 4, steps=1, hidden=6, stacked=(0, 1), heat=heat))


NETWORKS = {"edsr": edsr, "rrdb": rrdb, "srflow": srflow}


def image(h: int = 10, w: int = 12, n: int = 1) -> torch.Tensor:
    """A smooth test image, (n, 3, h, w), in [0, 1]."""
    t = torch.arange(n * 3 * h * w, dtype=torch.float32).reshape(n, 3, h, w)
    return 0.5 + 0.5 * torch.sin(0.37 * t)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def key_digest(shapes: dict[str, tuple[int, ...]]) -> str:
    """The sha256 of names and shapes, in the order of names."""
    listed = sorted((name, list(shape)) for name, shape in shapes.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def listed_keys(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a reference list, ``name (shape)`` a line."""
    shapes = {}
    for line in path.read_text().splitlines():
        name, _, shape = line.partition(" ")
        shapes[name] = tuple(int(side) for side in shape.strip("()").split(",") if side.strip())
    return shapes


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def tiny_srflow() -> SRFlow:
    return fill(SRFlow(4, 2, 2, steps=1, hidden=3, stacked=(1,)))


def published(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a small network as its published file names them."""
    network = tiny_srflow() if name == "srflow" else NETWORKS[name]()
    state = dict(network.state_dict())
    if name == "srflow":
        unused = {"weight": torch.zeros(96, 8, 3, 3), "bias": torch.zeros(96)}
        state |= {f"flowUpsamplerNet.f.0.{key}": tensor for key, tensor in unused.items()}
    return state


STATES = {name: published(name) for name in NETWORKS}
