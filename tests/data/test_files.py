"""Image files as people have them: hidden, linked, turned, huge, with damaged notes."""

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stochrestore.data.benchmarks import folder_pairs, load_pairs, read_image
from stochrestore.data.files import image_files, rgb
from stochrestore.data.images import load_images
from stochrestore.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def save(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, **options)


def names(folder):
    return [path.relative_to(folder).as_posix() for path in image_files(folder)]


def loaded(folder):
    """How many images each way of reading a folder finds."""
    found = load_images(f"folder:{folder}", 8, seed=0, training_images=99, validation_images=99)
    pairs = load_pairs(f"folder:{folder}", crop=32, crops_each=1)
    assert len(pairs) == len(found.train) + len(found.validation)
    return len(pairs)


def test_hidden_files_and_folders_named_like_images_are_no_images(tmp_path):
    for name in ("a.png", "b.JPG", "deep/er/c.tif"):
        save(tmp_path / name, format=None if name[-3:] != "JPG" else "JPEG")
    for name in ("._a.png", ".DS_Store", "notes.txt", ".thumbnails/a.png", "photos.png/read.me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    assert names(tmp_path) == ["a.png", "b.JPG", "deep/er/c.tif"]
    assert loaded(tmp_path) == 3


def test_links_to_folders_are_followed_once(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    save(elsewhere / "1.png")
    save(elsewhere / "2.png")
    save(folder / "real" / "3.png")
    (folder / "again").symlink_to(folder / "real")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked too").symlink_to(elsewhere)
    (folder / "real" / "up").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    assert names(folder) == ["linked/1.png", "linked/2.png", "real/3.png"]
    assert loaded(folder) == 3
    (tmp_path / "link to it").symlink_to(folder)
    assert loaded(tmp_path / "link to it") == 3


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse_locked(path):
        if Path(path).name == "locked":  # by hand: the superuser may read everything
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", refuse_locked)
    (tmp_path / "locked").mkdir()
    with pytest.raises(InputError, match="locked: cannot be read: Permission denied"):
        image_files(tmp_path)


def test_every_rotation_that_a_camera_notes_is_undone():
    from PIL import ImageOps

    for orientation in (*range(10), 99):
        image = Image.fromarray(PIXELS)
        image.getexif()[0x0112] = orientation
        assert np.array_equal(rgb(image), ImageOps.exif_transpose(image))


def notes(tag, kind, raw):
    """EXIF data in which the camera was held sideways, and one more entry."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI", tag, kind, 1)
    inline = len(raw) <= 4
    value = raw.ljust(4, b"\0") if inline else struct.pack("<I", 8 + 2 + 24 + 4)
    content = struct.pack("<H", 2) + entries + value + bytes(4) + (b"" if inline else raw)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + content


@pytest.mark.parametrize(
    ("tag", "kind", "raw"),
    [
        (0x011A, 10, struct.pack("<ii", -5, 3)),  # a resolution below zero
        (0x011A, 11, struct.pack("<f", float("nan"))),
        (0x0111, 2, b"abc\0"),  # text where a number should be
        (0x0100, 9, struct.pack("<i", -1)),
    ],
)
def test_a_photograph_with_notes_that_pillow_cannot_write_again_is_read(tmp_path, tag, kind, raw):
    for number in range(2):
        save(tmp_path / f"{number}.jpg", exif=notes(tag, kind, raw))
    assert loaded(tmp_path) == 2
    assert read_image(tmp_path / "0.jpg").shape == (3, 24, 16)


def test_an_image_beyond_pillows_limit_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # refused from twice as many
    save(tmp_path / "large.png")
    save(tmp_path / "other.png")
    for read in (loaded, folder_pairs):
        with pytest.raises(InputError, match=r"\.png: .*\(384 pixels\).*limit") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)


def test_the_benchmarks_own_folders_give_the_pairs_at_4(tmp_path):
    """SelfExSR's layout: several scales, and other methods' results beside the pairs."""
    for scale in (2, 3, 4):
        for kind, side in (("HR", 48), ("LR", 48 // scale), ("bicubic", 48)):
            path = tmp_path / f"Set5/image_SRF_{scale}/img_001_SRF_{scale}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side), (scale, 0, 0)).save(path)
    (pair,) = load_pairs(f"folder:{tmp_path}", crop=32, crops_each=1).values()
    assert (pair.low.shape, pair.high.shape) == ((3, 12, 12), (3, 48, 48))
    assert set(pair.low[0].flatten().tolist()) == {4}
    for path in (tmp_path / "Set5/image_SRF_4").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"images at ×4: got 0; allowed: at least 1 of …_SRF_4_HR"):
        folder_pairs(tmp_path)
