import hashlib
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stochrestore import cli
from stochrestore.book import doctor
from stochrestore.data import downloads
from stochrestore.data.benchmarks import as_tensors, folder_pairs, load_pairs, read_image
from stochrestore.data.resize import bicubic_upscale, low_resolution
from stochrestore.errors import InputError

REAL_SET5 = Path(__file__).parents[3] / "shared" / "data" / "Set5"


def photo(seed=0, h=16, w=24):
    levels = np.random.Philox(key=seed).random_raw(h * w * 3) % 256
    return levels.astype(np.uint8).reshape(h, w, 3)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; refuses, cuts or alters what its server says; counts requests."""

    def do_GET(self):
        server, path = self.server, self.path.lstrip("/")
        server.asked.append(path)
        data = (server.root / path).read_bytes() if path not in server.gone else b""
        if path in server.gone:
            self.send_error(404)
            return
        if path in server.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if path in server.cut else data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A benchmark of three pairs on a local server, in place of the real Set5."""
    root = tmp_path / "served"
    names = {}
    for i in range(3):
        high = photo(i)
        low = low_resolution(torch.from_numpy(high).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        for kind, pixels in (("HR", high), ("LR", low)):
            path = root / f"Set5/image_SRF_4/img_{i}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            names[path.relative_to(root).as_posix()] = digest
    monkeypatch.setattr(downloads, "registry", lambda name: dict(names))
    monkeypatch.setenv(downloads.FOLDER_VARIABLE, str(tmp_path / "data"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        httpd.root, httpd.names, httpd.asked = root, list(names), []
        httpd.gone, httpd.altered, httpd.cut = set(), set(), set()
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def fetch(server):
    return downloads.fetch("set5", source=server.url, progress=False)


def test_fetches_into_the_given_folder_and_only_once(server, tmp_path):
    folder = fetch(server)
    assert folder == tmp_path / "data" / "Set5"
    assert len(load_pairs("set5", crop=128, crops_each=1)) == 3
    fetch(server)
    assert sorted(server.asked) == sorted(server.names)


def test_continues_where_it_was_interrupted(server):
    server.gone = set(server.names[3:])
    with pytest.raises(InputError, match=r"img_1_LR.png: cannot be downloaded \(status 404\)"):
        fetch(server)
    with pytest.raises(InputError, match=r"data=set5: 3 files are not in .*data fetch set5"):
        load_pairs("set5", crop=128, crops_each=1)
    server.gone, server.asked = set(), []
    fetch(server)
    assert sorted(server.asked) == sorted(server.names[3:])


@pytest.mark.parametrize("harm", ["altered", "cut"])
def test_a_file_that_is_not_the_published_one_is_not_kept(server, tmp_path, harm):
    setattr(server, harm, {server.names[0]})
    with pytest.raises(InputError, match=r"^Set5/image_SRF_4/img_0_HR.png: [^\n]*$"):
        fetch(server)
    assert not (tmp_path / "data" / server.names[0]).exists()
    setattr(server, harm, set())
    fetch(server)


def test_a_file_damaged_on_disk_is_fetched_again(server, tmp_path):
    fetch(server)
    damaged = tmp_path / "data" / server.names[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:50])
    fetch(server)
    assert damaged.read_bytes() == whole


def test_a_file_damaged_on_disk_is_found_by_the_run_and_the_doctor(server, tmp_path):
    fetch(server)
    damaged = tmp_path / "data" / server.names[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"?")
    with pytest.raises(InputError, match=r"1 files .*img_0_HR.png \(damaged\); .*data fetch set5"):
        load_pairs("set5", crop=128, crops_each=1)
    found = doctor.data()[0]
    assert not found.good
    assert "5 of 6 files" in found.said
    assert "1 damaged" in found.said
    assert "data fetch set5" in found.advice
    fetch(server)
    assert damaged.read_bytes() == whole
    assert doctor.data()[0].good


def test_the_command_fetches_and_says_where(server, capsys, monkeypatch, tmp_path):
    command = ["stochrestore", "data", "fetch", "set5", "--source", server.url]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "data" / "Set5")


def test_without_a_server_one_line(server):
    server.url = "http://127.0.0.1:9/"
    with pytest.raises(InputError, match=r"cannot be downloaded \(ConnectionError\)"):
        fetch(server)


def test_registry_lists_pairs_of_all_three():
    sizes = {name: len(downloads.registry(name)) for name in downloads.BENCHMARKS}
    assert sizes == {"set5": 10, "set14": 28, "bsd100": 200}
    for name in downloads.BENCHMARKS:
        files = downloads.registry(name)
        assert {p.replace("_HR.", "_LR.") for p in files} <= set(files)
        assert all(len(digest) == 64 for digest in files.values())
    with pytest.raises(InputError, match="data set: got 'set6'; allowed: set5, set14, bsd100"):
        downloads.registry("set6")


def test_folder_by_the_platforms_convention(monkeypatch):
    monkeypatch.delenv(downloads.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert downloads.data_folder().name == "stochrestore"


@pytest.mark.skipif(not REAL_SET5.exists(), reason="Set5 is not here")
def test_low_resolution_images_are_the_published_ones_to_the_bit():
    pairs = folder_pairs(REAL_SET5)
    assert len(pairs) == 5
    for pair in pairs.values():
        assert torch.equal(low_resolution(pair.high), pair.low)


def test_low_resolution_of_a_ramp():
    """Away from the border, cubic interpolation reproduces straight lines exactly."""
    ramp = torch.arange(40).byte().expand(3, 40, 40).contiguous()
    expected = (4 * torch.arange(10) + 1.5).add(0.5).floor()  # centres of four pixels
    found = low_resolution(ramp)[0, 5, 2:-2]
    assert torch.equal(found.float(), expected[2:-2])


def test_upscaling_keeps_constants_and_size():
    up = bicubic_upscale(torch.full((1, 3, 5, 7), 0.3), 4)
    assert up.shape == (1, 3, 20, 28)
    torch.testing.assert_close(up, torch.full_like(up, 0.3))


def test_every_kind_of_image_file(tmp_path):
    colour = photo()
    alpha = np.concatenate([colour, np.full((16, 24, 1), 255, np.uint8)], 2)
    Image.fromarray(colour).save(tmp_path / "a.png")
    Image.fromarray(alpha).save(tmp_path / "b.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "c.png")
    Image.fromarray(colour[..., 0].astype(np.uint16) * 257).save(tmp_path / "d.png")
    Image.fromarray(colour).resize((23, 17)).save(tmp_path / "e.png")
    Image.fromarray(colour[:8, :8]).save(tmp_path / "f.png")
    pairs = folder_pairs(tmp_path)
    assert list(pairs) == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    assert torch.equal(pairs["a.png"].high, pairs["b.png"].high)
    assert torch.equal(pairs["c.png"].high, pairs["d.png"].high)
    assert torch.equal(pairs["c.png"].high[0], torch.from_numpy(colour[..., 0].copy()))
    assert pairs["e.png"].high.shape == (3, 16, 20)
    x, y = as_tensors(pairs["f.png"])
    assert (x.shape, y.shape) == ((1, 3, 8, 8), (1, 3, 2, 2))
    assert x.max() <= 1


def test_a_partner_is_used_as_it_is(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "x_HR.png")
    low = photo(1, 4, 6)
    Image.fromarray(low).save(tmp_path / "x_LR.png")
    (pair,) = folder_pairs(tmp_path).values()
    assert torch.equal(pair.low, torch.from_numpy(low).permute(2, 0, 1))
    Image.fromarray(photo(1, 4, 5)).save(tmp_path / "x_LR.png")
    with pytest.raises(InputError, match=r"x_HR.png: size: got \(16, 24\); allowed: \(16, 20\)"):
        folder_pairs(tmp_path)


def test_bad_folders_and_files_end_in_one_line(tmp_path):
    for data in ("set4", "folder:", "folder:/no/such", f"folder:{tmp_path}"):
        with pytest.raises(InputError) as error:
            load_pairs(data, crop=128, crops_each=1)
        assert "\n" not in str(error.value)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(InputError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    Image.fromarray(photo()).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.png: cannot be read as an image"):
        read_image(tmp_path / "cut.png")
    Image.fromarray(photo(0, 6, 24)).save(tmp_path / "tiny.png")
    (tmp_path / "text.png").unlink()
    (tmp_path / "cut.png").unlink()
    with pytest.raises(InputError, match=r"tiny.png: size: got \(4, 24\); allowed: at least 8×8"):
        folder_pairs(tmp_path)


def test_the_registry_in_the_package_is_readable_as_json():
    path = Path(downloads.__file__).with_name("selfexsr_x4.json")
    assert len(json.loads(path.read_text("utf-8"))) == 238
