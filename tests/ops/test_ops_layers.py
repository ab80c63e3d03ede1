"""Properties of the tensor functions behind methods inside the LLM."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parbench.ops.clusters import density_peaks, peaks
from parbench.ops.rating import numerical_rank, raters
from parbench.ops.selection import knee
from parbench.ops.transport import one_sided_mass, rescale, spread
from parbench.reducers.budget import scaled

seeds = st.integers(0, 2**31)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 20), st.integers(1, 6), st.integers(0, 4))
def test_every_token_is_in_one_cluster_and_padding_changes_nothing(seed, size, count, padding):
    count = min(count, size)
    tokens, clusters = drawn(seed, 1, size, 3), torch.tensor([count])
    members = density_peaks(tokens, torch.ones(1, size, dtype=torch.bool), clusters)
    assert members.shape == (1, count, size)
    assert members.sum(1).eq(1).all()
    assert members.any(2).all()
    wide = torch.cat([tokens, drawn(seed + 1, 1, padding, 3)], dim=1)
    beside = torch.cat([wide, drawn(seed + 2, 1, size + padding, 3)])
    valid = torch.ones(2, size + padding, dtype=torch.bool)
    valid[0, size:] = False
    both = density_peaks(beside, valid, torch.tensor([count, 1]))
    assert torch.equal(both[0, :count, :size], members[0])
    assert not both[0, :, size:].any()
    assert not both[1, 1:].any()


def test_two_groups_are_found():
    tokens = torch.tensor([[[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]]])
    members = density_peaks(tokens, torch.ones(1, 6, dtype=torch.bool), torch.tensor([2]))
    assert {tuple(row.nonzero().flatten().tolist()) for row in members[0]} == {(0, 1, 2), (3, 4, 5)}


def test_equally_dense_tokens_are_no_two_centres_without_noise():
    """The nearest neighbours 0 and 1 are equally dense; the second centre is the far token."""
    tokens = torch.tensor([[[0.0], [0.1], [5.0], [5.6]]])
    members = density_peaks(tokens, torch.ones(1, 4, dtype=torch.bool), torch.tensor([2]))
    assert {tuple(row.nonzero().flatten().tolist()) for row in members[0]} == {(0, 1), (2, 3)}
    same = density_peaks(tokens, torch.ones(1, 4, dtype=torch.bool), torch.tensor([2]), torch.zeros(1, 4))
    assert {tuple(row.nonzero().flatten().tolist()) for row in same[0]} != {(0, 1), (2, 3)}


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 12), st.integers(1, 8), st.integers(0, 3))
def test_somebody_rates_and_padding_does_not(seed, size, text, padding):
    visual, words = drawn(seed, 1, size, 4), drawn(seed + 1, 1, text, 4)
    seen, read = torch.ones(1, size, dtype=torch.bool), torch.ones(1, text, dtype=torch.bool)
    found = raters(visual, seen, words, read)
    assert found.any()
    pad = torch.nn.functional.pad
    wide = raters(
        pad(visual, (0, 0, 0, padding), value=3.0),
        pad(seen, (0, padding)),
        pad(words, (0, 0, 0, padding), value=9.0),
        pad(read, (0, padding)),
    )
    assert torch.equal(wide[:, :text], found)
    assert not wide[:, text:].any()


def test_a_rank_does_not_see_its_padding():
    one = torch.outer(torch.arange(1.0, 4.0), torch.arange(1.0, 6.0))
    padded = torch.nn.functional.pad(torch.stack([one, one + torch.eye(3, 5)]), (0, 4, 0, 2))
    assert numerical_rank(padded, torch.tensor([3, 3]), torch.tensor([5, 5])).tolist() == [1, 3]


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 10), st.integers(1, 10), st.floats(0.05, 2.0))
def test_targets_take_all_the_mass_there_is(seed, sources, targets, temperature):
    cost = drawn(seed, 2, sources, targets).abs()
    valid = torch.ones_like(cost, dtype=torch.bool)
    valid[1, :, targets // 2 + 1 :] = False
    mass = one_sided_mass(cost, valid, temperature)
    assert torch.allclose(mass.sum(1), torch.ones(2, dtype=torch.float64))
    cheapest = one_sided_mass(cost.index_fill(1, torch.tensor([0]), -50.0), valid, temperature)
    assert cheapest.argmax(1).tolist() == [0, 0]


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 12))
def test_rescaled_values_lie_between_0_and_1(seed, size):
    values = drawn(seed, 3, size)
    valid = drawn(seed + 1, 3, size) > 0
    found = rescale(values, valid)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert not found[~valid].any()


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 40), st.integers(0, 50))
def test_as_many_members_are_spread_as_asked(seed, size, count):
    members = drawn(seed, 1, size) > 0
    found = spread(members, torch.tensor([count]))
    assert int(found.sum()) == min(count, int(members.sum()))
    assert not bool((found & ~members).any())


def test_spread_members_are_evenly_spaced():
    assert spread(torch.ones(1, 9, dtype=torch.bool), torch.tensor([3])).nonzero()[:, 1].tolist() == [2, 5, 8]


def test_the_knee_is_where_the_curve_bends():
    assert knee(torch.tensor([[1.0, 0.9, 0.1, 0.05, 0.0], [4.0, 3.0, 2.0, 1.0, 0.0]])).tolist() == [2, 0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(1, 3000))
def test_scaled_counts_come_as_near_as_they_can_from_below(shape, wanted):
    wanted = max(wanted, len(shape))
    found = scaled(shape, sum, wanted, 576)
    assert all(1 <= count <= 576 for count in found)
    assert sum(found) == min(wanted, 576 * len(shape))


@pytest.mark.parametrize("wanted", [100, 333])
def test_scaled_counts_keep_their_proportions(wanted):
    found = scaled((300, 200, 110), sum, wanted, 576)
    assert found[0] / found[1] == pytest.approx(1.5, abs=0.1)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 14), st.integers(1, 6), st.integers(1, 20))
def test_peaks_are_dense_and_far_from_denser_tokens(seed, size, count, neighbours):
    count = min(count, size)
    tokens = drawn(seed, 1, size, 3)
    centre, apart = peaks(tokens, torch.ones(1, size, dtype=torch.bool), torch.tensor([count]), neighbours=neighbours)
    rows = apart[0].tolist()
    near = [sorted(row)[: min(neighbours, size)] for row in rows]
    density = [math.exp(-sum(value**2 for value in row) / len(row)) for row in near]
    farthest = max(map(max, rows))

    def product(i):
        denser = [rows[i][j] for j in range(size) if (density[j], -j) > (density[i], -i)]
        return density[i] * min(denser, default=farthest)

    chosen = [product(i) for i in centre[0].tolist()]
    assert chosen == pytest.approx(sorted(map(product, range(size)), reverse=True)[:count])
