import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import sr_networks
from stochrestore import store
from stochrestore.data.photographs import Pair, Patches
from stochrestore.data.resize import low_resolution
from stochrestore.errors import InputError
from stochrestore.estimators.tiling import Tiled
from stochrestore.experiments import registry
from stochrestore.experiments import sr_networks as training
from stochrestore.experiments import srflow_robustness as experiment
from stochrestore.figures import sr_robustness as figures
from stochrestore.metrics.psnr import psnr
from stochrestore.networks.edsr import EDSR
from stochrestore.networks.rrdb import RRDBNet
from stochrestore.networks.srflow import SRFlow
from stochrestore.training.jobs import select, train_jobs

SMOKE = registry.load("srflow_robustness", "smoke")
NETWORKS = {"edsr": sr_networks.edsr, "esrgan": sr_networks.rrdb, "srflow": sr_networks.srflow}


def noisy_pair(side=64):
    levels = torch.randint(256, (3, side, side), generator=torch.Generator().manual_seed(0))
    high = levels.byte()
    return Pair(high, low_resolution(high))


@pytest.fixture(scope="module")
def networks():
    return {name: build() for name, build in NETWORKS.items()}


@pytest.fixture(scope="module")
def images():
    return experiment.groups(SMOKE, "photographs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The networks of the smoke preset, really trained for three steps."""
    folder = tmp_path_factory.mktemp("weights")
    jobs = training.all_jobs(SMOKE).values()
    train_jobs(jobs, folder, training.METHOD, about={"commit": "abc"})
    return folder


def test_psnr_of_known_differences():
    a = torch.full((2, 3, 12, 12), 0.5)
    assert psnr(a, a + 0.1).tolist() == pytest.approx([20, 20], rel=1e-5)
    grey = psnr(a, a + 0.1, channels="y")  # luma of a grey change is 219/255 of it
    assert grey[0].item() == pytest.approx(20 - 20 * math.log10(219 / 255), rel=1e-5)
    framed = a.clone()
    framed[..., :4] = 0
    assert psnr(a, framed, border=4).isinf().all()


def test_every_network_and_alpha_has_a_row_for_every_image(networks):
    settings = SMOKE.model_copy(update={"alphas": (2.0, 8.0)})
    rows = experiment.figure_8_rows(networks, settings)
    assert len(rows) == 3 * 2 * 3
    for row in rows:
        at_least = -20 * torch.tensor(row["alpha"] / 255).log10().item()
        assert row["input_rgb"] >= at_least - 1e-3
        assert row["output_rgb"] > 0
    edsr = [experiment.values_of(rows, "input_rgb", network="edsr", alpha=a) for a in (2.0, 8.0)]
    assert (edsr[0] > edsr[1]).all()
    difference = experiment.paired(rows, "output_rgb", "srflow", "edsr")
    own = experiment.values_of(rows, "output_rgb", network="srflow", alpha=2.0)
    assert difference.shape == own.shape


def test_output_psnr_is_the_mean_over_seeds_of_equal_seeds(networks, images):
    result = experiment.attacked(networks["srflow"], images[0], 8.0, SMOKE)
    assert len(result.clean) == SMOKE.attack_seeds
    (row, *_) = experiment.psnr_rows(result)
    by_seed = [psnr(result.clean[s, 0], result.moved[s, 0], border=4).item() for s in (0, 1)]
    assert row["output_rgb"] == pytest.approx(sum(by_seed) / 2)


def test_what_does_not_change_has_99_db_and_not_infinitely_many(networks, images):
    """The attack as printed, from δ = 0, moves nothing; flat images may be restored exactly."""
    printed = {"attack_start": "zero", "attack_reference": "output"}
    result = experiment.attacked(networks["edsr"], images[0], 8.0, SMOKE.model_copy(update=printed))
    for row in experiment.psnr_rows(result):
        assert {row["input_rgb"], row["input_y"], row["output_rgb"], row["output_y"]} == {99.0}
    black = experiment.Group(("black",), torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 16, 16))
    rows = experiment.quality_rows({}, [black], SMOKE)
    assert [row["psnr"] for row in rows] == [99.0]


def test_inputs_pass_in_bounded_numbers(monkeypatch):
    y = torch.zeros(5, 3, 10, 10)
    assert experiment.images_at_once(SMOKE, y) == 163
    assert experiment.images_at_once(SMOKE, torch.zeros(5, 3, 100, 100)) == 1
    assert experiment.images_at_once(SMOKE, torch.zeros(1, 3, 1000, 1000)) == 1
    assert experiment.images_at_once(SMOKE.model_copy(update={"images_at_once": 2}), y) == 2
    monkeypatch.setattr(experiment, "PIXELS_AT_ONCE", 16)
    crops = SMOKE.model_copy(update={"crops_each": 2})
    sizes = [len(group.names) for group in experiment.groups(crops, "photographs")]
    assert sizes == [2, 2, 2]


def test_memory_options_change_nothing(images):
    networks = {"srflow": sr_networks.srflow().double()}
    group = images[0]
    double = experiment.Group(group.names, group.x.double(), group.y.double())
    bounded = SMOKE.model_copy(update={"seeds_at_once": 1, "images_at_once": 1})
    a, b = (experiment.attacked(networks["srflow"], double, 8.0, s) for s in (SMOKE, bounded))
    torch.testing.assert_close(a.y, b.y, atol=1e-9, rtol=0)
    torch.testing.assert_close(a.moved, b.moved, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_large_images_are_attacked_in_windows(networks, name, monkeypatch):
    """As in one piece, but for the signs of gradients near 0."""
    y = sr_networks.image(36, 52)
    group = experiment.Group(("a",), torch.rand(1, 3, 144, 208), y)
    seen = []
    inside = experiment.Tiled.restore_seeds

    def watch(tiled, y, z):
        seen.append(tiled.tile)
        return inside(tiled, y, z)

    monkeypatch.setattr(experiment.Tiled, "restore_seeds", watch)
    whole, tiled = (
        experiment.attacked(
            networks[name], group, 8.0, SMOKE.model_copy(update={"tile": tile, "attack_steps": 1})
        )
        for tile in (64, 16)
    )
    assert set(seen) == {64, 16}
    scale = max(1.0, whole.clean.std().item())
    assert (whole.clean - tiled.clean).abs().max() <= scale / 255
    rows = [experiment.psnr_rows(result)[0] for result in (whole, tiled)]
    assert rows[0]["output_rgb"] == pytest.approx(rows[1]["output_rgb"], abs=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every kind of image file: odd sides, grey, alpha, 16 bits, the smallest, a large one."""
    folder = tmp_path_factory.mktemp("images")
    levels = np.random.Philox(key=0).random_raw(45 * 67 * 4) % 256
    colour = levels.astype(np.uint8).reshape(45, 67, 4)
    Image.fromarray(colour[..., :3]).save(folder / "odd.png")
    Image.fromarray(colour[..., 0]).save(folder / "grey.png")
    Image.fromarray(colour).save(folder / "alpha.png")
    Image.fromarray(colour[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(colour[:8, :8, :3]).save(folder / "tiny.png")
    Image.fromarray(colour[..., :3]).resize((1030, 401)).save(folder / "large.jpg")
    return folder


def test_every_kind_of_image_goes_through(networks, folder):
    changes = {"data": f"folder:{folder}", "attack_steps": 1, "attack_seeds": 1, "tile": 64}
    settings = SMOKE.model_copy(update=changes)
    rows = experiment.figure_8_rows(networks, settings)
    assert {row["image"] for row in rows} == {path.name for path in folder.iterdir()}
    assert len(rows) == 3 * 6
    for row in rows:
        assert all(math.isfinite(value) for key, value in row.items() if "put_" in key)
    images = experiment.groups(settings, settings.data)
    sizes = {name: tuple(group.y.shape[2:]) for group in images for name in group.names}
    assert (sizes["odd.png"], sizes["tiny.png"]) == ((11, 16), (2, 2))
    assert sizes["large.jpg"] == (100, 257)
    small = [group for group in images if "large.jpg" not in group.names]
    for row in experiment.quality_rows(networks, small, settings):
        assert math.isnan(row["ssim"]) == (row["image"] == "tiny.png")
        assert math.isfinite(row["psnr"])


def test_lpips_is_a_column_where_its_weights_are(networks, images, monkeypatch):
    monkeypatch.setattr(experiment.lpips, "missing_weights", lambda: ("a.pth", "b.pt"))
    rows = experiment.quality_rows(networks, images, SMOKE)
    assert not any("lpips" in row for row in rows)
    said = "LPIPS is left out, for want of a.pth and b.pt in torch.hub's cache."
    assert experiment.lpips_note() == said
    monkeypatch.setattr(experiment.lpips, "missing_weights", lambda: ())
    monkeypatch.setattr(experiment.lpips, "lpips", lambda a, b: (a - b).abs().mean()[None])
    rows = experiment.quality_rows(networks, images, SMOKE)
    assert all(row["lpips"] > 0 for row in rows)
    assert experiment.lpips_note() == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "set6"}, "data: got 'set6' .*bsd100, photographs, set14, set5, several joined"),
        ({"data": "set5+folder:x"}, "data: got"),
        ({"data": "folder:"}, "data: got 'folder:'"),
        ({"heats": [0.0, 1.5]}, "heats: got .*numbers from 0 to 1"),
        ({"tile": 17}, "tile: got 17"),
        ({"device": "tpu"}, "device: got 'tpu' .*auto, cpu or cuda"),
        ({"alphas": [0.0]}, "alphas: got"),
    ],
)
def test_bad_settings_end_in_one_line_before_any_work(change, message):
    with pytest.raises(InputError, match=message) as caught:
        registry.load("srflow_robustness", "laptop", **change)
    assert "\n" not in str(caught.value)


def test_a_network_that_overflows_has_a_psnr_too(images):
    class Overflowing(SRFlow):
        def restore_seeds(self, y, z):
            x = super().restore_seeds(y, z)
            return torch.where(x > 0.5, x * torch.nan, x)

    network = Overflowing(4, 1, 2, steps=1, hidden=2, stacked=(0,)).eval().requires_grad_(False)
    rows = experiment.psnr_rows(experiment.attacked(network, images[0], 8.0, SMOKE))
    assert not any(math.isnan(row["output_rgb"]) for row in rows)


def test_heat_zero_has_one_output_and_leaves_the_network_as_it_was(networks, images):
    rows = experiment.heat_rows(networks["srflow"], images, SMOKE)
    assert {row["heat"] for row in rows} == {0.0, 1.0}
    assert all((row["spread"] == 0) == (row["heat"] == 0) for row in rows)
    assert networks["srflow"].heat == 0.9


def test_bicubic_is_beside_the_networks(networks, images):
    rows = experiment.quality_rows(networks, images, SMOKE)
    assert len(rows) == 4 * 3
    assert all(0 < row["ssim"] <= 1 for row in rows if row["network"] == "bicubic")
    assert all(row["sharpness"] < 1 for row in rows if row["network"] == "bicubic")


def test_figures_are_drawn(networks, images):
    rows = experiment.figure_8_rows(networks, SMOKE)
    panels = figures.figure_8([*rows, *({**row, "data": "set5"} for row in rows)])
    sides = ("outputs, less a border of 4 pixels", "attacked inputs (AI-PSNR)")
    titles = [f"{data}: {side}" for data in ("photographs", "Set5") for side in sides]
    assert [axis.get_title() for axis in panels.axes] == titles
    figures.figure_8(rows, "y")
    figures.heats(experiment.heat_rows(networks["srflow"], images, SMOKE), 8.0)
    results = {n: experiment.attacked(f, images[0], 8.0, SMOKE) for n, f in networks.items()}
    assert len(figures.pictures(results, 0, 8.0).axes) == 15


def test_training_leaves_weights_and_records(trained):
    assert {path.name for path in trained.glob("*.safetensors")} == {
        f"{name}.safetensors" for name in training.NETWORKS
    }
    record = json.loads((trained / "srflow.json").read_text())
    assert record["commit"] == "abc"
    assert len(record["data_sha256"]) == 64
    assert [row["step"] for row in record["history"]] == [1, 2, 3]
    assert not list((trained / "checkpoints").glob("*.pt"))
    loaded = experiment.load_or_train(
        SMOKE.model_copy(update={"train": False, "weights": str(trained)})
    )
    assert list(loaded) == ["edsr", "esrgan", "srflow"]


def test_images_that_are_missing_are_said_before_anything_is_trained(tmp_path):
    changes = {"data": f"folder:{tmp_path / 'none'}", "weights": str(tmp_path / "new")}
    with pytest.raises(InputError, match="none"):
        experiment.load_or_train(SMOKE.model_copy(update=changes))
    assert not (tmp_path / "new").exists()


def test_what_is_trained_is_not_trained_again(trained):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")}
    train_jobs(training.all_jobs(SMOKE).values(), trained, training.METHOD)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*.safetensors")} == before
    with pytest.raises(InputError, match="only: got 'vdsr'"):
        select(training.all_jobs(SMOKE), only="vdsr")


def test_official_weights_take_the_place_of_ours(trained, tmp_path):
    torch.save(sr_networks.edsr().state_dict(), tmp_path / "edsr.pt")
    changes = {"train": False, "weights": str(trained), "edsr_weights": str(tmp_path / "edsr.pt")}
    loaded = experiment.load_or_train(SMOKE.model_copy(update=changes))
    assert torch.equal(loaded["edsr"].head[0].weight, sr_networks.edsr().head[0].weight)
    changes["edsr_weights"] = str(tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt cannot be read"):
        experiment.load_or_train(SMOKE.model_copy(update=changes))


@pytest.mark.parametrize("name", ["edsr", "esrgan", "srflow"])
def test_an_interrupted_training_continues_to_the_bit(name, tmp_path):
    settings = SMOKE.model_copy(update={"edsr_steps": 4, "esrgan_steps": 4, "srflow_steps": 4})
    patches = Patches([noisy_pair()], 8)
    whole = training.SRTrainer(name, settings, patches)
    whole.train(evaluate_every=1, progress=False)

    class Interrupted(Exception):
        pass

    def interrupt(network):
        if first.step == 3:
            raise Interrupted
        return {}

    first = training.SRTrainer(name, settings, patches)
    every = {"evaluate_every": 1, "checkpoint_every": 1, "progress": False}
    with pytest.raises(Interrupted):
        first.train(checkpoint=tmp_path / "c.pt", evaluate=interrupt, **every)
    second = training.SRTrainer(name, settings, patches)
    second.train(checkpoint=tmp_path / "c.pt", **every)
    for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [row["loss"] for row in whole.history] == [row["loss"] for row in second.history]


def test_only_srflow_sees_permuted_colours():
    pairs = [noisy_pair()]
    found = {name: training.patches_of(name, SMOKE, pairs) for name in training.STAGES}
    assert {name for name, patches in found.items() if patches.permute_colours} == {"srflow"}
    assert training.all_jobs(SMOKE)["srflow"].recorded()["srflow_permute_colours"]
    plain = SMOKE.model_copy(update={"srflow_permute_colours": False})
    assert not training.patches_of("srflow", plain, pairs).permute_colours


def test_bad_checkpoints_end_in_one_line(tmp_path):
    patches, path = Patches([noisy_pair()], 8), tmp_path / "c.pt"
    trainer = training.SRTrainer("edsr", SMOKE, patches)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be read: remove it to start afresh"):
        trainer.train(checkpoint=path, progress=False)
    path.unlink()
    trainer.train(checkpoint=path, checkpoint_every=1, progress=False)
    other = training.SRTrainer("edsr", SMOKE.model_copy(update={"lr": 0.1}), patches)
    with pytest.raises(InputError, match="written with other settings"):
        other.train(checkpoint=path, progress=False)


@pytest.mark.parametrize("network", [EDSR(8, 1), RRDBNet(8, 1, 4)])
def test_networks_start_as_bilinear_interpolation(network):
    training.interpolate_at_first(network)
    y = torch.rand(1, 3, 12, 12)
    expected = y
    for _ in range(2):
        expected = torch.nn.functional.interpolate(expected, scale_factor=2, mode="bilinear")
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(network(y)[inside], expected[inside], atol=1e-5, rtol=0)


def test_shipped_networks_are_worth_their_names():
    settings = registry.load("srflow_robustness", "laptop")
    networks = experiment.load_or_train(settings)
    rows = experiment.quality_rows(
        networks, experiment.groups(settings, "photographs", crop=128), settings
    )

    def mean(network, key):
        return experiment.values_of(rows, key, network=network).mean().item()

    assert mean("edsr", "psnr") > mean("bicubic", "psnr") + 0.5
    for name in ("esrgan", "srflow"):
        assert mean(name, "sharpness") > mean("edsr", "sharpness")
    tiled = {
        name: Tiled(network, tile=16, margin=experiment.MARGIN)
        for name, network in networks.items()
    }
    for name, network in networks.items():
        y = experiment.groups(settings, "photographs", crop=200)[0].y[:1]
        z = network.seed(y, 1, generator=torch.Generator().manual_seed(0))[0]
        assert (tiled[name](y, z) - network(y, z)).abs().max() < 1e-2 / 255  # no seams
    folder = store.shipped("srflow_robustness")
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 4e6
