"""The sampler of faces that answers with kept draws, and the target that chains draw from."""

import pytest
import torch

from stochrestore.degradations import Averaging
from stochrestore.errors import InputError
from stochrestore.estimators.base import restore
from stochrestore.estimators.face_draws import FaceDraws, misfit, rendered
from stochrestore.estimators.metropolis import Chains, uniforms
from stochrestore.estimators.weighted_posterior import WeightedPosterior
from stochrestore.problems.faces.distribution import Faces

FACES, DEGRADATION = Faces(8), Averaging(8)
LATENTS = 51


def latents(n, seed=0):
    return torch.rand(n, LATENTS, generator=torch.Generator().manual_seed(seed))


def averages(u):
    return DEGRADATION.degrade(rendered(FACES, u))


def sampler(counts=(3, 1), draws=4):
    return FACES, DEGRADATION, averages(latents(2)), torch.tensor(counts), latents(draws, seed=1)


def test_each_input_is_answered_with_its_own_draws_in_turn():
    estimator = FaceDraws(*sampler())
    y = estimator.inputs.reshape(2, 3, 1, 1)
    z = torch.tensor([0.0, 0.34, 0.99, 1.0]).reshape(4, 1, 1).expand(4, 2, 1)
    found = restore(estimator, y, z)
    turns = torch.tensor([[0, 3], [1, 3], [2, 3], [2, 3]])
    expected = rendered(FACES, latents(4, seed=1))[turns]
    torch.testing.assert_close(found, DEGRADATION.project(expected, y))
    torch.testing.assert_close(DEGRADATION.degrade(found), y.expand(4, -1, -1, -1, -1))
    other_order = estimator(y.flip(0), z[1])
    torch.testing.assert_close(other_order, found[1].flip(0))


def test_other_inputs_are_refused():
    estimator = FaceDraws(*sampler())
    y = torch.cat([estimator.inputs.reshape(2, 3, 1, 1), averages(latents(1, seed=5))])
    assert estimator.knows(y).tolist() == [True, True, False]
    assert estimator.effective_sample_sizes(y)[1:].tolist() == [1.0, 0.0]
    with pytest.raises(InputError, match=r"FaceDraws: distance from a known input: got 0\.\d+;"):
        estimator(y, torch.zeros(3, 1))
    with pytest.raises(InputError, match="distance"):
        estimator(y[:2] + 0.001, torch.zeros(2, 1))


@pytest.mark.parametrize(("counts", "draws"), [((3, 1), 5), ((4, 0), 4), ((4,), 4), ((1, 1, 2), 4)])
def test_counts_that_do_not_fit_are_refused(counts, draws):
    with pytest.raises(InputError, match="FaceDraws: inputs, counts, their sum, draws: got"):
        FaceDraws(*sampler(counts, draws))
    with pytest.raises(InputError, match=r"FaceDraws: counts: got \[3\]; allowed: 1, or multiples"):
        FaceDraws(*sampler(), chains=2)


def test_independent_draws_are_worth_their_number_and_equal_ones_are_worth_one():
    y = averages(latents(3))
    draws = torch.cat([latents(40, seed=1), latents(1).expand(40, -1), latents(1)])
    estimator = FaceDraws(FACES, DEGRADATION, y, torch.tensor([40, 40, 1]), draws)
    sizes = estimator.effective_sample_sizes(y)
    assert sizes[0].item() > 25
    assert sizes[1:].tolist() == [1.0, 1.0]
    estimator.uniforms = torch.cat([latents(4, seed=1).repeat_interleave(10, 0), draws[40:]])
    assert estimator.effective_sample_sizes(y)[0].item() < 9
    estimator.chains = 4  # each stays where it is
    assert estimator.effective_sample_sizes(y)[0].item() == pytest.approx(4, abs=1)


def test_the_misfit_is_that_of_the_first_inputs():
    u, y = latents(3, seed=2), averages(latents(5))
    found = misfit(FACES, DEGRADATION, y, 0.1)(u)
    torch.testing.assert_close(found, 50 * (averages(u) - y[:3]).square().flatten(1).sum(1))
    with pytest.raises(InputError, match="misfit: width: got 0"):
        misfit(FACES, DEGRADATION, y, 0)


def test_chains_keep_what_importance_sampling_says_of_the_same_posterior():
    """Draws by the weights of the prior are the chains' start; forty steps later they have
    moved far, and the mean misfit and the mean face are still those of the weights."""
    prior, width = latents(6000, seed=3), 0.1
    images, y = rendered(FACES, prior), averages(latents(1, seed=4))
    weighted = WeightedPosterior(images, DEGRADATION, width)
    weights = weighted.weights(y)[0]
    assert weighted.effective_sample_sizes(y).item() > 300
    energy = misfit(FACES, DEGRADATION, y.expand(400, -1, -1, -1), width)
    generator = torch.Generator().manual_seed(0)
    start = prior[torch.multinomial(weights, 400, replacement=True, generator=generator)]
    chains = Chains(start, energy)
    for _ in range(40):
        chains.step(energy, 400, generator=generator)
    found = uniforms(chains.place)
    assert (found - start).abs().gt(1e-3).double().mean() > 0.5
    expected = (
        weights * misfit(FACES, DEGRADATION, y.expand(6000, -1, -1, -1), width)(prior)
    ).sum()
    assert chains.energy.mean().item() == pytest.approx(expected.item(), abs=0.2)
    mean = (weights[:, None] * images.flatten(1)).sum(0)
    gap = rendered(FACES, found).flatten(1).double().mean(0) - mean
    assert gap.square().mean().sqrt() < 0.025
