"""Image sets: preprocessing and splits against the paper's, and files that are damaged."""

import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stochrestore.data import images as images_module
from stochrestore.data.images import (
    ByteImages,
    celeba_split,
    digest,
    face_seeds,
    folder_split,
    load_images,
    preprocess,
)
from stochrestore.errors import InputError
from stochrestore.problems.faces.distribution import Faces


def load(data, size=8, *, seed=0, training_images=1000, validation_images=1000, skip_bad=0):
    return load_images(
        data,
        size,
        seed=seed,
        training_images=training_images,
        validation_images=validation_images,
        skip_bad=skip_bad,
    )


def photograph(number, size=(20, 30)):
    """Smooth; its blue is the number."""
    ramp = np.linspace(0, 200, size[0] * size[1]).reshape(size[1], size[0])
    return Image.fromarray(
        np.stack([ramp, ramp.T.reshape(ramp.shape), ramp * 0 + number], -1).astype(np.uint8)
    )


@pytest.fixture
def folder(tmp_path):
    """Ten photographs in two levels, whose blue is their number; and files that are no images."""
    (tmp_path / "inner").mkdir()
    for i in range(10):
        photograph(10 * i).save(tmp_path / ("inner" if i % 2 else ".") / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._0.png").write_text("what some archives add")
    return tmp_path


@pytest.fixture
def celeba(tmp_path):
    """Thirty images in CelebA's layout: 20 for training, 6 for validation, 4 for the test."""
    (tmp_path / "img_align_celeba").mkdir()
    lines = []
    for i in range(30):
        name = f"{i + 1:06d}.jpg"
        grey = Image.new("RGB", (178, 218), (8 * i,) * 3)  # which JPEG keeps
        grey.save(tmp_path / "img_align_celeba" / name)
        lines.append(f"{name} {0 if i < 20 else 1 if i < 26 else 2}")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def blues(images):
    """The number that each photograph carries in its blue."""
    return (images[:][:, 2].mean(dim=(1, 2)) * 255).round().int().tolist()


def test_digits_are_scikit_learns_split_once():
    from sklearn.datasets import load_digits

    found = load("digits")
    assert found.train.shape == (900, 1, 8, 8)
    assert found.validation.shape == (897, 1, 8, 8)
    both = torch.cat([found.train, found.validation]).flatten(1) * 16
    rows = sorted(map(tuple, both.int().tolist()))
    assert rows == sorted(map(tuple, load_digits().data.astype(int).tolist()))
    other = load("digits", seed=1, training_images=50)
    assert not torch.equal(other.train, found.train[:50])
    assert torch.equal(load("digits", training_images=50).train, found.train[:50])


def test_faces_are_two_sequences():
    found = load("faces", 16, seed=3, training_images=20, validation_images=10)
    train, validation = face_seeds(3)
    assert torch.equal(found.train, Faces(16).images(train, 0, 20))
    assert torch.equal(found.validation, Faces(16).images(validation, 0, 10))
    seeds = [s for seed in range(50) for s in face_seeds(seed)]
    assert len(set(seeds)) == len(seeds)


def test_celeba_is_split_as_the_paper_splits_it(celeba):
    found = load(f"celeba:{celeba}")
    train, validation = blues(found.train), blues(found.validation)
    assert (len(train), len(validation)) == (16, 10)  # 80 % of 20; the other 4 and 6
    numbers = sorted(round(b / 8) for b in train + validation)
    assert numbers == list(range(26))  # each once, none of the test partition
    assert all(round(b / 8) < 20 for b in train)
    few = load(f"celeba:{celeba}", training_images=3, validation_images=2)
    assert torch.equal(few.train[:], found.train[:3])
    assert torch.equal(few.validation[:], found.validation[:2])
    assert blues(load(f"celeba:{celeba}", seed=1).train) != train


def test_celeba_as_kaggle_distributes_it_is_the_same(celeba):
    """Its list is a .csv with a head; its images lie one folder deeper."""
    official = load(f"celeba:{celeba}")
    table = celeba / "list_eval_partition.txt"
    rows = ["image_id,partition", *table.read_text().replace(" ", ",").splitlines()]
    (celeba / "list_eval_partition.csv").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    table.unlink()
    (celeba / "img_align_celeba").rename(celeba / "images")
    (celeba / "img_align_celeba").mkdir()
    (celeba / "images").rename(celeba / "img_align_celeba" / "img_align_celeba")
    assert digest(load(f"celeba:{celeba}")) == digest(official)


def test_the_real_celeba_would_give_the_papers_counts(tmp_path):
    """130 216 to train on and 52 421 for validation (App. E.2)."""
    (tmp_path / "img_align_celeba").mkdir()
    counts = ((162_770, 0), (19_867, 1), (19_962, 2))
    parts = [part for count, part in counts for _ in range(count)]
    lines = [f"{i + 1:06d}.jpg {part}" for i, part in enumerate(parts)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(lines))
    train, validation = celeba_split(tmp_path, 0)
    assert (len(train), len(validation)) == (130_216, 52_421)
    assert len({file.name for file in train + validation}) == 162_770 + 19_867
    early = sum(int(f.stem) <= 162_770 for f in validation[:5000])
    assert 0.55 < early / 5000 < 0.69  # 32 554 of 52 421: a part stands for the whole


def test_preprocessing_at_64_is_the_papers():
    """Resize to 102×102 whatever the shape, then the centre: rows and columns 19 … 82."""
    image = photograph(50, (178, 218))
    resized = np.asarray(image.resize((102, 102), Image.Resampling.BILINEAR))
    assert np.array_equal(preprocess(image, 64), resized[19:83, 19:83].transpose(2, 0, 1))


def test_preprocessing_agrees_with_torchvisions():
    from stochrestore.metrics.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    from torchvision import transforms

    both = transforms.Compose([transforms.Resize((102, 102)), transforms.CenterCrop(64)])
    image = photograph(120, (178, 218))
    assert np.array_equal(preprocess(image, 64).transpose(1, 2, 0), np.asarray(both(image)))


@settings(max_examples=40)
@given(
    st.sampled_from(["L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "1", "I;16", "I"]),
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 33),
)  # fmt: skip
def test_every_mode_and_shape_gives_rgb_bytes(mode, width, height, size):
    white = Image.new("RGB", (width, height), "white")
    image = (
        Image.fromarray(np.full((height, width), 65535, dtype=np.uint16)) if mode.startswith("I")
        else white.convert("L").convert(mode) if mode in ("LA", "PA") else white.convert(mode)
    )  # fmt: skip
    pixels = preprocess(image.convert("I") if mode == "I" else image, size)
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == np.uint8
    assert (pixels >= 254).all()


def test_transparency_is_white_and_16_bits_are_scaled(tmp_path):
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert (preprocess(clear, 4) == 255).all()
    half = preprocess(Image.new("RGBA", (9, 9), (255, 0, 0, 128)), 4)
    assert half[0].min() == 255
    assert abs(int(half[1, 0, 0]) - 127) <= 1
    Image.fromarray(np.full((9, 9), 257 * 200, dtype=np.uint16)).save(tmp_path / "16.png")
    with Image.open(tmp_path / "16.png") as image:
        assert (preprocess(image, 4) == 200).all()
    palette = Image.new("P", (9, 9), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert preprocess(palette, 4)[:, 0, 0].tolist() == [10, 20, 30]
    palette.info["transparency"] = 1
    assert (preprocess(palette, 4) == 255).all()


def test_a_folder_is_searched_sorted_and_split(folder):
    found = load(f"folder:{folder}")
    assert (len(found.train), len(found.validation)) == (8, 2)
    assert sorted(blues(found.train) + blues(found.validation)) == list(range(0, 100, 10))
    assert found.skipped == ()
    assert blues(load(f"folder:{folder}").train) == blues(found.train)
    assert blues(load(f"folder:{folder}", seed=5).train) != blues(found.train)
    assert found.train.shape == (8, 3, 8, 8)


def test_bytes_are_given_out_as_floats(folder):
    found = load(f"folder:{folder}", 16)
    assert isinstance(found.train, ByteImages)
    assert found.train.pixels.dtype == torch.uint8
    batch = found.train[torch.tensor([2, 0, 2])]
    assert batch.dtype == torch.float32
    assert torch.equal(batch[0] * 255, found.train.pixels[2].float())
    assert torch.equal(batch[0], batch[2])
    assert found.train.to("cpu").device == found.train.device


@pytest.mark.parametrize(
    ("layout", "damage"),
    [
        *product(["folder", "celeba"], ["truncated", "empty", "text", "float"]),
        ("celeba", "missing"),
    ],
)
def test_a_bad_file_is_named_and_can_be_skipped(layout, damage, request):
    root = request.getfixturevalue(layout)
    file = root / "inner" / "3.png" if layout == "folder" else root / "img_align_celeba/000005.jpg"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "float":
        Image.fromarray(np.zeros((9, 9), dtype=np.float32)).save(file, "TIFF")
    elif damage == "missing":
        file.unlink()
    else:
        file.write_text("" if damage == "empty" else "hello")
    data = f"{layout}:{root}"
    with pytest.raises(InputError, match=file.name) as error:
        load(data)
    assert "skip_bad=1" in str(error.value)
    assert "\n" not in str(error.value)
    found = load(data, skip_bad=1)
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith(file.relative_to(root).as_posix())
    total = 10 if layout == "folder" else 26
    assert len(found.train) + len(found.validation) == total - 1
    number = 30 if layout == "folder" else 32
    assert number not in blues(found.train) + blues(found.validation)


def test_one_bad_file_more_than_allowed_stops(folder):
    for file in folder_split(folder, 0)[0][:3]:
        file.write_text("")
    assert len(load(f"folder:{folder}", skip_bad=3).skipped) == 3
    with pytest.raises(InputError, match="skip_bad=3 or more"):
        load(f"folder:{folder}", skip_bad=2)


def test_missing_files_are_found_before_any_is_decoded(celeba, monkeypatch):
    (celeba / "img_align_celeba" / "000002.jpg").unlink()
    monkeypatch.setattr(images_module, "preprocess", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"000002\.jpg: missing"):
        load(f"celeba:{celeba}")


def test_no_readable_image_left_in_a_part(folder):
    _, validation = folder_split(folder, 0)
    for file in validation:
        file.write_text("")
    with pytest.raises(InputError, match="readable validation images: got 0"):
        load(f"folder:{folder}", skip_bad=9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("celeba", r"got 'celeba'; allowed: celeba:PATH.*img_align_celeba.*list_eval_partition"),
        ("folder", "allowed: folder:PATH"),
        ("folder:", "allowed: folder:PATH"),
        (
            "imagenet:x",
            "allowed: faces, fashion, digits, patches, fashion_mnist:PATH, celeba:PATH, "
            "imagenet64:PATH, folder:PATH",
        ),
        ("imagenet64", r"got 'imagenet64'; allowed: imagenet64:PATH.*train_data_batch_1.*val_data"),
        ("patches:x", "allowed: faces, fashion, digits, patches"),
        ("faces:x", "allowed: faces, fashion, digits"),
        ("", "allowed: faces"),
        ("folder:/not/there", "PATH an existing folder"),
    ],
)
def test_unknown_data_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        load(data)


@pytest.mark.parametrize("field", ["size", "training_images", "validation_images"])
def test_counts_are_positive(field):
    with pytest.raises(InputError, match=f"{field}.*got.*0"):
        load("digits", **{field: 0})


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="need scikit-learn; pip install"):
        load("digits")


def test_photographs_are_turned_upright(tmp_path):
    upright = photograph(9, (64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways: to be turned by 90° clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "1.png", exif=exif)
    with Image.open(tmp_path / "1.png") as image:
        assert np.array_equal(preprocess(image, 32), preprocess(upright, 32))


def test_damaged_celeba_folders(celeba):
    table = celeba / "list_eval_partition.txt"
    text = table.read_text()
    table.write_text(text.replace("000003.jpg 0", "000003.jpg"))
    with pytest.raises(InputError, match=r"list_eval_partition\.txt, line 3: got '000003\.jpg'"):
        load(f"celeba:{celeba}")
    table.write_text(text.replace(" 1\n", " 2\n"))
    with pytest.raises(InputError, match=r"validation images \(1\): got 0"):
        load(f"celeba:{celeba}")
    table.unlink()
    with pytest.raises(InputError, match=r"list_eval_partition\.txt is missing; expected"):
        load(f"celeba:{celeba}")
    (celeba / "img_align_celeba").rename(celeba / "images")
    with pytest.raises(InputError, match="img_align_celeba is missing"):
        load(f"celeba:{celeba}")


def test_a_folder_needs_two_images(tmp_path):
    with pytest.raises(InputError, match="images found: got 0; allowed: at least 2"):
        load(f"folder:{tmp_path}")
    photograph(1).save(tmp_path / "1.webp")
    with pytest.raises(InputError, match="images found: got 1"):
        load(f"folder:{tmp_path}")
    photograph(2).save(tmp_path / "2.TIFF", "TIFF")
    found = load(f"folder:{tmp_path}")
    assert (len(found.train), len(found.validation)) == (1, 1)


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 2**64 - 1))
def test_splits_are_disjoint_and_complete(tmp_path_factory, n, seed):
    root = tmp_path_factory.mktemp("split")
    for i in range(n):
        (root / f"{i}.png").touch()
    train, validation = folder_split(root, seed)
    assert len(train) == max(1, n * 4 // 5)
    assert sorted(train + validation) == sorted(root.iterdir())


def test_digests_tell_data_apart(folder):
    first = load(f"folder:{folder}")
    assert digest(first) == digest(load(f"folder:{folder}"))
    assert digest(first) != digest(load(f"folder:{folder}", seed=5))
    photograph(7).save(folder / "0.png")
    assert digest(load(f"folder:{folder}")) != digest(first)
    faces = [load("faces", 16, training_images=n, validation_images=5) for n in (20, 20, 21)]
    assert digest(faces[0]) == digest(faces[1]) != digest(faces[2])
