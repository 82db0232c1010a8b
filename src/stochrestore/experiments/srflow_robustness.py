"""Figure 8, App. G: SRFlow, ESRGAN and EDSR under I-FGSM.

Settings in, rows of numbers out. A row is a dictionary: network, image, α, and what was measured
in dB. α is in 255ths of the range.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor, nn

from stochrestore.attacks import SignAttack, sign_attack
from stochrestore.data.benchmarks import PHOTOGRAPHS, as_tensors, load_pairs
from stochrestore.data.downloads import BENCHMARKS
from stochrestore.data.photographs import SCALE, Pair, digest
from stochrestore.data.resize import bicubic_upscale
from stochrestore.estimators.base import Estimator
from stochrestore.estimators.batches import restore_in_batches
from stochrestore.estimators.tiling import Tiled
from stochrestore.experiments.sr_networks import METHOD, NETWORKS, NetworkSettings, all_jobs
from stochrestore.experiments.trained import trained_weights
from stochrestore.metrics import lpips
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import mean_interval
from stochrestore.metrics.psnr import MOST_PSNR, Channels, psnr
from stochrestore.networks.official import load_edsr, load_esrgan, load_srflow
from stochrestore.networks.srflow import SRFlow
from stochrestore.training.jobs import load
from stochrestore.training.loop import float32_as

Row = dict[str, Any]
SHAVE = 4
"""Pixels left out at each side of restorations, as publications on ×4 do."""
PIXELS_AT_ONCE = 128**2
"""Of the inputs that pass together: SRFlow-small with 4 seeds then takes some 2 GB."""
MARGIN = 16
"""Around the windows of large images, in pixels: seams are then below 10⁻³ grey levels."""
SSIM_LEAST_SIDE = 11
"""The side of SSIM's window."""


class Settings(NetworkSettings):
    """What the chapter on Appendix G can be asked to do."""

    experiment: ClassVar[str] = "srflow_robustness"

    data: str = Field(
        "photographs", description="or set5, set14, bsd100, several joined by +, folder:PATH"
    )
    crop: int = Field(64, ge=32, multiple_of=4, description="side of the photographs' crops")
    crops_each: int = Field(2, ge=1, le=4, description="crops of each held-out photograph")
    alphas: tuple[PositiveFloat, ...] = Field(
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        strict=False,
        min_length=1,
        description="α, the largest change of a pixel, in 255ths",
    )
    attack_steps: int = Field(50, ge=1, description="steps of I-FGSM")
    attack_seeds: int = Field(10, ge=1, description="seeds of SRFlow averaged in the attack")
    attack_start: Literal["random", "zero"] = Field("random", description="the first δ")
    attack_reference: Literal["output", "image"] = Field(
        "output", description="what to move away from: the clean output, or the true image"
    )
    seeds_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="seeds that pass together; fewer need less memory; auto: as many as fit; "
        "None: all",
    )
    images_at_once: int | None = Field(
        None, ge=1, description="images that pass together; None: 128×128 pixels in all"
    )
    tile: int = Field(
        128, ge=16, multiple_of=2, description="side of the windows of larger images, pixels of y"
    )
    example_alpha: float = Field(8.0, gt=0, description="α of the pictures and of the heats")
    heats: tuple[float, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), strict=False, description="heats of SRFlow compared"
    )
    edsr_weights: str = Field("", description="file of official EDSR weights; empty: ours")
    esrgan_weights: str = Field("", description="file of official ESRGAN weights; empty: ours")
    srflow_weights: str = Field("", description="file of official SRFlow weights; empty: ours")

    @field_validator("data")
    @classmethod
    def _known_data(cls, data: str) -> str:
        data = ":".join(part.strip() for part in data.split(":", 1))
        kind, _, path = data.partition(":")
        known = {PHOTOGRAPHS, *BENCHMARKS}
        if not (kind == "folder" and path) and not set(data.split("+")) <= known:
            raise ValueError(f"{', '.join(sorted(known))}, several joined by +, or folder:PATH")
        return data

    @field_validator("heats")
    @classmethod
    def _heats_in_range(cls, heats: tuple[float, ...]) -> tuple[float, ...]:
        if not heats or not all(0 <= heat <= 1 for heat in heats):
            raise ValueError("numbers from 0 to 1, at least one")
        return heats


@dataclass(frozen=True)
class Group:
    """Images of one size, to be restored together."""

    names: tuple[str, ...]
    x: Tensor
    """(N, 3, 4h, 4w), in [0, 1]."""
    y: Tensor
    """(N, 3, h, w), in [0, 1]."""


def data_sets(settings: Settings) -> tuple[str, ...]:
    """The data sets asked for."""
    if settings.data.startswith("folder:"):
        return (settings.data,)
    return tuple(settings.data.split("+"))


def groups(settings: Settings, data: str, *, crop: int | None = None) -> list[Group]:
    """The images of a data set, sorted by size; ``crop`` in place of the photographs' side.

    A group holds eight passes at most, so that its restorations fit into memory too.
    """
    pairs = _pairs(settings, data, crop)
    by_size: dict[tuple[int, ...], list[str]] = {}
    for name, pair in pairs.items():
        by_size.setdefault(tuple(pair.low.shape), []).append(name)
    together = [
        names[start : start + most]
        for (_, h, w), names in by_size.items()
        for most in [max(1, 8 * PIXELS_AT_ONCE // (h * w))]
        for start in range(0, len(names), most)
    ]
    return [_group({name: pairs[name] for name in names}) for names in together]


def pixels_digest(settings: Settings, data: str) -> str:
    """The sha256 of all images of a data set, at both resolutions."""
    return digest(list(_pairs(settings, data).values()))


def _pairs(settings: Settings, data: str, crop: int | None = None) -> dict[str, Pair]:
    return load_pairs(data, crop=crop or settings.crop, crops_each=settings.crops_each)


def first_image(images: Sequence[Group]) -> Group:
    """The first image alone, to be shown."""
    first = images[0]
    return Group(first.names[:1], first.x[:1], first.y[:1])


def _group(pairs: Mapping[str, Pair]) -> Group:
    images = [as_tensors(pair) for pair in pairs.values()]
    x, y = (torch.cat(parts) for parts in zip(*images, strict=True))
    return Group(tuple(pairs), x, y)


def load_or_train(settings: Settings) -> dict[str, Estimator]:
    """The three networks: official ones where a file is given, else ours, shipped or trained now.

    Raises:
        InputError: a file that is missing, damaged or of another network.
    """
    networks: dict[str, Any] = official_networks(settings)
    ours = [job for job in all_jobs(settings).values() if job.name in set(NETWORKS) - set(networks)]
    for data in data_sets(settings):
        _pairs(settings, data)  # so that images that are missing are found before any training
    if ours:
        folder = trained_weights(settings, ours, METHOD)
        networks |= {job.name: load(job, folder, METHOD)[0] for job in ours}
    return {name: networks[name].to(settings.torch_device()) for name in NETWORKS}


def weight_files(settings: Settings) -> dict[str, Path]:
    """The file of each network's weights, where they are not trained now."""
    jobs, folder = all_jobs(settings), settings.weights_folder()
    given = {name: getattr(settings, f"{name}_weights") for name in NETWORKS}
    return {
        name: Path(path).expanduser() if path else jobs[name].path(folder)
        for name, path in given.items()
    }


def official_networks(settings: Settings) -> dict[str, nn.Module]:
    """Those whose files are given."""
    loaders: dict[str, Callable[[Path], nn.Module]] = {
        **{"edsr": load_edsr, "esrgan": load_esrgan},
        "srflow": partial(load_srflow, heat=settings.heat),
    }
    paths = {name: getattr(settings, f"{name}_weights") for name in loaders}
    return {name: loaders[name](Path(path).expanduser()) for name, path in paths.items() if path}


def attack_of(settings: Settings, alpha: float, y: Tensor) -> SignAttack:
    """I-FGSM as the settings have it, for α in 255ths and inputs y (N, 3, h, w)."""
    return SignAttack(
        radius=alpha / 255,
        steps=settings.attack_steps,
        start=settings.attack_start,
        seeds_at_once=settings.seeds_at_once,
        images_at_once=images_at_once(settings, y),
    )


def images_at_once(settings: Settings, y: Tensor) -> int:
    """How many of the inputs y (N, 3, h, w) pass together."""
    return settings.images_at_once or max(1, PIXELS_AT_ONCE // y[0, 0].numel())


@float32_as()
def restored(network: Estimator, y: Tensor, z: Tensor, settings: Settings) -> Tensor:
    """Restorations of y (N, 3, h, w) with seeds z (S, N, K), in [0, 1]: (S, N, 3, 4h, 4w).

    On the CPU, wherever they are computed. Pixels where a flow overflows to NaN are black.
    """
    at_once = images_at_once(settings, y)
    passes = zip(y.split(at_once), z.split(at_once, 1), strict=True)
    with torch.no_grad():
        parts = [
            restore_in_batches(network, *one, settings.seeds_at_once).clamp(0, 1).cpu()
            for one in passes
        ]
    return torch.cat(parts, 1).nan_to_num_(0.0)


@dataclass(frozen=True)
class Attacked:
    """A group of images, attacked, and the restorations from the same seeds, clamped to [0, 1]."""

    group: Group
    y: Tensor
    """ỹ, (N, 3, h, w)."""
    clean: Tensor
    """G(y, z), (S, N, 3, 4h, 4w)."""
    moved: Tensor
    """G(ỹ, z), of the same shape."""


@float32_as()
def attacked(network: Estimator, group: Group, alpha: float, settings: Settings) -> Attacked:
    """A network attacked on a group; the same draws whatever network and α are."""
    x, y = (images.to(settings.torch_device()) for images in (group.x, group.y))
    generator = torch.Generator().manual_seed(settings.seed)
    stochastic = isinstance(network, SRFlow) and network.heat > 0
    z = network.seed(y, settings.attack_seeds if stochastic else 1, generator=generator)
    network = Tiled(network, tile=settings.tile, margin=MARGIN)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    worst = sign_attack(
        network,
        y,
        z,
        attack_of(settings, alpha, y),
        generator=generator,
        reference=x if settings.attack_reference == "image" else None,
    )
    clean, moved = (restored(network, inputs, z, settings) for inputs in (y, worst))
    return Attacked(group, worst.cpu(), clean, moved)


def psnr_rows(result: Attacked) -> list[Row]:
    """One row an image: PSNR of input and output, in RGB and in luma, the output's over seeds."""
    rows = []
    channels: tuple[Channels, ...] = ("rgb", "y")
    for i, name in enumerate(result.group.names):
        row: Row = {"image": name}
        for kind in channels:
            moved = psnr(result.group.y[i], result.y[i], channels=kind)
            row[f"input_{kind}"] = min(moved.item(), MOST_PSNR)
            output = shaved_psnr(result.clean[:, i], result.moved[:, i], kind)
            row[f"output_{kind}"] = output.mean().item()
        rows.append(row)
    return rows


def shaved_psnr(a: Tensor, b: Tensor, channels: Channels = "rgb") -> Tensor:
    """PSNR without the border of images (…, 3, H, W), at most 99 dB: (…)."""
    border = SHAVE if min(a.shape[-2:]) > 2 * SHAVE else 0
    return psnr(a, b, channels=channels, border=border).clamp_max(MOST_PSNR)


def figure_8_rows(networks: Mapping[str, Estimator], settings: Settings) -> list[Row]:
    """Every network at every α on every image of every data set."""
    return [
        {"data": data, "network": name, "alpha": alpha, **row}
        for data in data_sets(settings)
        for group in groups(settings, data)
        for name, network in networks.items()
        for alpha in settings.alphas
        for row in psnr_rows(attacked(network, group, alpha, settings))
    ]


def heat_rows(flow: SRFlow, images: Sequence[Group], settings: Settings) -> list[Row]:
    """SRFlow at several heats: robustness, fidelity, and how much its outputs vary."""
    rows = []
    for heat in settings.heats:
        network = copy.copy(flow)
        network.heat = heat
        for group in images:
            result = attacked(network, group, settings.example_alpha, settings)
            truth = shaved_psnr(group.x, result.clean).mean(0)
            varied = len(result.clean) > 1
            spread = result.clean.std(0).flatten(1).mean(1) if varied else torch.zeros(len(truth))
            for i, row in enumerate(psnr_rows(result)):
                quality = {"psnr": truth[i].item(), "spread": spread[i].item()}
                rows.append({"heat": heat, **row, **quality})
    return rows


def quality_rows(
    networks: Mapping[str, Estimator], images: Sequence[Group], settings: Settings
) -> list[Row]:
    """PSNR, SSIM and LPIPS of single restorations, and their sharpness, beside bicubic ones.

    Sharpness is the mean absolute difference of neighbouring pixels, over the true image's.
    Images too small for SSIM or LPIPS have NaN; without its weights, LPIPS is left out.
    """
    rows = []
    for group in images:
        found = {"bicubic": bicubic_upscale(group.y, SCALE).clamp(0, 1)}
        y = group.y.to(settings.torch_device())
        for name, network in networks.items():
            generator = torch.Generator().manual_seed(settings.seed)
            z = network.seed(y, 1, generator=generator)
            tiled = Tiled(network, tile=settings.tile, margin=MARGIN)
            found[name] = restored(tiled, y, z, settings)[0]
        for name, restorations in found.items():
            for image, true, x in zip(group.names, group.x, restorations, strict=True):
                rows.append({"network": name, "image": image, **_quality(true[None], x[None])})
    return rows


def _quality(true: Tensor, x: Tensor) -> Row:
    """Of one restoration x (1, 3, H, W)."""
    values = {
        "psnr": shaved_psnr(true, x),
        "psnr_y": shaved_psnr(true, x, "y"),
        "ssim": _ssim(true, x),
        "sharpness": _activity(x) / _activity(true),
    }
    if not lpips.missing_weights():
        small = min(x.shape[-2:]) < lpips.LEAST_SIDE
        values["lpips"] = torch.tensor(torch.nan) if small else lpips.lpips(true, x)
    return {key: value.item() for key, value in values.items()}


def lpips_note() -> str:
    """Why LPIPS is not among the qualities; empty where it is."""
    missing = " and ".join(lpips.missing_weights())
    return missing and f"LPIPS is left out, for want of {missing} in torch.hub's cache."


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    from stochrestore.metrics.torchvision_ops import import_piq

    if min(a.shape[-2:]) < SSIM_LEAST_SIDE:
        return torch.tensor(torch.nan)
    found: Tensor = import_piq().ssim(a, b, reduction="none")
    return found


def _activity(x: Tensor) -> Tensor:
    return x.diff(dim=-1).abs().flatten(1).mean(1) + x.diff(dim=-2).abs().flatten(1).mean(1)


def paired(rows: Sequence[Row], key: str, first: str, second: str) -> Tensor:
    """One network's value less another's, a mean over α for each image, (images,)."""
    a, b = (
        torch.stack([values_of(rows, key, network=name, alpha=alpha) for alpha in alphas_of(rows)])
        for name in (first, second)
    )
    return (a - b).mean(0)


def mean_over_images(values: Iterable[float]) -> Interval:
    """The mean over images with its 95 % bootstrap interval, always from the same draws."""
    generator = torch.Generator().manual_seed(0)
    return mean_interval(torch.tensor(list(values)), generator=generator)


def measured(rows: Sequence[Row]) -> dict[str, Interval]:
    """What the paper's statements about Figure 8 are tested by, by the ids of their claims.

    It is the output PSNR under attack, in RGB: means over α and images with intervals over images,
    and the share of the values of α at which ESRGAN's mean is the lowest.
    """
    key = "output_rgb"
    names = list(dict.fromkeys(row["network"] for row in rows))
    means = [
        {name: values_of(rows, key, network=name, alpha=alpha).mean().item() for name in names}
        for alpha in alphas_of(rows)
    ]
    lowest = sum(min(mean, key=lambda name: mean[name]) == "esrgan" for mean in means)
    return {
        "srflow.esrgan-least-robust": mean_over_images(
            paired(rows, key, "srflow", "esrgan").tolist()
        ),
        "srflow.order-kept": Interval.exact(lowest / len(means)),
        "srflow.near-edsr": mean_over_images(paired(rows, key, "srflow", "edsr").tolist()),
    }


def alphas_of(rows: Sequence[Row]) -> list[float]:
    """The values of α in rows, ascending."""
    return sorted({row["alpha"] for row in rows})


def values_of(rows: Iterable[Row], key: str, **where: Any) -> Tensor:
    """The values of the rows that agree with ``where``, in the order of the rows."""
    chosen = [row[key] for row in rows if all(row[k] == v for k, v in where.items())]
    return torch.tensor(chosen, dtype=torch.float64)
