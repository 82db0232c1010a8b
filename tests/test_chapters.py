"""Chapters end whatever the processor, the number of threads, the seed and the data are.

All but a few take long: they run weekly and before a release, by ``pytest -m slow``.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import chapters
from stochrestore.errors import InputError
from stochrestore.experiments import sr_scaling
from stochrestore.experiments.registry import CHAPTERS

CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text().split()) if CPU.exists() else set()
KERNELS = {
    "Katmai": ("default", {"sse2"}),
    "Nehalem": ("default", {"sse4_2"}),
    "Sandybridge": ("default", {"avx"}),
    "Haswell": ("avx2", {"avx2", "fma"}),
    "SkylakeX": ("avx512", {"avx512f", "avx512vl", "avx512bw", "avx512dq"}),
}
"""OpenBLAS's kernels, PyTorch's of the same age, and what a processor needs for both."""
CHEAP = ("theorem_3_1", "appendix_c", "lipschitz")
SEEDS = range(60)
RUNS = [(name, "smoke") for name in CHAPTERS] + [(name, "laptop") for name in CHEAP]


def saved(rng, path, side):
    Image.fromarray(rng.integers(0, 256, (*side, 3), dtype=np.uint8)).save(path)


def celeba(root, n, rng):
    (root / "img_align_celeba").mkdir()
    lines = []
    for number in range(1, n + 1):
        saved(rng, root / f"img_align_celeba/{number:06d}.jpg", (218, 178))
        lines.append(f"{number:06d}.jpg {int(number > 0.8 * n)}")
    (root / "list_eval_partition.txt").write_text("\n".join(lines))


def imagenet64(root, n, rng):
    for name, rows in [
        *((f"train_data_batch_{i}", n // 10) for i in range(1, 11)),
        ("val_data", n),
    ]:
        data = rng.integers(0, 256, (rows, 12288), dtype=np.uint8)
        np.savez(root / f"{name}.npz", data=data, labels=np.zeros(rows))


def folder(root, n, rng):
    for number in range(n):
        saved(rng, root / f"{number}.png", (20, 24))


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """The official layouts with as few images as the metrics can take, or some more."""
    rng, data = np.random.default_rng(0), {}
    for make, n in ((celeba, 20), (imagenet64, 40), (folder, 16)):
        root = tmp_path_factory.mktemp(make.__name__)
        make(root, n, rng)
        data[make.__name__] = f"{make.__name__}:{root}"
    return data


def test_few_images_are_shown(layouts):
    chapters.run("inpaint", preset="smoke", data=layouts["folder"], last="04-9afd32")


def test_fewer_images_than_the_metrics_need_are_said_before_training(tmp_path):
    folder(tmp_path, 15, np.random.default_rng(0))
    message = r"training and validation: got \(12, 3\); allowed: at least 4 of each.*k=3"
    data = f"folder:{tmp_path}"
    for name, last in (("inpaint", "04-9afd32"), ("sr_scaling", "04-e084ef")):
        with pytest.raises(InputError, match=message):
            chapters.run(name, preset="smoke", data=data, features="pixels", last=last)


@pytest.mark.parametrize("kind", ["celeba", "imagenet64", "folder"])
def test_no_claim_speaks_of_other_images(kind):
    assert sr_scaling.evidence([], kind, [4, 8]) == {}


def test_the_papers_data_take_super_resolution_to_its_end(layouts):
    data = layouts["celeba"]
    chapters.run("sr_scaling", preset="smoke", data=data, scales=[16], steps=1, features="pixels")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["celeba", "imagenet64", "folder", "fashion"])
@pytest.mark.parametrize("name", ["inpaint", "sr_scaling"])
def test_all_data_take_a_chapter_to_its_end(name, kind, layouts):
    chapters.run(name, preset="smoke", data=layouts.get(kind, kind), features="pixels")


@pytest.mark.slow
@pytest.mark.parametrize("robust", [True, False])
def test_a_pair_of_models_takes_inpainting_to_its_end(robust):
    chapters.run("inpaint", preset="smoke", robust=robust)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_chapters_end_on_every_processor(name, preset, kernel, threads):
    torch_kernel, needed = KERNELS[kernel]
    if not needed <= FLAGS:
        pytest.skip(f"this processor has no {', '.join(sorted(needed - FLAGS))}")
    environment = {"OPENBLAS_CORETYPE": kernel, "ATEN_CPU_CAPABILITY": torch_kernel}
    found = chapters.failures_elsewhere(name, preset, [0], threads=threads, **environment)
    assert found == [{}, [kernel]]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_end_at_every_seed(name):
    assert chapters.failures_elsewhere(name, "smoke", SEEDS)[0] == {}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["laptop", "gpu", "paper"])
@pytest.mark.parametrize("name", CHEAP)
def test_cheap_chapters_end_at_every_preset(name, preset):
    assert chapters.failures_elsewhere(name, preset, range(3))[0] == {}
