"""What the trainings of a preset need before anyone starts them, and this machine lacks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from stochrestore.book import cluster, doctor
from stochrestore.book.doctor import Finding
from stochrestore.data.images import WITH_PATH
from stochrestore.errors import require
from stochrestore.experiments import plan
from stochrestore.networks.official import ADDRESSES

PUBLISHED = {
    "celeba": "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "imagenet64": "https://image-net.org/download-images (downsampled, 64×64)",
}


def missing(preset: str, given: Iterable[str] = ()) -> list[Finding]:
    """What the trainings of a preset, and Appendix G at it, need and this machine lacks.

    Args:
        given: where data and weights are that cannot be fetched, as ``KIND:PATH``.

    Raises:
        InputError: what is given is of no kind that the preset needs.
    """
    found = [doctor.torch_version(), doctor.piq_works(), doctor.free_disk()]
    paths = {kind: path for kind, _, path in (each.partition(":") for each in given)}
    of_paper = preset == "paper"
    kinds = {kind for kinds in plan.PAPER_DATA.values() for kind in kinds} if of_paper else set()
    networks = [f"{name}_weights" for name in ADDRESSES] if of_paper else []
    allowed = ", ".join([*sorted(kinds), *networks]) or "none at this preset"
    for kind in paths:
        require(kind in {*kinds, *networks}, "--data", kind, allowed)
    found += [_images(kind, paths.get(kind, "")) for kind in sorted(kinds)]
    found += [_published(setting, paths.get(setting, "")) for setting in networks]
    if of_paper:
        found += [finding for finding in (*doctor.data(), doctor.inception()) if finding.advice]
    if preset in plan.ON_GPU:
        found += [finding for finding in (doctor.gpu(), _plugin()) if finding.advice]
    return [finding for finding in found if finding.advice]


def _images(kind: str, path: str) -> Finding:
    """Whether the folder of a data set that others hand out has its layout."""
    layout = WITH_PATH[kind].partition(", a folder with ")[2]
    get = f"get it from {PUBLISHED[kind]}, and plan with --data {kind}:PATH"
    if not path:
        return Finding(f"data {kind}", False, "no folder is named", get)
    folder = Path(path).expanduser()
    first = layout.split()[0].removesuffix("/").removesuffix(",")
    good = any(folder.glob(f"{first}*")) or any(folder.glob(f"*/{first}*"))
    said = str(folder) if good else f"{folder} does not hold {layout}"
    return Finding(f"data {kind}", good, said, "" if good else get)


def _published(setting: str, path: str) -> Finding:
    """Whether the file of a published network of Appendix G is there."""
    name = setting.removesuffix("_weights")
    what = f"published weights of {name}"
    if path and Path(path).expanduser().is_file():
        return Finding(what, True, path)
    said = f"{path} is no file" if path else "no file is named: the small network would be loaded"
    get = f"`curl -LO {ADDRESSES[name]}` gets them"
    unpack = ", `unzip` SRFlow_DF2K_4X.pth" if name == "srflow" else ""
    use = f"plan with --data {setting}:FILE, run srflow_robustness with -p {setting}=FILE"
    return Finding(what, False, said, f"{get}{unpack}; {use}")


def _plugin() -> Finding:
    if find_spec("snakemake_executor_plugin_slurm"):
        return Finding("Snakemake's plugin for SLURM", True, "installed")
    return Finding("Snakemake's plugin for SLURM", True, "not installed", cluster.INSTALL)
