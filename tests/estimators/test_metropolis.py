"""Markov chains of uniform numbers: their moves, their distribution, and what it is worth."""

import pytest
import torch

from stochrestore.errors import InputError
from stochrestore.estimators.metropolis import (
    LEVELS,
    Chains,
    effective_sample_sizes,
    moved,
    places,
    reflected,
    uniforms,
)

TABLE = torch.tensor([[0.4, 0.05, 0.05], [0.0, 0.2, 0.1], [0.1, 0.1, 0.0]])
"""Probabilities of the thirds of two uniform numbers; two of the nine cells are empty."""


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def cells(u):
    return (3 * u[:, 0]).long() * 3 + (3 * u[:, 1]).long()


def of_table(u):
    return -TABLE.flatten()[cells(u)].log()


def frequencies(chains):
    return torch.bincount(cells(uniforms(chains.place)), minlength=9) / len(chains.place)


def exact_draws(n):
    """Uniform numbers with the table's distribution."""
    cell = torch.multinomial(TABLE.flatten(), n, replacement=True, generator=drawn(1))
    within = torch.rand(n, 2, generator=drawn(2))
    return (torch.stack([cell // 3, cell % 3], 1) + within) / 3


def test_from_one_state_all_of_a_table_is_found_with_its_probabilities():
    chains, generator = Chains(torch.full((10_000, 2), 0.1), of_table), drawn()
    for _ in range(60):
        chains.step(of_table, 10_000, generator=generator)
    torch.testing.assert_close(frequencies(chains), TABLE.flatten(), atol=0.015, rtol=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_start_of_the_target_distribution_keeps_it(steps):
    chains, generator = Chains(exact_draws(40_000), of_table), drawn()
    start = chains.place.clone()
    for _ in range(steps):
        chains.step(of_table, 40_000, generator=generator)
    torch.testing.assert_close(frequencies(chains), TABLE.flatten(), atol=0.01, rtol=0)
    assert (chains.place != start).any(1).double().mean() > 0.3


def test_a_narrow_normal_distribution_at_an_edge():
    """Half a normal distribution at 0: mean σ·√(2/π), mean square σ²."""
    sigma = 0.05

    def energy(u):
        return u[:, 0].square() / (2 * sigma**2)

    chains, generator = Chains(torch.zeros(8000, 1), energy), drawn()
    for _ in range(100):
        chains.step(energy, 8000, generator=generator)
    u = uniforms(chains.place).double()
    assert u.mean().item() == pytest.approx(sigma * (2 / torch.pi) ** 0.5, rel=0.03)
    assert u.square().mean().item() == pytest.approx(sigma**2, rel=0.05)


def test_moves_are_as_likely_as_the_way_back():
    """Of uniform places, as many go from one tenth to another as come back."""
    start = torch.randint(LEVELS, (400_000, 1), generator=drawn(3), dtype=torch.int32)
    end = moved(start, generator=drawn())
    tenths = [(10 * uniforms(place)).long() for place in (start, end)]
    flow = torch.bincount((tenths[0] * 10 + tenths[1]).flatten(), minlength=100).reshape(10, 10)
    spread = (flow + flow.T).double().sqrt().clamp_min(1)
    assert ((flow - flow.T).double() / spread).abs().max() < 4
    assert flow.min() > 0


def test_one_to_four_numbers_move():
    start = torch.randint(LEVELS, (4000, 12), generator=drawn(3), dtype=torch.int32)
    count = (moved(start, generator=drawn()) != start).sum(1)
    share = torch.bincount(count, minlength=5) / len(count)
    torch.testing.assert_close(share[1:], torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_places_are_mirrored_at_the_ends():
    outside = torch.tensor(
        [-1, 0, LEVELS - 1, LEVELS, LEVELS + 5, -LEVELS, -LEVELS - 1, 2 * LEVELS]
    )
    inside = [0, 0, LEVELS - 1, LEVELS - 1, LEVELS - 6, LEVELS - 1, LEVELS - 1, 0]
    assert reflected(outside).tolist() == inside
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert places(u).tolist() == [0, LEVELS // 2, LEVELS - 1]
    torch.testing.assert_close(uniforms(places(u)), u, atol=0.5 / LEVELS, rtol=0)


def test_the_first_chains_move_alone_and_where_nothing_is_known_always():
    def flat(u):
        return torch.zeros(len(u))

    chains = Chains(torch.rand(10, 5, generator=drawn()), flat)
    start = chains.place.clone()
    for _ in range(3):
        chains.step(flat, 4, generator=drawn())
    assert torch.equal(chains.place[4:], start[4:])
    assert chains.accepted.tolist() == [3.0] * 4 + [0.0] * 6


@pytest.mark.parametrize("start", [-0.1, 1.0])
def test_a_start_outside_the_unit_interval_is_refused(start):
    with pytest.raises(InputError, match=r"Chains: start, from … to: got .*; allowed: within"):
        Chains(torch.full((2, 3), start), lambda u: u[:, 0])


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.8])
def test_the_worth_of_an_autoregressive_chain(kept):
    """Of correlation ρ^k at lag k, T states are worth T·(1 − ρ)/(1 + ρ)."""
    x = torch.randn(20, 2, 500, 30, generator=drawn(), dtype=torch.float64)
    for t in range(1, 500):
        x[:, :, t] = kept * x[:, :, t - 1] + (1 - kept**2) ** 0.5 * x[:, :, t]
    sizes = effective_sample_sizes(x)
    assert sizes.mean().item() == pytest.approx(1000 * (1 - kept) / (1 + kept), rel=0.06)


def test_the_worth_of_extreme_chains():
    still = torch.ones(1, 3, 8, 2)
    alternating = torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(1, 3, 8, 2)
    halves = torch.tensor([1.0] * 500 + [0.0] * 500)[:, None].expand(1, 1, 1000, 2)
    apart = torch.arange(4.0)[:, None, None] + 0.01 * torch.randn(1, 4, 200, 2, generator=drawn())
    assert effective_sample_sizes(still).tolist() == [1.0]
    assert effective_sample_sizes(alternating).tolist() == [24.0]
    assert effective_sample_sizes(halves).item() < 5
    assert effective_sample_sizes(apart).item() == pytest.approx(4, abs=0.5)
    with pytest.raises(InputError, match="effective_sample_sizes: states: got 1"):
        effective_sample_sizes(still[:, :, :1])
