"""Turns of pivots against Python's own sets and a plain loop, on whatever hypothesis thinks of."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.pivots import least_similar_in_turn, set_order

distinct = st.lists(st.integers(0, 4000), unique=True, max_size=60)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the rule is CPython's")
@given(distinct)
def test_the_order_is_that_of_a_set(values):
    assert set_order(values) == list(set(values))


def test_five_values_are_placed_anew_in_a_larger_table():
    """Modulo 8, the last of them collides with the first; modulo 32, it does not."""
    assert set_order([40, 1, 2, 3, 16]) == [1, 2, 3, 40, 16]
    assert set_order([]) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_each_takes_the_least_similar_of_what_is_left(seed, size, pivots):
    draw = np.random.default_rng(seed)
    # Few distinct values, so that ties are common.
    similarity = torch.from_numpy(draw.integers(0, 4, (3, pivots, size))).double()
    pool = torch.from_numpy(draw.random((3, size)) < 0.7)
    shares = torch.from_numpy(draw.integers(0, 4, (3, pivots)))
    found = least_similar_in_turn(similarity, pool, shares)
    for image in range(3):
        left = pool[image].nonzero().flatten().tolist()
        taken = [-1] * size
        for turn in range(pivots):
            chosen = sorted(left, key=lambda token: (similarity[image, turn, token].item(), token))[: int(shares[image, turn])]
            for token in chosen:
                taken[token] = turn
            left = [token for token in left if token not in chosen]
        assert found[image].tolist() == taken
