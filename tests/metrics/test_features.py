"""Feature extractors: pixels, the shipped attribute network, piq's Inception from a file."""

import hashlib
import math

import pytest
import torch
from torch.nn import functional as F

from stochrestore.data.patches import natural_patches
from stochrestore.degradations import Averaging
from stochrestore.errors import InputError
from stochrestore.experiments.attributes import labelled_faces
from stochrestore.experiments.augmentation import blurred
from stochrestore.metrics import features as module
from stochrestore.metrics.features import FeatureExtractor, feature_extractor
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.metrics.torchvision_ops import import_piq
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE


@pytest.fixture(scope="module")
def attributes():
    return feature_extractor("attributes")


def images(n, size=32, channels=3, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def test_pixels_are_the_images():
    x = images(5, 8, 1)
    assert torch.equal(feature_extractor("pixels")(x), x.flatten(1))


def test_the_centre_is_a_square_at_full_resolution():
    x = images(5, 32)
    found = feature_extractor("centre")(x)
    assert torch.equal(found, x[:, :, 12:20, 12:20].flatten(1))
    for size in (8, 5):
        assert torch.equal(feature_extractor("centre")(images(2, size)), images(2, size).flatten(1))


def test_the_centre_tells_consistent_images_apart():
    """Sharp, smooth and noisy patches of equal 4×4 means; means of blocks could not."""
    parts = natural_patches(32, 0, 1500, 1)[0].float().div(255).split(500)
    real, sharp, averaging = parts[0], parts[1], Averaging(4)
    y = averaging.degrade(sharp)
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    features = feature_extractor("centre")
    base, *worse = (
        frechet_distance(features(real), features(averaging.project(x, y)))
        for x in (sharp, averaging.lift(y), sharp + noise / 10)
    )
    assert all(distance > 1.5 * base for distance in worse)


def test_what_leaves_the_range_is_clamped():
    x = torch.tensor([-0.2, 0.5, 1.3, 1.0]).reshape(1, 1, 2, 2)
    assert feature_extractor("pixels")(x).tolist() == [[0.0, 0.5, 1.0, 1.0]]


def test_images_pass_in_batches_of_bounded_size_without_gradient():
    sizes = []

    def network(x):
        sizes.append(len(x))
        return x.flatten(1)

    x = images(10, 4).requires_grad_(True)
    found = FeatureExtractor("pixels", network, batch=4)(x)
    assert sizes == [4, 4, 2]
    assert torch.equal(found, x.flatten(1))
    assert not found.requires_grad


def test_batches_may_come_one_by_one(attributes):
    x = images(9)
    assert torch.equal(attributes(iter(x.split(9))), attributes(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (images(2)[0], r"shape of images: got \(3, 32, 32\)"),
        (images(2)[:0], r"shape of images: got \(0,"),
        ((255 * images(2)).byte(), "pixels: dtype of images: got torch.uint8; allowed: floats"),
        (255 * images(2), "pixels: range of images: got '0.0203 to 255'; allowed: 0 to 1"),
        (2 * images(2) - 1, "pixels: range of images: got '-1 to 1'; allowed: 0 to 1"),
        (images(3).index_fill(0, torch.tensor([1]), math.nan), "NaN or infinity: got 1"),
        ([], "batches of images: got 0"),
    ],
)
def test_bad_images_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        feature_extractor("pixels")(x)


def test_networks_take_colour_or_grey(attributes):
    grey = images(3, channels=1)
    assert torch.equal(attributes(grey), attributes(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(InputError, match="channels of images: got 2; allowed: 1 or 3"):
        attributes(images(3, channels=2))


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="features: got 'vgg'; allowed: 'pixels', 'centre'"):
        feature_extractor("vgg")


def test_attributes_of_an_image_do_not_depend_on_its_batch(attributes):
    x = images(6)
    assert attributes(x).shape == (6, 96)
    assert torch.allclose(attributes(x)[2:3], attributes(x[2:3]), atol=1e-5)


def test_attributes_of_other_sizes_are_those_of_the_resized_image(attributes):
    x = Faces(64).images(3, 0, 8)
    small = F.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    assert torch.equal(attributes(x), attributes(small))


def test_the_shipped_network_knows_the_latents(attributes):
    """Linear readings of its features, fitted on some fresh faces, hold on others."""
    faces = labelled_faces(7, 0, 1500)
    found = torch.cat([attributes(faces.images), torch.ones(1500, 1)], 1).double()
    fitted, held_out = found[:1000], found[1000:]
    latents = [latent for latent in VISIBLE + HIDDEN if latent.classes]
    shares = {}
    for latent, classes in zip(latents, faces.classes.T, strict=True):
        wanted = F.one_hot(classes[:1000], len(latent.classes)).double()
        ridge = fitted.T @ fitted + torch.eye(97)
        reading = torch.linalg.solve(ridge, fitted.T @ wanted)
        right = (held_out @ reading).argmax(1) == classes[1000:]
        shares[latent.name] = right.double().mean().item()
    assert shares["hat"] > 0.95
    assert shares["glasses"] > 0.95
    assert shares["hair_colour"] > 0.6
    assert shares["hair"] > 0.75


def test_no_feature_is_silent(attributes):
    assert (attributes(Faces(32).images(7, 0, 500)).std(0) > 0.05).all()


def test_the_distance_of_attributes_sees_what_the_eye_sees(attributes):
    """Few kinds of faces and a strong blur are far from faces; a noise hardly seen is not."""
    faces = Faces(16)
    real, others = faces.images(1, 0, 600), faces.images(1, 600, 1200)
    noise = 0.05 * torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    few = others[:20].repeat(30, 1, 1, 1)
    base, slight, *worse = (
        frechet_distance(attributes(real), attributes(x))
        for x in (others, (others + noise).clamp(0, 1), few, blurred(others))
    )
    assert slight < 1.5 * base  # a network that never saw noise: 2.3
    assert min(worse) > 3 * base


def test_without_inception_s_weights_the_line_says_where_to_get_them(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError) as caught:
        feature_extractor("inception", inception_weights=path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert module.INCEPTION_ADDRESS in str(caught.value)


def test_inception_s_weights_are_looked_for_in_torch_s_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=str(tmp_path / "checkpoints" / module.INCEPTION_FILE)):
        feature_extractor("inception")


def test_another_file_is_not_taken_for_inception_s_weights(tmp_path):
    path = tmp_path / module.INCEPTION_FILE
    torch.save({}, path)
    with pytest.raises(InputError, match=r"sha256 is \w{8}…, not 6726825d…"):
        feature_extractor("inception", inception_weights=path)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Weights of the right names and shapes, random, and the digits of their sha256."""
    import_piq()
    import piq.feature_extractors.fid_inception as fid
    from torchvision.models import inception_v3

    network = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    network.Mixed_7c = fid.FIDInceptionE2(2048)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_inception_from_a_file(inception_file, monkeypatch, recwarn):
    path, digits = inception_file
    monkeypatch.setattr(module, "INCEPTION_SHA256", digits)
    extractor = feature_extractor("inception", inception_weights=path)
    found = extractor(images(2, 16))
    assert extractor.name == "inception"
    assert found.shape == (2, 2048)
    assert not torch.equal(found[0], found[1])
    assert len(recwarn) == 0
