"""How the small networks are trained by whose features images are compared."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stochrestore.config import Preset
from stochrestore.experiments.trained import TrainedSettings
from stochrestore.networks.features import NETWORKS, FeatureNetwork
from stochrestore.training.jobs import Job, Method
from stochrestore.training.supervised import SupervisedTrainer, one_cycle


class RecogniserSettings(TrainedSettings):
    """What the training of each feature network has; it is the same at every preset."""

    preset: Preset = Field("laptop", description="changes nothing here")
    batch_size: int = Field(64, ge=2, description="images a batch")
    lr: float = Field(3e-3, gt=0, description="Adam's largest step, falling to 0 as a cosine")


class Recogniser(nn.Module):
    """A feature network and the layers that read off its features what images show."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = NETWORKS[name]()


class RecogniserTrainer(SupervisedTrainer):
    """Trains a feature network within a recogniser; subclasses say which, and on what.

    Network, data and order are all decided by the seed of the job's settings.
    """

    parts: ClassVar[tuple[str, ...]] = ("reader", "optimizer")
    kind: ClassVar[type[Any]]
    """The class of the recogniser, which takes no arguments."""
    decay: ClassVar[float] = 0.0
    """AdamW's weight decay."""

    def __init__(self, job: Job) -> None:
        self.recipe = settings = job.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.reader = self.kind().to(settings.torch_device()).train()
        super().__init__(
            self.reader.network,
            parameters=self.reader.parameters(),
            weight_decay=self.decay,
            steps=settings.steps,
            batch_size=settings.batch_size,
            settings=settings.model_dump(mode="json"),
            generator=torch.Generator().manual_seed(settings.seed),
        )

    def learning_rate(self) -> float:
        """Rises briefly, then falls to 0."""
        return one_cycle(self.step, self.steps, self.recipe.lr)

    def random_rows(self, n: int) -> Tensor:
        """Indices of a random batch of n images, drawn with replacement."""
        return torch.randint(n, (self.batch_size,), generator=self.generator)


def all_jobs(settings: RecogniserSettings) -> dict[str, Job]:
    """The one training."""
    name = settings.experiment
    return {name: Job(name, None, settings.seed, settings)}


def build_network(job: Job) -> FeatureNetwork:
    """The untrained feature network of a job."""
    return NETWORKS[job.name]()


def recogniser_method(trainer: type[RecogniserTrainer]) -> Method:
    """How a recogniser is trained and loaded."""
    return Method(build=trainer, network=build_network)
