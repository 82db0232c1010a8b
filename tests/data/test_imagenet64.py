"""ImageNet64 in its official layouts, small; damaged files and hostile pickles."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochrestore.data import imagenet64 as module
from stochrestore.data.imagenet64 import imagenet64, read_rows
from stochrestore.data.images import ByteImages, load_images
from stochrestore.errors import InputError

EACH = 5  # images in a file


def rows(first, n=EACH):
    """Images (n, 12288) whose first red pixel counts from ``first``."""
    x = np.random.default_rng(first).integers(256, size=(n, 12288), dtype=np.uint8)
    x[:, 0] = np.arange(first, first + n)
    return x


def content(first):
    x = rows(first)
    return {"data": x, "labels": [1] * len(x), "mean": x.mean(0)}


def write(path, batch, protocol=4):
    if path.suffix == ".npz":
        np.savez(path, **batch)
    else:
        path.write_bytes(pickle.dumps(batch, protocol=protocol))


NAMES = [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]


@pytest.fixture(params=["", ".npz"], ids=["pickle", "npz"])
def root(request, tmp_path):
    for i, name in enumerate(NAMES):
        write(tmp_path / f"{name}{request.param}", content(EACH * i))
    return tmp_path


def load(root, size=64, *, seed=0, training_images=1000, validation_images=1000):
    return load_images(
        f"imagenet64:{root}",
        size,
        seed=seed,
        training_images=training_images,
        validation_images=validation_images,
    )


def numbers(images):
    return images.pixels[:, 0, 0, 0].tolist()


def test_both_layouts_give_the_original_split(root):
    found = load(root)
    assert isinstance(found.train, ByteImages)
    assert sorted(numbers(found.train)) == list(range(10 * EACH))
    assert sorted(numbers(found.validation)) == list(range(10 * EACH, 11 * EACH))
    assert numbers(load(root, seed=1).train) != numbers(found.train)
    some = load(root, training_images=12, validation_images=2)
    assert torch.equal(some.train.pixels, found.train.pixels[:12])
    assert torch.equal(some.validation.pixels, found.validation.pixels[:2])


def test_rows_are_red_then_green_then_blue(root):
    found = load(root)
    for number, image in zip(numbers(found.train), found.train.pixels, strict=True):
        x = rows(number // EACH * EACH)[number % EACH]
        assert image[1, 2, 3] == x[4096 + 2 * 64 + 3]
        assert image[2, 63, 0] == x[2 * 4096 + 63 * 64]


@pytest.mark.parametrize("size", [1, 16, 32])
def test_other_sizes_are_means_of_blocks(root, size):
    full, small = load(root).train, load(root, size).train
    s = 64 // size
    means = full[:].unflatten(3, (size, s)).unflatten(2, (size, s)).mean((3, 5))
    assert small.shape == (10 * EACH, 3, size, size)
    assert (small[:] - means).abs().max() <= 0.5001 / 255


@pytest.mark.parametrize("size", [48, 128])
def test_sizes_that_do_not_divide_64(root, size):
    with pytest.raises(InputError, match=f"imagenet64: size: got {size}; allowed: a divisor of 64"):
        load(root, size)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickles_of_all_protocols(tmp_path, protocol, order):
    x = np.asarray(rows(3), order=order)
    batch = {"data": x, "labels": [np.int64(7)], "mean": x.mean(0)}
    write(tmp_path / "batch", batch, protocol)
    assert np.array_equal(read_rows(tmp_path / "batch"), x)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy_s_core_and_python_2(tmp_path, core):
    """A pickle as Python 2 wrote it, byte by byte: text is not Unicode, bytes are text."""
    x = rows(0, 1)
    kind = (
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + 2 * b"J\xff\xff\xff\xff"
        + b"K\x00tb"
    )
    (tmp_path / "batch").write_bytes(
        b"\x80\x02}(U\x04data"
        + b"c" + core + b".multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01K\x01M\x00\x30\x86" + kind + b"\x89T" + struct.pack("<i", x.size) + x.tobytes()
        + b"tbu."
    )  # fmt: skip
    assert np.array_equal(read_rows(tmp_path / "batch"), x)


def test_only_the_files_that_are_needed_are_read(root, monkeypatch):
    seen = []
    original = module.read_rows
    monkeypatch.setattr(module, "read_rows", lambda path: seen.append(path.stem) or original(path))
    load(root, training_images=EACH + 1)
    assert seen == ["val_data", "train_data_batch_1", "train_data_batch_2"]


@pytest.mark.parametrize("name", ["train_data_batch_1", "train_data_batch_7", "val_data"])
def test_missing_files_are_named(root, name):
    next(root.glob(f"{name}*")).unlink()
    with pytest.raises(InputError, match=f"{name} is missing; expected there: train_data_batch_1"):
        load(root)


class Runs:
    """Unpickled, calls a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch MARK",)),
        (exec, ("open('MARK', 'w')",)),
        (getattr, ("", "format")),
        (np.fromfile, ("MARK",)),
        (np.dtype, ("u1",)),  # itself allowed, and so harmless, where data is expected
    ],
)
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, function, arguments):
    monkeypatch.chdir(tmp_path)
    for hostile in (
        Runs(function, *arguments),
        {"data": Runs(function, *arguments), "labels": []},
        {"data": rows(0), "labels": [Runs(function, *arguments)]},
    ):
        write(tmp_path / "batch", hostile)
        if function is np.dtype and isinstance(hostile, dict) and len(hostile["labels"]):
            assert read_rows(tmp_path / "batch").shape == (EACH, 12288)
            continue
        with pytest.raises(InputError, match="batch") as caught:
            read_rows(tmp_path / "batch")
        assert "\n" not in str(caught.value)
        assert ("refused" in str(caught.value)) == (function is not np.dtype)
        assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize(
    "target", [b"numpy\nload", b"numpy.core.multiarray\nfromfile", b"numpy\ndtype.__class__"]
)
def test_no_other_name_of_numpy_can_be_reached(tmp_path, target):
    (tmp_path / "batch").write_bytes(b"\x80\x04c" + target + b"\n.")
    with pytest.raises(InputError, match="refused: the pickle asks for numpy"):
        read_rows(tmp_path / "batch")


def test_object_arrays_are_refused(tmp_path):
    x = np.empty((1, 12288), dtype=object)
    for name in ("batch", "batch.npz"):
        write(tmp_path / name, {"data": x})
        with pytest.raises(InputError, match=name):
            read_rows(tmp_path / name)


@pytest.mark.parametrize("suffix", ["", ".npz"])
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"labels": np.ones(3)}, "no 'data' in it; expected data, labels and mean"),
        (
            {"data": rows(0)[:, :3072]},
            r"data: got 'uint8 \(5, 3072\)'; allowed: uint8 \(N, 12288\)",
        ),
        ({"data": rows(0)[:0]}, r"data: got 'uint8 \(0, 12288\)'"),
        ({"data": rows(0)[0]}, r"data: got 'uint8 \(12288,\)'"),
        ({"data": rows(0) / 255}, "float64|f8"),
    ],
)
def test_another_layout_is_refused(tmp_path, suffix, batch, message):
    path = tmp_path / f"batch{suffix}"
    write(path, batch)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_no_dict(tmp_path):
    write(tmp_path / "batch", [1, 2])
    with pytest.raises(InputError, match="batch: got 'list'; allowed: a dict with 'data'"):
        read_rows(tmp_path / "batch")
    write(tmp_path / "batch", {"data": "text"})
    with pytest.raises(InputError, match="data: got str; allowed: an array"):
        read_rows(tmp_path / "batch")


@settings(max_examples=40)
@given(st.sampled_from(["batch", "batch.npz"]), st.floats(0, 0.999))
def test_truncated_files_end_in_one_line(tmp_path_factory, name, share):
    path = tmp_path_factory.mktemp("cut") / name
    write(path, content(0))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_one_line(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "batch"
    path.write_bytes(b"\x80\x04" + noise)
    with pytest.raises(InputError):
        read_rows(path)


def test_the_seed_is_checked(root):
    with pytest.raises(InputError, match="images: seed: got -1"):
        imagenet64(root, 64, -1, 1, 1)
