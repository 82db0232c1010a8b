"""Fashion-MNIST: the part that is shipped, the official files, and the features of clothes."""

import gzip
import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stochrestore import store
from stochrestore.cli import app
from stochrestore.data import downloads, fashion
from stochrestore.data.images import digest, load_images
from stochrestore.errors import InputError
from stochrestore.experiments.augmentation import MOST_NOISE, blurred, noise_and_blur
from stochrestore.experiments.fashion import (
    METHOD,
    NAME,
    FashionClassifier,
    Settings,
    accuracies,
    all_jobs,
)
from stochrestore.metrics.features import feature_extractor
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.networks.features import fashion_network
from stochrestore.training.jobs import train_jobs

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def numbered(n, first):
    """Images that say by two of their pixels which they are, on noise."""
    pixels = np.random.default_rng(first).integers(0, 256, (n, 28, 28), np.uint8)
    number = first + np.arange(n)
    pixels[:, 0, 0], pixels[:, 0, 1] = number // 256, number % 256
    return pixels


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Four files of the official layout, with 3100 and 60 images."""
    digests = {}
    for prefix, n, first in (("train", 3100, 0), ("t10k", 60, 3100)):
        images = numbered(n, first)
        labels = (first + np.arange(n)) % 10
        contents = {
            f"{prefix}-images-idx3-ubyte": b"\0" * 16 + images.tobytes(),
            f"{prefix}-labels-idx1-ubyte": b"\0" * 8 + labels.astype(np.uint8).tobytes(),
        }
        for name, data in contents.items():
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data, 1))
            digests[name] = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(fashion, "SHA256", digests)
    return tmp_path


def numbers(part):
    """Which images these are, and whether each has its own label; of 32×32 pixels."""
    pixels = part.pixels[:, 0, 2, 2:4].long()
    found = pixels[:, 0] * 256 + pixels[:, 1]
    assert torch.equal(found % 10, part.labels)
    return set(found.tolist())


def test_what_is_shipped():
    parts = fashion.shipped()
    assert {name: len(part.labels) for name, part in parts.items()} == fashion.SHIPPED
    assert len(parts["train"].labels) >= 16_000
    assert len(parts["validation"].labels) >= 4000
    assert fashion._FILE.stat().st_size < 5e6
    for part in parts.values():
        assert part.pixels.shape[1:] == (1, 16, 16)
        assert part.pixels.dtype == torch.uint8
        shares = part.labels.bincount(minlength=10) / len(part.labels)
        assert shares.min() > 0.08
        assert shares.max() < 0.12


def test_the_licence_comes_along():
    text = fashion._FILE.with_name("fashion_license.txt").read_text("utf-8")
    assert "Zalando SE" in text
    assert "this permission notice shall be included" in text


def test_no_image_is_in_two_parts(official):
    parts = {name: numbers(part) for name, part in fashion.official(official, 32).items()}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 100,
        "selection": fashion.SELECTION,
        "validation": 60,
    }
    assert set.union(*parts.values()) == set(range(3160))
    assert min(parts["validation"]) == 3100  # the official test images


def test_the_seed_decides_the_order_and_what_is_kept(official):
    first, again, other = (fashion.official(official, 32, seed)["train"] for seed in (0, 0, 1))
    assert torch.equal(first.pixels, again.pixels)
    assert numbers(first) != numbers(other)


def test_sizes_are_of_one_image(official):
    small, middle, large = (
        fashion.official(official, size)["validation"].pixels.double() for size in (16, 32, 64)
    )
    assert not middle[:, :, :2].any()
    assert not middle[:, :, :, -2:].any()
    assert middle[:, :, 2:-2, 2:-2].std() > 50
    means = middle.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    assert (small - means).abs().max() <= 0.5
    # Enlarged noise is smoother, yet its 2×2 means still follow the image.
    again = large.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    assert torch.corrcoef(torch.stack([again.flatten(), middle.flatten()]))[0, 1] > 0.95


def test_files_may_be_unpacked(official):
    packed = fashion.official(official, 16)["train"].pixels
    for path in list(official.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(fashion.official(official, 16)["train"].pixels, packed)


def damaged(root, name, how):
    path = root / f"{name}.gz"
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[-1] ^= 1
        path.write_bytes(gzip.compress(bytes(data), 1))


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "is missing; expected there, gzipped or not: train-images-idx3-ubyte"),
        ("truncated", "cannot be read: damaged"),
        ("altered", "sha256 is .*the official file's is .*fetch it again"),
    ],
)
def test_files_that_are_not_the_official_ones(official, name, how, message):
    damaged(official, name, how)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        fashion.official(official, 16)


def test_the_shipped_file_is_made_from_the_official_ones(official, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "SHIPPED", {"train": 80, "selection": 30, "validation": 50})
    written = fashion.make_shipped(official, tmp_path / "made.npz")
    monkeypatch.setattr(fashion, "_FILE", written)
    made = fashion.shipped.__wrapped__()
    for name, part in fashion.official(official, 16).items():
        n = fashion.SHIPPED[name]
        assert torch.equal(made[name].pixels, part.pixels[:n])
        assert torch.equal(made[name].labels, part.labels[:n])
    written.write_bytes(written.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"made\.npz: cannot be read: install"):
        fashion.shipped.__wrapped__()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_shipped_images_are_the_first_of_the_official_ones():
    counts = {"training_images": 24_000, "validation_images": 5000}
    ours = load_images("fashion", 16, seed=0, **counts)
    theirs = load_images(f"fashion_mnist:{DEBIAN}", 16, seed=0, **counts)
    assert digest(ours) == digest(theirs)
    assert torch.equal(ours.selection[:], theirs.selection[:])


def test_images_to_train_and_choose_on():
    found = load_images("fashion", 16, seed=0, training_images=100, validation_images=40)
    assert (len(found.train), len(found.validation), len(found.selection)) == (100, 40, 3000)
    assert found.train[:5].dtype == torch.float32
    assert 0.9 < found.train[:100].max() <= 1
    with pytest.raises(InputError, match=r"fashion: size: got 32.*16; fashion_mnist:PATH"):
        load_images("fashion", 32, seed=0, training_images=100, validation_images=40)


def test_few_images_for_a_figure_show_every_kind():
    found = load_images("fashion", 16, seed=0, training_images=9, validation_images=400)
    labels = fashion.shipped()["validation"].labels[:400].tolist()
    firsts = sorted(labels.index(kind) for kind in range(10))
    assert torch.equal(found.shown(10), found.validation[torch.tensor(firsts)])
    assert torch.equal(found.shown(4), found.shown(10)[:4])
    faces = load_images("faces", 16, seed=0, training_images=9, validation_images=9)
    assert torch.equal(faces.shown(4), faces.validation[:4])


def test_other_sizes_of_the_official_files(official):
    with pytest.raises(InputError, match=r"fashion_mnist: size: got 28.*16, 32 or 64"):
        load_images(f"fashion_mnist:{official}", 28, seed=0, training_images=9, validation_images=9)


@pytest.fixture
def address(official):
    """The files on a local server."""
    handler = partial(SimpleHTTPRequestHandler, directory=official)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(address, tmp_path, monkeypatch):
    """Fetches the files from the local server into tmp_path / "got"."""
    monkeypatch.setenv(downloads.FOLDER_VARIABLE, str(tmp_path / "got"))
    return partial(downloads.fetch, "fashion_mnist", source=address, progress=False)


def test_fetching_the_official_files(official, fetch, tmp_path):
    folder = fetch()
    assert folder == tmp_path / "got" / "fashion_mnist"
    found = fashion.official(folder, 16)["train"].pixels
    assert torch.equal(found, fashion.official(official, 16)["train"].pixels)
    for path in official.glob("*.gz"):
        path.unlink()
    # What is there is kept, and nothing is asked for.
    fetch()
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"t10k-labels.*\(status 404\).*continues from"):
        fetch()


def test_what_arrives_damaged_is_not_kept(official, fetch, tmp_path):
    damaged(official, "train-labels-idx1-ubyte", "altered")
    with pytest.raises(InputError, match=r"train-labels.*sha256"):
        fetch()
    got = tmp_path / "got" / "fashion_mnist"
    assert [p.name for p in got.iterdir()] == ["train-images-idx3-ubyte.gz"]


@pytest.fixture(scope="module")
def clothes():
    return feature_extractor("fashion")


def some(part, n):
    return fashion.shipped()[part].pixels[:n].float() / 255


def test_features_of_grey_coloured_and_larger_images(clothes):
    x = some("validation", 7)
    assert clothes(x).shape == (7, 64)
    assert torch.allclose(clothes(x.repeat(1, 3, 1, 1)), clothes(x), atol=1e-4)
    large = x.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert clothes(large).shape == (7, 64)
    with pytest.raises(InputError, match="channels"):
        clothes(x.repeat(1, 2, 1, 1))


def test_features_tell_classes_apart(clothes):
    """A linear map of the features of training images names the classes of others."""
    train, other = fashion.shipped()["train"], fashion.shipped()["selection"]
    a, b = (clothes(part.pixels[:3000].float() / 255) for part in (train, other))
    a, b = (torch.cat([x, torch.ones(len(x), 1)], 1).double() for x in (a, b))
    targets = torch.nn.functional.one_hot(train.labels[:3000], 10).double()
    answers = (b @ torch.linalg.lstsq(a, targets).solution).argmax(1)
    assert (answers == other.labels[:3000]).double().mean() > 0.85


def test_the_record_tells_the_accuracy_the_weights_have():
    record = store.read_record(store.shipped("features") / "fashion.json")
    accuracy = record["accuracy"]
    assert accuracy["clean"] > 0.87
    assert min(accuracy.values()) > 0.85
    assert all_jobs(Settings())[NAME].recorded().items() <= record["settings"].items()


def test_the_distance_knows_noise_from_blur_and_lost_variety(clothes):
    real, other = clothes(some("train", 2000)), some("validation", 2000)
    noise = 0.05 * torch.randn(other.shape, generator=torch.Generator().manual_seed(0))
    base = frechet_distance(real, clothes(other))
    assert frechet_distance(real, clothes(other + noise)) < 2 * base
    assert frechet_distance(real, clothes(blurred(other))) > 5 * base
    one_class = other[fashion.shipped()["validation"].labels[:2000] == 7]
    assert frechet_distance(real, clothes(one_class)) > 20 * base


@given(st.integers(0, 2**32))
def test_a_half_is_blurred_and_a_half_gets_noise(seed):
    x = torch.rand(400, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    changed = noise_and_blur(x, generator=torch.Generator().manual_seed(seed))
    untouched = (changed == x).flatten(1).all(1).double().mean()
    assert 0.15 < untouched < 0.35  # neither: a quarter
    assert (changed - x).abs().max() < 1 + 6 * MOST_NOISE


def test_blur_keeps_flat_images_and_means():
    flat = torch.full((2, 1, 5, 5), 0.3)
    assert torch.allclose(blurred(flat), flat)
    spot = torch.zeros(1, 1, 5, 5)
    spot[..., 2, 2] = 9.0
    assert blurred(spot)[0, 0, 1:4, 1:4].tolist() == [[1.0] * 3] * 3


SMALL = Settings(steps=3, batch_size=8)


def test_training_is_repeatable_and_leaves_a_record(tmp_path):
    for name in "ab":
        train_jobs(all_jobs(SMALL).values(), tmp_path / name, METHOD)
    records = [store.read_record(tmp_path / name / "fashion.json") for name in "ab"]
    files = [(tmp_path / name / "fashion.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert records[0]["accuracy"] == records[1]["accuracy"]
    written = store.load(fashion_network(), tmp_path / "a" / "fashion.safetensors")
    assert written["settings"] == all_jobs(SMALL)[NAME].recorded()


def test_accuracy_is_the_share_of_right_answers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = FashionClassifier()
    part = fashion.Part(
        fashion.shipped()["validation"].pixels[:600], torch.zeros(600, dtype=torch.long)
    )
    classifier.logits.bias.data[0] = 1e6  # always answers 0
    assert set(accuracies(classifier, part).values()) == {1.0}
    classifier.logits.bias.data[0] = -1e6
    assert set(accuracies(classifier, part).values()) == {0.0}


def test_the_command_trains_the_classifier(tmp_path):
    given = ["-p", "steps=2", "-p", "batch_size=8"]
    run = CliRunner().invoke(app, ["train", "fashion", *given, "-o", str(tmp_path)])
    assert run.exit_code == 0, run.output
    record = json.loads((tmp_path / "fashion.json").read_text())
    assert record["settings"]["steps"] == 2
    assert set(record["accuracy"]) == {"clean", "noise", "blurred"}
