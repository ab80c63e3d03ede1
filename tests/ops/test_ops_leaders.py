"""Leaders by density against a walk over the tokens one by one, on whatever hypothesis thinks of."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.leaders import cutoff_for, first_leaders, leaders, nearest_leader, turns

seeds, sizes = st.integers(0, 2**32 - 1), st.integers(1, 14)


def drawn(seed: int, size: int):
    """Distances of few values, so that many are at the cutoff; densities; which of the tokens there are."""
    draw = np.random.default_rng(seed)
    half = torch.from_numpy(draw.integers(0, 4, (3, size, size))).double() / 4
    distance = torch.maximum(half, half.transpose(1, 2))
    distance.diagonal(dim1=1, dim2=2).zero_()
    density = torch.from_numpy(draw.integers(0, 5, (3, size))).double()
    present = torch.from_numpy(draw.integers(1, size + 1, 3))
    return distance, density, torch.arange(size) < present[:, None]


def walked(distance: list[list[float]], density: list[float], present: int, cutoff: float) -> list[int]:
    """Leaders in the order in which they are found."""
    found: list[int] = []
    for token in sorted(range(present), key=lambda token: (-density[token], token)):
        if all(distance[token][leader] > cutoff for leader in found):
            found.append(token)
    return found


@given(seeds, sizes, st.sampled_from([-1.0, 0.0, 0.25, 0.6, 2.0]))
def test_rounds_find_the_leaders_of_a_walk(seed, size, cutoff):
    distance, density, valid = drawn(seed, size)
    turn = turns(density, valid)
    found = leaders(distance, turn, valid, distance.new_full((3,), cutoff))
    few = torch.tensor([1, 2, 3])
    first = first_leaders(found, turn, few)
    for row in range(3):
        wanted = walked(distance[row].tolist(), density[row].tolist(), int(valid[row].sum()), cutoff)
        assert found[row].nonzero().flatten().tolist() == sorted(wanted)
        assert first[row].nonzero().flatten().tolist() == sorted(wanted[: int(few[row])])


@given(seeds, sizes, st.data())
def test_every_number_of_leaders_has_a_cutoff(seed, size, data):
    distance, density, valid = drawn(seed, size)
    count = torch.tensor([data.draw(st.integers(1, int(present))) for present in valid.sum(1)])
    turn = turns(density, valid)
    cutoff = cutoff_for(distance, turn, valid, count)
    found = leaders(distance, turn, valid, cutoff)
    assert (found.sum(1) >= count).all()
    assert torch.equal(first_leaders(found, turn, count).sum(1), count)
    alone = [cutoff_for(distance[row, None], turn[row, None], valid[row, None], count[row, None]) for row in range(3)]
    assert torch.equal(cutoff, torch.cat(alone))


@given(seeds, sizes)
def test_tokens_join_the_nearest_leader_within_reach(seed, size):
    draw = np.random.default_rng(seed)
    vectors = F.normalize(torch.from_numpy(draw.normal(size=(3, size, 3))), dim=-1)
    valid = torch.arange(size) < torch.from_numpy(draw.integers(1, size + 1, (3, 1)))
    leader = torch.from_numpy(draw.random((3, size)) < 0.4) & valid
    leader[:, 0] = True
    limit = torch.tensor([-1.0, 0.5, 2.5], dtype=torch.float64)
    found = nearest_leader(vectors, valid, leader, limit)
    for row in range(3):
        for token in range(size):
            apart = {one: 1 - float(vectors[row, token] @ vectors[row, one]) for one in leader[row].nonzero().flatten().tolist()}
            nearest = token if leader[row, token] else min(apart, key=lambda one: apart[one])
            inside = leader[row, token] or apart[nearest] <= limit[row]
            assert int(found[row, token]) == (nearest if inside and valid[row, token] else -1)
