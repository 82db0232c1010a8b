"""The wiring of the measurements: which images, inputs and numbers of samples they are of."""

import math

import pytest
import torch

from stochrestore.degradations import Inpainting
from stochrestore.estimators.closed_form import Sine
from stochrestore.experiments import evaluation, inpaint, registry, sr_scaling, toy_gans
from stochrestore.metrics.coverage import coverage_interval
from stochrestore.metrics.intervals import frechet_interval
from stochrestore.metrics.precision_recall import knn_radii, precision_recall
from stochrestore.problems.toy import Disk


def digits(**changes):
    return registry.load("inpaint", "smoke", data="digits", **changes)


def test_real_features_are_of_training_images_and_inputs_of_validation_images():
    """App. E.2: restored validation images are compared with training images."""
    settings = digits(n_eval=40)
    data = evaluation.images(settings)
    found = evaluation.reference(settings, Inpainting(8))
    assert torch.equal(found.real, data.train[:40].flatten(1))
    assert torch.equal(found.inputs, Inpainting(8).degrade(data.validation[:40]))
    assert torch.equal(found.radii, knn_radii(found.real, settings.k))


def test_precision_and_recall_have_the_intervals_of_their_own_points():
    """The real images are four times as many as the restored ones."""
    settings = digits(n_eval=200)
    compared = evaluation.reference(settings, Inpainting(8))
    restored = evaluation.images(settings).validation[:50]
    row = evaluation.quality(compared, restored, settings, repeats=40)
    fake, real, k = compared.extractor(restored), compared.real, settings.k
    generator = torch.Generator().manual_seed(settings.seed)
    distance = frechet_interval(real, fake, generator=generator, repeats=40)
    shares = precision_recall(real, fake, k)
    precision = coverage_interval(fake, real, k, shares.precision, generator=generator)
    recall = coverage_interval(real, fake, k, shares.recall, generator=generator)
    assert (row["fid"], row["precision"], row["recall"]) == (distance, precision, recall)


def test_the_ai_psnr_of_inpainting_is_over_the_whole_image():
    """δ has 16 dimensions, the image 64: only over 64 is the paper's ε its 32.9 dB."""
    settings = digits(train=True, steps=2, robust=False)
    row, *_ = inpaint.table_1(inpaint.load_or_train(settings))
    assert row["ball_used"].value == pytest.approx(1, abs=1e-4)
    expected = -10 * math.log10(settings.epsilon**2 / 64)
    assert row["ai_psnr"].value == pytest.approx(expected, abs=1e-3)


def test_the_ai_psnr_of_super_resolution_is_over_y():
    settings = registry.load("sr_scaling", "smoke", data="digits", train=True, steps=2, scales=[2])
    row, *_ = sr_scaling.figure_4(sr_scaling.load_or_train(settings))
    assert row["ball_used"].value == pytest.approx(1, abs=1e-4)
    epsilon = sr_scaling.at_scale(settings, 2).epsilon
    assert row["ai_psnr"].value == pytest.approx(-10 * math.log10(epsilon**2 / 16), abs=1e-3)


def test_toy_restorations_are_of_other_inputs_than_the_data():
    """The same y would give each restoration a real point of equal first coordinate."""
    generator = torch.Generator().manual_seed(0)
    real, fake = toy_gans.draw(Disk(), Sine(3.0), 50, generator=generator)
    assert len(real) == len(fake) == 50
    assert not torch.isin(fake[:, 0], real[:, 0]).any()
