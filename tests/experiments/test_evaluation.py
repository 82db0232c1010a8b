"""The wiring of the measurements: which points, centres and dimensions they are of."""

import math

import pytest
import torch

from stochrestore.degradations import Inpainting
from stochrestore.experiments import evaluation, registry, sr_scaling
from stochrestore.metrics.coverage import coverage_interval
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.intervals import frechet_interval
from stochrestore.metrics.precision_recall import precision_recall


def test_precision_and_recall_have_the_intervals_of_their_own_points():
    """The real images are four times as many as the restored ones."""
    settings = registry.load("inpaint", "smoke", data="digits", n_eval=200)
    compared = evaluation.reference(settings, Inpainting(8))
    restored = evaluation.images(settings).validation[:50]
    fake, real, k = compared.features(restored), compared.real, settings.k
    row = evaluation.quality(compared, fake, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    distance = frechet_interval(real, fake, generator=generator)
    shares = precision_recall(real, fake, k)
    precision = coverage_interval(fake, real, k, shares.precision, generator=generator)
    recall = coverage_interval(real, fake, k, shares.recall, generator=generator)
    assert (row["fid"], row["precision"], row["recall"]) == (distance, precision, recall)
    one_of_several = evaluation.quality(compared, fake, settings, alone=False)
    for key in ("fid", "precision", "recall"):
        assert one_of_several[key] == Interval.exact(row[key].value)


def test_the_ai_psnr_of_super_resolution_is_over_y():
    settings = registry.load("sr_scaling", "smoke", data="digits", train=True, steps=2, scales=[2])
    row, *_ = sr_scaling.figure_4(sr_scaling.load_or_train(settings))
    assert row["ball_used"].value == pytest.approx(1, abs=1e-4)
    epsilon = sr_scaling.at_scale(settings, 2).epsilon
    assert row["ai_psnr"].value == pytest.approx(-10 * math.log10(epsilon**2 / 16), abs=1e-3)
