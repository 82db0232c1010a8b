"""Draws from the true posterior of procedural faces, given their averages, by Markov chains.

The face that an input was made from is itself a draw from the posterior of this input. So a chain
that starts there has the posterior's distribution from its first step on, over all inputs: it need
not find the faces that explain y, only leave the one that it is told. It is told more than an
estimator knows; what it ends with, once it has forgotten its start, is what an estimator that knew
the posterior would answer.

Chains forget slowly: at ×4 a face has looks, of hair and of background above all, between which no
small step leads. So each input that is to have many draws has several chains. What is left of the
start moves no measure of all draws together, such as FID and recall: over the inputs they have the
distribution of faces from the first step on, and are compared with other faces than those that they
start from. It can only make the std of an input's draws smaller.

The chain's own target tolerates an error of width h in y, as that of
:class:`~stochrestore.estimators.weighted_posterior.WeightedPosterior` does, or it could not move.
Of that target the true face is a draw only if noise of width h is added to y. Then draws would miss
y twice: by that noise and by the chain's tolerance. Here y stays as it is, the start explains it
too well, and the steps in which the misfit rises to its level are left out (``burn_in``), which are
needed anyway until the start is forgotten.

No network is trained, but the draws take as long: they are made by ``stochrestore train``, once,
and kept as weights are.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from stochrestore.data.images import face_seeds
from stochrestore.degradations import Averaging
from stochrestore.estimators.face_draws import FaceDraws, misfit, rendered
from stochrestore.estimators.metropolis import Chains, uniforms
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.problems.faces.distribution import Faces
from stochrestore.problems.faces.latents import HIDDEN, VISIBLE
from stochrestore.training.jobs import Job, Method, check_settings, load
from stochrestore.training.loop import Trainer

EXPERIMENT = "face_posteriors"


class Settings(TrainedSettings):
    """Which posteriors are drawn from, and how long."""

    experiment: ClassVar[str] = EXPERIMENT
    of_each_training: ClassVar[frozenset[str]] = frozenset({"scale"})

    size: int = Field(16, ge=8, multiple_of=4, description="side of the faces")
    scales: tuple[PositiveInt, ...] = Field(
        (4, 8), strict=False, min_length=1, description="factors s of the averages"
    )
    scale: int = Field(0, ge=0, description="s of one of them; 0 for all")
    width: float = Field(
        0.02, gt=0, description="h, error of y that the chain tolerates, for y in [0, 1]"
    )
    inputs: int = Field(1000, ge=2, description="faces whose averages are restored")
    followed: int = Field(128, ge=1, description="the first of them, with many draws each")
    chains: int = Field(4, ge=1, description="chains of each input that is followed; others: 1")
    burn_in: int = Field(4000, ge=1, description="steps of all chains before the first draw")
    spacing: int = Field(1700, ge=1, description="steps from one draw to the next")
    draws: int = Field(28, ge=2, description="draws of each chain that is followed; others: 1")

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.followed > self.inputs:
            raise ValueError(f"followed: got {self.followed}; allowed: at most {self.inputs}")
        wrong = [s for s in self.scales if self.size % s]
        if wrong:
            raise ValueError(f"scales: got {wrong}; allowed: divisors of {self.size}")
        return self

    @property
    def steps(self) -> int:
        """Steps of the chains that are followed."""
        return self.burn_in + self.draws * self.spacing

    @property
    def counts(self) -> Tensor:
        """How many draws each input has, (N,)."""
        counts = torch.ones(self.inputs, dtype=torch.long)
        counts[: self.followed] = self.chains * self.draws
        return counts


class KeptDraws(nn.Module):
    """The latents of the draws, as places of two bytes; see :class:`Chains`.

    Args:
        settings: say how many there are.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        latents, s = len(VISIBLE) + len(HIDDEN), settings
        self.followed = _places(s.followed, s.chains, s.draws, latents)
        self.others = _places(s.inputs - s.followed, latents)

    def uniforms(self) -> Tensor:
        """The latents of all draws in [0, 1), those of the first input first, (…, K)."""
        return uniforms(torch.cat([self.followed.flatten(0, 2).int(), self.others.int()]))


def _places(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=torch.uint16), requires_grad=False)


class ChainsTrainer(Trainer):
    """Advances the chains of all inputs, then of those that are followed, and keeps draws."""

    loss_names: ClassVar[tuple[str, ...]] = ("acceptance", "misfit")
    parts: ClassVar[tuple[str, ...]] = ("network", "chains")
    advice: ClassVar[str] = "a misfit that is not finite is an error in the renderer"

    def __init__(self, job: Job) -> None:
        self.recipe = settings = job.settings
        self.kept = build_network(job).to(settings.torch_device())
        super().__init__(
            self.kept,
            steps=settings.steps,
            batch_size=settings.inputs,
            settings=settings.model_dump(mode="json"),
            generator=torch.Generator().manual_seed(job.seed),
        )
        true, s = true_latents(settings).to(self.device), settings
        followed = true[: s.followed].repeat_interleave(s.chains, 0)
        start = torch.cat([followed, true[s.followed :]])
        faces, degradation = Faces(s.size), Averaging(s.scale)
        self.energy = misfit(
            faces, degradation, degradation.degrade(rendered(faces, start)), s.width
        )
        self.chains, self.followed = Chains(start, self.energy), len(followed)

    def update(self) -> tuple[Tensor, ...]:
        """One step of the chains, and a draw of each where it is time for one."""
        s, chains = self.recipe, self.chains
        n = len(chains.place) if self.step < s.burn_in else self.followed
        before = chains.accepted[:n].clone()
        chains.step(self.energy, n, generator=self.generator)
        made, left = divmod(self.step + 1 - s.burn_in, s.spacing)
        if self.step + 1 == s.burn_in:
            self.kept.others.copy_(chains.place[self.followed :])
        elif made > 0 and left == 0:
            place = chains.place[:n].unflatten(0, (s.followed, s.chains))
            self.kept.followed[:, :, made - 1] = place.to(torch.uint16)
        return (chains.accepted[:n] - before).mean(), chains.energy[:n].mean()

    def findings(self) -> dict[str, Any]:
        """How often moves were accepted, and what the draws are worth; see :func:`examined`."""
        share = self.chains.accepted[: self.followed].mean().item() / self.steps
        return {"acceptance": share, **examined(self.recipe, sampler(self.recipe, self.kept))}


def true_latents(settings: Settings) -> Tensor:
    """The latents of the validation faces, (inputs, K), the visible ones first."""
    _, seed = face_seeds(0)  # the data set's own seed, whatever that of the chains
    latents = Faces(settings.size).latents(seed, 0, settings.inputs)
    return torch.cat([latents.visible, latents.hidden], 1)


def sampler(settings: Settings, kept: KeptDraws) -> FaceDraws:
    """The estimator that answers with the kept draws, of the settings of one scale."""
    faces, degradation = Faces(settings.size), Averaging(settings.scale)
    y = degradation.degrade(rendered(faces, true_latents(settings)))
    draws = kept.uniforms().cpu()
    return FaceDraws(faces, degradation, y, settings.counts, draws, chains=settings.chains)


def examined(settings: Settings, found: FaceDraws) -> dict[str, Any]:
    """What the draws are worth, and whether they have left their start.

    Returns:
        ``effective_sample_sizes`` of the inputs that are followed: least, tenth percentile and
        median; and ``from_start``: the mean squared distance of the one draw of each other input
        from its true face, over that of two draws of an input that is followed. 0 if no chain
        moved. Once the start is forgotten it is 1 for a width of 0 and less for others, since the
        true face explains y better than draws do, and so is nearer to their middle. None where all
        inputs are followed.
    """
    followed = found.inputs[: settings.followed]
    sizes = found.effective_sample_sizes(followed)
    quantiles = {"least": 0.0, "tenth percentile": 0.1, "median": 0.5}
    return {
        "effective_sample_sizes": {k: sizes.quantile(q).item() for k, q in quantiles.items()},
        "from_start": _from_start(settings, found),
    }


def _from_start(settings: Settings, found: FaceDraws) -> float | None:
    many = settings.followed * settings.chains * settings.draws
    others = found.uniforms[many:]
    if not len(others):
        return None
    start = true_latents(settings)[settings.followed :]
    moved = (rendered(found.faces, others) - rendered(found.faces, start)).square().mean()
    drawn = rendered(found.faces, found.uniforms[:many]).unflatten(0, (settings.followed, -1))
    return (moved / (2 * drawn.var(1).mean())).item()


def all_jobs(settings: Settings) -> dict[str, Job]:
    """The chains of each scale."""
    each = (settings.model_copy(update={"scale": scale}) for scale in settings.scales)
    jobs = (Job(f"x{s.scale}", None, s.seed, s) for s in each)
    return {job.name: job for job in jobs}


def build_network(job: Job) -> KeptDraws:
    """Room for the draws of a job."""
    return KeptDraws(job.settings)


METHOD = Method(build=ChainsTrainer, network=build_network)


def shipped(size: int, scale: int, width: float) -> FaceDraws | None:
    """The sampler whose draws come with the library; None where there are none of this kind.

    Args:
        size: side of the faces.
        scale: s.
        width: h, error of y that the draws may tolerate.

    Raises:
        InputError: missing or damaged weights, or those of other settings.
    """
    settings = Settings.load("laptop")
    job = all_jobs(settings).get(f"x{scale}")
    if job is None or (size, width) != (settings.size, settings.width):
        return None
    folder = settings.weights_folder()
    check_settings([job], folder, settings)
    return sampler(job.settings, load(job, folder, METHOD)[0])
