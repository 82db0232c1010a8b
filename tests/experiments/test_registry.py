"""What the registry says of the experiments is what their modules offer."""

import pytest

from stochrestore.errors import InputError
from stochrestore.experiments import registry
from stochrestore.training.jobs import Job, Method


@pytest.mark.parametrize("name", registry.TRAINED)
def test_what_trains_offers_jobs_and_a_method(name):
    module = registry.trained(name)
    jobs = module.all_jobs(module.Settings.load("smoke"))
    assert isinstance(module.METHOD, Method)
    assert all(isinstance(job, Job) and job.name == key for key, job in jobs.items())
    assert jobs


def test_what_trains_nothing_is_named():
    with pytest.raises(InputError, match="experiment: got 'theorem_3_1'; allowed: toy_tradeoff"):
        registry.trained("theorem_3_1")
