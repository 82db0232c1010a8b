"""What the numbers of the image chapters mean: controls, and two measures of a network's health.

What a feature says of real images against real ones is the best that any estimator can reach in
it, and what it says of blurred and noisy ones is what a visible defect costs. The accuracy of a
fresh critic says how easily restorations are told from images at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stochrestore.data.images import Images
from stochrestore.degradations import ImageDegradation
from stochrestore.estimators.base import Estimator, on_device, sample
from stochrestore.experiments.augmentation import blurred
from stochrestore.experiments.evaluation import Row, features_for, restorations
from stochrestore.experiments.image_gans import Degradation, ImageSettings, build_critic, images
from stochrestore.losses import critic_gan_loss
from stochrestore.metrics.features import feature_extractor
from stochrestore.metrics.frechet import frechet_distance
from stochrestore.metrics.precision_recall import precision_recall
from stochrestore.training.jobs import Job
from stochrestore.training.loop import Metrics

NOISE = 0.05
CONTROLS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "real": lambda x, generator: x,
    "noise of 0.05": lambda x, generator: x + NOISE * torch.randn(x.shape, generator=generator),
    "blurred 3×3": lambda x, generator: blurred(x),
}
"""Validation images as they are, and with what the eye sees at once."""


def controls(settings: ImageSettings) -> list[Row]:
    """Training images against :data:`CONTROLS`, in the features of the data and in raw pixels.

    ``settings.n_eval`` images a side, as for restorations.
    """
    data, rows = images(settings), []
    n = min(settings.n_eval, len(data.train), len(data.validation))
    extractors = {x.name: x for x in (features_for(settings), feature_extractor("pixels"))}
    for name, extractor in extractors.items():
        real = extractor(data.train[:n])
        for label, change in CONTROLS.items():
            generator = torch.Generator().manual_seed(settings.seed)
            other = extractor(change(data.validation[:n], generator))
            shares = precision_recall(real, other, settings.k)._asdict()
            row = {"features": name, "images": label, "fid": frechet_distance(real, other)}
            rows.append({**row, **shares})
    return rows


def two_sample_accuracy(
    estimator: Estimator | None,
    settings: ImageSettings,
    degradation: ImageDegradation,
    *,
    seed: int,
) -> float:
    """How often a fresh critic tells restorations from images, after 300 updates.

    The classifier two-sample test of Lopez-Paz and Oquab (2017): the critic of the experiment,
    untrained, learns on training images and restorations of others, and is asked about validation
    images and restorations of others. ½: it cannot tell; 1: it always can.

    Args:
        estimator: ready to restore; None: images stand for its restorations, as a control.
        settings: say which data and critic, the size of a batch, and how many updates.
        seed: of the critic and of all draws.
    """
    device, data = settings.torch_device(), images(settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = build_critic(settings).to(device)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.99), fused=True)

    def drawn(part: Images) -> Tensor:
        rows = torch.randint(len(part), (settings.batch_size,), generator=generator)
        return on_device(part[rows], device)

    for _ in range(settings.fresh_critic_steps):
        real, others = drawn(data.train), drawn(data.train)
        fake = _restored(estimator, others, degradation, generator)
        loss = critic_gan_loss(*critic(torch.cat([real, fake])).split(len(real)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    half = min(settings.n_eval, len(data.validation) // 2)
    real, others = (data.validation[i * half : (i + 1) * half].to(device) for i in range(2))
    fake = others
    if estimator is not None:
        fake = restorations(estimator, degradation.degrade(others), generator=generator)
    return _accuracy(critic, real, fake)


def examination(estimator: Any, job: Job, *, degradation: Degradation) -> Metrics:
    """What the record of a kept network says besides its curve: how a fresh critic fares."""
    if not job.keep_weights:
        return {}
    settings = job.settings
    accuracy = two_sample_accuracy(estimator, settings, degradation(settings), seed=job.seed)
    return {"two_sample_accuracy": accuracy}


@torch.no_grad()
def _restored(
    estimator: Estimator | None,
    x: Tensor,
    degradation: ImageDegradation,
    generator: torch.Generator,
) -> Tensor:
    """One restoration of each image, or the image itself."""
    if estimator is None:
        return x
    return sample(estimator, degradation.degrade(x), generator=generator)


@torch.no_grad()
def _accuracy(critic: Any, real: Tensor, fake: Tensor) -> float:
    """The share of right answers, a positive logit meaning that an image is real."""
    answers = [torch.cat([critic(x) for x in part.split(512)]) > 0 for part in (real, fake)]
    return torch.cat([answers[0], ~answers[1]]).double().mean().item()
