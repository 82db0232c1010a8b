"""SRFlow under I-FGSM: seconds a pixel and step, against a loop over images and seeds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import Row, isolated, median_seconds
from stochrestore.attacks import SignAttack, sign_attack
from stochrestore.experiments import registry
from stochrestore.experiments import srflow_robustness as experiment
from stochrestore.experiments.sr_networks import build
from stochrestore.networks.srflow import SRFlow

ALPHA, SEEDS, IMAGES, SIDE, STEPS = 8 / 255, 10, 4, 16, 2
#: Figure 8: images and mean LR pixels of Set5, Set14 and BSD100; six values of α, 50 steps.
FIGURE_8 = {"Set5": (5, 7_100), "Set14": (14, 14_400), "BSD100": (100, 9_650)}
ALPHAS, FIGURE_STEPS = 6, 50


def attack() -> Iterator[Row]:
    """The library's attack on SRFlow-small, and the direct transcription of App. G."""
    seconds, difference = isolated(_attack)
    pixels = IMAGES * SIDE**2 * STEPS * SEEDS
    yield Row("srflow: attack, speed over a loop's", seconds["loop"] / seconds["library"], "≥ 2")
    yield Row("srflow: µs a pixel of y, seed and step", 1e6 * seconds["library"] / pixels, "≤ 200")
    yield Row("srflow: largest difference of the two", difference, "≤ 1e-9")


def full_size() -> Iterator[Row]:
    """The published size, untrained, on one image of 32×32: what Figure 8 would cost here.

    In whole, and at the preset ``gpu``, which attacks crops of the held-out photographs.
    """
    step = isolated(_full_step)
    yield Row("srflow, full: s a step of a 32×32 image, 10 seeds", step, "≤ 120")
    figure = sum(images * mean for images, mean in FIGURE_8.values()) * ALPHAS * FIGURE_STEPS
    preset = preset_work("gpu")
    hours = step / 32**2 / 3600
    yield Row("srflow, full: hours of Figure 8 on this machine", hours * figure, "≤ 10000")
    yield Row("srflow, full: hours of preset gpu's on this machine", hours * preset, "≤ 100")
    yield Row("srflow: Figure 8's work over preset gpu's", figure / preset, "≥ 50")


def preset_work(preset: str) -> float:
    """Pixels of y × values of α × steps of a preset's Figure 8, for 10 seeds."""
    settings = registry.load("srflow_robustness", preset)
    groups = experiment.groups(settings, settings.data)
    pixels = sum(group.y[:, 0].numel() for group in groups)
    return pixels * len(settings.alphas) * settings.attack_steps * settings.attack_seeds / SEEDS


def small_network() -> SRFlow:
    """SRFlow-small as the laptop preset has it, untrained."""
    torch.manual_seed(0)
    network = build("srflow", registry.load("srflow_robustness", "laptop"))
    assert isinstance(network, SRFlow)
    return network.eval().requires_grad_(False)


def problem(network: SRFlow, n: int, side: int) -> tuple[Tensor, Tensor]:
    """Inputs and seeds."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(n, 3, side, side, generator=generator)
    return y, network.seed(y, SEEDS, generator=generator)


def by_library(network: SRFlow, y: Tensor, z: Tensor, steps: int = STEPS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return sign_attack(network, y, z, SignAttack(ALPHA, steps), generator=generator)


def by_loop(network: SRFlow, y: Tensor, z: Tensor, steps: int = STEPS) -> Tensor:
    """App. G read literally: images and seeds one after the other."""
    unit = torch.rand(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    attacked = []
    for i, start in enumerate(ALPHA * (2 * unit - 1)):
        x0, seeds = y[i : i + 1], z[:, i : i + 1]
        x = (x0 + start).clamp(0, 1)
        for _ in range(steps):
            gradient = torch.zeros_like(x)
            for seed in seeds:
                x = x.detach().requires_grad_(True)
                with torch.no_grad():
                    clean = network(x0, seed)
                distance = (network(x, seed) - clean).square().sum()
                gradient += torch.autograd.grad(distance, x)[0]
            moved = (x.detach() - x0) + ALPHA / steps * gradient.sign()
            x = (x0 + moved.clamp(-ALPHA, ALPHA)).clamp(0, 1)
        attacked.append(x)
    return torch.cat(attacked)


def _attack() -> tuple[dict[str, float], float]:
    network = small_network()
    y, z = problem(network, IMAGES, SIDE)
    methods = {"library": lambda: by_library(network, y, z), "loop": lambda: by_loop(network, y, z)}
    seconds = median_seconds(methods, 3)
    network, y, z = network.double(), y[:1].double(), z[:3, :1].double()
    difference = by_library(network, y, z) - by_loop(network, y, z)
    return seconds, difference.abs().max().item()


def _full_step() -> float:
    torch.manual_seed(0)
    network = SRFlow().eval().requires_grad_(False)
    y, z = problem(network, 1, 32)
    return median_seconds({"step": lambda: by_library(network, y, z, 1)}, 1)["step"]
